//! L1: a machine emulated by QEMU (TCG) whose kernel's KVM emulates Hyper-V, for hosts whose own KVM does not.
//!
//! Its root is this machine's file tree, read-only, under a throw-away layer: every program here runs there.
//! Folders in `shares` are writable. Its agent talks over a virtio port that is QEMU's standard input and
//! output; when the lab goes, for whatever reason, the port closes and L1 powers off.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kvm_ioctls::Kvm;

use crate::cpio::Archive;
use crate::kernel::{self, Kernel};
use crate::packages::Packages;
use crate::session::Session;
use crate::{host, progress};

/// What L1 loads, with all needs: its root, the agent's port, KVM, and taps.
const MODULES: [&str; 7] =
    ["9p", "9pnet_virtio", "virtio_pci", "virtio_console", "overlay", "kvm-amd", "tun"];

/// The machine: a CPU with AMD-V; the agent's port on QEMU's standard input and output.
///
/// It has one processor, emulated by one thread: with two, about one guest in thirty died or hung, also with QEMU in
/// the VMM's place (the GS base of L1's kernel was found in a guest's register).
/// TCG does not tell a hypervisor when its guest writes XCR0, so KVM's CPUID leaf 0xD would never agree with what
/// the guest set, and Linux guests warn of it: no XSAVE, then. The TSC must be invariant for [`COMMAND_LINE`]'s
/// sake.
const MACHINE: &str = "-machine q35 -accel tcg,thread=single -cpu max,+svm,+invtsc,-xsave -smp 1 -m 4608
    -nodefaults -display none -no-reboot
    -device virtio-serial-pci -device virtserialport,chardev=agent -chardev stdio,id=agent,signal=off";

/// The clock: without a TSC that L1 trusts, its KVM has no master clock and guests no reference TSC page. A machine
/// with much to do gives L1 too few timer interrupts for its kernel, which would look whether they come, and panic.
const COMMAND_LINE: &str =
    "console=ttyS0 quiet panic=-1 tsc=reliable clocksource=tsc no_timer_check mitigations=off";

/// Programs that this needs here, and their packages.
pub const TOOLS: [(&str, &str); 1] = [("qemu-system-x86_64", "qemu-system-x86")];

/// How long L1 may take to boot; 7 s is usual.
const BOOT: Duration = Duration::from_secs(120);

/// A running L1.
pub struct L1 {
    qemu: Child,
}

/// What L1 boots.
pub struct Image {
    /// The tree with all modules of L1's kernel; L1 sees it at the same place.
    pub modules: PathBuf,
    kernel: PathBuf,
    initramfs: Vec<u8>,
}

impl Image {
    /// Makes L1's initramfs.
    pub fn prepare(packages: &Packages) -> Result<Self> {
        let kernel = Kernel::of(kernel::STOCK, packages)?;
        let busybox = packages.tree("busybox-static")?;
        let mut archive = Archive::default();
        archive.copy("/bin/busybox", &busybox.join("bin/busybox"))?;
        archive.device("/dev/console", 5, 1);
        archive.file("/init", include_bytes!("../l1-init.sh"));
        let mut order = String::new();
        for module in kernel.modules(&MODULES)? {
            let name = module.file_name().context("a module without a name")?.to_string_lossy();
            archive.copy(&format!("/modules/{name}"), &kernel.module_file(&module))?;
            order.push_str(&format!("{name}\n"));
        }
        archive.file("/modules/order", order.as_bytes());
        Ok(Self { modules: kernel.tree, kernel: kernel.vmlinux, initramfs: archive.finish() })
    }
}

impl L1 {
    /// Boots L1 with the folders in `shares` writable; its console and QEMU's errors go to files in `logs`.
    pub fn boot(image: &Image, shares: &[&Path], logs: &Path) -> Result<(Self, Session)> {
        let step = progress::step("Booting L1, an emulated machine with a KVM that has Hyper-V emulation");
        let initramfs = logs.join("l1-initramfs");
        fs::write(&initramfs, [&image.initramfs[..], &configuration(shares)?].concat())?;
        let mut qemu = command(image, &initramfs, shares, logs)?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(logs.join("l1-qemu.log"))?)
            .spawn()
            .context("start qemu-system-x86_64")?;
        let (input, output) = (qemu.stdin.take().context("no pipe")?, qemu.stdout.take().context("no pipe")?);
        let l1 = Self { qemu };
        let session = Session::connect(output, Box::new(input), BOOT)
            .with_context(|| format!("L1 did not come up; see {}/l1-*.log", logs.display()))?;
        step.done("up");
        Ok((l1, session))
    }
}

impl Drop for L1 {
    fn drop(&mut self) {
        // Nothing in L1 is worth keeping, so it need not shut down.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

fn command(image: &Image, initramfs: &Path, shares: &[&Path], logs: &Path) -> Result<Command> {
    let qemu = host::find_program("qemu-system-x86_64").context("qemu is not installed")?;
    let mut command = Command::new(qemu);
    command
        .args(MACHINE.split_whitespace())
        .arg("-kernel")
        .arg(&image.kernel)
        .arg("-initrd")
        .arg(initramfs)
        .args(["-append", &format!("{COMMAND_LINE}{}", tsc())])
        .arg("-serial")
        .arg(format!("file:{}", logs.join("l1-console.log").display()));
    share(&mut command, "host", Path::new("/"), ",readonly=on");
    for (number, path) in shares.iter().enumerate() {
        share(&mut command, &format!("share{number}"), path, "");
    }
    Ok(command)
}

/// Tells L1 how fast its TSC is, which is this machine's: where much else runs, L1 finds a wrong frequency by itself, and
/// its clock was minutes ahead. Nothing where no KVM knows it.
fn tsc() -> String {
    let vcpu = Kvm::new().and_then(|kvm| kvm.create_vm()).and_then(|vm| vm.create_vcpu(0));
    let khz = vcpu.and_then(|vcpu| vcpu.get_tsc_khz());
    khz.map_or_else(|_| String::new(), |khz| format!(" tsc_early_khz={khz}"))
}

fn share(command: &mut Command, tag: &str, path: &Path, more: &str) {
    let path = path.display().to_string().replace(',', ",,");
    command
        .arg("-fsdev")
        .arg(format!("local,id={tag},path={path},security_model=none,multidevs=remap{more}"));
    command.arg("-device").arg(format!("virtio-9p-pci,fsdev={tag},mount_tag={tag}"));
}

/// An archive that tells L1's init what differs from boot to boot.
fn configuration(shares: &[&Path]) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    let mut list = String::new();
    for (number, path) in shares.iter().enumerate() {
        ensure!(!path.as_os_str().as_encoded_bytes().contains(&b'\n'), "{} cannot be shared", path.display());
        list.push_str(&format!("share{number} {}\n", path.display()));
    }
    archive.file("/shares", list.as_bytes());
    archive.file("/agent", std::env::current_exe()?.as_os_str().as_encoded_bytes());
    Ok(archive.finish())
}
