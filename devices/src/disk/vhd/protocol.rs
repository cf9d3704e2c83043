//! What is in a VHD file: big-endian, in sectors of 512 bytes.
//!
//! Source: Microsoft, "Virtual Hard Disk Image Format Specification", version 1.0.

use std::time::{Duration, SystemTime};

use zerocopy::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::guid::Guid;

/// Bytes of a sector, of a footer and of everything that is rounded.
pub(super) const SECTOR: u64 = 512;
/// Largest disk that the format's readers accept, bytes.
pub(super) const SIZE_MAX: u64 = 2040 << 30;

/// [`Footer::cookie`].
pub(super) const FOOTER_COOKIE: [u8; 8] = *b"conectix";
/// [`DynamicHeader::cookie`].
pub(super) const HEADER_COOKIE: [u8; 8] = *b"cxsparse";
/// The only version of footer and header.
pub(super) const VERSION: u32 = 0x0001_0000;
/// [`Footer::features`]: a bit that is always set.
pub(super) const FEATURES: u32 = 2;
/// No offset.
pub(super) const NOWHERE: u64 = u64::MAX;
/// Entry of the block allocation table: the block is not there.
pub(super) const NO_BLOCK: u32 = u32::MAX;

/// [`Footer::disk_type`]: all bytes of the disk, then a footer.
pub(super) const FIXED: u32 = 2;
/// [`Footer::disk_type`]: blocks where a table says.
pub(super) const DYNAMIC: u32 = 3;
/// [`Footer::disk_type`]: the difference to another image.
pub(super) const DIFFERENCING: u32 = 4;

/// Seconds from 1970 to the format's year 0, which is 2000.
const EPOCH: u64 = 946_684_800;

/// The last sector of every file; dynamic ones have a copy in the first.
#[repr(C)]
#[derive(Clone, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub(super) struct Footer {
    pub cookie: [u8; 8],
    pub features: U32,
    pub file_format_version: U32,
    /// Of the dynamic header.
    pub data_offset: U64,
    pub time_stamp: U32,
    pub creator_application: [u8; 4],
    pub creator_version: U32,
    pub creator_host_os: [u8; 4],
    pub original_size: U64,
    pub current_size: U64,
    pub cylinders: U16,
    pub heads: u8,
    pub sectors_per_track: u8,
    pub disk_type: U32,
    pub checksum: U32,
    /// Big-endian, unlike GUIDs elsewhere.
    pub unique_id: [u8; 16],
    pub saved_state: u8,
    pub reserved: [u8; 427],
}

const _: () = assert!(size_of::<Footer>() == 512);

/// Where the blocks of a dynamic disk are.
#[repr(C)]
#[derive(Clone, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub(super) struct DynamicHeader {
    pub cookie: [u8; 8],
    pub data_offset: U64,
    /// Of the block allocation table, whose entries are sectors.
    pub table_offset: U64,
    pub header_version: U32,
    pub max_table_entries: U32,
    /// Bytes of a block, without its bitmap.
    pub block_size: U32,
    pub checksum: U32,
    pub parent_unique_id: [u8; 16],
    pub parent_time_stamp: U32,
    pub reserved: U32,
    pub parent_unicode_name: [u8; 512],
    pub parent_locator_entries: [[u8; 24]; 8],
    pub reserved2: [u8; 256],
}

const _: () = assert!(size_of::<DynamicHeader>() == 1024);

impl Footer {
    /// The footer of a new disk.
    pub fn new(size: u64, disk_type: u32, id: Guid) -> Self {
        let (cylinders, heads, sectors_per_track) = geometry(size / SECTOR);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let time_stamp = u32::try_from(now.as_secs().saturating_sub(EPOCH)).unwrap_or(u32::MAX);
        let mut footer = Footer {
            cookie: FOOTER_COOKIE,
            features: FEATURES.into(),
            file_format_version: VERSION.into(),
            data_offset: if disk_type == FIXED { NOWHERE.into() } else { SECTOR.into() },
            time_stamp: time_stamp.into(),
            // Readers, QEMU among them, take the size from the cylinders, which is less, unless they find a name that
            // they know: this one is Hyper-V's.
            creator_application: *b"win ",
            creator_version: 0x000a_0000.into(),
            creator_host_os: *b"Wi2k",
            original_size: size.into(),
            current_size: size.into(),
            cylinders: cylinders.into(),
            heads,
            sectors_per_track,
            disk_type: disk_type.into(),
            checksum: U32::ZERO,
            unique_id: swap(id.to_bytes()),
            saved_state: 0,
            reserved: [0; 427],
        };
        footer.seal();
        footer
    }

    /// Makes the checksum right.
    pub fn seal(&mut self) {
        self.checksum = checksum(self.as_bytes(), self.checksum).into();
    }

