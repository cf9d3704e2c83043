//! Packets of a device that found no room in the guest's ring, in their order.
//!
//! For devices that send little: what waits is copied. The device bounds it by reading nothing more from the guest
//! while something waits.

use std::collections::VecDeque;

use super::channel::{ChannelError, Flow, Replies, Sent};
use super::ring::PacketOut;
use super::ring::protocol::PacketType;

/// What waits for room.
#[derive(Debug, Default)]
pub(crate) struct SendQueue {
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    kind: PacketType,
    transaction_id: u64,
    payload: Vec<u8>,
}

impl SendQueue {
    /// Sends a packet behind all that wait; [`Sent::Later`] if it waits now, too.
    pub fn send(&mut self, replies: &mut Replies<'_>, packet: &PacketOut<'_>) -> Result<Sent, ChannelError> {
        if self.flush(replies)? == Sent::Yes && replies.send(packet)? == Sent::Yes {
            return Ok(Sent::Yes);
        }
        let PacketOut { kind, transaction_id, payload, .. } = *packet;
        self.waiting.push_back(Waiting { kind, transaction_id, payload: payload.concat() });
        Ok(Sent::Later)
    }

    /// Sends what waits; [`Sent::Later`] if something still does.
    pub fn flush(&mut self, replies: &mut Replies<'_>) -> Result<Sent, ChannelError> {
        while let Some(Waiting { kind, transaction_id, payload }) = self.waiting.front() {
            let payload: &[&[u8]] = &[payload];
            let packet = PacketOut { kind: *kind, ..PacketOut::in_band(*transaction_id, payload) };
            if replies.send(&packet)? == Sent::Later {
                return Ok(Sent::Later);
            }
            self.waiting.pop_front();
        }
        Ok(Sent::Yes)
    }

    /// Completes a packet whose sender asked for it, behind the answers to it; the drivers of pipes and keyboards expect
    /// nothing in it. The next packet is for later if something waits.
    pub fn complete(
        &mut self,
        replies: &mut Replies<'_>,
        packet: &super::ring::Packet<'_>,
    ) -> Result<Flow, ChannelError> {
        let sent = if packet.completion_requested {
            self.send(replies, &PacketOut::completion(packet.transaction_id, &[]))?
        } else {
            self.flush(replies)?
        };
        Ok(if sent == Sent::Yes { Flow::Continue } else { Flow::Pause })
    }
}
