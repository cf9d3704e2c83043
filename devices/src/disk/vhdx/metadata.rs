//! The metadata region: what the disk is.

use std::collections::BTreeSet;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::error::{VhdxError, damaged};
use super::locator::ParentLocator;
use super::medium::Medium;
use super::protocol::{
    FileParameters, MAX_BLOCK, MAX_DISK, MAX_TABLE_ENTRIES, MIB, MIN_BLOCK, MetadataTableEntry,
    MetadataTableHeader, SECTORS_PER_BITMAP, TABLE, file_flags, guid, item_flags, signature,
};
use super::region::Span;
use crate::guid::Guid;

/// Longest item, bytes.
const MAX_ITEM: u32 = 1 << 20;

/// What the metadata says, all of it checked.
#[derive(Clone, Debug)]
pub(super) struct Metadata {
    /// Bytes of the disk.
    pub size: u64,
    /// Bytes of a payload block.
    pub block_size: u32,
    /// Bytes of a logical sector.
    pub logical_sector: u32,
    /// Bytes of a physical sector.
    pub physical_sector: u32,
    /// Blocks stay allocated.
    pub fixed: bool,
    /// The disk's name.
    pub id: Guid,
    /// Where a differencing file's parent is.
    pub parent: Option<ParentLocator>,
}

impl Metadata {
    /// Reads and checks the region.
    pub fn read(medium: &dyn Medium, region: Span) -> Result<Self, VhdxError> {
        let table = Table::read(medium, region)?;
        let parameters: FileParameters = table.value(medium, guid::FILE_PARAMETERS, "file parameters")?;
        let size: U64 = table.value(medium, guid::DISK_SIZE, "virtual disk size")?;
        let id: Guid = table.value(medium, guid::PAGE_83, "page 83 data")?;
        let logical: U32 = table.value(medium, guid::LOGICAL_SECTOR, "logical sector size")?;
        let physical: U32 = table.value(medium, guid::PHYSICAL_SECTOR, "physical sector size")?;
        let flags = parameters.flags.get();
        let parent = if flags & file_flags::HAS_PARENT != 0 {
            Some(ParentLocator::parse(&table.bytes(medium, guid::PARENT_LOCATOR, "parent locator")?)?)
        } else {
            None
        };
        let metadata = Metadata {
            size: size.get(),
            block_size: parameters.block_size.get(),
            logical_sector: logical.get(),
            physical_sector: physical.get(),
            fixed: flags & file_flags::LEAVE_ALLOCATED != 0,
            id,
            parent,
        };
        metadata.wrong().map_or(Ok(metadata), |what| Err(damaged(what)))
    }

    /// How the disk is cut.
    pub fn layout(&self) -> Layout {
        Layout {
            size: self.size,
            block_size: self.block_size.into(),
            sector: self.logical_sector.into(),
            differencing: self.parent.is_some(),
        }
    }

    /// What is not allowed, if something is not.
    pub fn wrong(&self) -> Option<String> {
        let sector = |bytes: u32| bytes == 512 || bytes == 4096;
        let Metadata { size, block_size, logical_sector, physical_sector, .. } = *self;
        if !sector(logical_sector) || !sector(physical_sector) {
            Some(format!("sectors of {logical_sector} and {physical_sector} bytes; they have 512 or 4096"))
        } else if !block_size.is_power_of_two() || !(MIN_BLOCK..=MAX_BLOCK).contains(&block_size) {
            Some(format!("blocks of {block_size} bytes; they have a power of two from 1 MiB to 256 MiB"))
        } else if size == 0 || size > MAX_DISK || !size.is_multiple_of(logical_sector.into()) {
            Some(format!("a disk of {size} bytes; it has whole sectors and at most 64 TiB"))
        } else {
            None
        }
    }

    /// The region for a new file.
    pub fn to_region(&self) -> Vec<u8> {
        let mut flags = if self.fixed { file_flags::LEAVE_ALLOCATED } else { 0 };
        if self.parent.is_some() {
            flags |= file_flags::HAS_PARENT;
        }
        let parameters = FileParameters { block_size: self.block_size.into(), flags: flags.into() };
        let (file, disk) = (item_flags::REQUIRED, item_flags::REQUIRED | item_flags::VIRTUAL_DISK);
        let mut items = vec![
            (guid::FILE_PARAMETERS, file, parameters.as_bytes().to_vec()),
            (guid::DISK_SIZE, disk, U64::new(self.size).as_bytes().to_vec()),
            (guid::PAGE_83, disk, self.id.as_bytes().to_vec()),
            (guid::LOGICAL_SECTOR, disk, U32::new(self.logical_sector).as_bytes().to_vec()),
            (guid::PHYSICAL_SECTOR, disk, U32::new(self.physical_sector).as_bytes().to_vec()),
        ];
        items.extend(self.parent.as_ref().map(|parent| (guid::PARENT_LOCATOR, file, parent.to_bytes())));
        new_region(&items)
    }
}

fn new_region(items: &[(Guid, u32, Vec<u8>)]) -> Vec<u8> {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let mut header = MetadataTableHeader::new_zeroed();
    header.signature = signature::METADATA;
    header.entry_count.set(u16::try_from(items.len()).unwrap_or(u16::MAX));
    let mut region = header.as_bytes().to_vec();
    let mut at = TABLE;
    for (item, flags, bytes) in items {
        let entry = MetadataTableEntry {
            item: *item,
            offset: number(at).into(),
            length: number(bytes.len()).into(),
            flags: (*flags).into(),
            reserved: 0.into(),
        };
        region.extend_from_slice(entry.as_bytes());
        at += bytes.len().next_multiple_of(8);
    }
    region.resize(TABLE, 0);
    for (_, _, bytes) in items {
        region.extend_from_slice(bytes);
        region.resize(region.len().next_multiple_of(8), 0);
    }
    region
}

