//! Guest memory: pages that a guest donated, resolved once into this process' mappings.
//!
//! A guest names its memory by page numbers (PFNs). [`Pages::resolve`] checks each of them against the RAM once;
//! from then on a ring or a buffer is one run of bytes, however its pages lie in guest-physical memory. The
//! memory stays the guest's: it may write to it at any moment, so nothing in here hands out a reference. Bytes
//! are copied in and out, and words are read and written atomically. Copy first, then check the copy.
//!
//! [`Pages`] are for what lasts as long as a channel. What a single request names is used once: [`Pieces`] looks it
//! up on the way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use thiserror::Error;
use vm_memory::mmap::MmapRegion;
use vm_memory::{
    GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, VolatileMemory, VolatileSlice,
};

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

/// Contiguous bytes of guest memory, at most a page.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'r>(VolatileSlice<'r>);

impl Piece<'_> {
    /// How many bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.len()
    }

    /// Copies them into the start of the buffer, as far as it goes, and returns the copy.
    pub fn read<'b>(&self, buffer: &'b mut [u8]) -> &'b mut [u8] {
        let len = self.size().min(buffer.len());
        let (copy, _) = buffer.split_at_mut(len);
        self.0.copy_to(copy);
        copy
    }

    /// Copies bytes over the first of them, as far as either goes.
    pub fn write(&self, bytes: &[u8]) {
        self.0.copy_from(bytes);
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
        self.ram.get_slice(GuestAddress(address), len).map(Piece).map_err(|_| MemError::NotRam(pfn))
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
}
