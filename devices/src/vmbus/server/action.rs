//! What the control plane asks of the bus: values that [`Server::next_action`](super::Server::next_action) yields.
//!
//! The bus carries them out in order; messages come after everything else that there is to do. Each action that takes time is answered by a call back into the server:
//! `Open` by `opened`, `Close` by `closed`, `Unmap` by `unmapped`.

use zerocopy::IntoBytes;

use crate::vmbus::gpadl::{Gpadl, GpadlId};
use crate::vmbus::protocol::{Header, HostBody};

/// Names what a device offers, for as long as the machine lives. Never shown to the guest, which sees channel ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OfferId(pub u64);

/// Names a channel to the guest ("relid"): 1 to 2047, also the index of its event flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(pub u32);

/// A control message on its way to the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostMessage {
    /// Virtual processor whose message slot it goes to.
    pub vp: u32,
    /// SINT of that slot.
    pub sint: u8,
    payload: Box<[u8]>,
}

impl HostMessage {
    pub(super) fn new<B: HostBody>(vp: u32, sint: u8, body: &B) -> Self {
        let header = Header { message_type: B::MESSAGE_TYPE.into(), padding: 0.into() };
        HostMessage { vp, sint, payload: [header.as_bytes(), body.as_bytes()].concat().into() }
    }

    /// Header and body, exactly as long as the message is: the UEFI guest stops on any other length.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }
}

/// How the guest wants a channel opened, checked as far as that is possible without guest memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenRequest {
    /// The channel's id, also its event flag unless the guest named another.
    pub channel: ChannelId,
    /// The how manieth opening of the channel this is, from 1.
    pub opening: u64,
    /// Version of the connection.
    pub version: super::Version,
    /// The pages of both rings: exactly one range, whole pages.
    pub ring: Gpadl,
    /// Name of that GPADL.
    pub ring_gpadl: GpadlId,
    /// Pages of the guest's outgoing ring; the rest are its incoming ring. Both are at least 2.
    pub downstream_page_offset: u32,
    /// Virtual processor to interrupt; `None` when the guest wants no interrupts.
    pub target_vp: Option<u32>,
    /// Connection id of the guest's doorbell.
    pub connection_id: u32,
    /// Event flag of the host's doorbell, less than 2048.
    pub event_flag: u16,
    /// The opener's 120 bytes for the device.
    pub user_data: [u8; 120],
}

impl OpenRequest {
    /// The page numbers of the guest's outgoing ring and of its incoming ring.
    #[must_use]
    pub fn ring_pfns(&self) -> (&[u64], &[u64]) {
        let pfns = self.ring.ranges.first().map_or(&[][..], |range| &range.pfns);
        pfns.split_at_checked(self.downstream_page_offset as usize).unwrap_or((pfns, &[]))
    }
}

/// What the bus is to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Post a message to the guest. When there is no room, hand it back to
    /// [`Server::retry`](super::Server::retry) and go on once there is.
    Send(HostMessage),
    /// Open the device's channel, then call `opened`.
    Open(OfferId, Box<OpenRequest>),
    /// Stop the device's channel, then call `closed`. Its rings may not be touched after that.
    Close(OfferId),
    /// Interrupt another virtual processor from now on.
    Retarget(OfferId, Option<u32>),
    /// A GPADL is complete; a device may map it from now on.
    Map(OfferId, GpadlId, Gpadl),
    /// Let go of a GPADL, then call `unmapped`.
    Unmap(OfferId, GpadlId),
    /// The guest starts over: messages to it that still wait are void.
    DropMessages,
    /// Nothing of this offer is left: it was rescinded, or was a sub-channel whose primary channel closed. No call
    /// about it is expected any more.
    Gone(OfferId),
}
