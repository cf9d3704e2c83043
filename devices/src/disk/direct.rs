//! Files past the page cache: an image's files, opened once more with `O_DIRECT`, and what they ask of memory and
//! offsets.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use rustix::fs::{AtFlags, OFlags, StatxFlags, fcntl_getfl, statx};

use super::queue::Bounce;

/// What every file system and disk can live with.
const CAUTIOUS: u32 = 4096;
/// The smallest sector that there is.
const SMALLEST: u32 = 512;

/// An image's files, opened for direct I/O.
#[derive(Debug)]
pub(super) struct Direct {
    files: Vec<File>,
    /// Addresses are multiples of it.
    memory: u32,
    /// Offsets and lengths are multiples of it; never more than a sector of the disk.
    offset: u32,
}

impl Direct {
    /// Opens the files again. Each stays as readable and writable as it was.
    ///
    /// Closing a file lets go of the process' POSIX record locks on it: formats lock with `flock` or open file
    /// description locks, which know no such surprise.
    pub(super) fn open(files: &[File], sector: u32) -> io::Result<Self> {
        let mut direct = Direct { files: Vec::with_capacity(files.len()), memory: 1, offset: 1 };
        for file in files {
            let again = reopen(file).map_err(|error| {
                let what = "The file system cannot go past its page cache; use cache=writeback";
                io::Error::new(error.kind(), format!("{what} ({error})"))
            })?;
            let (memory, offset) = alignment(&again);
            direct.memory = direct.memory.max(memory);
            direct.offset = direct.offset.max(offset);
            direct.files.push(again);
        }
        if direct.offset > sector {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "With cache=none the host's disk takes multiples of {} bytes, but the guest's sectors have {sector}: \
                     use cache=writeback",
                    direct.offset
                ),
            ));
        }
        Ok(direct)
    }

    pub(super) fn files(&self) -> &[File] {
        &self.files
    }

    /// Whether an offset in a file is one that direct I/O takes.
    pub(super) fn takes_offset(&self, offset: u64) -> bool {
        offset.is_multiple_of(u64::from(self.offset))
    }

    /// Whether bytes of memory are where direct I/O takes them.
    pub(super) fn takes_memory(&self, address: usize, len: usize) -> bool {
        address.is_multiple_of(self.memory as usize) && len.is_multiple_of(self.offset as usize)
    }
}

fn reopen(file: &File) -> io::Result<File> {
    let writable = !(fcntl_getfl(file)? & OFlags::RWMODE).is_empty();
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    OpenOptions::new().read(true).write(writable).custom_flags(libc::O_DIRECT).open(path)
}

/// What the file asks of addresses, and of offsets and lengths. Not every kernel and file system tells; then a small
/// read shows what is taken.
fn alignment(file: &File) -> (u32, u32) {
    match statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN) {
        Ok(stat) if stat.stx_mask & StatxFlags::DIOALIGN.bits() != 0 && stat.stx_dio_offset_align != 0 => {
            (stat.stx_dio_mem_align.max(1), stat.stx_dio_offset_align)
        }
        _ => {
            let taken = file.read_at(Bounce::default().bytes(SMALLEST as usize), u64::from(SMALLEST));
            (CAUTIOUS, if taken.is_ok() { SMALLEST } else { CAUTIOUS })
        }
    }
}
