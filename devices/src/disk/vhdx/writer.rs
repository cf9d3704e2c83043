//! All that changes the file's structure: the first write, allocation, zeroes, flush, close. One lock is around it.
//!
//! A change is a set of pages of the BAT and of sector bitmaps. It goes: data into its place, pages into the log,
//! pages into memory, where the fast path sees them; into the file only after a later sync.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

use super::super::image::{Access, DiskError, Zeroing};
use super::bat::{Page, WORDS};
use super::bitmap::{self, SECTORS, SectorBitmaps};
use super::error::{VhdxError, damaged};
use super::header::Headers;
use super::image::{Source, Vhdx};
use super::log::{Log, Pages};
use super::medium;
use super::protocol::{BITMAP_BLOCK, BatEntry, BlockState, MIB};
use super::region::{Span, Taken};
use crate::guid::Guid;

/// Most pages of one change: a quarter of the shortest log.
const MOST_PAGES: usize = 32;
/// Most syncs that make room in a full log.
const MOST_STEPS: usize = 6;

/// What the writer's lock guards.
#[derive(Debug)]
pub(super) struct Writer {
    headers: Headers,
    /// There from the first write on.
    log: Option<Log>,
    /// A sync failed or the header is in doubt: what the file holds is not known any more.
    broken: bool,
    /// Bytes of the file.
    end: u64,
    /// Free places from before the image was opened. They read as 0 once the log has been started.
    gaps: Vec<Span>,
    /// Places of blocks that are not present but were: they are theirs until the image is opened anew. By the index
    /// in the BAT.
    kept: BTreeMap<u64, Kept>,
    /// Pages that are in the log and not in the file.
    dirty: BTreeSet<PageId>,
}

/// A place that waits for its block.
#[derive(Clone, Copy, Debug)]
struct Kept {
    place: u64,
    /// It has been 0 ever since the block was freed or the place was new: a loss of power cannot bring back more
    /// than the block held until then.
    clean: bool,
}

/// A page of the file's structure. Sector bitmaps come first: they are seen before the block that needs them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum PageId {
    Bitmap(usize),
    Bat(usize),
}

/// Pages as they will be.
#[derive(Debug, Default)]
struct Change {
    pages: BTreeMap<PageId, Box<Page>>,
    /// Sector bitmap blocks that come with this change, by chunk.
    bitmap_blocks: BTreeMap<u64, u64>,
}

impl Change {
    fn set_entry(&mut self, vhdx: &Vhdx, index: u64, entry: BatEntry) {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        let page =
            self.pages.entry(PageId::Bat(index / WORDS)).or_insert_with(|| vhdx.bat.page(index / WORDS));
        if let Some(bytes) = page.as_chunks_mut().0.get_mut(index % WORDS) {
            *bytes = entry.0.to_le_bytes();
        }
    }

    fn set_block(&mut self, vhdx: &Vhdx, block: u64, state: BlockState, place: u64) {
        self.set_entry(vhdx, vhdx.layout.block_entry(block), BatEntry::new(state, place));
    }

    /// Marks sectors of one block present, and all others of the block not if it is `fresh`. Returns whether all of
    /// the block's are present then.
    fn set_sectors(
        &mut self,
        vhdx: &Vhdx,
        sectors: Span,
        block: u64,
        fresh: bool,
    ) -> Result<bool, DiskError> {
        let layout = &vhdx.layout;
        let whole = Span {
            start: block * (layout.block_size / layout.sector),
            len: layout.block_len(block) / layout.sector,
        };
        let mut all = true;
        let mut at = whole.start;
        while at < whole.end() {
            let end = whole.end().min((at / SECTORS + 1) * SECTORS);
            vhdx.bitmaps.load(&*vhdx.medium, &vhdx.bat, at)?;
            let index = bitmap::page_of(at);
            let mut page = vhdx.bitmaps.page(index);
            let before = page.clone();
            if fresh {
                bitmap::set_bits(&mut page, at, end - at, false);
            }
            let (from, to) = (at.max(sectors.start), end.min(sectors.end()));
            if from < to {
                bitmap::set_bits(&mut page, from, to - from, true);
            }
            all &= bitmap::all_set(&page, at, end - at);
            if page != before {
                self.pages.insert(PageId::Bitmap(index), page);
            }
            at = end;
        }
        Ok(all)
    }

