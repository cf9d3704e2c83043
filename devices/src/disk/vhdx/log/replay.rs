//! Reading a log: the active sequence is found as section 2.3.3 says. Everything in here comes from the file.

use zerocopy::FromBytes;
use zerocopy::little_endian::U32;

use super::Step;
use crate::disk::vhdx::error::{VhdxError, damaged};
use crate::disk::vhdx::header::Headers;
use crate::disk::vhdx::medium::Medium;
use crate::disk::vhdx::protocol::{
    DESCRIPTOR, DataDescriptor, DataSector, LogEntryHeader, PAGE, PAGE_BYTES, ZeroDescriptor, offset,
    signature,
};
use crate::guid::Guid;

/// A file's checksums are computed over at most this many times the log's length: entries that lie in each other
/// would make it quadratic.
const MOST_WORK: usize = 16;

/// Reads what has to be done to the file, and how long it is then at least.
///
/// # Errors
/// [`VhdxError::Damaged`] if the header says that there is a log and there is none that is whole.
pub fn read(medium: &dyn Medium, headers: &Headers) -> Result<(Vec<Step>, u64), VhdxError> {
    let (start, len) = headers.log();
    let mut bytes = vec![0; usize::try_from(len).map_err(|_| damaged("its log is too long"))?];
    medium.read(start, &mut bytes)?;
    let found = vec![None; bytes.len() / PAGE];
    let mut log = Ring { guid: headers.header.log_guid, work: bytes.len() * MOST_WORK, found, bytes };
    let sequence = log.active()?;
    let Some(head) = sequence.last() else {
        return Err(damaged("its header says that there is a log, but no entry in it is whole"));
    };
    let file_len = medium.len()?;
    if file_len < head.flushed_file_offset {
        let was = head.flushed_file_offset;
        return Err(damaged(format!("the file was {was} bytes long and is {file_len} now: it was cut off")));
    }
    let file_len = file_len.max(head.last_file_offset);
    let mut steps = Vec::new();
    for entry in &sequence {
        steps.extend(log.steps(entry).unwrap_or_default());
    }
    for step in &steps {
        let (at, len_of) = match step {
            Step::Page { offset, .. } => (*offset, PAGE_BYTES),
            Step::Zero { offset, len } => (*offset, *len),
        };
        let end = at.checked_add(len_of).filter(|end| *end <= file_len);
        let good = end.is_some_and(|end| at >= offset::END && (end <= start || at >= start + len));
        if !good || !at.is_multiple_of(PAGE_BYTES) || !len_of.is_multiple_of(PAGE_BYTES) {
            return Err(damaged(format!("its log changes {len_of} bytes at {at}, which is not allowed")));
        }
    }
    Ok((steps, file_len))
}

struct Ring {
    guid: Guid,
    bytes: Vec<u8>,
    work: usize,
    /// What was found at each page; `None`: not looked yet.
    found: Vec<Option<Option<Entry>>>,
}

/// An entry that is whole.
#[derive(Clone, Copy)]
struct Entry {
    start: usize,
    len: usize,
    tail: usize,
    sequence_number: u64,
    flushed_file_offset: u64,
    last_file_offset: u64,
}

impl Ring {
    /// The active sequence from its tail to its head; empty if there is none.
    fn active(&mut self) -> Result<Vec<Entry>, VhdxError> {
        let mut best: Vec<Entry> = Vec::new();
        let mut at = 0;
        // One time around: a sequence that starts in the ring's last pages is followed into its first ones.
        while at < self.bytes.len() {
            let mut sequence = self.sequence(at)?;
            let next = sequence.iter().map(|entry| entry.len).sum::<usize>();
            let tail =
                sequence.last().and_then(|head| sequence.iter().position(|entry| entry.start == head.tail));
            let newer = match (sequence.last(), best.last()) {
                (Some(head), Some(best)) => head.sequence_number > best.sequence_number,
                (head, _) => head.is_some(),
            };
            match tail {
                Some(tail) => {
                    if newer {
                        best = sequence.split_off(tail);
                    }
                    at += next;
                }
                None => at += PAGE,
            }
        }
        Ok(best)
    }

    /// All entries from a place on that follow each other.
    fn sequence(&mut self, start: usize) -> Result<Vec<Entry>, VhdxError> {
        let mut sequence: Vec<Entry> = Vec::new();
        let mut at = start;
        let mut used = 0;
        while let Some(entry) = self.entry(at)? {
            let follows = sequence
                .last()
                .is_none_or(|last| last.sequence_number.checked_add(1) == Some(entry.sequence_number));
            used += entry.len;
            if !follows || used > self.bytes.len() {
                break;
            }
            at = (at + entry.len) % self.bytes.len();
            self.work = self.work.checked_sub(8).ok_or_else(too_much)?;
            sequence.push(entry);
        }
        Ok(sequence)
    }

