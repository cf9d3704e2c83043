//! Guest memory: pages that a guest donated, resolved once into this process' mappings.
//!
//! A guest names its memory by page numbers (PFNs). [`Pages::resolve`] checks each of them against the RAM once;
//! from then on a ring or a buffer is one run of bytes, however its pages lie in guest-physical memory. The
//! memory stays the guest's: it may write to it at any moment, so nothing in here hands out a reference. Bytes
//! are copied in and out, and words are read and written atomically. Copy first, then check the copy.
//!
//! [`Pages`] are for what lasts as long as a channel. What a single request names is used once: [`Pieces`] looks it
//! up on the way.
//!
//! How bytes are copied while the guest may write them is in `mem/copy.rs`.

mod copy;
mod pieces;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use thiserror::Error;
use vm_memory::mmap::MmapRegion;
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, VolatileMemory};

pub use pieces::{Piece, Pieces};

use copy::{copy_in, copy_out};

/// All RAM of a guest; a clone shares it.
pub type GuestRam = GuestMemoryMmap<()>;

/// Bytes of a page, on the wire and in memory.
pub const PAGE_SIZE: usize = 4096;

/// Why pages cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum MemError {
    /// The guest named a page that is not RAM.
    #[error("Page {0:#x} is not in guest RAM")]
    NotRam(u64),
    /// An access past the end of the pages, or a misaligned word.
    #[error("Access of {len} bytes at offset {offset} is outside of {size} bytes of pages")]
    OutOfRange {
        /// Where the access starts, bytes.
        offset: usize,
        /// How long it is, bytes.
        len: usize,
        /// How many bytes there are.
        size: usize,
    },
}

/// A list of guest pages, seen as one run of bytes.
///
/// A page may be listed more than once, and other lists may share it: the guest decides.
#[derive(Clone, Debug)]
pub struct Pages {
    pages: Arc<[Page]>,
}

/// Where a page is in this process.
#[derive(Debug)]
struct Page {
    mapping: Arc<MmapRegion<()>>,
    /// Offset of its first byte within the mapping.
    at: usize,
    /// Bytes from there that are in the list's order: of this page and of those that continue it.
    run: usize,
}

impl Pages {
    /// Looks up every page in the guest's RAM.
    ///
    /// # Errors
    /// [`MemError::NotRam`] names the first page that is not RAM.
    pub fn resolve(ram: &GuestRam, pfns: &[u64]) -> Result<Self, MemError> {
        let page = |&pfn: &u64| find_page(ram, pfn).ok_or(MemError::NotRam(pfn));
        let mut pages = pfns.iter().map(page).collect::<Result<Vec<Page>, MemError>>()?;
        let mut rest = pages.as_mut_slice();
        while let [before @ .., last] = rest {
            if let Some(page) = before.last_mut()
                && page.at + PAGE_SIZE == last.at
                && Arc::ptr_eq(&page.mapping, &last.mapping)
            {
                page.run += last.run;
            }
            rest = before;
        }
        Ok(Pages { pages: pages.into() })
    }

    /// Bytes in all pages.
    #[must_use]
    pub fn size(&self) -> usize {
        self.pages.len() * PAGE_SIZE
    }

    /// Copies bytes out of guest memory.
    ///
    /// # Errors
    /// [`MemError::OutOfRange`] past the last page; nothing is copied then.
    pub fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<(), MemError> {
        self.check(offset, bytes.len())?;
        let (mut offset, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            let (page, skip) = self.page(offset, rest.len())?;
            let (piece, tail) = rest.split_at_mut(rest.len().min(page.run - skip));
            let at = page.at + skip;
            let guest = page.mapping.get_slice(at, piece.len());
            guest
                .and_then(|guest| copy_out(&guest, at, piece))
                .map_err(|_| self.out_of_range(offset, piece.len()))?;
            offset += piece.len();
            rest = tail;
        }
        Ok(())
    }

