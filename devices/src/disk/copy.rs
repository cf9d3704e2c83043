//! Copies one image into another, without what is zero.

use std::fs::File;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use thiserror::Error;

use super::image::{Access, DiskError, Extent, Image, Place, Zeroing};

/// Bytes that are read at once.
const CHUNK: u64 = 1 << 20;
/// Bytes that are looked at for zeroes together; they are a divisor of [`CHUNK`] and at least a sector.
const GRAIN: usize = 64 << 10;

static ZEROES: [u8; GRAIN] = [0; GRAIN];

/// Why a copy is not complete.
#[derive(Debug, Error)]
pub enum CopyError {
    /// The source.
    #[error("Cannot read {len} bytes at {offset} of the source")]
    Read {
        /// First byte.
        offset: u64,
        /// How many.
        len: u64,
        /// Why.
        #[source]
        source: DiskError,
    },
    /// The target.
    #[error("Cannot write {len} bytes at {offset} of the target")]
    Write {
        /// First byte.
        offset: u64,
        /// How many.
        len: u64,
        /// Why.
        #[source]
        source: DiskError,
    },
    /// The target's last flush.
    #[error("Cannot flush the target")]
    Flush(#[source] DiskError),
    /// The target is too small.
    #[error("The target has {target} bytes; the source has {needed}")]
    TooSmall {
        /// Bytes of the target.
        target: u64,
        /// Bytes of the source.
        needed: u64,
    },
}

/// A copy from image to image.
pub(super) struct Copy<'a> {
    /// From here.
    pub source: &'a dyn Image,
    /// To here; it has at least as many bytes.
    pub target: &'a dyn Image,
    /// The target reads as 0 as yet.
    pub fresh: bool,
    /// Told how many bytes of the disk are done.
    pub progress: &'a mut dyn FnMut(u64),
}

impl Copy<'_> {
    /// Copies all bytes and flushes the target. Gives the number of bytes that were written.
    ///
    /// # Errors
    /// [`CopyError`].
    pub fn run(self) -> Result<u64, CopyError> {
        let (size, target) = (self.source.geometry().size, self.target.geometry().size);
        if target < size {
            return Err(CopyError::TooSmall { target, needed: size });
        }
        let (mut offset, mut written) = (0, 0);
        let mut buffer = vec![0; usize::try_from(CHUNK).unwrap_or(GRAIN)];
        while offset < size {
            let hole = self.hole(offset, size - offset);
            if hole > 0 {
                self.zero(offset, hole)?;
                offset += hole;
            } else {
                let len = CHUNK.min(size - offset);
                let chunk = buffer.get_mut(..usize::try_from(len).unwrap_or(GRAIN)).unwrap_or_default();
                let read = self.source.read(offset, chunk);
                read.map_err(|source| CopyError::Read { offset, len, source })?;
                written += self.write(offset, chunk)?;
                offset += len;
            }
            (self.progress)(offset);
        }
        self.zero(size, target - size)?;
        self.target.flush().map_err(CopyError::Flush)?;
        Ok(written)
    }

    /// Writes what is not zero of a chunk.
    fn write(&self, mut offset: u64, mut chunk: &[u8]) -> Result<u64, CopyError> {
        let mut written = 0;
        let is_zero = |grain: &[u8]| ZEROES.starts_with(grain);
        while let Some(first) = chunk.chunks(GRAIN).next() {
            let zero = is_zero(first);
            let same = chunk.chunks(GRAIN).take_while(|grain| is_zero(grain) == zero);
            let (run, rest) = chunk.split_at(same.map(<[u8]>::len).sum());
            let len = run.len() as u64;
            if zero {
                self.zero(offset, len)?;
            } else {
                let failed = |source| CopyError::Write { offset, len, source };
                self.target.write(offset, run).map_err(failed)?;
                written += len;
            }
            offset += len;
            chunk = rest;
        }
        Ok(written)
    }

    fn zero(&self, offset: u64, len: u64) -> Result<(), CopyError> {
        if self.fresh || len == 0 {
            return Ok(());
        }
        let zeroed = self.target.zero(offset, len, Zeroing::Free);
        zeroed.map_err(|source| CopyError::Write { offset, len, source })
    }

    /// Bytes from an offset on that are known to be zero without reading them.
    fn hole(&self, offset: u64, len: u64) -> u64 {
        let mut extents = Vec::new();
        if !self.source.extents(offset, len.min(CHUNK << 10), Access::Read, &mut extents) {
            return 0;
        }
        let mut total = 0;
        for Extent { place, len } in extents {
            let hole = match place {
                Place::Zero => len,
                Place::File { file, offset } => {
                    self.source.files().get(file).map_or(0, |file| file_hole(file, offset, len))
                }
            };
            total += hole;
            if hole < len {
                break;
            }
        }
        // A file's hole may end within a sector.
        if total < len { total / CHUNK * CHUNK } else { total }
    }
}

/// Bytes of a hole in a file, as far as its file system tells.
fn file_hole(file: &File, offset: u64, len: u64) -> u64 {
    match seek(file, SeekFrom::Data(offset)) {
        Ok(data) => data.saturating_sub(offset).min(len),
        // Nothing but a hole up to the end.
        Err(Errno::NXIO) => len,
        Err(_) => 0,
    }
}
