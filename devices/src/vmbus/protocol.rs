//! Control messages as they lie on the wire.
//!
//! Every message is a [`Header`] and one of the bodies below, at most 240 bytes in all; all numbers are
//! little-endian. The server reads guest messages with [`Header`] and a body's `read_from_prefix`, as guests may
//! post more bytes than a body has, and writes host messages with [`HostBody`]. Names follow Linux'
//! `include/linux/hyperv.h` (`struct vmbus_channel_*`).
//!
//! Nothing in here does anything, and nothing in here knows the rest of the bus.

use std::fmt;

use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

mod body;

pub use body::*;

/// Message numbers (Linux: `enum vmbus_channel_message_type`).
pub mod message_type {
    /// Host: here is a channel.
    pub const OFFER_CHANNEL: u32 = 1;
    /// Host: a channel goes away.
    pub const RESCIND_CHANNEL_OFFER: u32 = 2;
    /// Guest: which channels are there?
    pub const REQUEST_OFFERS: u32 = 3;
    /// Host: these were all channels.
    pub const ALL_OFFERS_DELIVERED: u32 = 4;
    /// Guest: open a channel.
    pub const OPEN_CHANNEL: u32 = 5;
    /// Host: the channel is open, or is not.
    pub const OPEN_CHANNEL_RESULT: u32 = 6;
    /// Guest: close a channel. Has no answer.
    pub const CLOSE_CHANNEL: u32 = 7;
    /// Guest: first part of a GPADL.
    pub const GPADL_HEADER: u32 = 8;
    /// Guest: further part of a GPADL.
    pub const GPADL_BODY: u32 = 9;
    /// Host: the GPADL is taken, or is not.
    pub const GPADL_CREATED: u32 = 10;
    /// Guest: give the pages back.
    pub const GPADL_TEARDOWN: u32 = 11;
    /// Host: the pages are no longer touched.
    pub const GPADL_TORNDOWN: u32 = 12;
    /// Guest: a rescinded channel's id may be used again.
    pub const RELID_RELEASED: u32 = 13;
    /// Guest: let us talk, in this version.
    pub const INITIATE_CONTACT: u32 = 14;
    /// Host: yes, or not in this version.
    pub const VERSION_RESPONSE: u32 = 15;
    /// Guest: end of the connection.
    pub const UNLOAD: u32 = 16;
    /// Host: nothing of the connection is left.
    pub const UNLOAD_COMPLETE: u32 = 17;
    /// Guest: open a channel that outlives the connection.
    pub const OPEN_RESERVED_CHANNEL: u32 = 18;
    /// Guest: close such a channel.
    pub const CLOSE_RESERVED_CHANNEL: u32 = 19;
    /// Host: such a channel is closed.
    pub const CLOSE_RESERVED_RESPONSE: u32 = 20;
    /// Guest: connect a Hyper-V socket.
    pub const TL_CONNECT_REQUEST: u32 = 21;
    /// Guest: interrupt another virtual processor.
    pub const MODIFY_CHANNEL: u32 = 22;
    /// Host: a Hyper-V socket could not be connected.
    pub const TL_CONNECT_RESULT: u32 = 23;
    /// Host: interrupts go to the other processor, or do not.
    pub const MODIFY_CHANNEL_RESPONSE: u32 = 24;
    /// Guest: other monitor pages.
    pub const MODIFY_CONNECTION: u32 = 25;
    /// Host: monitor pages changed.
    pub const MODIFY_CONNECTION_RESPONSE: u32 = 26;
    /// Guest: send nothing for a while.
    pub const PAUSE: u32 = 27;
    /// Host: nothing comes after this.
    pub const PAUSE_RESPONSE: u32 = 28;
    /// Guest: send again.
    pub const RESUME: u32 = 29;
}

/// A version of the VMBus protocol: major in the high half, minor in the low half.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u32);

impl Version {
    /// Windows 8, Server 2012: a doorbell and an event flag for each channel.
    pub const V2_4: Version = Version(0x0002_0004);
    /// Windows 8.1: messages go to the processor that the guest names.
    pub const V3_0: Version = Version(0x0003_0000);
    /// Windows 10: reserved channels, Hyper-V sockets.
    pub const V4_0: Version = Version(0x0004_0000);
    /// Channels may change their processor; refused sockets are told so.
    pub const V4_1: Version = Version(0x0004_0001);
    /// Contact names a SINT and a VTL; the host names the message port.
    pub const V5_0: Version = Version(0x0005_0000);
    /// As 5.0.
    pub const V5_1: Version = Version(0x0005_0001);
    /// Sockets name a silo.
    pub const V5_2: Version = Version(0x0005_0002);
    /// A change of processor is answered.
    pub const V5_3: Version = Version(0x0005_0003);
    /// Feature flags.
    pub const V6_0: Version = Version(0x0006_0000);
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 >> 16, self.0 & 0xffff)
    }
}

bitflags::bitflags! {
    /// What a connection of version 6.0 or later may use beyond its version.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct FeatureFlags: u32 {
        /// The guest names a channel's connection id and event flag when it opens it.
        const GUEST_SPECIFIED_SIGNAL_PARAMETERS = 0x01;
        /// The guest may change the monitor pages.
        const MODIFY_CONNECTION = 0x04;
        /// The guest says who it is.
        const CLIENT_ID = 0x08;
        /// The guest may hold back the host's messages.
        const PAUSE_RESUME = 0x20;
    }
}

/// An answer's status (NTSTATUS): 0 is success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub u32);

impl Status {
    /// `STATUS_SUCCESS`.
    pub const SUCCESS: Status = Status(0);
    /// `STATUS_UNSUCCESSFUL`: the device cannot.
    pub const UNSUCCESSFUL: Status = Status(0xC000_0001);
    /// `STATUS_INVALID_PARAMETER`: the request makes no sense.
    pub const INVALID_PARAMETER: Status = Status(0xC000_000D);
    /// `STATUS_INSUFFICIENT_RESOURCES`: a budget is spent.
    pub const INSUFFICIENT_RESOURCES: Status = Status(0xC000_009A);
    /// `STATUS_CONNECTION_REFUSED`: nobody listens. Windows' sockets expect this very code.
    pub const CONNECTION_REFUSED: Status = Status(0xC000_0236);
}

/// VERSION_RESPONSE's connection state: all is well.
pub const CONNECTION_SUCCESSFUL: u8 = 0;
/// OPEN_CHANNEL's target VP of a channel that wants no interrupts.
pub const VP_NONE: u32 = 0xFFFF_FFFF;
/// OFFER_CHANNEL's bit for an event flag and a doorbell of the channel's own.
pub const DEDICATED_INTERRUPT: u16 = 1;

/// In front of every message.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct Header {
    /// One of [`message_type`].
    pub message_type: U32,
    /// Always 0.
    pub padding: U32,
}

const _: () = assert!(size_of::<Header>() == 8);

/// A body that the host sends.
pub trait HostBody: IntoBytes + Immutable {
    /// The number of its message.
    const MESSAGE_TYPE: u32;
}

/// A message that is nothing but its header.
#[repr(C)]
#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
pub struct Bare<const MESSAGE_TYPE: u32>;

impl<const MESSAGE_TYPE: u32> HostBody for Bare<MESSAGE_TYPE> {
    const MESSAGE_TYPE: u32 = MESSAGE_TYPE;
}
