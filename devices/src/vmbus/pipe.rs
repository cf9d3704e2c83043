//! Messages in a pipe: the frame that mouse and video have in common.
//!
//! A packet's payload is the pipe header, then the message's type and size, then its body. Linux's video drivers say
//! a size with the header in it, others say the body's: readers go by what the pipe header says.

use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::ring::protocol::{PacketType, PipeHeader, PipeMessageType};
use super::ring::{Packet, pipe_message};

/// User data of an offer: a pipe of messages (type 4).
pub(crate) const MESSAGE_PIPE: [u8; 120] = {
    let mut user_data = [0; 120];
    let [kind, ..] = &mut user_data;
    *kind = 4;
    user_data
};

/// In front of a message (Linux: `synthhid_msg_hdr`, `synthvid_msg_hdr`).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct MessageHeader {
    /// What it is; the protocol's.
    pub message_type: U32,
    /// Bytes of the body.
    pub size: U32,
}
const _: () = assert!(size_of::<MessageHeader>() == 8);

/// Both headers.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub(crate) struct Head {
    pipe: PipeHeader,
    header: MessageHeader,
}
const _: () = assert!(size_of::<Head>() == 16);

/// Both headers of a message whose body has `length` bytes, of which the first `size` count.
pub(crate) fn head(message_type: u32, size: usize, length: usize) -> Head {
    // Bodies are built here and far below 4 GiB.
    let number = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
    let pipe = PipeHeader::data(number(size_of::<MessageHeader>() + length));
    let header = MessageHeader { message_type: message_type.into(), size: number(size).into() };
    Head { pipe, header }
}

/// Type and body of a guest's message; `None` if the packet is none.
pub(crate) fn message<'a>(packet: &Packet<'a>) -> Option<(u32, &'a [u8])> {
    if packet.kind != PacketType::IN_BAND {
        return None;
    }
    let (kind, data) = pipe_message(packet.payload).ok()?;
    let (header, body) = MessageHeader::read_from_prefix(data).ok()?;
    (kind == PipeMessageType::DATA).then(|| (header.message_type.get(), body))
}
