//! Sector bitmaps in memory, a page at a time, read when first needed: a page speaks of 32768 sectors. Like the BAT,
//! words are atomic, and only the holder of the writer's lock changes them.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::bat::{Bat, Page, WORDS, pack, unpack};
use super::medium::Medium;
use super::metadata::Layout;
use super::protocol::{BITMAP_BLOCK, PAGE, PAGE_BYTES, SECTORS_PER_BITMAP};

/// Sectors that a page speaks of.
pub(super) const SECTORS: u64 = PAGE_BYTES * 8;
/// Pages of a sector bitmap block.
const PAGES: usize = 256;
const _: () =
    assert!(PAGES as u64 * PAGE_BYTES == BITMAP_BLOCK && SECTORS * PAGES as u64 == SECTORS_PER_BITMAP);

type Words = [AtomicU64; WORDS];

/// All sector bitmaps of a disk. One bit is kept for each sector in those parts that have been looked at.
#[derive(Debug)]
pub(super) struct SectorBitmaps {
    pages: Box<[OnceLock<Box<Words>>]>,
}

impl SectorBitmaps {
    /// None of them has been read.
    pub fn new(layout: &Layout) -> Self {
        let pages = if layout.differencing { (layout.size / layout.sector).div_ceil(SECTORS) } else { 0 };
        SectorBitmaps { pages: (0..pages).map(|_| OnceLock::new()).collect() }
    }

    /// How many sectors from `sector` on, at most `most` and to the end of the page, are all present or all not;
    /// `None` if the page has not been read.
    pub fn run(&self, sector: u64, most: u64) -> Option<(bool, u64)> {
        let words = self.pages.get(page_of(sector))?.get()?;
        let start = sector % SECTORS;
        let end = (start + most).min(SECTORS);
        let present = bit(words, start);
        let mut at = start + 1;
        while at < end {
            let word = word(words, at / 64);
            let differing = if present { !word } else { word } >> (at % 64);
            if differing != 0 {
                at = (at + u64::from(differing.trailing_zeros())).min(end);
                break;
            }
            at = ((at / 64 + 1) * 64).min(end);
        }
        Some((present, at - start))
    }

    /// Reads the page of a sector if that has not been done.
    pub fn load(&self, medium: &dyn Medium, bat: &Bat, sector: u64) -> io::Result<()> {
        let page = page_of(sector);
        let Some(slot) = self.pages.get(page) else { return Ok(()) };
        if slot.get().is_none() {
            let mut bytes = [0; PAGE];
            if let Some(place) = Self::place(bat, page) {
                medium.read(place, &mut bytes)?;
            }
            // A page that another thread has read and changed meanwhile stays.
            slot.get_or_init(|| words_of(&bytes));
        }
        Ok(())
    }

    /// A page's bytes; 0 if nobody has read it.
    pub fn page(&self, page: usize) -> Box<Page> {
        pack(self.pages.get(page).and_then(OnceLock::get).map_or(&[], |words| &words[..]))
    }

    /// Where a page is in the file, if its chunk has a sector bitmap.
    pub fn place(bat: &Bat, page: usize) -> Option<u64> {
        bat.bitmap(Self::chunk_of(page)).map(|block| Self::place_in(block, page))
    }

    /// The chunk that a page belongs to.
    pub fn chunk_of(page: usize) -> u64 {
        (page / PAGES) as u64
    }

    /// Where a page is in the file if its sector bitmap block is at `block`.
    pub fn place_in(block: u64, page: usize) -> u64 {
        block + (page % PAGES) as u64 * PAGE_BYTES
    }

    /// Takes over a page's bytes.
    pub fn publish(&self, page: usize, bytes: &Page) {
        if let Some(slot) = self.pages.get(page) {
            unpack(&slot.get_or_init(|| words_of(&[0; PAGE]))[..], bytes);
        }
    }
}

/// Index of the page that speaks of a sector.
pub(super) fn page_of(sector: u64) -> usize {
    usize::try_from(sector / SECTORS).unwrap_or(usize::MAX)
}

/// Sets or clears bits of a page; the range is within the page.
pub(super) fn set_bits(page: &mut Page, first: u64, count: u64, present: bool) {
    let mut at = first % SECTORS;
    let end = (at + count).min(SECTORS);
    while at < end {
        let len = (8 - at % 8).min(end - at);
        let mask = ((1_u16 << len) - 1) << (at % 8);
        let byte = usize::try_from(at / 8).ok().and_then(|byte| page.get_mut(byte));
        if let Some(byte) = byte {
            let mask = mask.to_le_bytes()[0];
            *byte = if present { *byte | mask } else { *byte & !mask };
        }
        at += len;
    }
}

/// Whether all of the bits are set; the range is within the page.
pub(super) fn all_set(page: &Page, first: u64, count: u64) -> bool {
    let mut wanted = [0; PAGE];
    set_bits(&mut wanted, first, count, true);
    page.iter().zip(&wanted).all(|(has, wanted)| has & wanted == *wanted)
}

fn words_of(bytes: &Page) -> Box<Words> {
    let words = Box::new([const { AtomicU64::new(0) }; WORDS]);
    unpack(&words[..], bytes);
    words
}

fn word(words: &Words, index: u64) -> u64 {
    usize::try_from(index)
        .ok()
        .and_then(|index| words.get(index))
        .map_or(0, |word| word.load(Ordering::Acquire))
}

fn bit(words: &Words, sector: u64) -> bool {
    word(words, sector / 64) >> (sector % 64) & 1 != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_those_of_a_naive_walk() {
        let layout = Layout { size: 32 << 20, block_size: 1 << 20, sector: 512, differencing: true };
        let maps = SectorBitmaps::new(&layout);
        let mut page = [0; PAGE];
        for (first, count) in [(3, 5), (63, 2), (128, 64), (200, 1000), (32700, 68)] {
            set_bits(&mut page, first, count, true);
        }
        set_bits(&mut page, 900, 7, false);
        maps.publish(1, &page);
        let naive = |sector: u64| page[(sector / 8) as usize] >> (sector % 8) & 1 != 0;
        for start in (0..SECTORS).filter(|start| start % 97 == 0 || *start < 1300 || *start > 32690) {
            let same = (start..SECTORS.min(start + 2000)).take_while(|at| naive(*at) == naive(start)).count();
            assert_eq!(maps.run(SECTORS + start, 2000), Some((naive(start), same as u64)), "at {start}");
        }
        assert_eq!(maps.run(0, 1), None, "nobody has read page 0");
        assert!(all_set(&page, 200, 700) && !all_set(&page, 200, 701));
    }
}
