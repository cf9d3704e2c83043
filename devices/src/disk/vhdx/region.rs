//! The region table: where BAT and metadata are. Also the list of what is taken in a file, which finds overlaps.

use std::collections::BTreeSet;

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::error::{VhdxError, damaged};
use super::medium::Medium;
use super::protocol::{
    MAX_TABLE_ENTRIES, MIB, RegionTableEntry, RegionTableHeader, TABLE, guid, offset, signature,
};
use crate::guid::Guid;

/// Bytes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    /// First byte.
    pub start: u64,
    /// How many.
    pub len: u64,
}

impl Span {
    /// The byte after the last.
    pub fn end(self) -> u64 {
        self.start.saturating_add(self.len)
    }
}

/// Where the regions are.
#[derive(Clone, Debug)]
pub(super) struct Regions {
    /// The block allocation table.
    pub bat: Span,
    /// The metadata region.
    pub metadata: Span,
    /// All regions, also those that nobody here knows.
    pub all: Vec<Span>,
}

impl Regions {
    /// Reads the first copy that is valid.
    pub fn read(medium: &dyn Medium) -> Result<Self, VhdxError> {
        let [first, second] = [read_copy(medium, 0), read_copy(medium, 1)];
        let table = match (first, second) {
            (Ok(table), _) | (Err(VhdxError::Damaged(_)), Ok(table)) => table,
            (Err(VhdxError::Damaged(first)), Err(VhdxError::Damaged(second))) => {
                return Err(damaged(format!("{first}, and {second}")));
            }
            (Err(error), _) => return Err(error),
        };
        Self::parse(&table, medium.len()?)
    }

    fn parse(table: &[RegionTableEntry], file_len: u64) -> Result<Self, VhdxError> {
        let (mut bat, mut metadata) = (None, None);
        let mut names = BTreeSet::new();
        let mut all = Vec::with_capacity(table.len());
        for entry in table {
            let name = entry.guid;
            let span = Span { start: entry.file_offset.get(), len: entry.length.get().into() };
            let aligned = span.start.is_multiple_of(MIB) && span.len.is_multiple_of(MIB) && span.len != 0;
            if !aligned || span.start < offset::END || span.end() > file_len {
                let Span { start, len } = span;
                return Err(damaged(format!(
                    "region {name} of {len} bytes at {start} is not a place in the file"
                )));
            }
            if !names.insert(name) {
                return Err(damaged(format!("region {name} is there twice")));
            }
            match name {
                guid::BAT => bat = Some(span),
                guid::METADATA => metadata = Some(span),
                _ if entry.required.get() & 1 != 0 => {
                    return Err(VhdxError::Required(format!("region {name}")));
                }
                _ => {}
            }
            all.push(span);
        }
        let bat = bat.ok_or_else(|| damaged("it has no BAT region"))?;
        let metadata = metadata.ok_or_else(|| damaged("it has no metadata region"))?;
        Ok(Regions { bat, metadata, all })
    }
}

/// Reads one copy of the table; the error says what is wrong with it.
pub(super) fn read_copy(medium: &dyn Medium, copy: usize) -> Result<Vec<RegionTableEntry>, VhdxError> {
    let [first, second] = offset::REGION_TABLES;
    let name = copy + 1;
    let mut bytes = vec![0; TABLE];
    medium.read(if copy == 0 { first } else { second }, &mut bytes)?;
    let short = || damaged(format!("region table {name} is too short"));
    let (header, entries) = RegionTableHeader::read_from_prefix(&bytes).map_err(|_| short())?;
    if header.signature != signature::REGION_TABLE {
        return Err(damaged(format!("region table {name} has no signature")));
    }
    let count = header.entry_count.get();
    let entries = <[RegionTableEntry]>::ref_from_prefix_with_elems(entries, count as usize)
        .map_err(|_| {
            damaged(format!("region table {name} has {count} entries, more than {MAX_TABLE_ENTRIES}"))
        })?
        .0
        .to_vec();
    if header.checksum.get() != checksum(&mut bytes) {
        return Err(damaged(format!("region table {name} has a wrong checksum")));
    }
    Ok(entries)
}

fn checksum(table: &mut [u8]) -> u32 {
    if let Some(checksum) = table.get_mut(4..8) {
        checksum.fill(0);
    }
    crc32c::crc32c(table)
}

/// A copy of the table for a new file.
pub(super) fn new_table(regions: &[(Guid, Span)]) -> Vec<u8> {
    let mut header = RegionTableHeader::new_zeroed();
    header.signature = signature::REGION_TABLE;
    header.entry_count.set(u32::try_from(regions.len()).unwrap_or(u32::MAX));
    let mut table = Vec::with_capacity(TABLE);
    for (name, span) in regions {
        let mut entry = RegionTableEntry::new_zeroed();
        entry.guid = *name;
        entry.file_offset.set(span.start);
        entry.length.set(u32::try_from(span.len).unwrap_or(u32::MAX));
        entry.required.set(1);
        table.extend_from_slice(entry.as_bytes());
    }
    table.splice(0..0, header.as_bytes().iter().copied());
    table.resize(TABLE, 0);
    header.checksum.set(checksum(&mut table));
    table.splice(0..size_of::<RegionTableHeader>(), header.as_bytes().iter().copied());
    table
}

/// What is taken in a file, in order.
#[derive(Debug)]
pub(super) struct Taken(Vec<Span>);

impl Taken {
    /// Sorts; the error names a place that is taken twice.
    pub fn new(mut spans: Vec<Span>) -> Result<Self, Span> {
        spans.sort_unstable();
        match spans.windows(2).find_map(|pair| match pair {
            [before, after] if before.end() > after.start => Some(*after),
            _ => None,
        }) {
            Some(span) => Err(span),
            None => Ok(Taken(spans)),
        }
    }

    /// What is free between the taken places and up to `end`, in order.
    pub fn gaps(&self, end: u64) -> Vec<Span> {
        let mut gaps = Vec::new();
        let mut at = 0;
        for span in self.0.iter().copied().chain([Span { start: end, len: 0 }]) {
            if span.start > at {
                gaps.push(Span { start: at, len: span.start - at });
            }
            at = at.max(span.end());
        }
        gaps
    }
}
