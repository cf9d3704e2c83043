//! Mode pages, of MODE SENSE and MODE SELECT.

use zerocopy::big_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Page codes.
pub mod page {
    /// Caching (SBC-3 6.5.5).
    pub const CACHING: u8 = 0x08;
    /// Control (SPC-4 7.5.8).
    pub const CONTROL: u8 = 0x0A;
    /// What a drive can do (MMC-3 6.3.11).
    pub const CAPABILITIES: u8 = 0x2A;
    /// All of them.
    pub const ALL: u8 = 0x3F;
}

/// All subpages.
pub const ALL_SUBPAGES: u8 = 0xFF;
/// Low 6 bits of a page's first byte: its code.
pub const PAGE_CODE: u8 = 0x3F;
/// Bit 6 of a page's first byte: it is a subpage.
pub const SUBPAGE_FORMAT: u8 = 0x40;
/// Device-specific parameter: the medium is read-only.
pub const WRITE_PROTECT: u8 = 0x80;
/// Device-specific parameter: DPO and FUA are understood.
pub const DPO_FUA: u8 = 0x10;

/// In front of the pages of MODE SENSE (6) (SPC-4 7.5.5).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct Header6 {
    /// Bytes behind this field.
    pub data_length: u8,
    /// Always 0.
    pub medium_type: u8,
    /// [`WRITE_PROTECT`], [`DPO_FUA`].
    pub device_specific: u8,
    /// Bytes of the block descriptors.
    pub descriptors_length: u8,
}
const _: () = assert!(size_of::<Header6>() == 4);

/// In front of the pages of MODE SENSE (10) (SPC-4 7.5.5).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct Header10 {
    /// Bytes behind this field.
    pub data_length: U16,
    /// Always 0.
    pub medium_type: u8,
    /// [`WRITE_PROTECT`], [`DPO_FUA`].
    pub device_specific: u8,
    /// Bit 0: long block descriptors.
    pub long_lba: u8,
    /// Always 0.
    pub reserved: u8,
    /// Bytes of the block descriptors.
    pub descriptors_length: U16,
}
const _: () = assert!(size_of::<Header10>() == 8);

/// Short block descriptor of a disk (SBC-3 6.5.2.2).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct BlockDescriptor {
    /// Blocks; all ones if there are more.
    pub blocks: U32,
    /// Always 0.
    pub reserved: u8,
    /// Bytes of a block.
    pub block_length: [u8; 3],
}
const _: () = assert!(size_of::<BlockDescriptor>() == 8);

/// In front of every page.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct PageHeader {
    /// [`PAGE_CODE`], [`SUBPAGE_FORMAT`].
    pub code: u8,
    /// Bytes behind this header.
    pub length: u8,
}
const _: () = assert!(size_of::<PageHeader>() == 2);

/// Caching.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct Caching {
    /// Code and length.
    pub header: PageHeader,
    /// [`WRITE_CACHE_ENABLE`].
    pub flags: u8,
    /// Nothing of it is served.
    pub unused: [u8; 17],
}
const _: () = assert!(size_of::<Caching>() == 20);

/// Writes end before they are safe from a loss of power.
pub const WRITE_CACHE_ENABLE: u8 = 0x04;

/// Control.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct Control {
    /// Code and length.
    pub header: PageHeader,
    /// Nothing of it is served; sense data are in fixed format.
    pub flags2: u8,
    /// [`UNRESTRICTED_REORDERING`].
    pub queueing: u8,
    /// Nothing of it is served.
    pub unused: [u8; 8],
}
const _: () = assert!(size_of::<Control>() == 12);

/// Commands may be done in any order.
pub const UNRESTRICTED_REORDERING: u8 = 0x10;