    fn entry(&mut self, at: usize) -> Result<Option<Entry>, VhdxError> {
        if let Some(Some(known)) = self.found.get(at / PAGE) {
            return Ok(*known);
        }
        let entry = self.parse(at)?;
        if let Some(slot) = self.found.get_mut(at / PAGE) {
            *slot = Some(entry);
        }
        Ok(entry)
    }

    /// The entry at a place, if there is one and it is whole.
    fn parse(&mut self, at: usize) -> Result<Option<Entry>, VhdxError> {
        let Some(header) = self.header(at) else { return Ok(None) };
        let entry = Entry {
            start: at,
            len: header.entry_length.get() as usize,
            tail: header.tail.get() as usize,
            sequence_number: header.sequence_number.get(),
            flushed_file_offset: header.flushed_file_offset.get(),
            last_file_offset: header.last_file_offset.get(),
        };
        let plausible = header.signature == signature::LOG_ENTRY
            && header.log_guid == self.guid
            && entry.sequence_number != 0
            && (PAGE..=self.bytes.len()).contains(&entry.len)
            && entry.len.is_multiple_of(PAGE)
            && entry.tail < self.bytes.len()
            && entry.tail.is_multiple_of(PAGE);
        if !plausible {
            return Ok(None);
        }
        self.work = self.work.checked_sub(entry.len).ok_or_else(too_much)?;
        let mut whole = self.bytes_of(&entry);
        if let Some(checksum) = whole.get_mut(4..8) {
            checksum.fill(0);
        }
        let whole = crc32c::crc32c(&whole) == header.checksum.get() && self.steps(&entry).is_some();
        Ok(whole.then_some(entry))
    }

    fn header(&self, at: usize) -> Option<LogEntryHeader> {
        Some(LogEntryHeader::read_from_prefix(self.bytes.get(at..)?).ok()?.0)
    }

    /// An entry in one piece.
    fn bytes_of(&self, entry: &Entry) -> Vec<u8> {
        let (wrapped, rest) = self.bytes.split_at(entry.start.min(self.bytes.len()));
        let rest = rest.get(..entry.len).unwrap_or(rest);
        [rest, wrapped.get(..entry.len - rest.len()).unwrap_or_default()].concat()
    }

    /// What an entry says; `None` if it is torn.
    fn steps(&self, entry: &Entry) -> Option<Vec<Step>> {
        steps(&self.bytes_of(entry), &self.header(entry.start)?)
    }
}

fn too_much() -> VhdxError {
    damaged("the entries of its log lie in each other")
}

fn steps(entry: &[u8], header: &LogEntryHeader) -> Option<Vec<Step>> {
    let count = header.descriptor_count.get() as usize;
    let sequence_number = header.sequence_number.get();
    let descriptors = entry.get(size_of::<LogEntryHeader>()..)?;
    let (descriptors, _) = <[[u8; DESCRIPTOR]]>::ref_from_prefix_with_elems(descriptors, count).ok()?;
    let data = (size_of::<LogEntryHeader>() + count * DESCRIPTOR).next_multiple_of(PAGE);
    let (mut sectors, _) = entry.get(data..)?.as_chunks::<PAGE>();
    let mut steps = Vec::with_capacity(count);
    for bytes in descriptors {
        let zero = ZeroDescriptor::ref_from_bytes(bytes).ok()?;
        let descriptor = DataDescriptor::ref_from_bytes(bytes).ok()?;
        if zero.signature == signature::ZERO && zero.sequence_number.get() == sequence_number {
            steps.push(Step::Zero { offset: zero.file_offset.get(), len: zero.zero_length.get() });
        } else if descriptor.signature == signature::DATA
            && descriptor.sequence_number.get() == sequence_number
        {
            let (sector, rest) = sectors.split_first()?;
            sectors = rest;
            let sector = DataSector::ref_from_bytes(sector).ok()?;
            if sector.signature != signature::DATA_SECTOR || !same(sequence_number, sector) {
                return None;
            }
            let page = [&descriptor.leading[..], &sector.data, &descriptor.trailing].concat();
            steps.push(Step::Page { offset: descriptor.file_offset.get(), bytes: page.try_into().ok()? });
        } else {
            return None;
        }
    }
    Some(steps)
}

fn same(sequence_number: u64, sector: &DataSector) -> bool {
    let join = |high: U32, low: U32| u64::from(high.get()) << 32 | u64::from(low.get());
    join(sector.sequence_high, sector.sequence_low) == sequence_number
}
