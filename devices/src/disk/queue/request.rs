//! What can be asked of a disk, and how it ends.

use std::fmt::{self, Display};

use thiserror::Error;

use crate::disk::{DiskError, Zeroing};

/// What a request is known by. The queue only hands it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(pub u32);

/// What a disk shall do. Offsets and lengths are bytes, multiples of the disk's logical sector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// From disk to guest memory.
    Read {
        /// First byte.
        offset: u64,
        /// How many.
        len: u64,
    },
    /// From guest memory to disk.
    Write {
        /// First byte.
        offset: u64,
        /// How many.
        len: u64,
        /// Ends when the bytes are safe from a loss of power.
        fua: bool,
    },
    /// Makes all writes safe from a loss of power that had ended when this was submitted.
    Flush,
    /// Makes bytes read as 0.
    Zero {
        /// First byte.
        offset: u64,
        /// How many.
        len: u64,
        /// Whether the space may go.
        how: Zeroing,
    },
    /// Gives the space of these bytes (offset, length) back; they read as 0 afterwards.
    Unmap(Vec<(u64, u64)>),
    /// Writes a pattern again and again.
    Fill {
        /// First byte.
        offset: u64,
        /// How many: a multiple of the pattern's length.
        len: u64,
        /// A logical sector, say.
        pattern: Box<[u8]>,
    },
    /// Compares the disk with guest memory.
    Compare {
        /// First byte.
        offset: u64,
        /// How many.
        len: u64,
    },
}

/// Why a request did not do what it should.
#[derive(Debug, Error)]
pub enum IoError {
    /// The image, or the host beneath it.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// [`Request::Compare`]: so many bytes after the request's first, the disk is not what memory is.
    #[error("Byte {0} differs")]
    Miscompare(u64),
    /// [`Queue::abort`](super::Queue::abort). The disk and guest memory may have been changed in part.
    #[error("The request was aborted")]
    Aborted,
}

impl From<std::io::Error> for IoError {
    fn from(error: std::io::Error) -> Self {
        IoError::Disk(DiskError::Host(error))
    }
}

impl Request {
    /// Bytes that move between the disk and guest memory.
    #[must_use]
    pub fn moves(&self) -> u64 {
        match *self {
            Request::Read { len, .. } | Request::Write { len, .. } | Request::Compare { len, .. } => len,
            _ => 0,
        }
    }

    /// The bytes of the disk that it is about, if they are one range.
    pub(super) fn range(&self) -> Option<(u64, u64)> {
        match *self {
            Request::Read { offset, len }
            | Request::Write { offset, len, .. }
            | Request::Zero { offset, len, .. }
            | Request::Fill { offset, len, .. }
            | Request::Compare { offset, len } => Some((offset, len)),
            Request::Flush | Request::Unmap(_) => None,
        }
    }
}

impl Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self {
            Request::Read { .. } => "read",
            Request::Write { fua: false, .. } => "write",
            Request::Write { fua: true, .. } => "write-through",
            Request::Flush => return f.write_str("flush"),
            Request::Zero { .. } => "zero",
            Request::Unmap(ranges) => return write!(f, "unmap of {} ranges", ranges.len()),
            Request::Fill { .. } => "fill",
            Request::Compare { .. } => "compare",
        };
        let (offset, len) = self.range().unwrap_or_default();
        write!(f, "{what} of {len} bytes at {offset}")
    }
}