    /// Copies bytes into guest memory.
    ///
    /// # Errors
    /// [`MemError::OutOfRange`] past the last page; nothing is copied then.
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), MemError> {
        self.check(offset, bytes.len())?;
        let (mut offset, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            let (page, skip) = self.page(offset, rest.len())?;
            let (piece, tail) = rest.split_at(rest.len().min(page.run - skip));
            let guest = page.mapping.get_slice(page.at + skip, piece.len());
            guest.map(|guest| copy_in(&guest, piece)).map_err(|_| self.out_of_range(offset, piece.len()))?;
            offset += piece.len();
            rest = tail;
        }
        Ok(())
    }

    /// Reads an aligned word.
    ///
    /// # Errors
    /// [`MemError::OutOfRange`] past the last page or off a multiple of four.
    pub fn load(&self, offset: usize, order: Ordering) -> Result<u32, MemError> {
        self.with_word(offset, |word| word.load(order))
    }

    /// Writes an aligned word.
    ///
    /// # Errors
    /// [`MemError::OutOfRange`] past the last page or off a multiple of four.
    pub fn store(&self, offset: usize, value: u32, order: Ordering) -> Result<(), MemError> {
        self.with_word(offset, |word| word.store(value, order))
    }

    /// Sets bits of an aligned word atomically and returns what it held before.
    ///
    /// # Errors
    /// [`MemError::OutOfRange`] past the last page or off a multiple of four.
    pub fn fetch_or(&self, offset: usize, bits: u32, order: Ordering) -> Result<u32, MemError> {
        self.with_word(offset, |word| word.fetch_or(bits, order))
    }

    fn with_word<T>(&self, offset: usize, access: impl FnOnce(&AtomicU32) -> T) -> Result<T, MemError> {
        let len = size_of::<u32>();
        let (page, skip) = self.page(offset, len)?;
        let word = page.mapping.get_atomic_ref::<AtomicU32>(page.at + skip);
        // An aligned word is in one page.
        word.map(access).map_err(|_| self.out_of_range(offset, len))
    }

    fn check(&self, offset: usize, len: usize) -> Result<(), MemError> {
        match offset.checked_add(len) {
            Some(end) if end <= self.size() => Ok(()),
            _ => Err(self.out_of_range(offset, len)),
        }
    }

    #[cold]
    fn out_of_range(&self, offset: usize, len: usize) -> MemError {
        MemError::OutOfRange { offset, len, size: self.size() }
    }

    /// The page of an offset, for an access of `len` bytes, and the offset within the page.
    fn page(&self, offset: usize, len: usize) -> Result<(&Page, usize), MemError> {
        let page = self.pages.get(offset / PAGE_SIZE);
        page.map(|page| (page, offset % PAGE_SIZE)).ok_or_else(|| self.out_of_range(offset, len))
    }
}

