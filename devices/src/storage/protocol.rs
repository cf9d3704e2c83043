//! The storage protocol's packets as they lie in a ring (Linux: `vstor_packet`, `vmscsi_request`). All numbers are
//! little-endian; only SCSI's own, in CDBs and data, are not.
//!
//! A packet is a [`Header`] and a body, always as long as the negotiated version says ([`Version::packet_size`]),
//! whatever of it counts. Its completion is the same packet again, of exactly the request's size: Windows and the
//! UEFI firmware close the channel over any other.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::guid::Guid;

/// Interface of SCSI controllers.
pub const INTERFACE: Guid = Guid::parse("ba6163d9-04a1-4d29-b605-72e2ffb1dc7f");

/// Bytes of a packet until there is a version, and of versions up to 4.2.
pub const SHORT_PACKET: usize = 48;
/// Bytes of a packet of the versions after that, and the largest that there is.
pub const LONG_PACKET: usize = 64;

/// Version of the storage protocol: major in the upper byte, minor in the lower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u16);

impl Version {
    /// Windows Server 2008.
    pub const V2_0: Self = Version(0x0200);
    /// Windows 7.
    pub const V4_2: Self = Version(0x0402);
    /// Windows 8.
    pub const V5_1: Self = Version(0x0501);
    /// Windows 8.1.
    pub const V6_0: Self = Version(0x0600);
    /// Windows 10.
    pub const V6_2: Self = Version(0x0602);

    /// Major in the upper half, minor in the lower.
    #[must_use]
    pub fn numbers(self) -> u32 {
        u32::from(self.0 >> 8) << 16 | u32::from(self.0 & 0xff)
    }

    /// Every version that is spoken.
    pub const ALL: [Self; 5] = [Self::V2_0, Self::V4_2, Self::V5_1, Self::V6_0, Self::V6_2];

    /// Bytes of every packet from now on.
    #[must_use]
    pub const fn packet_size(self) -> usize {
        if self.0 <= Self::V4_2.0 { SHORT_PACKET } else { LONG_PACKET }
    }

    /// Whether a controller may have more than one channel.
    #[must_use]
    pub const fn has_sub_channels(self) -> bool {
        self.0 >= Self::V5_1.0
    }
}

/// Start of every packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    /// One of [`operation`].
    pub operation: U32,
    /// Bit 0: the guest waits for a completion; the ring's own packet says so too, and is believed.
    pub flags: U32,
    /// One of [`status`], in completions.
    pub status: U32,
}
const _: () = assert!(size_of::<Header>() == 12);

/// What a packet asks for, or is (Linux: `enum vstor_packet_operation`).
pub mod operation {
    /// Completion, of whatever.
    pub const COMPLETE_IO: u32 = 1;
    /// A SCSI command.
    pub const EXECUTE_SRB: u32 = 3;
    /// End what a logical unit does.
    pub const RESET_LUN: u32 = 4;
    /// End what the whole controller does.
    pub const RESET_ADAPTER: u32 = 5;
    /// End what the units of a bus do.
    pub const RESET_BUS: u32 = 6;
    /// Start over.
    pub const BEGIN_INITIALIZATION: u32 = 7;
    /// Ready.
    pub const END_INITIALIZATION: u32 = 8;
    /// Is this version spoken?
    pub const QUERY_PROTOCOL_VERSION: u32 = 9;
    /// What can the controller do?
    pub const QUERY_PROPERTIES: u32 = 10;
    /// From the host, unasked: units have come or gone.
    pub const ENUMERATE_BUS: u32 = 11;
    /// Names of a Fibre Channel port.
    pub const FCHBA_DATA: u32 = 12;
    /// Offer more channels.
    pub const CREATE_SUB_CHANNELS: u32 = 13;
}

/// How an operation went (NTSTATUS).
pub mod status {
    /// As asked.
    pub const SUCCESS: u32 = 0;
    /// A number or a size that is not allowed.
    pub const INVALID_PARAMETER: u32 = 0xC000_000D;
    /// No such operation on this controller.
    pub const INVALID_DEVICE_REQUEST: u32 = 0xC000_0010;
    /// The version is not spoken; the guest may name another.
    pub const REVISION_MISMATCH: u32 = 0xC000_0059;
    /// Not now.
    pub const INVALID_DEVICE_STATE: u32 = 0xC000_0184;
}