    fn place(&self, vhdx: &Vhdx, id: PageId) -> Result<u64, VhdxError> {
        match id {
            PageId::Bat(page) => Ok(vhdx.bat.page_place(page)),
            PageId::Bitmap(page) => {
                let new = self.bitmap_blocks.get(&SectorBitmaps::chunk_of(page));
                new.map(|block| SectorBitmaps::place_in(*block, page))
                    .or_else(|| SectorBitmaps::place(&vhdx.bat, page))
                    .ok_or_else(|| damaged("a sector bitmap has no place"))
            }
        }
    }
}

impl Writer {
    /// Of a file in which `taken` is taken.
    pub fn new(headers: Headers, taken: &Taken, end: u64) -> Self {
        let gaps = taken.gaps(end & !(MIB - 1));
        let (kept, dirty) = (BTreeMap::new(), BTreeSet::new());
        Writer { headers, log: None, broken: false, end, gaps, kept, dirty }
    }

    /// Tells the file that it is being written: from now on it has a log.
    fn start(&mut self, vhdx: &Vhdx) -> Result<(), DiskError> {
        self.check_whole()?;
        let medium = &*vhdx.medium;
        let end = self.end.next_multiple_of(MIB);
        medium.extend(end)?;
        self.end = end;
        // A place that a block may get must read as 0 already, or a loss of power could show what was there.
        self.gaps.retain(|gap| medium.punch(gap.start, gap.len).is_ok());
        let log = match self.log.take() {
            Some(log) => log,
            None => Log::start(medium, &self.headers)?,
        };
        let log_guid = log.guid;
        self.log = Some(log);
        self.headers.update(medium, |header| {
            header.file_write_guid = super::new_guid();
            header.data_write_guid = super::new_guid();
            header.log_guid = log_guid;
        })?;
        Ok(())
    }

    fn check_whole(&self) -> Result<(), DiskError> {
        if self.broken {
            return Err(io::Error::other("an earlier write of this image to the host's disk failed").into());
        }
        Ok(())
    }

    /// The place that is to be an entry's. It reads as 0. The entry keeps it, whatever becomes of the change.
    fn place(&mut self, vhdx: &Vhdx, index: u64, len: u64) -> Result<u64, DiskError> {
        if let Some(Kept { place, clean }) = self.kept.get(&index).copied() {
            // A write that was on its way when the block was freed may have come since.
            medium::free(&*vhdx.medium, place, len)?;
            if !clean {
                self.sync(vhdx)?;
            }
            return Ok(place);
        }
        let place = match self.gaps.iter_mut().find(|gap| gap.len >= len) {
            Some(gap) => {
                let place = gap.start;
                *gap = Span { start: gap.start + len, len: gap.len - len };
                place
            }
            None => {
                vhdx.medium.extend(self.end + len)?;
                self.end += len;
                self.end - len
            }
        };
        self.kept.insert(index, Kept { place, clean: true });
        Ok(place)
    }

    /// Makes bytes of one block present: `fill` writes them to their place before anybody can see them there.
    fn cover(
        &mut self,
        vhdx: &Vhdx,
        bytes: Span,
        fill: impl FnOnce(u64) -> io::Result<()>,
    ) -> Result<(), DiskError> {
        let layout = &vhdx.layout;
        let (block, within) = (bytes.start / layout.block_size, bytes.start % layout.block_size);
        let (state, place) = vhdx.bat.block(block);
        let some_sectors =
            state == BlockState::PartiallyPresent || state == BlockState::NotPresent && layout.differencing;
        let index = layout.block_entry(block);
        let place = match state {
            BlockState::Present | BlockState::PartiallyPresent => place,
            _ => self.place(vhdx, index, layout.block_size)?,
        };
        fill(place + within)?;
        if state == BlockState::Present {
            return Ok(());
        }
        let mut change = Change::default();
        let mut new = BlockState::Present;
        if some_sectors && bytes.len < layout.block_len(block) {
            self.add_bitmap(vhdx, block / layout.chunk_ratio(), &mut change)?;
            let sectors = Span { start: bytes.start / layout.sector, len: bytes.len / layout.sector };
            if !change.set_sectors(vhdx, sectors, block, state == BlockState::NotPresent)? {
                new = BlockState::PartiallyPresent;
            }
        }
        if new != state {
            change.set_block(vhdx, block, new, place);
        }
        self.commit(vhdx, &change)?;
        self.kept.remove(&index);
        Ok(())
    }

    fn add_bitmap(&mut self, vhdx: &Vhdx, chunk: u64, change: &mut Change) -> Result<(), DiskError> {
        if vhdx.bat.bitmap(chunk).is_none() {
            let index = vhdx.layout.bitmap_entry(chunk);
            let block = self.place(vhdx, index, BITMAP_BLOCK)?;
            change.bitmap_blocks.insert(chunk, block);
            change.set_entry(vhdx, index, BatEntry::new(BlockState::Present, block));
        }
        Ok(())
    }

