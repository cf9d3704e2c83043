//! Appending to the log, and giving its space back.
//!
//! An entry is written when the change is made, and from then on survives this process. In the file itself the
//! changed pages are written only when a sync has made the entry safe: they would otherwise be there without what
//! makes them whole. The entry is needed until another sync has made those pages safe, and its space is used again
//! only when a third one has made an entry safe that says so (its tail). A step ([`Log::prepare_step`], a sync,
//! [`Log::synced`]) takes everything one stage further; a flush does one at most.

use zerocopy::{FromZeros, IntoBytes};

use super::entry_len;
use crate::disk::vhdx::bat::Page;
use crate::disk::vhdx::error::{VhdxError, damaged};
use crate::disk::vhdx::header::Headers;
use crate::disk::vhdx::medium::Medium;
use crate::disk::vhdx::protocol::{DataDescriptor, DataSector, LogEntryHeader, PAGE, PAGE_BYTES, signature};
use crate::guid::Guid;

/// Pages of the file and where they are.
pub type Pages = Vec<(u64, Box<Page>)>;

/// The log of a file that is being written. Positions count on and on: modulo the length they are places.
#[derive(Debug)]
pub struct Log {
    offset: u64,
    len: u64,
    /// Whose entries these are.
    pub guid: Guid,
    sequence_number: u64,
    /// Where the next entry goes.
    head: u64,
    /// The oldest entry that is needed.
    tail: u64,
    /// What the last entry says about it.
    written_tail: u64,
    /// What the last entry that is safe says about it: what is before may be written over.
    safe_tail: u64,
    /// Pages of all entries before this position have been written to the file, but not yet synced.
    in_place: Option<u64>,
    /// Bytes of the file as of the last sync.
    flushed: u64,
}

impl Log {
    /// Writes a first entry, which says nothing, and syncs: once the header names this log, there always is an
    /// active sequence.
    pub fn start(medium: &dyn Medium, headers: &Headers) -> Result<Self, VhdxError> {
        let (offset, len) = headers.log();
        let flushed = medium.len()?;
        let mut log = Log {
            offset,
            len,
            guid: Guid::random()?,
            sequence_number: 1,
            head: 0,
            tail: 0,
            written_tail: 0,
            safe_tail: 0,
            in_place: None,
            flushed,
        };
        log.write(medium, &[], flushed)?;
        medium.sync()?;
        Ok(log)
    }

    /// Whether a step has something to do that cannot wait for ever.
    pub fn wants_step(&self) -> bool {
        self.head - self.safe_tail > self.len / 4
    }

    /// Whether an entry with so many pages can be appended now. A page stays free for an entry that moves the tail.
    pub fn has_room(&self, pages: usize) -> bool {
        self.head - self.safe_tail + entry_len(pages) as u64 + PAGE_BYTES <= self.len
    }

    /// Appends a change. The file is `file_len` bytes long.
    pub fn append(&mut self, medium: &dyn Medium, pages: &Pages, file_len: u64) -> Result<(), VhdxError> {
        if !self.has_room(pages.len()) {
            return Err(damaged(format!("its log of {} bytes is too short", self.len)));
        }
        self.write(medium, pages, file_len)
    }

    /// Before the sync of a step: an entry for the tail, if it has moved since the last one.
    pub fn prepare_step(&mut self, medium: &dyn Medium) -> Result<(), VhdxError> {
        if self.written_tail != self.tail && self.head - self.safe_tail + PAGE_BYTES <= self.len {
            self.write(medium, &[], self.flushed)?;
        }
        Ok(())
    }

    /// After the sync of a step, which has made all safe that was written before: writes those pages to the file that
    /// only the log has. The file was `file_len` bytes long.
    pub fn synced(&mut self, medium: &dyn Medium, dirty: &Pages, file_len: u64) -> Result<(), VhdxError> {
        self.flushed = file_len;
        self.safe_tail = self.written_tail;
        if let Some(position) = self.in_place.take() {
            self.tail = position;
        }
        if self.tail < self.head {
            for (place, page) in dirty {
                medium.write(*place, &page[..])?;
            }
            self.in_place = Some(self.head);
        }
        Ok(())
    }

    fn write(
        &mut self,
        medium: &dyn Medium,
        pages: &[(u64, Box<Page>)],
        file_len: u64,
    ) -> Result<(), VhdxError> {
        let entry = self.entry(pages, file_len);
        let at = self.head % self.len;
        let before_end = usize::try_from(self.len - at).unwrap_or(usize::MAX).min(entry.len());
        let (first, second) = entry.split_at(before_end);
        medium.write(self.offset + at, first)?;
        if !second.is_empty() {
            medium.write(self.offset, second)?;
        }
        self.sequence_number += 1;
        self.head += entry.len() as u64;
        self.written_tail = self.tail;
        Ok(())
    }

    fn entry(&self, pages: &[(u64, Box<Page>)], file_len: u64) -> Vec<u8> {
        let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        let mut header = LogEntryHeader::new_zeroed();
        header.signature = signature::LOG_ENTRY;
        header.entry_length.set(number(entry_len(pages.len()) as u64));
        header.tail.set(number(self.tail % self.len));
        header.sequence_number.set(self.sequence_number);
        header.descriptor_count.set(number(pages.len() as u64));
        header.log_guid = self.guid;
        header.flushed_file_offset.set(self.flushed);
        header.last_file_offset.set(file_len);
        let mut entry = header.as_bytes().to_vec();
        let mut sectors = Vec::with_capacity(pages.len() * PAGE);
        for (place, page) in pages {
            let mut sector = DataSector::new_zeroed();
            let mut descriptor = DataDescriptor::new_zeroed();
            let (leading, rest) = page.split_at(descriptor.leading.len());
            let (data, trailing) = rest.split_at(sector.data.len());
            descriptor.signature = signature::DATA;
            descriptor.leading.copy_from_slice(leading);
            descriptor.trailing.copy_from_slice(trailing);
            descriptor.file_offset.set(*place);
            descriptor.sequence_number.set(self.sequence_number);
            entry.extend_from_slice(descriptor.as_bytes());
            sector.signature = signature::DATA_SECTOR;
            sector.sequence_high.set(number(self.sequence_number >> 32));
            sector.sequence_low.set(number(self.sequence_number & u64::from(u32::MAX)));
            sector.data.copy_from_slice(data);
            sectors.extend_from_slice(sector.as_bytes());
        }
        entry.resize(entry.len().next_multiple_of(PAGE), 0);
        entry.extend_from_slice(&sectors);
        header.checksum.set(crc32c::crc32c(&entry));
        entry.splice(..size_of::<LogEntryHeader>(), header.as_bytes().iter().copied());
        entry
    }
}
