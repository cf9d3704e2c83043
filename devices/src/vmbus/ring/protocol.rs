//! The ring as it lies in memory: control words, packet descriptors and what may follow them.
//!
//! Read by the files beside it and by whoever builds packets by hand. Linux: `hv_ring_buffer`,
//! `vmpacket_descriptor` and their neighbours in `hyperv.h`. Knows layouts only; checks nothing.

use std::fmt;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A word of the control page; the value is its offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlWord {
    /// Where the writer puts the next packet; the writer's.
    WriteIndex = 0,
    /// Where the reader takes the next packet; the reader's.
    ReadIndex = 4,
    /// Not 0: the reader wants no interrupts; the reader's.
    InterruptMask = 8,
    /// Bytes that a blocked writer needs, 0 if none is blocked; the writer's.
    PendingSendSize = 12,
    /// See [`FEATURE_PENDING_SEND_SIZE`]; the writer's.
    FeatureBits = 64,
}

/// Feature bit: this ring's writer sets the pending send size when it is blocked, and as the reader of the
/// channel's other ring it honours that word there.
pub const FEATURE_PENDING_SEND_SIZE: u32 = 1;

/// Unit of lengths and indices, bytes.
pub const UNIT: u32 = 8;

/// What a packet is (Linux: `enum vmbus_packet_type`). A guest may use numbers that have no name here.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PacketType(pub u16);

impl PacketType {
    /// The payload is all there is.
    pub const IN_BAND: Self = Self(0x6);
    /// Refers to ranges of a buffer that both sides know ([`TransferPageHeader`]).
    pub const TRANSFER_PAGES: Self = Self(0x7);
    /// Refers to pages of the guest ([`GpaDirectHeader`]).
    pub const GPA_DIRECT: Self = Self(0x9);
    /// Answers the packet with the same transaction id.
    pub const COMPLETION: Self = Self(0xb);
}

impl fmt::Debug for PacketType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::IN_BAND => f.write_str("IN_BAND"),
            Self::TRANSFER_PAGES => f.write_str("TRANSFER_PAGES"),
            Self::GPA_DIRECT => f.write_str("GPA_DIRECT"),
            Self::COMPLETION => f.write_str("COMPLETION"),
            Self(other) => write!(f, "PacketType({other:#x})"),
        }
    }
}

/// Flag of a packet: its sender waits for a completion.
pub const FLAG_COMPLETION_REQUESTED: u16 = 1;

/// Start of every packet (Linux: `vmpacket_descriptor`).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct PacketDescriptor {
    /// A [`PacketType`].
    pub kind: U16,
    /// Where the payload starts, in units of 8 bytes.
    pub data_offset8: U16,
    /// Where the payload ends, in units of 8 bytes.
    pub length8: U16,
    /// [`FLAG_COMPLETION_REQUESTED`].
    pub flags: U16,
    /// Means something to the sender only.
    pub transaction_id: U64,
}
const _: () = assert!(size_of::<PacketDescriptor>() == DESCRIPTOR_SIZE as usize);

/// Bytes of a [`PacketDescriptor`].
pub const DESCRIPTOR_SIZE: u32 = 16;

/// End of every packet; readers ignore it.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct PacketTrailer {
    /// 0.
    pub reserved: U32,
    /// Where the packet starts.
    pub start: U32,
}
const _: () = assert!(size_of::<PacketTrailer>() == 8);

/// Follows the descriptor of [`PacketType::TRANSFER_PAGES`]; then come [`TransferPageRange`]s.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct TransferPageHeader {
    /// Names the buffer.
    pub pageset_id: U16,
    /// Who owns the ranges; 0 in practice.
    pub sender_owns_set: u8,
    /// 0.
    pub reserved: u8,
    /// How many ranges follow.
    pub range_count: U32,
}
const _: () = assert!(size_of::<TransferPageHeader>() == 8);

/// A piece of the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct TransferPageRange {
    /// How long it is.
    pub byte_count: U32,
    /// Where it starts.
    pub byte_offset: U32,
}
const _: () = assert!(size_of::<TransferPageRange>() == 8);

/// Follows the descriptor of [`PacketType::GPA_DIRECT`]; then come ranges, each a [`GpaRangeHeader`] and its
/// page numbers.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct GpaDirectHeader {
    /// Anything.
    pub reserved: U32,
    /// How many ranges follow.
    pub range_count: U32,
}
const _: () = assert!(size_of::<GpaDirectHeader>() == 8);

/// Start of a range of guest memory; a `U64` per page follows.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct GpaRangeHeader {
    /// How long the range is.
    pub byte_count: U32,
    /// Where it starts in its first page.
    pub byte_offset: U32,
}
const _: () = assert!(size_of::<GpaRangeHeader>() == 8);

/// Start of the payload in channels that are pipes (Linux: `vmpipe_proto_header`).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct PipeHeader {
    /// A [`PipeMessageType`].
    pub kind: U32,
    /// Bytes of data that follow.
    pub length: U32,
}
const _: () = assert!(size_of::<PipeHeader>() == 8);

impl PipeHeader {
    /// The header of `length` bytes of data.
    #[must_use]
    pub fn data(length: u32) -> Self {
        Self { kind: PipeMessageType::DATA.0.into(), length: length.into() }
    }
}

/// What a pipe's packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PipeMessageType(pub u32);

impl PipeMessageType {
    /// Data of the protocol above.
    pub const DATA: Self = Self(1);
}

/// Most bytes of data in one packet of a pipe.
pub const PIPE_MAX_DATA: usize = 16384;
