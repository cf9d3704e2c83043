//! Guest RAM: one memfd, mapped shared, below and above the low MMIO gap.
//!
//! A memfd and shared mappings let another process (a vhost-user back end, a debugger) map the same RAM. The
//! file is sealed against a change of its size, because a process that shrank it would kill this one at the
//! next access. RAM is reserved, not filled: a page costs host memory once somebody touches it.

#![expect(unsafe_code, reason = "memfd_create has no safe wrapper among our libraries")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use devices::mem::GuestRam;
use thiserror::Error;
use vm_memory::{FileOffset, GuestAddress, mmap::FromRangesError};

use crate::layout;

/// Why there is no RAM.
#[derive(Debug, Error)]
pub enum MemoryError {
    /// The host gave no file.
    #[error("Cannot create a memory file of {size} bytes")]
    Create {
        /// Bytes asked for.
        size: u64,
        /// What the host said.
        #[source]
        source: io::Error,
    },
    /// The host's address space has no room.
    #[error("Cannot map {size} bytes of guest RAM")]
    Map {
        /// Bytes asked for.
        size: u64,
        /// What the host said.
        #[source]
        source: FromRangesError,
    },
}

/// Reserves RAM of `size` bytes, a multiple of the page size; every byte reads zero.
///
/// # Errors
/// When the host gives no file or no address space of that size.
pub fn allocate(size: u64) -> Result<GuestRam, MemoryError> {
    let file = memory_file(size).map_err(|source| MemoryError::Create { size, source })?;
    let file = Arc::new(file);
    let (low, high) = layout::split(size);
    let pieces = [(GuestAddress(0), low, 0), (GuestAddress(layout::HIGH_RAM), high, low)];
    let ranges = pieces.into_iter().filter(|&(_, len, _)| len > 0).map(|(start, len, offset)| {
        // usize has 64 bits on every host with KVM's x86-64 guests.
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        (start, len, Some(FileOffset::from_arc(Arc::clone(&file), offset)))
    });
    GuestRam::from_ranges_with_files(ranges).map_err(|source| MemoryError::Map { size, source })
}

fn memory_file(size: u64) -> io::Result<File> {
    // SAFETY: the name is a NUL-terminated string; the call touches no other memory.
    let fd =
        unsafe { libc::memfd_create(c"busman-ram".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    let file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    file.set_len(size)?;
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: F_ADD_SEALS takes an integer and touches no memory.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::{Bytes, GuestMemoryBackend, GuestMemoryRegion};

    #[test]
    fn small_ram_is_one_region() {
        let ram = allocate(64 << 20).unwrap();
        assert_eq!(ram.num_regions(), 1);
        ram.write_obj(0x1234_5678u32, GuestAddress((64 << 20) - 4)).unwrap();
        assert!(ram.write_obj(0u8, GuestAddress(64 << 20)).is_err());
    }

    #[test]
    fn large_ram_leaves_the_gap_free_and_loses_nothing() {
        let ram = allocate(6 << 30).unwrap();
        let sizes: Vec<u64> = ram.iter().map(GuestMemoryRegion::len).collect();
        assert_eq!(sizes, [layout::LOW_GAP, (6 << 30) - layout::LOW_GAP]);
        assert!(ram.write_obj(1u8, GuestAddress(layout::LOW_GAP)).is_err());
        // The regions are two parts of one file, not two views of the same bytes.
        ram.write_obj(0xaau8, GuestAddress(0)).unwrap();
        assert_eq!(ram.read_obj::<u8>(GuestAddress(layout::HIGH_RAM)).unwrap(), 0);
    }

    #[test]
    fn nobody_can_shrink_ram_under_the_vmm() {
        let ram = allocate(1 << 20).unwrap();
        let file = ram.iter().next().and_then(GuestMemoryRegion::file_offset).unwrap();
        assert!(file.file().set_len(4096).is_err());
    }

    #[test]
    fn more_than_the_host_can_map_is_an_error() {
        assert!(allocate(1 << 60).is_err());
    }
}
