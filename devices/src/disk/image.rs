//! What a guest's disk consists of on the host: the trait of image formats.
//!
//! A format implements the blocking calls, and everything works. For speed it also says where bytes lie in its files
//! ([`Image::extents`]): those the I/O engine moves between file and guest memory without asking the format. That is
//! sound because **a place, once given, never changes while the image is open**: a block that has been allocated is
//! not moved, and space that is freed is not used again before the image is opened anew.
//!
//! No format knows a bus, a guest or a SCSI command.

use std::fmt::Debug;
use std::fs::File;
use std::io;

use thiserror::Error;

use super::parents::ParentError;
use crate::guid::Guid;

/// Why an image did not do what it was asked for.
#[derive(Debug, Error)]
pub enum DiskError {
    /// Bytes past the image's end. Nothing was done.
    #[error("{len} bytes at {offset} are past the end of a disk of {size} bytes")]
    OutOfRange {
        /// First byte.
        offset: u64,
        /// How many.
        len: u64,
        /// Bytes of the disk.
        size: u64,
    },
    /// A write to an image that was opened for reading.
    #[error("The image is open for reading only")]
    ReadOnly,
    /// The image contradicts itself.
    #[error("The image is damaged: {0}")]
    Damaged(String),
    /// The image is what its format allows, and more than is understood here: a sentence for the user.
    #[error("{0}")]
    Unsupported(String),
    /// The image is the difference to another, which cannot be read.
    #[error(transparent)]
    Parent(#[from] Box<ParentError>),
    /// The host's file system or disk.
    #[error(transparent)]
    Host(#[from] io::Error),
}

/// What an image looks like to its guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes; a multiple of the logical sector.
    pub size: u64,
    /// Bytes of the smallest read or write: 512 or 4096; 2048 on optical media.
    pub logical_sector: u32,
    /// Bytes that are best written together: at least a logical sector.
    pub physical_sector: u32,
    /// Writes are refused.
    pub read_only: bool,
    /// Bytes that can be freed together; `None` if nothing can.
    pub unmap_granularity: Option<u32>,
    /// The image's own name, if its format keeps one.
    pub id: Option<Guid>,
}

/// What somebody wants to do with bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read them.
    Read,
    /// Write all of them.
    Write,
}

/// Where consecutive bytes of a disk are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The first of them.
    pub place: Place,
    /// How many, never 0.
    pub len: u64,
}

/// Where a byte of a disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In one of [`Image::files`], at this offset.
    File {
        /// Index of the file.
        file: usize,
        /// Offset in it, bytes.
        offset: u64,
    },
    /// Nowhere: it reads as 0. Never given for a write.
    Zero,
}

/// How zeroes come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zeroing {
    /// The space stays the disk's, so that a later write cannot fail for want of it.
    Keep,
    /// The space may go back to the host.
    Free,
}

/// A disk image. Offsets and lengths are multiples of the logical sector; calls may come from several threads at once
/// and may block. Two calls that touch the same bytes at the same time have either order.
pub trait Image: Debug + Send + Sync {
    /// What the image looks like. Never changes while it is open.
    fn geometry(&self) -> Geometry;

    /// Fills the buffer.
    ///
    /// # Errors
    /// [`DiskError`]; the buffer's contents are then undefined.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError>;

    /// Writes all bytes. They survive this process at once, and a loss of power after [`Image::flush`].
    ///
    /// # Errors
    /// [`DiskError`]; some of the bytes may have been written.
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError>;

    /// Makes bytes read as 0.
    ///
    /// # Errors
    /// [`DiskError`]; some of them may be 0 then.
    fn zero(&self, offset: u64, len: u64, how: Zeroing) -> Result<(), DiskError>;

    /// Returns when all that was written before is safe from a loss of power.
    ///
    /// # Errors
    /// [`DiskError`]; it is unknown then what is safe.
    fn flush(&self) -> Result<(), DiskError>;

    /// Appends where the bytes lie, in their order, and returns `true`; `false` (and nothing appended) if they can
    /// only be reached through the blocking calls, for instance because a write must allocate. Never blocks.
    ///
    /// A write to these places needs nothing more than the write itself.
    fn extents(&self, offset: u64, len: u64, access: Access, extents: &mut Vec<Extent>) -> bool {
        let _ = (offset, len, access, extents);
        false
    }

    /// The files that [`Image::extents`] speaks of. The same ones for as long as the image is open.
    fn files(&self) -> &[File] {
        &[]
    }

    /// Whether the calls may wait for a disk, a network or a lock. Those of an image that never waits are made on the
    /// channel's own thread.
    fn blocks(&self) -> bool {
        true
    }

    /// Whether [`Image::flush`] would do no more than `fdatasync` of the first of [`Image::files`], as of now.
    fn flush_is_sync(&self) -> bool {
        false
    }
}

impl Geometry {
    /// Checks that bytes are on the disk and may be accessed so.
    ///
    /// # Errors
    /// [`DiskError::OutOfRange`], [`DiskError::ReadOnly`].
    pub fn check_access(&self, offset: u64, len: u64, access: Access) -> Result<(), DiskError> {
        self.check(offset, len)?;
        if access == Access::Write && self.read_only { Err(DiskError::ReadOnly) } else { Ok(()) }
    }

    /// Checks that bytes are on the disk.
    ///
    /// # Errors
    /// [`DiskError::OutOfRange`].
    pub fn check(&self, offset: u64, len: u64) -> Result<(), DiskError> {
        match offset.checked_add(len) {
            Some(end) if end <= self.size => Ok(()),
            _ => Err(DiskError::OutOfRange { offset, len, size: self.size }),
        }
    }
}
