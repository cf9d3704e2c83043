//! Stands in for the I/O engine's types until the engine is here.

use crate::disk::{DiskError, Image, Zeroing};

/// A disk that a guest may be given.
#[derive(Debug)]
pub struct Disk(Box<dyn Image>);

impl Disk {
    /// A disk with this image.
    #[must_use]
    pub fn new(image: Box<dyn Image>) -> Self {
        Disk(image)
    }

    /// The image.
    #[must_use]
    pub fn image(&self) -> &dyn Image {
        &*self.0
    }
}

/// What the engine is to do. Offsets and lengths are bytes.
#[derive(Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "a shim")]
pub enum Request {
    Read { offset: u64, len: u64 },
    Write { offset: u64, len: u64, fua: bool },
    Flush,
    Zero { offset: u64, len: u64, how: Zeroing },
    Unmap(Vec<(u64, u64)>),
    Fill { offset: u64, len: u64, pattern: Box<[u8]> },
    Compare { offset: u64, len: u64 },
}

/// Why it was not done.
#[derive(Debug)]
#[expect(missing_docs, reason = "a shim")]
pub enum IoError {
    Disk(DiskError),
    Miscompare(u64),
    Aborted,
}
