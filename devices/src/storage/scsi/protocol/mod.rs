//! SCSI as it lies on the wire: opcodes, command descriptor blocks, and the data of replies. Numbers are big-endian.
//!
//! CDBs are in [`cdb`], mode pages in [`mode`], vital product data in [`vpd`], and
//! so on.
//! Source: SPC-4 r37, SBC-3 r36, MMC-6 r2, where not said otherwise.

use zerocopy::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub mod cdb;
pub mod mmc;
pub mod mode;
pub mod reservation;
pub mod vpd;

/// Who makes the units: INQUIRY's vendor.
pub const VENDOR: &[u8; 8] = b"Busman  ";

/// Operation codes.
#[expect(missing_docs, reason = "the standards' names")]
pub mod opcode {
    pub const TEST_UNIT_READY: u8 = 0x00;
    pub const REQUEST_SENSE: u8 = 0x03;
    pub const FORMAT_UNIT: u8 = 0x04;
    pub const READ_6: u8 = 0x08;
    pub const WRITE_6: u8 = 0x0A;
    pub const INQUIRY: u8 = 0x12;
    pub const MODE_SELECT_6: u8 = 0x15;
    pub const RESERVE_6: u8 = 0x16;
    pub const RELEASE_6: u8 = 0x17;
    pub const MODE_SENSE_6: u8 = 0x1A;
    pub const START_STOP_UNIT: u8 = 0x1B;
    pub const SEND_DIAGNOSTIC: u8 = 0x1D;
    pub const PREVENT_ALLOW_MEDIUM_REMOVAL: u8 = 0x1E;
    pub const READ_CAPACITY_10: u8 = 0x25;
    pub const READ_10: u8 = 0x28;
    pub const WRITE_10: u8 = 0x2A;
    pub const SEEK_10: u8 = 0x2B;
    pub const WRITE_AND_VERIFY_10: u8 = 0x2E;
    pub const VERIFY_10: u8 = 0x2F;
    pub const SYNCHRONIZE_CACHE_10: u8 = 0x35;
    pub const WRITE_SAME_10: u8 = 0x41;
    pub const UNMAP: u8 = 0x42;
    pub const READ_TOC: u8 = 0x43;
    pub const GET_CONFIGURATION: u8 = 0x46;
    pub const GET_EVENT_STATUS_NOTIFICATION: u8 = 0x4A;
    pub const READ_DISC_INFORMATION: u8 = 0x51;
    pub const READ_TRACK_INFORMATION: u8 = 0x52;
    pub const MODE_SELECT_10: u8 = 0x55;
    pub const RESERVE_10: u8 = 0x56;
    pub const RELEASE_10: u8 = 0x57;
    pub const MODE_SENSE_10: u8 = 0x5A;
    pub const PERSISTENT_RESERVE_IN: u8 = 0x5E;
    pub const PERSISTENT_RESERVE_OUT: u8 = 0x5F;
    pub const READ_16: u8 = 0x88;
    pub const COMPARE_AND_WRITE: u8 = 0x89;
    pub const WRITE_16: u8 = 0x8A;
    pub const WRITE_AND_VERIFY_16: u8 = 0x8E;
    pub const VERIFY_16: u8 = 0x8F;
    pub const SYNCHRONIZE_CACHE_16: u8 = 0x91;
    pub const WRITE_SAME_16: u8 = 0x93;
    pub const SERVICE_ACTION_IN_16: u8 = 0x9E;
    pub const REPORT_LUNS: u8 = 0xA0;
    pub const MAINTENANCE_IN: u8 = 0xA3;
    pub const READ_12: u8 = 0xA8;
    pub const WRITE_12: u8 = 0xAA;
    pub const READ_DVD_STRUCTURE: u8 = 0xAD;
    pub const WRITE_AND_VERIFY_12: u8 = 0xAE;
    pub const VERIFY_12: u8 = 0xAF;
    pub const MECHANISM_STATUS: u8 = 0xBD;
}

/// Service actions, the low 5 bits of a CDB's second byte.
#[expect(missing_docs, reason = "the standards' names")]
pub mod action {
    pub const READ_CAPACITY_16: u8 = 0x10;
    pub const REPORT_SUPPORTED_OPERATION_CODES: u8 = 0x0C;

