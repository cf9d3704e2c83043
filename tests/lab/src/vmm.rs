//! A guest as tests describe it, and the VMM's command line for it.
//!
//! The VMM is busman, or QEMU in its place: a failure blamed on the lab must show there too.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::disk::Disk;
use crate::guest::Images;
use crate::host;
use crate::wire::Program;

/// The program that runs the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Vmm {
    Busman,
    Qemu,
}

impl Vmm {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Busman => "busman",
            Self::Qemu => "QEMU",
        }
    }
}

/// The machine in QEMU that comes nearest to busman's: Hyper-V's enlightenments, a VMBus without devices, RAM in a
/// memfd.
const QEMU_MACHINE: &str = "-machine q35,accel=kvm,memory-backend=ram -nodefaults -display none -serial stdio
    -name guest,debug-threads=on
    -device vmbus-bridge
    -cpu host,kvm=off,hv-relaxed,hv-vapic,hv-spinlocks=0xfff,hv-vpindex,hv-runtime,hv-time,hv-synic,hv-stimer,\
hv-tlbflush,hv-ipi,hv-frequencies,hv-crash";

/// The form in which the kernel is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boot {
    BzImage,
    Pvh,
}

/// A guest to start.
#[derive(Debug, Clone)]
pub struct Guest {
    script: String,
    cpus: u32,
    boot: Boot,
    kexec: bool,
    once: bool,
    trace: bool,
    command_line: String,
    memory_mib: u32,
    hyperv: Option<String>,
    probe: Option<PathBuf>,
    socket: Option<PathBuf>,
    unread: bool,
    initrd: Option<PathBuf>,
    kernel: Option<PathBuf>,
    display: Option<String>,
    com2: Option<PathBuf>,
    tpm: Option<String>,
    vnc: Option<PathBuf>,
    disks: Vec<Disk>,
}

impl Guest {
    /// A guest that runs resources/guest/tests/SCRIPT.sh: two vCPUs, 512 MiB, a vmlinux started through PVH.
    pub fn new(script: &str) -> Self {
        Self {
            script: script.to_owned(),
            cpus: 2,
            boot: Boot::Pvh,
            kexec: false,
            once: false,
            trace: false,
            command_line: "console=ttyS0 quiet panic=-1".to_owned(),
            memory_mib: 512,
            hyperv: None,
            probe: None,
            socket: None,
            unread: false,
            initrd: None,
            kernel: None,
            display: None,
            com2: None,
            tpm: None,
            vnc: None,
            disks: Vec::new(),
        }
    }

    /// Sets the number of vCPUs.
    pub fn cpus(self, cpus: u32) -> Self {
        Self { cpus, ..self }
    }

    /// Sets the form of the kernel.
    pub fn boot(self, boot: Boot) -> Self {
        Self { boot, ..self }
    }

    /// Adds kexec and a kernel for it to the guest's files.
    pub fn kexec(self) -> Self {
        Self { kexec: true, ..self }
    }

    /// Lets a reset end the VMM instead of starting the guest again.
    pub fn once(self) -> Self {
        Self { once: true, ..self }
    }

    /// Records the bus and all packets beside the report, in a file that ends in `.pcapng`.
    pub fn trace(self) -> Self {
        Self { trace: true, ..self }
    }

    /// Adds to the kernel's command line; later words win.
    pub fn append(mut self, words: &str) -> Self {
        if !words.is_empty() {
            let _ = write!(self.command_line, " {words}");
        }
        self
    }

    /// Sets the size of the guest's RAM.
    pub fn memory_mib(self, memory_mib: u32) -> Self {
        Self { memory_mib, ..self }
    }

    /// Sets busman's list of Hyper-V features; QEMU's is fixed.
    pub fn hyperv(self, list: &str) -> Self {
        Self { hyperv: Some(list.to_owned()), ..self }
    }

    /// Gives the guest the loopback device, and files with the module for it (see [`crate::probe`]).
    pub fn probe(self, initrd: &Path) -> Self {
        Self { probe: Some(initrd.to_owned()), ..self }
    }

    /// Gives the VMM a control socket, where it runs.
    pub fn socket(self, path: &Path) -> Self {
        Self { socket: Some(path.to_owned()), ..self }
    }

    /// Gives the VMM a standard output that nobody ever reads.
    pub fn unread(self) -> Self {
        Self { unread: true, ..self }
    }

    /// Sets the guest's files.
    pub fn initrd(self, initrd: &Path) -> Self {
        Self { initrd: Some(initrd.to_owned()), ..self }
    }

    /// Sets another kernel than that of most guests.
    pub fn kernel(self, kernel: &Path) -> Self {
        Self { kernel: Some(kernel.to_owned()), ..self }
    }

