//! What the guest asks for and what changes the file: write, zero, flush. Bytes of present blocks go to their place
//! without a lock; all else through the [`Writer`].

use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

use super::super::image::{Access, DiskError, Zeroing};
use super::change::Change;
use super::image::{Source, Vhdx};
use super::medium;
use super::protocol::BlockState;
use super::region::Span;
use super::writer::Writer;

/// Most pages of one change: with what describes them, a seventh of the shortest log.
const MOST_PAGES: usize = 32;

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

    fn commit(&mut self, vhdx: &Vhdx, writer: &mut Writer) -> Result<(), DiskError> {
        writer.commit(vhdx, &std::mem::take(&mut self.change))?;
        for (index, place) in std::mem::take(&mut self.freed) {
            writer.free(vhdx, index, place);
        }
        Ok(())
    }
}