    pub const READ_KEYS: u8 = 0x00;
    pub const READ_RESERVATION: u8 = 0x01;
    pub const REPORT_CAPABILITIES: u8 = 0x02;
    pub const READ_FULL_STATUS: u8 = 0x03;

    pub const REGISTER: u8 = 0x00;
    pub const RESERVE: u8 = 0x01;
    pub const RELEASE: u8 = 0x02;
    pub const CLEAR: u8 = 0x03;
    pub const PREEMPT: u8 = 0x04;
    pub const REGISTER_AND_IGNORE_EXISTING_KEY: u8 = 0x06;
}

/// What kind of unit it is (SPC-4 table 150).
pub mod device_type {
    /// A disk.
    pub const DIRECT_ACCESS: u8 = 0x00;
    /// A CD or DVD drive.
    pub const CD_DVD: u8 = 0x05;
    /// No unit here, nor could there be: qualifier 3, type 1Fh.
    pub const ABSENT: u8 = 0x7F;
}

/// Standards that INQUIRY says a unit keeps (SPC-4 table 151).
#[expect(missing_docs, reason = "the standards' names")]
pub mod version_descriptor {
    pub const SAM_5: u16 = 0x00A0;
    pub const SPC_4: u16 = 0x0460;
    pub const SBC_3: u16 = 0x04C0;
    pub const MMC_6: u16 = 0x04E0;
}

/// Standard INQUIRY data (SPC-4 6.6.2), down to the last version descriptor.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct InquiryData {
    /// Peripheral qualifier and [`device_type`].
    pub device_type: u8,
    /// Bit 7: the medium can be taken out.
    pub removable: u8,
    /// 6 is SPC-4.
    pub version: u8,
    /// Bit 4: hierarchical LUNs; low 4 bits: 2.
    pub format: u8,
    /// Bytes behind this field.
    pub additional_length: u8,
    /// Nothing of it is there.
    pub flags5: u8,
    /// Nothing of it is there.
    pub flags6: u8,
    /// Bit 1: commands are queued.
    pub flags7: u8,
    /// See [`VENDOR`].
    pub vendor: [u8; 8],
    /// What it is, padded with spaces.
    pub product: [u8; 16],
    /// Which one of these.
    pub revision: [u8; 4],
    /// Nothing.
    pub vendor_specific: [u8; 20],
    /// Always 0.
    pub reserved: [u8; 2],
    /// See [`version_descriptor`].
    pub version_descriptors: [U16; 8],
}
const _: () = assert!(size_of::<InquiryData>() == 74);

/// Data of READ CAPACITY (10) (SBC-3 5.15.2).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct Capacity10 {
    /// Address of the last block; all ones if it has more than 32 bits.
    pub last_lba: U32,
    /// Bytes of a block.
    pub block_length: U32,
}
const _: () = assert!(size_of::<Capacity10>() == 8);

/// Data of READ CAPACITY (16) (SBC-3 5.16.2).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct Capacity16 {
    /// Address of the last block.
    pub last_lba: U64,
    /// Bytes of a block.
    pub block_length: U32,
    /// Nothing: blocks carry no protection information.
    pub protection: u8,
    /// Low 4 bits: logarithm of the blocks that make a physical block.
    pub exponents: u8,
    /// [`CAPACITY_LBPME`], [`CAPACITY_LBPRZ`] and the lowest aligned block, 14 bits.
    pub alignment: U16,
    /// Always 0.
    pub reserved: [u8; 16],
}
const _: () = assert!(size_of::<Capacity16>() == 32);

/// Blocks can be unmapped.
pub const CAPACITY_LBPME: u16 = 0x8000;
/// They read as 0 then.
pub const CAPACITY_LBPRZ: u16 = 0x4000;

/// In front of the parameters of UNMAP (SBC-3 5.28.2).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct UnmapHeader {
    /// Bytes behind this field.
    pub data_length: U16,
    /// Bytes of the descriptors.
    pub descriptors_length: U16,
    /// Always 0.
    pub reserved: [u8; 4],
}
const _: () = assert!(size_of::<UnmapHeader>() == 8);

/// Blocks to be unmapped.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct UnmapDescriptor {
    /// The first of them.
    pub lba: U64,
    /// How many.
    pub blocks: U32,
    /// Always 0.
    pub reserved: [u8; 4],
}
const _: () = assert!(size_of::<UnmapDescriptor>() == 16);