    /// Adds a display with keyboard and mouse; the guest is to begin with this resolution. QEMU's is a VGA card.
    pub fn display(self, size: &str) -> Self {
        Self { display: Some(size.to_owned()), ..self }
    }

    /// Gives busman a file for what the guest sends to its second serial port.
    pub fn com2(self, path: &Path) -> Self {
        Self { com2: Some(path.to_owned()), ..self }
    }

    /// Gives the machine a TPM with its state in this directory, where the VMM runs.
    pub fn tpm(self, state: &str) -> Self {
        Self { tpm: Some(state.to_owned()), ..self }
    }

    /// Lets VNC viewers in through this Unix socket, where it runs.
    pub fn vnc(self, path: &Path) -> Self {
        Self { vnc: Some(path.to_owned()), ..self }
    }

    /// Adds a disk.
    pub fn disk(mut self, disk: &Disk) -> Self {
        self.disks.push(disk.clone());
        self
    }

    /// The command line of this guest.
    pub fn program(&self, vmm: Vmm, busman: &Path, images: &Images, report: &Path) -> Result<Program> {
        let kernel = match self.boot {
            Boot::BzImage => &images.kernel.bzimage,
            Boot::Pvh => &images.kernel.vmlinux,
        };
        let kernel = self.kernel.as_ref().unwrap_or(kernel);
        let own = self.initrd.as_ref().or(self.probe.as_ref());
        let initrd = own.unwrap_or(if self.kexec { &images.kexec } else { &images.base });
        let path = match vmm {
            Vmm::Busman => busman.to_owned(),
            Vmm::Qemu => host::find_program("qemu-system-x86_64").context("qemu is not installed")?,
        };
        let mut args = match vmm {
            Vmm::Busman => self.busman_arguments(report),
            Vmm::Qemu => self.qemu_arguments(),
        };
        let option = |name: &str| {
            if vmm == Vmm::Busman { format!("--{name}") } else { format!("-{name}") }
        };
        args.extend(self.disks.iter().flat_map(|disk| disk.arguments(vmm)));
        args.extend([option("kernel"), text(kernel), option("initrd"), text(initrd)]);
        args.push(if vmm == Vmm::Busman { "--cmdline".into() } else { "-append".into() });
        args.push(format!("{} lab.script={}", self.command_line, self.script));
        let program = Program { path, args, dir: PathBuf::from("/") };
        Ok(if self.unread { unread(program) } else { program })
    }

    fn busman_arguments(&self, report: &Path) -> Vec<String> {
        let machine = format!("run --cpus {} --memory {}M --report", self.cpus, self.memory_mib);
        let mut args: Vec<String> = machine.split_whitespace().map(str::to_owned).collect();
        args.push(text(report));
        if self.once {
            args.push("--once".into());
        }
        if self.probe.is_some() {
            args.push("--loopback".into());
        }
        if let Some(list) = &self.hyperv {
            args.extend(["--hyperv".into(), list.clone()]);
        }
        if let Some(size) = &self.display {
            args.extend(["--display".into(), size.clone()]);
        }
        if let Some(path) = &self.com2 {
            args.extend(["--com2".into(), text(path)]);
        }
        if let Some(state) = &self.tpm {
            args.extend(["--tpm".into(), state.clone()]);
        }
        if let Some(socket) = &self.vnc {
            args.extend(["--vnc".into(), format!("unix:{}", text(socket))]);
        }
        if let Some(socket) = &self.socket {
            args.extend(["--api-socket".into(), text(socket)]);
        }
        if self.trace {
            let trace = text(&report.with_extension("pcapng"));
            args.extend(["--trace".into(), trace, "--trace-packets".into(), "all".into()]);
        }
        args
    }

    fn qemu_arguments(&self) -> Vec<String> {
        let machine = format!(
            "-smp {} -m {memory} -object memory-backend-memfd,id=ram,size={memory}M,share=on {QEMU_MACHINE}",
            self.cpus,
            memory = self.memory_mib
        );
        let mut args: Vec<String> = machine.split_whitespace().map(str::to_owned).collect();
        if self.once {
            args.push("-no-reboot".into());
        }
        if self.display.is_some() {
            args.extend(["-device".into(), "VGA".into()]);
        }
        if let Some(socket) = &self.vnc {
            args.extend(["-vnc".into(), format!("unix:{}", text(socket))]);
        }
        args
    }
}

/// A pipe whose other end only the program itself holds.
fn unread(program: Program) -> Program {
    const SCRIPT: &str = r#"mkfifo -m 600 "$0" && exec 3<>"$0" && rm "$0" && exec "$@" >&3"#;
    let pipe = format!("/tmp/busman-lab-{}.pipe", std::process::id());
    let start = ["-c".into(), SCRIPT.into(), pipe, text(&program.path)];
    Program {
        path: "/bin/sh".into(),
        args: start.into_iter().chain(program.args).collect(),
        dir: program.dir,
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
