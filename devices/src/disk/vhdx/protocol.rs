//! VHDX as it lies in a file (MS-VHDX section 2). All numbers are little-endian; all checksums are CRC-32C over the
//! structure with its checksum field 0.
//!
//! | offset | what |
//! |---|---|
//! | 0 | [`FileIdentifier`] |
//! | 64 KiB, 128 KiB | two copies of [`Header`]: the one with the higher sequence number counts |
//! | 192 KiB, 256 KiB | two copies of the region table: [`RegionTableHeader`], [`RegionTableEntry`] |
//! | from 1 MiB | in any order: the log, the BAT, the metadata region, payload blocks, sector bitmap blocks |

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::guid::Guid;

/// Alignment of regions, blocks and the log, bytes.
pub const MIB: u64 = 1 << 20;
/// A sector of the log, and what a log entry replaces as a whole, bytes.
pub const PAGE: usize = 4096;
/// [`PAGE`] as a file offset.
pub const PAGE_BYTES: u64 = 4096;
/// Largest virtual disk, bytes (section 2.6.2.2).
pub const MAX_DISK: u64 = 64 << 40;
/// Smallest block, bytes.
pub const MIN_BLOCK: u32 = 1 << 20;
/// Largest block, bytes.
pub const MAX_BLOCK: u32 = 256 << 20;
/// Sectors that one sector bitmap block speaks of.
pub const SECTORS_PER_BITMAP: u64 = 1 << 23;
/// A sector bitmap block, bytes.
pub const BITMAP_BLOCK: u64 = MIB;

/// Offsets of the header section (section 2.2).
pub mod offset {
    /// [`super::FileIdentifier`].
    pub const FILE_IDENTIFIER: u64 = 0;
    /// The two copies of [`super::Header`].
    pub const HEADERS: [u64; 2] = [64 << 10, 128 << 10];
    /// The two copies of the region table.
    pub const REGION_TABLES: [u64; 2] = [192 << 10, 256 << 10];
    /// End of the header section.
    pub const END: u64 = 1 << 20;
}

/// Signatures.
pub mod signature {
    /// Of [`super::FileIdentifier`].
    pub const FILE: [u8; 8] = *b"vhdxfile";
    /// Of [`super::Header`].
    pub const HEADER: [u8; 4] = *b"head";
    /// Of [`super::RegionTableHeader`].
    pub const REGION_TABLE: [u8; 4] = *b"regi";
    /// Of [`super::MetadataTableHeader`].
    pub const METADATA: [u8; 8] = *b"metadata";
    /// Of [`super::LogEntryHeader`].
    pub const LOG_ENTRY: [u8; 4] = *b"loge";
    /// Of [`super::ZeroDescriptor`].
    pub const ZERO: [u8; 4] = *b"zero";
    /// Of [`super::DataDescriptor`].
    pub const DATA: [u8; 4] = *b"desc";
    /// Of [`super::DataSector`].
    pub const DATA_SECTOR: [u8; 4] = *b"data";
}

/// Names of regions, metadata items and locator types.
pub mod guid {
    use crate::guid::Guid;

    /// Region: the block allocation table.
    pub const BAT: Guid = Guid::parse("2dc27766-f623-4200-9d64-115e9bfd4a08");
    /// Region: metadata.
    pub const METADATA: Guid = Guid::parse("8b7ca206-4790-4b9a-b8fe-575f050f886e");
    /// Item: [`super::FileParameters`].
    pub const FILE_PARAMETERS: Guid = Guid::parse("caa16737-fa36-4d43-b3b6-33f0aa44e76b");
    /// Item: bytes of the disk, 64 bits.
    pub const DISK_SIZE: Guid = Guid::parse("2fa54224-cd1b-4876-b211-5dbed83bf4b8");
    /// Item: the disk's name in SCSI page 83, a GUID.
    pub const PAGE_83: Guid = Guid::parse("beca12ab-b2e6-4523-93ef-c309e000c746");
    /// Item: bytes of a logical sector, 32 bits.
    pub const LOGICAL_SECTOR: Guid = Guid::parse("8141bf1d-a96f-4709-ba47-f233a8faab5f");
    /// Item: bytes of a physical sector, 32 bits.
    pub const PHYSICAL_SECTOR: Guid = Guid::parse("cda348c7-445d-4471-9cc9-e9885251c556");
    /// Item: [`super::ParentLocatorHeader`], entries, strings.
    pub const PARENT_LOCATOR: Guid = Guid::parse("a8d35f2d-b30b-454d-abf7-d3d84834ab0c");
    /// Type of a locator whose parent is a VHDX file.
    pub const LOCATOR_VHDX: Guid = Guid::parse("b04aefb7-d19e-4a81-b789-25b8e9445913");
}

