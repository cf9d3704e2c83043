//! Vital product data: pages of INQUIRY.

use zerocopy::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Page codes.
#[expect(missing_docs, reason = "the standards' names")]
pub mod page {
    pub const SUPPORTED_PAGES: u8 = 0x00;
    pub const UNIT_SERIAL_NUMBER: u8 = 0x80;
    pub const DEVICE_IDENTIFICATION: u8 = 0x83;
    pub const BLOCK_LIMITS: u8 = 0xB0;
    pub const BLOCK_DEVICE_CHARACTERISTICS: u8 = 0xB1;
    pub const LOGICAL_BLOCK_PROVISIONING: u8 = 0xB2;
}

/// In front of every page (SPC-4 7.8.2).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct PageHeader {
    /// Peripheral qualifier and device type.
    pub device_type: u8,
    /// See [`page`].
    pub page: u8,
    /// Bytes behind this header.
    pub length: U16,
}
const _: () = assert!(size_of::<PageHeader>() == 4);

/// In front of every name of a unit (SPC-4 7.8.6.1).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct DesignatorHeader {
    /// Low 4 bits: see [`code_set`].
    pub code_set: u8,
    /// Low 4 bits: see [`designator_type`]; bits 5 and 4 are 0: it names the unit.
    pub designator_type: u8,
    /// Always 0.
    pub reserved: u8,
    /// Bytes of the name.
    pub length: u8,
}
const _: () = assert!(size_of::<DesignatorHeader>() == 4);

/// How a name is written.
pub mod code_set {
    /// Bytes.
    pub const BINARY: u8 = 1;
    /// Printable ASCII.
    pub const ASCII: u8 = 2;
}

/// Who gave a name.
pub mod designator_type {
    /// The vendor: vendor's name, then its own name of the unit.
    pub const T10_VENDOR_ID: u8 = 1;
    /// NAA: the first 4 bits say how.
    pub const NAA: u8 = 3;
}

/// NAA designator, given without asking anybody (SPC-4 7.8.6.6.4): the first 4 bits of 8 bytes.
pub const NAA_LOCALLY_ASSIGNED: u64 = 3 << 60;

/// Block limits (SBC-3 6.6.3), without the header.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct BlockLimits {
    /// Bit 0: WRITE SAME of 0 blocks is refused.
    pub wsnz: u8,
    /// Most blocks of COMPARE AND WRITE; 0: there is none.
    pub max_compare_and_write: u8,
    /// Blocks that are best moved together.
    pub optimal_granularity: U16,
    /// Most blocks of a command.
    pub max_transfer: U32,
    /// Most blocks of a command that is still quick; 0: not said.
    pub optimal_transfer: U32,
    /// Always 0.
    pub max_prefetch: U32,
    /// Most blocks of an UNMAP.
    pub max_unmap_blocks: U32,
    /// Most descriptors of an UNMAP.
    pub max_unmap_descriptors: U32,
    /// Blocks that can be unmapped together.
    pub unmap_granularity: U32,
    /// Bit 31: the rest says which block starts such a group.
    pub unmap_alignment: U32,
    /// Most blocks of a WRITE SAME.
    pub max_write_same: U64,
    /// Always 0.
    pub reserved: [u8; 20],
}
const _: () = assert!(size_of::<BlockLimits>() == 60);

/// Block device characteristics (SBC-3 6.6.2), without the header.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct BlockDeviceCharacteristics {
    /// [`NON_ROTATING`].
    pub rotation_rate: U16,
    /// Always 0.
    pub product_type: u8,
    /// Always 0.
    pub form_factor: u8,
    /// Always 0.
    pub flags: u8,
    /// Always 0.
    pub reserved: [u8; 55],
}
const _: () = assert!(size_of::<BlockDeviceCharacteristics>() == 60);

/// The medium does not rotate: a solid state disk.
pub const NON_ROTATING: u16 = 1;

/// Logical block provisioning (SBC-3 6.6.4), without the header.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct LogicalBlockProvisioning {
    /// Always 0.
    pub threshold_exponent: u8,
    /// [`LBPU`] and its neighbours.
    pub flags: u8,
    /// [`PROVISIONING_FULL`] or [`PROVISIONING_THIN`].
    pub provisioning_type: u8,
    /// Always 0.
    pub reserved: u8,
}
const _: () = assert!(size_of::<LogicalBlockProvisioning>() == 4);

/// UNMAP unmaps.
pub const LBPU: u8 = 0x80;
/// WRITE SAME (16) unmaps.
pub const LBPWS: u8 = 0x40;
/// WRITE SAME (10) unmaps.
pub const LBPWS10: u8 = 0x20;
/// Unmapped blocks read as 0.
pub const LBPRZ: u8 = 0x04;
/// All blocks have their space.
pub const PROVISIONING_FULL: u8 = 0;
/// Space is given to blocks when they are written.
pub const PROVISIONING_THIN: u8 = 2;
