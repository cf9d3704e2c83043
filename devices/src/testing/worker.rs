//! A device's open channel without bus or threads: both sides are played by the caller, in the order it likes.

use std::error::Error;
use std::sync::Arc;

use zerocopy::FromZeros;

use super::synic::TestSynic;
use crate::mem::{GuestRam, PAGE_SIZE, Pages};
use crate::vmbus::channel::{
    Channel, ChannelCounters, ChannelError, ChannelWorker, Interrupt, Opening, VmbusDevice,
};
use crate::vmbus::protocol::Version;
use crate::vmbus::ring::{Incoming, Outgoing, Packet, PacketBuffer, PacketOut, RingPages, WriteError};

/// A worker that does something only when it is told to. For tests of order, for counting, for fuzzing.
#[derive(Debug)]
pub struct TestWorker<W> {
    worker: W,
    channel: Channel,
    outgoing: Outgoing<RingPages>,
    incoming: Incoming<RingPages>,
    buffer: PacketBuffer,
    started: bool,
}

impl<W: ChannelWorker> TestWorker<W> {
    /// Opens a device's channel on rings of these pages; the guest's outgoing ring comes first.
    ///
    /// # Errors
    /// What the device or the bus would refuse the opening for.
    pub fn open<D: VmbusDevice<Worker = W>>(
        device: &mut D,
        ram: &GuestRam,
        (outgoing, incoming): (&[u64], &[u64]),
        user_data: [u8; 120],
    ) -> Result<Self, Box<dyn Error>> {
        let ring = |pfns| -> Result<RingPages, Box<dyn Error>> {
            let pages = Pages::resolve(ram, pfns)?;
            pages.write(0, &<[u8; PAGE_SIZE]>::new_zeroed())?;
            Ok(RingPages::new(pages)?)
        };
        let (from_guest, to_guest) = (ring(outgoing)?, ring(incoming)?);
        let opening = Opening::alone(Version::V5_3, user_data, ram.clone());
        device.ring_needs(&opening).check(&from_guest, &to_guest)?;
        // The guest's side first: it says that it uses the pending send size.
        let (outgoing, incoming) = (Outgoing::open(from_guest.clone())?, Incoming::open(to_guest.clone())?);
        let interrupt = Arc::new(Interrupt::new(Arc::new(TestSynic::new(1)), 1, Some(0)));
        let channel = Channel::open(from_guest, to_guest, interrupt, Arc::new(ChannelCounters::default()))?;
        let worker = device.open(&opening)?;
        Ok(TestWorker { worker, channel, outgoing, incoming, buffer: PacketBuffer::new(), started: false })
    }

    /// The doorbell rings, and the worker works until it has nothing left to do.
    ///
    /// # Errors
    /// The worker's.
    pub fn ring(&mut self) -> Result<(), ChannelError> {
        if !std::mem::replace(&mut self.started, true) {
            self.worker.start(&mut self.channel)?;
        }
        loop {
            self.worker.doorbell(&mut self.channel)?;
            if !self.channel.take_again() {
                return Ok(());
            }
        }
    }

    /// One of the worker's own descriptors becomes readable.
    ///
    /// # Errors
    /// The worker's.
    pub fn fire(&mut self, source: usize) -> Result<(), ChannelError> {
        self.worker.readable(source, &mut self.channel)
    }

    /// The guest puts a packet into its outgoing ring; false if there is no room, or the ring is broken.
    pub fn send(&mut self, packet: &PacketOut<'_>) -> bool {
        match self.outgoing.write(packet) {
            Ok(()) => self.outgoing.commit().is_ok(),
            Err(WriteError::Full { need, .. }) => {
                // What a guest does then; room there is only when the worker has its turn.
                let _ = self.outgoing.wait_for_room(need);
                false
            }
            Err(_) => false,
        }
    }

    /// The guest takes a packet from its incoming ring; `None` if there is none, or the ring is broken.
    pub fn receive<T>(&mut self, take: impl FnOnce(&Packet<'_>) -> T) -> Option<T> {
        let packet = self.incoming.next(&mut self.buffer).ok()??;
        let taken = take(&packet);
        self.incoming.commit().ok()?;
        Some(taken)
    }

    /// Gives the worker back, as its device gets it when the channel closes.
    pub fn close(self) -> W {
        self.worker
    }
}
