//! The log (section 2.3): a ring of entries that make changes of BAT and sector bitmaps whole. [`replay`] finds and
//! reads what a file's last user left behind, [`writer`] appends.

mod replay;
mod writer;

pub(super) use replay::read;
pub(super) use writer::{Log, Pages};

use super::bat::Page;

/// What the replay of a log does to the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Replaces a page.
    Page {
        /// Where, a multiple of 4096.
        offset: u64,
        /// With what.
        bytes: Box<Page>,
    },
    /// Makes pages 0.
    Zero {
        /// Where, a multiple of 4096.
        offset: u64,
        /// Bytes, a multiple of 4096.
        len: u64,
    },
}

/// Bytes of an entry with so many data descriptors.
pub(super) fn entry_len(pages: usize) -> usize {
    use super::protocol::{DESCRIPTOR, LogEntryHeader, PAGE};
    (size_of::<LogEntryHeader>() + pages * DESCRIPTOR).next_multiple_of(PAGE) + pages * PAGE
}