/// A page of which nothing is known to follow it.
fn find_page(ram: &GuestRam, pfn: u64) -> Option<Page> {
    let address = pfn.checked_mul(PAGE_SIZE as u64)?;
    let (region, at) = ram.to_region_addr(GuestAddress(address))?;
    let at = usize::try_from(at.0).ok()?;
    let end = at.checked_add(PAGE_SIZE)?;
    (end as u64 <= region.len()).then(|| Page { mapping: region.get_mmap(), at, run: PAGE_SIZE })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ram() -> GuestRam {
        GuestRam::from_ranges(&[(GuestAddress(0), 8 * PAGE_SIZE), (GuestAddress(0x10_0000), 2 * PAGE_SIZE)])
            .unwrap()
    }

    #[test]
    fn scattered_pages_read_as_one_run_of_bytes() {
        let pages = Pages::resolve(&ram(), &[3, 1, 0x100, 0x101, 1]).unwrap();
        assert_eq!(pages.size(), 5 * PAGE_SIZE);
        let written: Vec<u8> = (0..=255).cycle().take(3 * PAGE_SIZE).collect();
        pages.write(PAGE_SIZE / 2, &written).unwrap();
        let mut read = vec![0; written.len()];
        pages.read(PAGE_SIZE / 2, &mut read).unwrap();
        assert_eq!(read, written);
        // Page 1 is listed twice: what was written through the first is seen through the second.
        let mut twin = [0; 16];
        pages.read(4 * PAGE_SIZE, &mut twin).unwrap();
        assert_eq!(twin, written[PAGE_SIZE / 2..][..16]);
    }

    #[test]
    fn pages_outside_of_ram_are_refused_by_name() {
        let ram = ram();
        for pfn in [8, 0xff, 0x102, u64::MAX, u64::MAX / PAGE_SIZE as u64] {
            assert_eq!(Pages::resolve(&ram, &[0, pfn]).unwrap_err(), MemError::NotRam(pfn));
        }
    }

    #[test]
    fn accesses_past_the_end_copy_nothing() {
        let pages = Pages::resolve(&ram(), &[0, 2]).unwrap();
        assert!(pages.write(2 * PAGE_SIZE - 1, &[1, 2]).is_err());
        assert!(pages.write(usize::MAX, &[1]).is_err());
        let mut byte = [0xff];
        pages.read(2 * PAGE_SIZE - 1, &mut byte).unwrap();
        assert_eq!(byte, [0]);
        assert!(pages.read(2 * PAGE_SIZE, &mut byte).is_err());
        assert!(pages.load(2, Ordering::Relaxed).is_err());
        assert!(pages.load(2 * PAGE_SIZE, Ordering::Relaxed).is_err());
    }

    #[test]
    fn pieces_are_the_bytes_of_a_request_in_its_order() {
        let ram = ram();
        Pages::resolve(&ram, &[7]).unwrap().write(4090, &[1, 2, 3, 4, 5, 6]).unwrap();
        Pages::resolve(&ram, &[2]).unwrap().write(0, &[7, 8]).unwrap();
        let mut bytes = Vec::new();
        // The offset skips page 100, which is not RAM: only what is named is looked up.
        for piece in Pieces::new(&ram, [100, 7, 2].into_iter(), PAGE_SIZE + 4092, 6) {
            bytes.extend_from_slice(piece.unwrap().read(&mut [0; 8]));
        }
        assert_eq!(bytes, [3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn pieces_end_at_the_first_page_that_is_not_there() {
        let ram = ram();
        for pfn in [8, u64::MAX, u64::MAX / PAGE_SIZE as u64] {
            let mut pieces = Pieces::new(&ram, [0, pfn, 1].into_iter(), 0, 3 * PAGE_SIZE);
            assert!(pieces.next().unwrap().is_ok());
            assert_eq!(pieces.next().unwrap().unwrap_err(), MemError::NotRam(pfn));
            assert!(pieces.next().is_none());
        }
        // More bytes than pages.
        let mut pieces = Pieces::new(&ram, [0].into_iter(), 1, PAGE_SIZE);
        assert_eq!(pieces.next().unwrap().unwrap().size(), PAGE_SIZE - 1);
        assert!(matches!(pieces.next(), Some(Err(MemError::OutOfRange { .. }))));
        assert!(pieces.next().is_none());
        assert!(Pieces::new(&ram, std::iter::empty(), usize::MAX, 0).next().is_none());
    }

    #[test]
    fn words_are_the_guests_little_endian_bytes() {
        let pages = Pages::resolve(&ram(), &[5]).unwrap();
        pages.store(8, 0x0403_0201, Ordering::Relaxed).unwrap();
        assert_eq!(pages.fetch_or(8, 0x8000_0000, Ordering::SeqCst), Ok(0x0403_0201));
        let mut bytes = [0; 4];
        pages.read(8, &mut bytes).unwrap();
        assert_eq!(bytes, [1, 2, 3, 0x84]);
    }
    #[test]
    fn copies_of_every_alignment_and_length_are_exact() {
        let pages = Pages::resolve(&ram(), &[1, 2, 6]).unwrap();
        let bytes: Vec<u8> = (1..=200).collect();
        for offset in 2 * PAGE_SIZE - 100..2 * PAGE_SIZE - 90 {
            for len in 0..=bytes.len() {
                pages.write(offset - 8, &[0; 216]).unwrap();
                pages.write(offset, &bytes[..len]).unwrap();
                let mut read = [0xff; 216];
                pages.read(offset - 8, &mut read).unwrap();
                let (before, rest) = read.split_at(8);
                let (copy, after) = rest.split_at(len);
                assert_eq!(copy, &bytes[..len]);
                assert!(before.iter().chain(after).all(|&byte| byte == 0), "{len} bytes at {offset}");
                let mut again = vec![0; len];
                pages.read(offset, &mut again).unwrap();
                assert_eq!(again, copy);
            }
        }
    }
}
