//! What the guest finds in its RAM when VP 0 starts: a kernel, its boot structures and the ACPI tables; or firmware.
//!
//! [`linux::load`] boots a Linux kernel without firmware, [`uefi::load`] boots firmware; both say how VP 0 has to
//! start ([`Entry`]). [`acpi::write`] lays down the tables for a kernel. They only write to guest RAM: no KVM here,
//! and nothing is kept. [`processor`] has what every processor starts with.

pub mod acpi;
mod entry;
pub mod linux;
pub mod processor;
pub mod uefi;

use std::io;
use std::path::PathBuf;

use thiserror::Error;
use vm_memory::GuestMemoryError;

pub use entry::Entry;

/// Files and text that a direct boot starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootSource {
    /// bzImage, or ELF with a PVH note.
    pub kernel: PathBuf,
    /// Initial RAM disk, if any.
    pub initrd: Option<PathBuf>,
    /// The kernel's command line.
    pub cmdline: String,
}

/// Why a guest cannot be booted.
#[derive(Debug, Error)]
pub enum BootError {
    /// A file is missing or unreadable.
    #[error("Cannot read {what} {}", path.display())]
    Read {
        /// Kernel, initrd or firmware.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the host said.
        #[source]
        source: io::Error,
    },
    /// Neither of the two formats.
    #[error("{} is no kernel that can be booted: it is neither a bzImage (vmlinuz) nor an ELF file (vmlinux)", .0.display())]
    NotAKernel(PathBuf),
    /// A bzImage too old or without 64-bit code.
    #[error("{} has no 64-bit entry; busman boots x86-64 kernels only", .0.display())]
    NoLongModeEntry(PathBuf),
    /// An ELF file without the note that names its entry.
    #[error("{} is an ELF file without a PVH entry; build it with CONFIG_PVH=y or give the bzImage instead", .0.display())]
    NoPvhEntry(PathBuf),
    /// linux-loader refused the image.
    #[error("Cannot load kernel {}", path.display())]
    Load {
        /// The file.
        path: PathBuf,
        /// What it found.
        #[source]
        source: linux_loader::loader::Error,
    },
    /// Not enough RAM below the gap.
    #[error(
        "{what} needs guest memory up to {needed} MiB, but {available} MiB are there; give more with --memory"
    )]
    DoesNotFit {
        /// Kernel, or kernel and initrd.
        what: &'static str,
        /// MiB that would be enough.
        needed: u64,
        /// MiB there are.
        available: u64,
    },
    /// The kernel would cut it off silently.
    #[error("The kernel command line has {len} bytes; this kernel takes {max}")]
    CmdlineTooLong {
        /// Its length.
        len: usize,
        /// The kernel's limit.
        max: usize,
    },
    /// The kernel would read it only up to there.
    #[error("The kernel command line contains a NUL byte")]
    CmdlineNul,
    /// A file that is not the firmware, or a damaged one.
    #[error("{} cannot be booted as firmware (mu_msvm's MSVM.fd)", path.display())]
    NotFirmware {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: uefi::image::ImageError,
    },
    /// Nobody has given the machine a UUID.
    #[error("The machine has no UUID")]
    NoUuid,
    /// The host has no random numbers for the firmware.
    #[error("Cannot get random numbers for the firmware")]
    NoEntropy(#[source] io::Error),
    /// Our own structures do not fit: RAM is far too small.
    #[error("Cannot write boot structures to guest RAM")]
    Write(#[from] GuestMemoryError),
}
