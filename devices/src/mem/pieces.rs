//! Guest memory that one request names and that is used once.

use vm_memory::{GuestAddress, GuestMemoryBackend, VolatileMemory, VolatileSlice};

use super::copy::{copy_in, copy_out};
use super::{GuestRam, MemError, PAGE_SIZE};

/// Contiguous bytes of guest memory, at most a page.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'r> {
    bytes: VolatileSlice<'r>,
    /// Where in its page it starts.
    at: usize,
}

impl Piece<'_> {
    /// How many bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Where they start in this process, for the kernel to read or write. Valid as long as the RAM is mapped; the
    /// guest may write there at any moment.
    pub(crate) fn address(&self) -> *mut u8 {
        self.bytes.ptr_guard_mut().as_ptr()
    }

    /// Copies them into the start of the buffer, as far as it goes, and returns the copy.
    pub fn read<'b>(&self, buffer: &'b mut [u8]) -> &'b mut [u8] {
        let len = self.size().min(buffer.len());
        let (copy, _) = buffer.split_at_mut(len);
        // Cannot fail: both have this many bytes.
        let _ = self.bytes.get_slice(0, len).and_then(|bytes| copy_out(&bytes, self.at, copy));
        copy
    }

    /// Copies bytes over the first of them, as far as either goes.
    pub fn write(&self, bytes: &[u8]) {
        let len = self.size().min(bytes.len());
        let (bytes, _) = bytes.split_at(len);
        // Cannot fail: both have this many bytes.
        let _ = self.bytes.get_slice(0, len).map(|guest| copy_in(&guest, bytes));
    }
}

/// Guest memory that one request names, as bytes: `len` of them from `offset` on in a list of pages.
///
/// Yields them page by page, each looked up when it is reached; nothing is allocated or kept. Ends with the first
/// error. To touch all bytes or none, let a clone run through first.
#[derive(Clone, Debug)]
pub struct Pieces<'r, P> {
    ram: &'r GuestRam,
    pfns: P,
    /// Into the next page; may be past its end.
    offset: usize,
    left: usize,
}

impl<'r, P: Iterator<Item = u64>> Pieces<'r, P> {
    /// Names the bytes; touches nothing yet.
    pub fn new(ram: &'r GuestRam, pfns: P, offset: usize, len: usize) -> Self {
        Pieces { ram, pfns, offset, left: len }
    }

    fn find(&mut self) -> Result<Piece<'r>, MemError> {
        let (offset, left) = (self.offset, self.left);
        let past_the_pages = MemError::OutOfRange { offset, len: left, size: 0 };
        let pfn = self.pfns.nth(offset / PAGE_SIZE).ok_or(past_the_pages)?;
        let skip = offset % PAGE_SIZE;
        let len = left.min(PAGE_SIZE - skip);
        (self.offset, self.left) = (0, left - len);
        let address = pfn.checked_mul(PAGE_SIZE as u64).and_then(|page| page.checked_add(skip as u64));
        let address = address.ok_or(MemError::NotRam(pfn))?;
        let bytes = self.ram.get_slice(GuestAddress(address), len).map_err(|_| MemError::NotRam(pfn))?;
        Ok(Piece { bytes, at: skip })
    }
}

impl<'r, P: Iterator<Item = u64>> Iterator for Pieces<'r, P> {
    type Item = Result<Piece<'r>, MemError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let found = self.find();
        if found.is_err() {
            self.left = 0;
        }
        Some(found)
    }
}