/// The metadata table, with every item's place checked.
struct Table {
    region: Span,
    entries: Vec<MetadataTableEntry>,
}

impl Table {
    fn read(medium: &dyn Medium, region: Span) -> Result<Self, VhdxError> {
        let mut bytes = vec![0; TABLE];
        medium.read(region.start, &mut bytes)?;
        let short = || damaged("the metadata table is too short");
        let (header, rest) = MetadataTableHeader::read_from_prefix(&bytes).map_err(|_| short())?;
        if header.signature != signature::METADATA {
            return Err(damaged("the metadata table has no signature"));
        }
        let count = header.entry_count.get();
        let entries = <[MetadataTableEntry]>::ref_from_prefix_with_elems(rest, count.into())
            .map_err(|_| {
                damaged(format!("the metadata table has {count} entries, more than {MAX_TABLE_ENTRIES}"))
            })?
            .0
            .to_vec();
        let table = Table { region, entries };
        table.check()?;
        Ok(table)
    }

    fn check(&self) -> Result<(), VhdxError> {
        let mut names = BTreeSet::new();
        let mut places = Vec::new();
        for entry in &self.entries {
            let (item, flags) = (entry.item, entry.flags.get());
            let place = Span { start: entry.offset.get().into(), len: entry.length.get().into() };
            if !names.insert((item, flags & item_flags::USER)) {
                return Err(damaged(format!("metadata item {item} is there twice")));
            }
            if flags & item_flags::REQUIRED != 0 && (flags & item_flags::USER != 0 || !is_known(item)) {
                return Err(VhdxError::Required(format!("metadata item {item}")));
            }
            if entry.length.get() > MAX_ITEM {
                return Err(damaged(format!("metadata item {item} is longer than 1 MiB")));
            }
            if place.len == 0 && place.start == 0 {
                continue;
            }
            if place.start < TABLE as u64 || place.end() > self.region.len {
                return Err(damaged(format!("metadata item {item} is outside of the metadata region")));
            }
            places.push(place);
        }
        super::region::Taken::new(places)
            .map(|_| ())
            .map_err(|place| damaged(format!("metadata items overlap at {} in their region", place.start)))
    }

    fn bytes(&self, medium: &dyn Medium, item: Guid, name: &str) -> Result<Vec<u8>, VhdxError> {
        let entry = self
            .entries
            .iter()
            .find(|entry| entry.item == item && entry.flags.get() & item_flags::USER == 0)
            .ok_or_else(|| damaged(format!("it has no {name}")))?;
        let mut bytes = vec![0; entry.length.get().min(MAX_ITEM) as usize];
        medium.read(self.region.start + u64::from(entry.offset.get()), &mut bytes)?;
        Ok(bytes)
    }

    fn value<T: FromBytes>(&self, medium: &dyn Medium, item: Guid, name: &str) -> Result<T, VhdxError> {
        let bytes = self.bytes(medium, item, name)?;
        T::read_from_bytes(&bytes)
            .map_err(|_| damaged(format!("its {name} has {} bytes, not {}", bytes.len(), size_of::<T>())))
    }
}

fn is_known(item: Guid) -> bool {
    [
        guid::FILE_PARAMETERS,
        guid::DISK_SIZE,
        guid::PAGE_83,
        guid::LOGICAL_SECTOR,
        guid::PHYSICAL_SECTOR,
        guid::PARENT_LOCATOR,
    ]
    .contains(&item)
}

/// How a disk is cut into blocks, and where the BAT has their entries (section 2.5).
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// Bytes of the disk.
    pub size: u64,
    /// Bytes of a block.
    pub block_size: u64,
    /// Bytes of a logical sector.
    pub sector: u64,
    /// Blocks may be partially present.
    pub differencing: bool,
}

impl Layout {
    /// Blocks of the disk; the last one may reach past its end.
    pub fn blocks(&self) -> u64 {
        self.size.div_ceil(self.block_size)
    }

    /// Blocks that share a sector bitmap block.
    pub fn chunk_ratio(&self) -> u64 {
        SECTORS_PER_BITMAP * self.sector / self.block_size
    }

    /// Entries of the BAT.
    pub fn bat_entries(&self) -> u64 {
        let (blocks, ratio) = (self.blocks(), self.chunk_ratio());
        if self.differencing { blocks.div_ceil(ratio) * (ratio + 1) } else { blocks + (blocks - 1) / ratio }
    }

    /// Bytes of the BAT region.
    pub fn bat_bytes(&self) -> u64 {
        (self.bat_entries() * 8).next_multiple_of(MIB)
    }

    /// Index of a block's entry.
    pub fn block_entry(&self, block: u64) -> u64 {
        block + block / self.chunk_ratio()
    }

    /// Index of the entry of a chunk's sector bitmap.
    pub fn bitmap_entry(&self, chunk: u64) -> u64 {
        chunk * (self.chunk_ratio() + 1) + self.chunk_ratio()
    }

    /// Bytes of a block that are on the disk.
    pub fn block_len(&self, block: u64) -> u64 {
        (self.size - block * self.block_size).min(self.block_size)
    }
}
