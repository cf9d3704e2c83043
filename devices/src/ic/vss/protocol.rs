//! Volume shadow copy messages as they lie in a packet, behind the integration services' header.
//!
//! Source: Linux `include/uapi/linux/hyperv.h` (`hv_vss_msg`) and OpenVMM's `hyperv_ic_protocol`.

use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// What the guest is to do; that of version 5.0. Busman uses checking, freezing and thawing.
pub mod operation {
    /// Make a snapshot.
    pub const CREATE: u8 = 0;
    /// Delete a snapshot.
    pub const DELETE: u8 = 1;
    /// Tell whether a backup of the running guest can be consistent.
    pub const CHECK_HOT_BACKUP: u8 = 2;
    /// Tell about disks that bypass the host's images.
    pub const GET_DIRECT_MAPPED_INFO: u8 = 3;
    /// The backup is complete.
    pub const BACKUP_COMPLETE: u8 = 4;
    /// Bring file systems into a consistent state, and hold all writes.
    pub const FREEZE: u8 = 5;
    /// Let writes go on.
    pub const THAW: u8 = 6;
    /// Recover what was frozen.
    pub const AUTO_RECOVER: u8 = 7;
}

/// In front of every message (Linux `hv_vss_hdr`).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct VssHeader {
    /// See [`operation`].
    pub operation: u8,
    /// Always 0.
    pub reserved: [u8; 7],
}

const _: () = assert!(size_of::<VssHeader>() == 8);

/// Every message but that of freezing.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct VssMessage {
    /// The header.
    pub header: VssHeader,
    /// The guest's answer to a check: 5 (Linux `VSS_HBU_NO_AUTO_RECOVERY`) says that nothing is to be recovered.
    pub flags: U32,
    /// Other operations' data.
    pub unused: [u8; 20],
}

const _: () = assert!(size_of::<VssMessage>() == 32);

/// Freezing, with room for the disks that are meant; none stands for all.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct FreezeMessage {
    /// The header.
    pub header: VssHeader,
    /// Kind of the backup.
    pub backup_type: U32,
    /// Flags.
    pub flags: U32,
    /// How many disks follow.
    pub lun_count: U32,
    /// Disks, 24 bytes each.
    pub luns: [[u8; 24]; 260],
}

const _: () = assert!(size_of::<FreezeMessage>() == 6260);