/// Body of QUERY_PROTOCOL_VERSION.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct QueryVersion {
    /// A [`Version`].
    pub version: U16,
    /// The guest's build; of no consequence.
    pub revision: U16,
}
const _: () = assert!(size_of::<QueryVersion>() == 4);

/// Body of the completion of QUERY_PROPERTIES (Linux: `vmstorage_channel_properties`).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Properties {
    /// 0.
    pub reserved: U32,
    /// Most channels besides the first.
    pub max_sub_channels: U16,
    /// 0.
    pub reserved2: U16,
    /// [`PROPERTY_MULTI_CHANNEL`] or 0.
    pub flags: U32,
    /// Most bytes of one command's data.
    pub max_transfer_bytes: U32,
    /// 0.
    pub reserved3: U64,
}
const _: () = assert!(size_of::<Properties>() == 24);

/// The controller can have sub-channels (Linux: `STORAGE_CHANNEL_SUPPORTS_MULTI_CHANNEL`).
pub const PROPERTY_MULTI_CHANNEL: u32 = 1;

/// Body of CREATE_SUB_CHANNELS.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct CreateSubChannels {
    /// How many.
    pub count: U16,
}
const _: () = assert!(size_of::<CreateSubChannels>() == 2);

/// Most bytes of a CDB.
pub const CDB_LEN: usize = 16;
/// Most bytes of sense data.
pub const SENSE_LEN: usize = 20;

/// Body of EXECUTE_SRB up to version 4.2, and its start in all others (Linux: `vmscsi_request`). RESET_LUN and
/// RESET_BUS have one for its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ShortSrb {
    /// Bytes of the whole body.
    pub length: U16,
    /// One of [`srb_status`], perhaps with its flags.
    pub srb_status: u8,
    /// SCSI status.
    pub scsi_status: u8,
    /// The guest's name for the controller.
    pub port: u8,
    /// Units are on path 0,
    pub path: u8,
    /// target 0,
    pub target: u8,
    /// and here.
    pub lun: u8,
    /// Bytes of the CDB.
    pub cdb_length: u8,
    /// Bytes that the guest has for sense data, and bytes that there are.
    pub sense_length: u8,
    /// 0: from the guest. Anything else: to the guest, or there is no data.
    pub data_in: u8,
    /// 0.
    pub reserved: u8,
    /// Bytes of the guest's buffer, and bytes that were moved.
    pub data_transfer_length: U32,
    /// The CDB in requests; sense data in completions.
    pub cdb_or_sense: [u8; SENSE_LEN],
}
const _: () = assert!(size_of::<Header>() + size_of::<ShortSrb>() == SHORT_PACKET);

/// [`ShortSrb::data_in`] of a buffer that the device reads.
pub const DATA_FROM_GUEST: u8 = 0;

/// Body of EXECUTE_SRB from version 5.1 on. What follows the [`ShortSrb`] is the guest's and goes back as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Srb {
    /// What all versions have.
    pub short: ShortSrb,
    /// 0.
    pub reserved: U16,
    /// Of tagged queueing.
    pub queue_tag: u8,
    /// Of tagged queueing.
    pub queue_action: u8,
    /// `SRB_FLAGS_`…
    pub srb_flags: U32,
    /// Seconds.
    pub timeout: U32,
    /// The guest's own.
    pub sort_key: U32,
}
const _: () = assert!(size_of::<Srb>() == 52);

/// A packet of the largest size. Bodies of other operations than EXECUTE_SRB lie where the SRB does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct VstorPacket {
    /// What it is.
    pub header: Header,
    /// Its body.
    pub srb: Srb,
}
const _: () = assert!(size_of::<VstorPacket>() == LONG_PACKET);

/// How a SCSI request block ended.
pub mod srb_status {
    /// Well.
    pub const SUCCESS: u8 = 0x01;
    /// A reset or the removal of the unit ended it.
    pub const ABORTED: u8 = 0x02;
    /// Not well: the SCSI status says how.
    pub const ERROR: u8 = 0x04;
    /// It makes no sense.
    pub const INVALID_REQUEST: u8 = 0x06;
    /// There is no such unit.
    pub const INVALID_LUN: u8 = 0x20;
    /// Flag: there is sense data.
    pub const AUTOSENSE_VALID: u8 = 0x80;
}