/// Start of the file.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct FileIdentifier {
    /// [`signature::FILE`].
    pub signature: [u8; 8],
    /// Who made the file, UTF-16, for people.
    pub creator: [U16; 256],
}
const _: () = assert!(size_of::<FileIdentifier>() == 520);

/// What changes as a whole, by writing the copy that does not count (section 2.2.2).
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    /// [`signature::HEADER`].
    pub signature: [u8; 4],
    /// Of these 4096 bytes.
    pub checksum: U32,
    /// The valid copy with the higher one counts.
    pub sequence_number: U64,
    /// New whenever somebody starts to write to the file.
    pub file_write_guid: Guid,
    /// New whenever somebody starts to change what the disk holds; a child knows its parent by it.
    pub data_write_guid: Guid,
    /// Whose entries in the log count; 0: the log is empty.
    pub log_guid: Guid,
    /// 0.
    pub log_version: U16,
    /// 1.
    pub version: U16,
    /// Bytes of the log, a multiple of 1 MiB.
    pub log_length: U32,
    /// Where the log is, a multiple of 1 MiB.
    pub log_offset: U64,
    /// 0.
    pub reserved: [u8; 4016],
}
const _: () = assert!(size_of::<Header>() == PAGE);

/// Bytes of one copy of the region table, and of the metadata table.
pub const TABLE: usize = 64 << 10;
/// Most entries of a region table or a metadata table.
pub const MAX_TABLE_ENTRIES: u32 = 2047;

/// Start of a region table; entries follow (section 2.2.3).
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RegionTableHeader {
    /// [`signature::REGION_TABLE`].
    pub signature: [u8; 4],
    /// Of the 64 KiB of the table.
    pub checksum: U32,
    /// At most [`MAX_TABLE_ENTRIES`].
    pub entry_count: U32,
    /// 0.
    pub reserved: U32,
}
const _: () = assert!(size_of::<RegionTableHeader>() == 16);

/// A region.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RegionTableEntry {
    /// [`guid::BAT`], [`guid::METADATA`], or somebody's.
    pub guid: Guid,
    /// A multiple of 1 MiB.
    pub file_offset: U64,
    /// A multiple of 1 MiB.
    pub length: U32,
    /// Bit 0: who does not know the region must not open the file.
    pub required: U32,
}
const _: () = assert!(size_of::<RegionTableEntry>() == 32);

/// Start of the metadata region; entries follow, items from 64 KiB on (section 2.6.1).
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct MetadataTableHeader {
    /// [`signature::METADATA`].
    pub signature: [u8; 8],
    /// 0.
    pub reserved: U16,
    /// At most [`MAX_TABLE_ENTRIES`].
    pub entry_count: U16,
    /// 0.
    pub reserved2: [u8; 20],
}
const _: () = assert!(size_of::<MetadataTableHeader>() == 32);

/// A metadata item.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct MetadataTableEntry {
    /// Which item.
    pub item: Guid,
    /// From the start of the region; at least 64 KiB.
    pub offset: U32,
    /// Bytes, at most 1 MiB.
    pub length: U32,
    /// [`item_flags`].
    pub flags: U32,
    /// 0.
    pub reserved: U32,
}
const _: () = assert!(size_of::<MetadataTableEntry>() == 32);

/// Bits of [`MetadataTableEntry::flags`].
pub mod item_flags {
    /// The item is a user's.
    pub const USER: u32 = 1;
    /// The item describes the disk, not the file.
    pub const VIRTUAL_DISK: u32 = 2;
    /// Who does not know the item must not open the file.
    pub const REQUIRED: u32 = 4;
}

/// Metadata item (section 2.6.2.1).
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct FileParameters {
    /// Bytes of a payload block: a power of two from [`MIN_BLOCK`] to [`MAX_BLOCK`].
    pub block_size: U32,
    /// [`file_flags`].
    pub flags: U32,
}
const _: () = assert!(size_of::<FileParameters>() == 8);

/// Bits of [`FileParameters::flags`].
pub mod file_flags {
    /// Blocks stay allocated: the file is fixed.
    pub const LEAVE_ALLOCATED: u32 = 1;
    /// The file is differencing.
    pub const HAS_PARENT: u32 = 2;
}

/// Start of the parent locator (section 2.6.2.6); offsets are from here.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ParentLocatorHeader {
    /// [`guid::LOCATOR_VHDX`].
    pub locator_type: Guid,
    /// 0.
    pub reserved: U16,
    /// Entries that follow.
    pub count: U16,
}
const _: () = assert!(size_of::<ParentLocatorHeader>() == 20);

