//! The pseudo header in front of every record of a trace.
//!
//! The link type is DLT_USER0 (147), which says nothing of itself: this header says what the bytes behind it are.
//! `resources/wireshark/busman-vmbus.lua` reads it. Behind the header come, by [`Kind`]: a control message from its
//! header on; a packet as it lies in a ring, descriptor, extension and payload without the trailer; or text in
//! UTF-8.

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::guid::Guid;

/// Link type of all interfaces of a trace.
pub const LINK_TYPE: u16 = 147;
/// Version of [`TraceHeader`]. A reader that knows another one should decode nothing.
pub const VERSION: u8 = 1;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A control message.
    Message = 0,
    /// A packet of a channel.
    Packet = 1,
    /// What the host has to say, as text.
    Note = 2,
}

/// Who sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Direction {
    /// The guest, to the host.
    FromGuest = 0,
    /// The host, to the guest.
    ToGuest = 1,
}

/// Flag: the channel is a pipe, so that payloads start with the pipe header.
pub const FLAG_PIPE: u16 = 1;

/// In front of every record.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct TraceHeader {
    /// [`VERSION`].
    pub version: u8,
    /// Bytes of this header; more may be added at its end.
    pub length: u8,
    /// A [`Kind`].
    pub kind: u8,
    /// A [`Direction`].
    pub direction: u8,
    /// [`FLAG_PIPE`].
    pub flags: U16,
    /// SINT of a message to the guest.
    pub sint: u8,
    /// Always 0.
    pub reserved: u8,
    /// Channel id of a packet.
    pub channel: U32,
    /// Connection id that a guest's message was posted to; of a packet, that of its channel's doorbell.
    pub connection_id: U32,
    /// Virtual processor of a message to the guest.
    pub vp: U32,
    /// Interface GUID of a packet's device.
    pub interface: Guid,
}

const _: () = assert!(size_of::<TraceHeader>() == HEADER_SIZE);

/// Bytes of a [`TraceHeader`].
pub const HEADER_SIZE: usize = 36;
