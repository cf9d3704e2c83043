//! What changes the file's structure, under one lock: log, allocation, commit.
//!
//! A change goes: data into its place, pages into the log, pages into memory, where the fast path sees them; into the
//! file only after a later sync.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::Ordering;

use super::super::image::DiskError;
use super::change::{Change, PageId};
use super::error::{VhdxError, damaged};
use super::header::Headers;
use super::image::Vhdx;
use super::log::{Log, Pages};
use super::medium;
use super::protocol::{BITMAP_BLOCK, BatEntry, BlockState, MIB};
use super::region::{Span, Taken};
use crate::guid::Guid;

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

impl Writer {
    /// Of a file in which `taken` is taken.
    pub fn new(headers: Headers, taken: &Taken, end: u64) -> Self {
        let gaps = taken.gaps(end & !(MIB - 1));
        let (kept, dirty) = (BTreeMap::new(), BTreeSet::new());
        Writer { headers, log: None, broken: false, end, gaps, kept, dirty }
    }

    /// Tells the file that it is being written: from now on it has a log.
    pub fn start(&mut self, vhdx: &Vhdx) -> Result<(), DiskError> {
        self.check_whole()?;
        let medium = &*vhdx.medium;
        let end = self.end.next_multiple_of(MIB);
        medium.extend(end)?;
        self.end = end;
        // A place that a block may get must read as 0 already, or a loss of power could show what was there.
        let least = if vhdx.layout.differencing { BITMAP_BLOCK } else { vhdx.layout.block_size };
        self.gaps.retain(|gap| gap.len >= least && medium.punch(gap.start, gap.len).is_ok());
        let log = match self.log.take() {
            Some(log) => log,
            None => Log::start(medium, &self.headers)?,
        };
        let log_guid = log.guid;
        self.log = Some(log);
        let (file_write_guid, data_write_guid) = (Guid::random()?, Guid::random()?);
        self.headers.update(medium, |header| {
            header.file_write_guid = file_write_guid;
            header.data_write_guid = data_write_guid;
            header.log_guid = log_guid;
        })?;
        Ok(())
    }

    /// Refuses everything once the file is in doubt.
    pub fn check_whole(&self) -> Result<(), DiskError> {
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
    pub fn cover(
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
    pub fn commit(&mut self, vhdx: &Vhdx, change: &Change) -> Result<(), DiskError> {
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
    pub fn step(&mut self, vhdx: &Vhdx) -> Result<(), DiskError> {
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
    pub fn fail(&mut self, vhdx: &Vhdx) {
        self.broken = true;
        vhdx.writing.store(false, Ordering::Release);
    }

    /// Brings all into the file and tells it that nobody writes any more.
    pub fn finish(&mut self, vhdx: &Vhdx) -> Result<(), DiskError> {
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

    /// A block is no more present, and that is committed: frees its space. The place stays the block's: a read or
    /// write that has looked it up may still be on its way.
    pub fn free(&mut self, vhdx: &Vhdx, index: u64, place: u64) {
        // The block reads as 0 already, and will be made 0 before it is used again.
        let clean = vhdx.medium.punch(place, vhdx.layout.block_size).is_ok();
        self.kept.insert(index, Kept { place, clean });
    }
}