/// A key and its value, UTF-16 without a terminator.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ParentLocatorEntry {
    /// Where the key is.
    pub key_offset: U32,
    /// Where the value is.
    pub value_offset: U32,
    /// Bytes of the key.
    pub key_length: U16,
    /// Bytes of the value.
    pub value_length: U16,
}
const _: () = assert!(size_of::<ParentLocatorEntry>() == 12);

/// Start of a log entry; descriptors follow, then from the next page on a data sector for each data descriptor
/// (section 2.3.1).
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct LogEntryHeader {
    /// [`signature::LOG_ENTRY`].
    pub signature: [u8; 4],
    /// Of the whole entry.
    pub checksum: U32,
    /// Bytes, a multiple of 4096.
    pub entry_length: U32,
    /// Where in the log the oldest entry is that is still needed.
    pub tail: U32,
    /// One more than that of the entry before; never 0.
    pub sequence_number: U64,
    /// Descriptors that follow.
    pub descriptor_count: U32,
    /// 0.
    pub reserved: U32,
    /// [`Header::log_guid`] as of then.
    pub log_guid: Guid,
    /// The file was at least that long, safely, when the entry was written.
    pub flushed_file_offset: U64,
    /// The file is at least that long once the entry has been replayed.
    pub last_file_offset: U64,
}
const _: () = assert!(size_of::<LogEntryHeader>() == 64);

/// Bytes of a descriptor of either kind.
pub const DESCRIPTOR: usize = 32;

/// Pages of the file become 0.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ZeroDescriptor {
    /// [`signature::ZERO`].
    pub signature: [u8; 4],
    /// 0.
    pub reserved: U32,
    /// Bytes, a multiple of 4096.
    pub zero_length: U64,
    /// Where in the file, a multiple of 4096.
    pub file_offset: U64,
    /// The entry's.
    pub sequence_number: U64,
}
const _: () = assert!(size_of::<ZeroDescriptor>() == DESCRIPTOR);

/// A page of the file is replaced: by 8 bytes from here, 4084 from the data sector, and 4 from here.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct DataDescriptor {
    /// [`signature::DATA`].
    pub signature: [u8; 4],
    /// The page's last 4 bytes.
    pub trailing: [u8; 4],
    /// The page's first 8 bytes.
    pub leading: [u8; 8],
    /// Where in the file, a multiple of 4096.
    pub file_offset: U64,
    /// The entry's.
    pub sequence_number: U64,
}
const _: () = assert!(size_of::<DataDescriptor>() == DESCRIPTOR);

/// The middle of a page.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct DataSector {
    /// [`signature::DATA_SECTOR`].
    pub signature: [u8; 4],
    /// High half of the entry's sequence number: together with the low half at the end it shows a torn write.
    pub sequence_high: U32,
    /// Bytes 8 to 4092 of the page.
    pub data: [u8; 4084],
    /// Low half of the entry's sequence number.
    pub sequence_low: U32,
}
const _: () = assert!(size_of::<DataSector>() == PAGE);

/// State of a block in the BAT (section 2.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockState {
    /// Nothing in this file: 0, or what the parent holds.
    NotPresent,
    /// Anything; read as 0.
    Undefined,
    /// 0.
    Zero,
    /// Trimmed; read as 0.
    Unmapped,
    /// In this file.
    Present,
    /// Some sectors in this file, the others in the parent.
    PartiallyPresent,
}

/// An entry of the BAT: the state in bits 0 to 2, the place in MiB in bits 20 to 63.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatEntry(pub u64);

impl BatEntry {
    /// A block at a place (a multiple of 1 MiB), or nowhere: 0. Hyper-V wants 0 unless the block is present.
    #[must_use]
    pub const fn new(state: BlockState, place: u64) -> Self {
        let state = match state {
            BlockState::NotPresent => 0,
            BlockState::Undefined => 1,
            BlockState::Zero => 2,
            BlockState::Unmapped => 3,
            BlockState::Present => 6,
            BlockState::PartiallyPresent => 7,
        };
        BatEntry(place & !(MIB - 1) | state)
    }

    /// The state; `None` for the reserved ones.
    #[must_use]
    pub const fn state(self) -> Option<BlockState> {
        Some(match self.0 & 7 {
            0 => BlockState::NotPresent,
            1 => BlockState::Undefined,
            2 => BlockState::Zero,
            3 => BlockState::Unmapped,
            6 => BlockState::Present,
            7 => BlockState::PartiallyPresent,
            _ => return None,
        })
    }

    /// Where the block is, if it is present.
    #[must_use]
    pub const fn place(self) -> u64 {
        self.0 & !(MIB - 1)
    }
}