    /// Logs a change and lets it be seen.
    fn commit(&mut self, vhdx: &Vhdx, change: &Change) -> Result<(), DiskError> {
        self.check_whole()?;
        if change.pages.is_empty() {
            return Ok(());
        }
        for _ in 0..MOST_STEPS {
            if self.log.as_ref().is_some_and(|log| log.has_room(change.pages.len())) {
                break;
            }
            self.step(vhdx)?;
        }
        let mut pages = Pages::new();
        for (id, page) in &change.pages {
            pages.push((change.place(vhdx, *id)?, page.clone()));
        }
        let log = self.log.as_mut().ok_or_else(|| damaged("its log was not started"))?;
        log.append(&*vhdx.medium, &pages, self.end)?;
        vhdx.log_wants_flush.store(log.wants_step(), Ordering::Release);
        for (id, page) in &change.pages {
            match id {
                PageId::Bitmap(index) => vhdx.bitmaps.publish(*index, page),
                PageId::Bat(index) => vhdx.bat.publish(*index, page),
            }
            self.dirty.insert(*id);
        }
        for chunk in change.bitmap_blocks.keys() {
            self.kept.remove(&vhdx.layout.bitmap_entry(*chunk));
        }
        Ok(())
    }

    /// One sync, and what it makes possible.
    fn step(&mut self, vhdx: &Vhdx) -> Result<(), DiskError> {
        self.check_whole()?;
        let pages = self.dirty_pages(vhdx)?;
        let Some(log) = &mut self.log else { return Ok(()) };
        log.prepare_step(&*vhdx.medium)?;
        self.sync(vhdx)?;
        let Some(log) = &mut self.log else { return Ok(()) };
        log.synced(&*vhdx.medium, &pages, self.end)?;
        vhdx.log_wants_flush.store(log.wants_step(), Ordering::Release);
        self.dirty.clear();
        Ok(())
    }

    fn sync(&mut self, vhdx: &Vhdx) -> Result<(), DiskError> {
        vhdx.medium.sync().map_err(|error| {
            self.fail(vhdx);
            error.into()
        })
    }

    fn dirty_pages(&self, vhdx: &Vhdx) -> Result<Pages, DiskError> {
        let nothing_new = Change::default();
        let page = |id: &PageId| {
            let bytes = match id {
                PageId::Bitmap(page) => vhdx.bitmaps.page(*page),
                PageId::Bat(page) => vhdx.bat.page(*page),
            };
            Ok((nothing_new.place(vhdx, *id)?, bytes))
        };
        self.dirty.iter().map(page).collect::<Result<Pages, VhdxError>>().map_err(DiskError::from)
    }

    /// Nothing is written any more: after a failed sync nobody knows what the host's disk holds.
    fn fail(&mut self, vhdx: &Vhdx) {
        self.broken = true;
        vhdx.writing.store(false, Ordering::Release);
    }

    /// Brings all into the file and tells it that nobody writes any more.
    fn finish(&mut self, vhdx: &Vhdx) -> Result<(), DiskError> {
        self.check_whole()?;
        let medium = &*vhdx.medium;
        medium.sync()?;
        for (place, page) in self.dirty_pages(vhdx)? {
            medium.write(place, &page[..])?;
        }
        medium.sync()?;
        self.headers.update(medium, |header| header.log_guid = Guid::ZERO)?;
        self.dirty.clear();
        self.log = None;
        Ok(())
    }
}

