//! Guest memory: pages that a guest donated, resolved once into this process' mappings.
//!
//! A guest names its memory by page numbers (PFNs). [`Pages::resolve`] checks each of them against the RAM once;
//! from then on a ring or a buffer is one run of bytes, however its pages lie in guest-physical memory. The
//! memory stays the guest's: it may write to it at any moment, so nothing in here hands out a reference. Bytes
//! are copied in and out, and words are read and written atomically. Copy first, then check the copy.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use thiserror::Error;
use vm_memory::mmap::MmapRegion;
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, VolatileMemory};

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

/// Bytes that are contiguous both for the guest and in this process.
#[derive(Clone, Debug)]
struct Run {
    /// Offset of the first byte within the pages.
    start: usize,
    /// Offset of the first byte within the mapping.
    at: usize,
    len: usize,
    mapping: Arc<MmapRegion<()>>,
}

/// A list of guest pages, seen as one run of bytes.
///
/// A page may be listed more than once, and other lists may share it: the guest decides.
#[derive(Clone, Debug)]
pub struct Pages {
    places: Arc<Places>,
    size: usize,
}

#[derive(Debug)]
struct Places {
    runs: Vec<Run>,
    /// Of each page, in which run it is: rings look pages up several times per packet.
    run_of_page: Vec<usize>,
}

impl Pages {
    /// Looks up every page in the guest's RAM; neighbours become one run.
    ///
    /// # Errors
    /// [`MemError::NotRam`] names the first page that is not RAM.
    pub fn resolve(ram: &GuestRam, pfns: &[u64]) -> Result<Self, MemError> {
        let mut runs: Vec<Run> = Vec::new();
        let mut run_of_page = Vec::with_capacity(pfns.len());
        for (i, &pfn) in pfns.iter().enumerate() {
            let (mapping, at) = find_page(ram, pfn).ok_or(MemError::NotRam(pfn))?;
            match runs.last_mut() {
                Some(last) if last.at + last.len == at && Arc::ptr_eq(&last.mapping, &mapping) => {
                    last.len += PAGE_SIZE;
                }
                _ => runs.push(Run { start: i * PAGE_SIZE, at, len: PAGE_SIZE, mapping }),
            }
            run_of_page.push(runs.len() - 1);
        }
        Ok(Pages { places: Arc::new(Places { runs, run_of_page }), size: pfns.len() * PAGE_SIZE })
    }

    /// Bytes in all pages.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Copies bytes out of guest memory.
    ///
    /// # Errors
    /// [`MemError::OutOfRange`] past the last page; nothing is copied then.
    pub fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<(), MemError> {
        self.check(offset, bytes.len())?;
        let mut rest = bytes;
        self.for_each_piece(offset, rest.len(), |run, at, len| {
            let (piece, tail) = std::mem::take(&mut rest).split_at_mut(len);
            rest = tail;
            run.mapping.get_slice(at, len).map(|guest| guest.copy_to(piece)).map(drop)
        })
    }

    /// Copies bytes into guest memory.
    ///
    /// # Errors
    /// [`MemError::OutOfRange`] past the last page; nothing is copied then.
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), MemError> {
        self.check(offset, bytes.len())?;
        let mut rest = bytes;
        self.for_each_piece(offset, rest.len(), |run, at, len| {
            let (piece, tail) = rest.split_at(len);
            rest = tail;
            run.mapping.get_slice(at, len).map(|guest| guest.copy_from(piece))
        })
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
        self.check(offset, size_of::<u32>())?;
        let out_of_range = || self.out_of_range(offset, size_of::<u32>());
        let run = self.run_of(offset).ok_or_else(out_of_range)?;
        let word = run.mapping.get_atomic_ref::<AtomicU32>(run.at + (offset - run.start));
        word.map(access).map_err(|_| out_of_range())
    }

    fn check(&self, offset: usize, len: usize) -> Result<(), MemError> {
        match offset.checked_add(len) {
            Some(end) if end <= self.size => Ok(()),
            _ => Err(self.out_of_range(offset, len)),
        }
    }

    fn out_of_range(&self, offset: usize, len: usize) -> MemError {
        MemError::OutOfRange { offset, len, size: self.size }
    }

    fn run_of(&self, offset: usize) -> Option<&Run> {
        let run = *self.places.run_of_page.get(offset / PAGE_SIZE)?;
        self.places.runs.get(run)
    }

    /// Calls `access(run, offset in its mapping, length)` for each contiguous piece of a checked range.
    fn for_each_piece<E>(
        &self,
        offset: usize,
        len: usize,
        mut access: impl FnMut(&Run, usize, usize) -> Result<(), E>,
    ) -> Result<(), MemError> {
        let (mut offset, mut left) = (offset, len);
        while left > 0 {
            let run = self.run_of(offset).ok_or_else(|| self.out_of_range(offset, left))?;
            let skip = offset - run.start;
            let len = left.min(run.len - skip);
            access(run, run.at + skip, len).map_err(|_| self.out_of_range(offset, len))?;
            offset += len;
            left -= len;
        }
        Ok(())
    }
}

fn find_page(ram: &GuestRam, pfn: u64) -> Option<(Arc<MmapRegion<()>>, usize)> {
    let address = pfn.checked_mul(PAGE_SIZE as u64)?;
    let (region, at) = ram.to_region_addr(GuestAddress(address))?;
    let at = usize::try_from(at.0).ok()?;
    let end = at.checked_add(PAGE_SIZE)?;
    (end as u64 <= region.len()).then(|| (region.get_mmap(), at))
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
    fn words_are_the_guests_little_endian_bytes() {
        let pages = Pages::resolve(&ram(), &[5]).unwrap();
        pages.store(8, 0x0403_0201, Ordering::Relaxed).unwrap();
        assert_eq!(pages.fetch_or(8, 0x8000_0000, Ordering::SeqCst), Ok(0x0403_0201));
        let mut bytes = [0; 4];
        pages.read(8, &mut bytes).unwrap();
        assert_eq!(bytes, [1, 2, 3, 0x84]);
    }
}
