//! The block allocation table in memory: atomic words, so that the fast path looks blocks up without a lock. Only
//! the holder of the writer's lock changes it, page by page, and only after the log has the page.

use std::sync::atomic::{AtomicU64, Ordering};

use super::error::{VhdxError, damaged};
use super::medium::Medium;
use super::metadata::Layout;
use super::protocol::{BITMAP_BLOCK, BatEntry, BlockState, MIB, PAGE, PAGE_BYTES};
use super::region::{Span, Taken};

/// A page of the BAT or of a sector bitmap, as it is in the file.
pub(super) type Page = [u8; PAGE];
/// Words of a page.
pub(super) const WORDS: usize = PAGE / 8;

/// The table. Its words are what the file's are once the log has been replayed.
#[derive(Debug)]
pub(super) struct Bat {
    words: Box<[AtomicU64]>,
    layout: Layout,
    place: u64,
}

impl Bat {
    /// Reads the table. Nothing in it has been checked then but its size.
    pub fn read(medium: &dyn Medium, layout: Layout, region: Span) -> Result<Self, VhdxError> {
        let count = layout.bat_entries();
        if count * 8 > region.len {
            return Err(damaged(format!("its BAT of {} bytes has no room for {count} entries", region.len)));
        }
        let count = usize::try_from(count).map_err(|_| damaged("its BAT is too long"))?;
        let mut words = Vec::with_capacity(count);
        let mut buffer = vec![0; usize::try_from(MIB).unwrap_or(PAGE)];
        let mut at = region.start;
        while words.len() < count {
            let part = ((count - words.len()) * 8).min(buffer.len());
            let Some(part) = buffer.get_mut(..part) else { break };
            medium.read(at, part)?;
            at += part.len() as u64;
            words.extend(part.as_chunks().0.iter().map(|word| AtomicU64::new(u64::from_le_bytes(*word))));
        }
        Ok(Bat { words: words.into(), layout, place: region.start })
    }

    fn entry(&self, index: u64) -> BatEntry {
        let word = usize::try_from(index).ok().and_then(|index| self.words.get(index));
        BatEntry(word.map_or(0, |word| word.load(Ordering::Acquire)))
    }

    /// State and place of a block of the disk.
    pub fn block(&self, block: u64) -> (BlockState, u64) {
        let entry = self.entry(self.layout.block_entry(block));
        // The reserved states were refused when the image was opened.
        (entry.state().unwrap_or(BlockState::Undefined), entry.place())
    }

    /// Where the sector bitmap of a chunk is.
    pub fn bitmap(&self, chunk: u64) -> Option<u64> {
        let entry = self.entry(self.layout.bitmap_entry(chunk));
        (entry.state() == Some(BlockState::Present)).then(|| entry.place())
    }

    /// Checks every entry. Hands each thing that is wrong to `wrong`; what is taken comes back.
    pub fn check(&self, file_len: u64, mut wrong: impl FnMut(String)) -> Vec<Span> {
        let mut taken = Vec::new();
        let Layout { block_size, differencing, .. } = self.layout;
        let mut take = |what: &str, number: u64, start: u64, len: u64, wrong: &mut dyn FnMut(String)| {
            let span = Span { start, len };
            if start < MIB || span.end() > file_len {
                wrong(format!("{what} {number} is at {start}, which is not a place in the file"));
            } else {
                taken.push(span);
            }
        };
        for block in 0..self.layout.blocks() {
            let entry = self.entry(self.layout.block_entry(block));
            match entry.state() {
                Some(BlockState::PartiallyPresent) if !differencing => {
                    wrong(format!("block {block} is partially present, but there is no parent"));
                }
                Some(BlockState::PartiallyPresent)
                    if self.bitmap(block / self.layout.chunk_ratio()).is_none() =>
                {
                    wrong(format!("block {block} is partially present, but has no sector bitmap"));
                }
                Some(BlockState::Present | BlockState::PartiallyPresent) => {
                    take("block", block, entry.place(), block_size, &mut wrong);
                }
                Some(_) => {}
                None => wrong(format!("block {block} is in state {}, which is reserved", entry.0 & 7)),
            }
        }
        // QEMU has left garbage in the entries of sector bitmaps of files without a parent: they mean nothing.
        let chunks = if differencing { self.layout.blocks().div_ceil(self.layout.chunk_ratio()) } else { 0 };
        for chunk in 0..chunks {
            let entry = self.entry(self.layout.bitmap_entry(chunk));
            match entry.state() {
                Some(BlockState::NotPresent) => {}
                Some(BlockState::Present) => {
                    take("sector bitmap", chunk, entry.place(), BITMAP_BLOCK, &mut wrong);
                }
                _ => wrong(format!("sector bitmap {chunk} is in state {}, which is reserved", entry.0 & 7)),
            }
        }
        taken
    }

    /// Checks every entry and that nothing overlaps, also not with `others`.
    pub fn verify(&self, file_len: u64, others: &[Span]) -> Result<Taken, VhdxError> {
        let mut first = None;
        let mut taken = self.check(file_len, |what| {
            first.get_or_insert(what);
        });
        if let Some(what) = first {
            return Err(damaged(what));
        }
        taken.extend_from_slice(others);
        Taken::new(taken).map_err(|span| damaged(format!("what is at {} is there twice", span.start)))
    }

    /// A page's bytes.
    pub fn page(&self, page: usize) -> Box<Page> {
        let words = self.words.get(page * WORDS..).unwrap_or_default();
        pack(words)
    }

    /// Where a page is in the file.
    pub fn page_place(&self, page: usize) -> u64 {
        self.place + page as u64 * PAGE_BYTES
    }

    /// Takes over a page's bytes.
    pub fn publish(&self, page: usize, bytes: &Page) {
        unpack(self.words.get(page * WORDS..).unwrap_or_default(), bytes);
    }
}

/// At most a page of words as bytes, 0 after them.
pub(super) fn pack(words: &[AtomicU64]) -> Box<Page> {
    let mut page = Box::new([0; PAGE]);
    for (bytes, word) in page.as_chunks_mut().0.iter_mut().zip(words) {
        *bytes = word.load(Ordering::Relaxed).to_le_bytes();
    }
    page
}

/// The other way round.
pub(super) fn unpack(words: &[AtomicU64], bytes: &Page) {
    for (bytes, word) in bytes.as_chunks().0.iter().zip(words) {
        word.store(u64::from_le_bytes(*bytes), Ordering::Release);
    }
}
