//! The file under a VHDX image, as far as the format needs one: a seam so that tests can cut the power between any
//! two writes. Nothing in here knows the format, except that [`Replayed`] lays a log's pages over a file that must
//! not be written.

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::log::Step;
use super::protocol::PAGE_BYTES;

/// Zeroes that are written where the file system has no better way.
static ZEROES: [u8; 64 << 10] = [0; 64 << 10];

/// A file.
pub(super) trait Medium: Debug + Send + Sync {
    /// Fills the buffer; an error if the file ends before.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
    /// Writes all bytes; they survive the process.
    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Returns when all that was written is safe from a loss of power.
    fn sync(&self) -> io::Result<()>;
    /// Bytes of the file.
    fn len(&self) -> io::Result<u64>;
    /// Makes the file longer; what is new reads as 0.
    fn extend(&self, len: u64) -> io::Result<()>;
    /// Frees space inside of the file; it reads as 0 then. [`io::ErrorKind::Unsupported`] if that is not to be had.
    fn punch(&self, offset: u64, len: u64) -> io::Result<()>;
    /// Makes bytes 0 and lets them keep their space.
    fn zero(&self, offset: u64, len: u64) -> io::Result<()> {
        write_zeroes(self, offset, len)
    }
    /// Makes sure that there is space for bytes, if the file system can.
    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        let _ = (offset, len);
        Ok(())
    }
}

/// Makes bytes 0, and frees their space if that is to be had.
pub(super) fn free<M: Medium + ?Sized>(medium: &M, offset: u64, len: u64) -> io::Result<()> {
    match medium.punch(offset, len) {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => medium.zero(offset, len),
        done => done,
    }
}

fn write_zeroes<M: Medium + ?Sized>(medium: &M, offset: u64, len: u64) -> io::Result<()> {
    let end = offset.saturating_add(len);
    let mut at = offset;
    while at < end {
        let part = usize::try_from(end - at).unwrap_or(usize::MAX).min(ZEROES.len());
        medium.write(at, ZEROES.get(..part).unwrap_or(&ZEROES))?;
        at += part as u64;
    }
    Ok(())
}

impl Medium for File {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn extend(&self, len: u64) -> io::Result<()> {
        if len > Medium::len(self)? { self.set_len(len) } else { Ok(()) }
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        match fallocate(self, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, len) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Err(io::ErrorKind::Unsupported.into()),
            done => Ok(done?),
        }
    }

    fn zero(&self, offset: u64, len: u64) -> io::Result<()> {
        match fallocate(self, FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE, offset, len) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => write_zeroes(self, offset, len),
            done => Ok(done?),
        }
    }

    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        match fallocate(self, FallocateFlags::empty(), offset, len) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.extend(offset.saturating_add(len)),
            done => Ok(done?),
        }
    }
}

/// A file as it would be if its log had been replayed. For reading only.
#[derive(Debug)]
pub(super) struct Replayed {
    file: Box<dyn Medium>,
    steps: Vec<Step>,
    len: u64,
}

impl Replayed {
    /// Lays the steps over a file that is `len` bytes long then.
    pub fn new(file: Box<dyn Medium>, steps: Vec<Step>, len: u64) -> Self {
        Replayed { file, steps, len }
    }
}

impl Medium for Replayed {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end = offset.saturating_add(buffer.len() as u64);
        if end > self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let there = usize::try_from(self.file.len()?.saturating_sub(offset)).unwrap_or(usize::MAX);
        let (old, new) = buffer.split_at_mut(there.min(buffer.len()));
        self.file.read(offset, old)?;
        new.fill(0);
        for step in &self.steps {
            let (start, len) = match step {
                Step::Page { offset, .. } => (*offset, PAGE_BYTES),
                Step::Zero { offset, len } => (*offset, *len),
            };
            let (from, to) = (start.max(offset), start.saturating_add(len).min(end));
            if from >= to {
                continue;
            }
            let [to_start, to_end] =
                [from - offset, to - offset].map(|at| usize::try_from(at).unwrap_or(usize::MAX));
            let Some(target) = buffer.get_mut(to_start..to_end) else { continue };
            match step {
                Step::Page { bytes, .. } => {
                    let skip = usize::try_from(from - start).unwrap_or(usize::MAX);
                    if let Some(source) = bytes.get(skip..).and_then(|bytes| bytes.get(..target.len())) {
                        target.copy_from_slice(source);
                    }
                }
                Step::Zero { .. } => target.fill(0),
            }
        }
        Ok(())
    }

    fn write(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.len)
    }

    fn extend(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn punch(&self, _: u64, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
}
