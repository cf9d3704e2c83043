//! The guest's side of an open channel: packets, doorbells, interrupts.

use std::sync::Arc;
use std::time::Instant;

use super::guest::{OfferSeen, PATIENCE};
use super::synic::TestSynic;
use crate::guid::Guid;
use crate::vmbus::ring::{Incoming, Outgoing, Packet, PacketBuffer, PacketOut, RingPages, WriteError};

/// An open channel in the guest's hands.
#[derive(Debug)]
pub struct TestChannel {
    pub(super) offer: OfferSeen,
    pub(super) ring_gpadl: u32,
    synic: Arc<TestSynic>,
    /// The guest's outgoing ring.
    pub outgoing: Outgoing<RingPages>,
    /// The guest's incoming ring.
    pub incoming: Incoming<RingPages>,
    buffer: PacketBuffer,
}

impl TestChannel {
    pub(super) fn new(
        offer: OfferSeen,
        ring_gpadl: u32,
        synic: Arc<TestSynic>,
        (outgoing, incoming): (Outgoing<RingPages>, Incoming<RingPages>),
    ) -> Self {
        TestChannel { offer, ring_gpadl, synic, outgoing, incoming, buffer: PacketBuffer::new() }
    }

    /// The channel's id.
    #[must_use]
    pub fn channel(&self) -> u32 {
        self.offer.channel()
    }

    /// Connection id of the host's doorbell.
    #[must_use]
    pub fn connection_id(&self) -> u32 {
        self.offer.offer.connection_id.get()
    }

    /// The GPADL of its rings.
    #[must_use]
    pub fn ring_gpadl(&self) -> u32 {
        self.ring_gpadl
    }

    /// The device's interface.
    #[must_use]
    pub fn interface(&self) -> Guid {
        self.offer.offer.interface
    }

    /// Sends a packet, waiting for room if need be, and rings as a guest does.
    pub fn send(&mut self, packet: &PacketOut<'_>) {
        let deadline = Instant::now() + PATIENCE;
        while !self.try_send(packet) {
            let flag = self.offer.channel() as u16;
            assert!(self.synic.take_flag(0, flag, deadline), "the host makes no room");
        }
    }

    /// Sends a packet and rings, if there is room; if not, the host will interrupt when there is.
    pub fn try_send(&mut self, packet: &PacketOut<'_>) -> bool {
        loop {
            match self.outgoing.write(packet) {
                Ok(()) => break,
                Err(WriteError::Full { need, .. }) => {
                    if !self.outgoing.wait_for_room(need).expect("a sound ring") {
                        return false;
                    }
                }
                Err(error) => panic!("{error}"),
            }
        }
        if self.outgoing.commit().expect("a sound ring") {
            assert!(self.synic.ring(self.offer.offer.connection_id.get()), "nobody hears the doorbell");
        }
        true
    }

    /// Takes the next packet if it comes until then.
    pub fn try_receive<T>(&mut self, deadline: Instant, take: impl FnOnce(&Packet<'_>) -> T) -> Option<T> {
        loop {
            if let Some(packet) = self.incoming.next(&mut self.buffer).expect("a sound ring") {
                let taken = take(&packet);
                if self.incoming.commit().expect("a sound ring") {
                    self.synic.ring(self.offer.offer.connection_id.get());
                }
                return Some(taken);
            }
            if !self.synic.take_flag(0, self.offer.channel() as u16, deadline) {
                return None;
            }
        }
    }

    /// Waits for the next packet.
    pub fn receive<T>(&mut self, take: impl FnOnce(&Packet<'_>) -> T) -> T {
        self.try_receive(Instant::now() + PATIENCE, take).expect("a packet from the host")
    }
}
