//! What this machine has and lacks: a KVM that can run busman's guests, programs, the right to install them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::ValueEnum;

/// Number of KVM_CAP_HYPERV_SYNIC2 (linux/kvm.h): the least that busman's guests need of a KVM.
const CAP_HYPERV_SYNIC2: std::os::raw::c_ulong = 148;

/// The error of opening a file without the right to (errno.h).
const EACCES: i32 = 13;

/// Where guests run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Place {
    /// On this machine's /dev/kvm.
    Direct,
    /// In L1: a machine that QEMU emulates, whose KVM has all that is needed.
    Nested,
}

/// The place that this machine offers, and the reason in a few words.
pub fn place() -> (Place, String) {
    match kvm_ioctls::Kvm::new() {
        Ok(kvm) if kvm.check_extension_raw(CAP_HYPERV_SYNIC2) > 0 => {
            (Place::Direct, "/dev/kvm has Hyper-V emulation".into())
        }
        Ok(_) => (Place::Nested, "/dev/kvm has no Hyper-V emulation (KVM_CAP_HYPERV_SYNIC2)".into()),
        Err(error) if error.errno() == EACCES => {
            (Place::Nested, "you may not use /dev/kvm (group kvm may)".into())
        }
        Err(error) => (Place::Nested, format!("/dev/kvm cannot be used ({error})")),
    }
}

/// Bytes of memory that programs can still have.
pub fn available_memory() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").context("read /proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Ok(kib.context("/proc/meminfo does not say what is available")? << 10)
}

/// Finds a program, also where only root's PATH looks.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Whether packages can be installed without asking anyone.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The workspace that this lab was built from.
pub fn workspace() -> &'static Path {
    // tests/lab is two folders down.
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}