    /// Whether cookie, checksum and version are right.
    pub fn is_valid(&self) -> bool {
        self.cookie == FOOTER_COOKIE
            && self.checksum.get() == checksum(self.as_bytes(), self.checksum)
            && self.file_format_version.get() == VERSION
    }

    pub fn id(&self) -> Guid {
        Guid::from_bytes(swap(self.unique_id))
    }
}

impl DynamicHeader {
    /// The header of a new disk.
    pub fn new(table_offset: u64, entries: u32, block_size: u32) -> Self {
        let mut header = DynamicHeader {
            cookie: HEADER_COOKIE,
            data_offset: NOWHERE.into(),
            table_offset: table_offset.into(),
            header_version: VERSION.into(),
            max_table_entries: entries.into(),
            block_size: block_size.into(),
            checksum: U32::ZERO,
            parent_unique_id: [0; 16],
            parent_time_stamp: U32::ZERO,
            reserved: U32::ZERO,
            parent_unicode_name: [0; 512],
            parent_locator_entries: [[0; 24]; 8],
            reserved2: [0; 256],
        };
        header.seal();
        header
    }

    /// Makes the checksum right.
    pub fn seal(&mut self) {
        self.checksum = checksum(self.as_bytes(), self.checksum).into();
    }

    /// Whether cookie, checksum and version are right.
    pub fn is_valid(&self) -> bool {
        self.cookie == HEADER_COOKIE
            && self.checksum.get() == checksum(self.as_bytes(), self.checksum)
            && self.header_version.get() == VERSION
    }
}

/// The one's complement of the sum of all bytes but those of the checksum itself.
fn checksum(bytes: &[u8], field: U32) -> u32 {
    let sum = |bytes: &[u8]| bytes.iter().fold(0u32, |sum, &byte| sum.wrapping_add(byte.into()));
    !sum(bytes).wrapping_sub(sum(field.as_bytes()))
}

/// Cylinders, heads and sectors per track for a number of sectors, as the specification's appendix computes them.
fn geometry(sectors: u64) -> (u16, u8, u8) {
    const HEADS: u32 = 16;
    const MOST: u32 = 65535 * HEADS * 255;
    let sectors = u32::try_from(sectors).unwrap_or(MOST).min(MOST);
    // A candidate fits while its cylinders stay below 1024.
    let (per_track, heads) = if sectors >= 65535 * HEADS * 63 {
        (255, HEADS)
    } else {
        let heads = (sectors / 17).div_ceil(1024).max(4);
        if heads <= HEADS && sectors / 17 < heads * 1024 {
            (17, heads)
        } else if sectors / 31 < HEADS * 1024 {
            (31, HEADS)
        } else {
            (63, HEADS)
        }
    };
    let cylinders = u16::try_from(sectors / per_track / heads).unwrap_or(u16::MAX);
    let byte = |number: u32| u8::try_from(number).unwrap_or(u8::MAX);
    (cylinders, byte(heads), byte(per_track))
}

/// Between the wire form of a GUID and a big-endian one.
fn swap([a0, a1, a2, a3, b0, b1, c0, c1, rest @ ..]: [u8; 16]) -> [u8; 16] {
    let [d0, d1, d2, d3, d4, d5, d6, d7] = rest;
    [a3, a2, a1, a0, b1, b0, c1, c0, d0, d1, d2, d3, d4, d5, d6, d7]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cylinders_are_those_of_the_specification() {
        // What qemu-img writes for these sizes.
        for (bytes, wanted) in [
            (3_168_256, (91, 4, 17)),
            (67_125_248, (964, 8, 17)),
            (524_353_536, (1016, 16, 63)),
            (1_048_707_072, (2032, 16, 63)),
            (10_737_893_376, (20806, 16, 63)),
            (136_365_219_840, (65279, 16, 255)),
            (268_435_456_000, (65535, 16, 255)),
            (2_190_433_320_960, (65535, 16, 255)),
        ] {
            assert_eq!(geometry(bytes / SECTOR), wanted, "{bytes}");
        }
    }

    #[test]
    fn a_footer_with_any_bit_flipped_is_invalid() {
        let footer = Footer::new(1 << 30, FIXED, Guid::parse("ba6163d9-04a1-4d29-b605-72e2ffb1dc7f"));
        assert!(footer.is_valid());
        assert_eq!(footer.unique_id[..4], [0xba, 0x61, 0x63, 0xd9]);
        assert_eq!(footer.id().to_string(), "ba6163d9-04a1-4d29-b605-72e2ffb1dc7f");
        for bit in 0..512 * 8 {
            let mut bytes = [0; 512];
            bytes.copy_from_slice(footer.as_bytes());
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(!Footer::read_from_bytes(&bytes).unwrap().is_valid(), "{bit}");
        }
    }
}