impl Vhdx {
    fn lock(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Before anything is written.
    fn begin(&self) -> Result<(), DiskError> {
        if !self.writing.load(Ordering::Acquire) {
            let mut writer = self.lock();
            if !self.writing.load(Ordering::Acquire) {
                writer.start(self)?;
                self.writing.store(true, Ordering::Release);
            }
        }
        Ok(())
    }

    pub(super) fn write_bytes(&self, mut offset: u64, mut bytes: &[u8]) -> Result<(), DiskError> {
        self.check_range(offset, bytes.len() as u64, Access::Write)?;
        if !bytes.is_empty() {
            self.begin()?;
        }
        while !bytes.is_empty() {
            let (source, part) = self.look_up(offset, bytes.len() as u64)?;
            let block_size = self.layout.block_size;
            let part = match source {
                Source::Own(_) => part,
                // Whatever the rest of the block is now, it becomes present with one change.
                _ => (block_size - offset % block_size).min(bytes.len() as u64),
            };
            let (piece, rest) = bytes.split_at(usize::try_from(part).unwrap_or(usize::MAX).min(bytes.len()));
            match source {
                Source::Own(place) => self.medium.write(place, piece)?,
                Source::Parent | Source::Zero => {
                    let span = Span { start: offset, len: part };
                    self.lock().cover(self, span, |place| self.medium.write(place, piece))?;
                }
            }
            bytes = rest;
            offset += part;
        }
        Ok(())
    }

    pub(super) fn write_zeroes(&self, offset: u64, len: u64, how: Zeroing) -> Result<(), DiskError> {
        self.check_range(offset, len, Access::Write)?;
        if len == 0 {
            return Ok(());
        }
        self.begin()?;
        let mut writer = self.lock();
        let mut batch = Batch::default();
        let end = offset + len;
        let mut at = offset;
        while at < end {
            let block = at / self.layout.block_size;
            let span =
                Span { start: at, len: (block + 1).saturating_mul(self.layout.block_size).min(end) - at };
            self.zero_in_block(&mut writer, &mut batch, span, how)?;
            at = span.end();
        }
        batch.commit(self, &mut writer)
    }

    fn zero_in_block(
        &self,
        writer: &mut Writer,
        batch: &mut Batch,
        span: Span,
        how: Zeroing,
    ) -> Result<(), DiskError> {
        let block = span.start / self.layout.block_size;
        let (state, place) = self.bat.block(block);
        let whole = span.len == self.layout.block_len(block);
        let fill = |place| match how {
            Zeroing::Keep => self.medium.zero(place, span.len),
            Zeroing::Free => medium::free(&*self.medium, place, span.len),
        };
        match state {
            BlockState::Undefined | BlockState::Zero | BlockState::Unmapped => Ok(()),
            BlockState::NotPresent if !self.layout.differencing => Ok(()),
            BlockState::NotPresent if whole => batch.add(self, writer, block, None),
            BlockState::Present | BlockState::PartiallyPresent
                if whole && how == Zeroing::Free && !self.metadata.fixed =>
            {
                batch.add(self, writer, block, Some(place))
            }
            BlockState::Present => Ok(fill(place + span.start % self.layout.block_size)?),
            BlockState::NotPresent | BlockState::PartiallyPresent => {
                batch.commit(self, writer)?;
                writer.cover(self, span, fill)
            }
        }
    }

    pub(super) fn flush_all(&self) -> Result<(), DiskError> {
        if !self.writing.load(Ordering::Acquire) {
            return self.lock().check_whole();
        }
        if self.log_wants_flush.load(Ordering::Acquire) {
            return self.lock().step(self);
        }
        let synced = self.medium.sync();
        if synced.is_err() {
            self.lock().fail(self);
        }
        Ok(synced?)
    }

    /// Brings all into the file and marks it as not in use. A later write marks it again. Dropping the image does
    /// the same, but cannot report a failure.
    ///
    /// # Errors
    /// [`DiskError::Host`]; the file is then repaired by its log when it is opened again.
    pub fn close(&self) -> Result<(), DiskError> {
        let mut writer = self.lock();
        if !self.writing.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        self.log_wants_flush.store(false, Ordering::Release);
        let done = writer.finish(self);
        if done.is_err() {
            writer.fail(self);
        }
        done
    }
}

/// Whole blocks that become 0, logged together.
#[derive(Debug, Default)]
struct Batch {
    change: Change,
    freed: Vec<(u64, u64)>,
}

impl Batch {
    fn add(
        &mut self,
        vhdx: &Vhdx,
        writer: &mut Writer,
        block: u64,
        place: Option<u64>,
    ) -> Result<(), DiskError> {
        self.change.set_block(vhdx, block, BlockState::Zero, 0);
        self.freed.extend(place.map(|place| (vhdx.layout.block_entry(block), place)));
        if self.change.pages.len() >= MOST_PAGES { self.commit(vhdx, writer) } else { Ok(()) }
    }

    /// The places stay the blocks': a read or write that has looked them up may still be on its way.
    fn commit(&mut self, vhdx: &Vhdx, writer: &mut Writer) -> Result<(), DiskError> {
        writer.commit(vhdx, &std::mem::take(&mut self.change))?;
        let freed = std::mem::take(&mut self.freed);
        for (index, place) in freed {
            // The block reads as 0 already, and will be made 0 before it is used again.
            let clean = vhdx.medium.punch(place, vhdx.layout.block_size).is_ok();
            writer.kept.insert(index, Kept { place, clean });
        }
        Ok(())
    }
}
