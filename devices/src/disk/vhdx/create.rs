//! New VHDX files.

use std::fs::File;

use zerocopy::{FromZeros, IntoBytes};

use super::error::VhdxError;
use super::header::Headers;
use super::locator::ParentLocator;
use super::medium::Medium;
use super::metadata::Metadata;
use super::protocol::{BatEntry, BlockState, FileIdentifier, MIB, guid, offset, signature};
use super::region::{Span, new_table};
use crate::guid::Guid;

/// Who made the file.
const CREATOR: &str = concat!("Busman ", env!("CARGO_PKG_VERSION"));
/// Log of a fixed file, bytes: nothing is ever allocated in it.
const SHORT_LOG: u64 = MIB;
/// Log of other files, bytes: 512 allocations between two flushes.
const LONG_LOG: u64 = 4 * MIB;

/// What kind of file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// All space is taken at once.
    Fixed,
    /// Space is taken as blocks are written.
    Dynamic,
    /// Holds what differs from a parent, which is of the same size and sectors and never written again.
    Differencing(ParentLocator),
}

/// What a new file is to be.
#[derive(Clone, Debug)]
pub struct CreateOptions {
    /// What kind of file.
    pub kind: Kind,
    /// Bytes of the disk: whole logical sectors, at most 64 TiB.
    pub size: u64,
    /// Bytes of a block: a power of two from 1 MiB to 256 MiB.
    pub block_size: u32,
    /// Bytes of a logical sector: 512 or 4096.
    pub logical_sector: u32,
    /// Bytes of a physical sector: 512 or 4096.
    pub physical_sector: u32,
}

impl CreateOptions {
    /// A disk with blocks as Hyper-V makes them, and sectors of 512 logical and 4096 physical bytes.
    #[must_use]
    pub fn new(kind: Kind, size: u64) -> Self {
        let block_size = if matches!(kind, Kind::Differencing(_)) { 2 << 20 } else { 32 << 20 };
        CreateOptions { kind, size, block_size, logical_sector: 512, physical_sector: 4096 }
    }
}

/// Makes a new image in an empty file. The file is a VHDX file only when all of it is safe on the host's disk: the
/// signature is written last.
///
/// # Errors
/// [`VhdxError::Options`], and [`VhdxError::Host`]; the file's contents are then undefined.
pub fn create(file: &File, options: &CreateOptions) -> Result<(), VhdxError> {
    create_on(file, options, if options.kind == Kind::Fixed { SHORT_LOG } else { LONG_LOG })
}

/// As [`create`], on what is not necessarily a file, with a log of so many bytes.
pub(super) fn create_on(medium: &dyn Medium, options: &CreateOptions, log: u64) -> Result<(), VhdxError> {
    let parent = match &options.kind {
        Kind::Differencing(parent) => Some(parent.clone()),
        Kind::Fixed | Kind::Dynamic => None,
    };
    if parent.as_ref().is_some_and(|parent| !parent.fits()) {
        return Err(VhdxError::Options("a parent whose path is longer than 32767 characters".to_owned()));
    }
    let metadata = Metadata {
        size: options.size,
        block_size: options.block_size,
        logical_sector: options.logical_sector,
        physical_sector: options.physical_sector,
        fixed: options.kind == Kind::Fixed,
        id: Guid::random()?,
        parent,
    };
    if let Some(what) = metadata.wrong() {
        return Err(VhdxError::Options(what));
    }
    if medium.len()? != 0 {
        return Err(VhdxError::Options("a file that is not empty".to_owned()));
    }
    write_all(medium, &metadata, log)
}

fn write_all(medium: &dyn Medium, metadata: &Metadata, log: u64) -> Result<(), VhdxError> {
    let layout = metadata.layout();
    let log = Span { start: offset::END, len: log };
    let bat = Span { start: log.end(), len: layout.bat_bytes() };
    let region = metadata.to_region();
    let items = Span { start: bat.end(), len: (region.len() as u64).next_multiple_of(MIB) };
    // What the log describes must never fail for want of space.
    medium.reserve(0, items.end())?;
    if metadata.fixed {
        medium.reserve(items.end(), layout.blocks() * layout.block_size)?;
        write_fixed_bat(medium, metadata, bat.start, items.end())?;
    }
    medium.write(items.start, &region)?;
    let table = new_table(&[(guid::BAT, bat), (guid::METADATA, items)]);
    for place in offset::REGION_TABLES {
        medium.write(place, &table)?;
    }
    let log_len = u32::try_from(log.len).unwrap_or(u32::MAX);
    Headers::new(log.start, log_len)?.update(medium, |_| {})?;
    let mut identifier = FileIdentifier::new_zeroed();
    identifier.signature = signature::FILE;
    for (unit, character) in identifier.creator.iter_mut().zip(CREATOR.encode_utf16()) {
        unit.set(character);
    }
    medium.write(offset::FILE_IDENTIFIER, identifier.as_bytes())?;
    Ok(medium.sync()?)
}

/// All blocks one after the other.
fn write_fixed_bat(medium: &dyn Medium, metadata: &Metadata, bat: u64, first: u64) -> Result<(), VhdxError> {
    let layout = metadata.layout();
    let mut part = Vec::new();
    let mut place = bat;
    for block in 0..layout.blocks() {
        let entry = BatEntry::new(BlockState::Present, first + block * layout.block_size);
        let end = bat + layout.block_entry(block) * 8;
        // The entries of sector bitmaps stay 0.
        part.resize(usize::try_from(end - place).unwrap_or(usize::MAX), 0);
        part.extend_from_slice(&entry.0.to_le_bytes());
        if part.len() as u64 >= MIB {
            medium.write(place, &part)?;
            place += part.len() as u64;
            part.clear();
        }
    }
    Ok(medium.write(place, &part)?)
}
