//! What the author of a device sees: the traits that a device implements and what its open channel gives it.
//!
//! A device is a [`VmbusDevice`]: it says what it offers and makes a [`ChannelWorker`] whenever the guest opens
//! its channel. The worker lives on a thread of its own (see [`worker`](super::worker)), reads and writes through
//! a [`Channel`], and comes back to the device as a value when the channel closes. An error ends the worker and
//! with it this channel's service, never the machine.

use std::fmt::Debug;
use std::os::fd::RawFd;
use std::sync::Arc;

use thiserror::Error;

pub use super::counters::ChannelCounters;
pub use super::interrupt::Interrupt;
pub use super::needs::{RingNeeds, RingTooSmall};
pub use super::offer::{Offer, OfferFlags};
use super::protocol::Version;
pub use super::reports::SubChannels;
use super::ring::{
    Incoming, Outgoing, Packet, PacketBuffer, PacketError, PacketOut, RingError, RingPages, WriteError,
};
use super::trace::ChannelTrace;
use crate::mem::GuestRam;

/// A device on the bus, for as long as the machine lives or until it is removed.
///
/// Called on the control loop: nothing in here may wait for the guest.
pub trait VmbusDevice: Debug + Send {
    /// Serves one opening of the channel, on a thread of its own.
    type Worker: ChannelWorker;

    /// What the guest is offered: the device's first channel. Asked once.
    fn offer(&self) -> Offer;

    /// What packets its rings must be able to carry. Asked before each opening; a guest whose rings never could
    /// is refused, and the log says why.
    fn ring_needs(&self, opening: &Opening) -> RingNeeds {
        let _ = opening;
        RingNeeds::default()
    }

    /// The guest opens the channel, or one of the [sub-channels](SubChannels) that the device asked for.
    ///
    /// # Errors
    /// Any error becomes a failed OPEN_RESULT, and a line in the log.
    fn open(&mut self, opening: &Opening) -> Result<Self::Worker, ChannelError>;

    /// That channel is closed; its rings are the guest's again. `None` if the worker panicked.
    fn closed(&mut self, worker: Option<Self::Worker>);
}

/// What a guest said when it opened a channel, and what its device needs for it.
#[derive(Clone, Debug)]
pub struct Opening {
    /// Version of the guest's connection.
    pub version: Version,
    /// Which of the device's channels: 0 is its first, see [`Offer::sub_channel`].
    pub sub_channel: u16,
    /// The guest driver's 120 bytes for the device.
    pub user_data: [u8; 120],
    /// The way to more channels.
    pub sub_channels: SubChannels,
    /// The guest's memory, for workers whose packets name pages of it; a clone shares it.
    pub ram: GuestRam,
}

impl Opening {
    /// A device's first channel, of a device that gets no others.
    #[must_use]
    pub fn alone(version: Version, user_data: [u8; 120], ram: GuestRam) -> Self {
        Opening { version, sub_channel: 0, user_data, sub_channels: SubChannels::none(), ram }
    }
}

/// Serves an open channel. All calls come on the channel's thread, one at a time; none but [`stop`](ChannelWorker::stop) may block.
pub trait ChannelWorker: Debug + Send + 'static {
    /// Descriptors to watch for reading, besides the guest's doorbell. Asked once.
    fn sources(&self) -> Vec<RawFd> {
        Vec::new()
    }

    /// The channel is open: the first thing that the worker does.
    ///
    /// # Errors
    /// End this channel's service.
    fn start(&mut self, channel: &mut Channel) -> Result<(), ChannelError> {
        self.doorbell(channel)
    }

    /// The guest rang: there are packets, or there is room that the worker waited for. May also come for nothing.
    ///
    /// # Errors
    /// End this channel's service.
    fn doorbell(&mut self, channel: &mut Channel) -> Result<(), ChannelError>;

    /// A descriptor of [`ChannelWorker::sources`], counted from 0, is readable.
    ///
    /// # Errors
    /// End this channel's service.
    fn readable(&mut self, source: usize, channel: &mut Channel) -> Result<(), ChannelError> {
        let _ = (source, channel);
        Ok(())
    }

    /// The channel closes or is no longer served: the last thing that the worker does, unless it panicked. It may wait
    /// here for what it must not leave behind, as the bus does not wait for it.
    fn stop(&mut self) {}
}

/// Why a channel can no longer be served.
#[derive(Debug, Error)]
pub enum ChannelError {
    /// The guest broke a ring.
    #[error("The ring is broken")]
    Ring(#[from] RingError),
    /// The guest's packet is not what its type says.
    #[error("A packet is malformed")]
    Packet(#[from] PacketError),
    /// A packet can never fit the ring that the guest donated.
    #[error("The guest's incoming ring is too small")]
    Write(#[source] WriteError),
    /// The guest broke the device's protocol.
    #[error("The guest broke the protocol: {0}")]
    Protocol(String),
    /// Something of the host's own failed.
    #[error("The host failed")]
    Host(#[from] std::io::Error),
}

/// How a packet was taken by the guest's incoming ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Sent {
    /// It is in the ring.
    Yes,
    /// There is no room now. The guest will ring when there is; then send it again.
    Later,
}

/// Whether to read on after a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Yes.
    Continue,
    /// No: what comes next stays in the ring until [`Channel::receive`] is called again.
    Pause,
}

/// Packets that one call of [`Channel::receive`] hands over before it makes way for timers and for the end of the
/// channel, so that a guest that never stops sending cannot keep its worker from either.
pub const RECEIVE_LIMIT: usize = 1024;

/// Both rings of an open channel and the interrupt that goes with them.
#[derive(Debug)]
pub struct Channel {
    incoming: Incoming<RingPages>,
    outgoing: Outgoing<RingPages>,
    buffer: PacketBuffer,
    interrupt: Arc<Interrupt>,
    counters: Arc<ChannelCounters>,
    /// The doorbell handler is to be called again.
    again: bool,
    trace: Option<ChannelTrace>,
}

impl Channel {
    /// Takes over the rings as the guest set them up: `from_guest` is its outgoing ring.
    ///
    /// # Errors
    /// When a ring's indices are out of range already.
    pub fn open(
        from_guest: RingPages,
        to_guest: RingPages,
        interrupt: Arc<Interrupt>,
        counters: Arc<ChannelCounters>,
    ) -> Result<Self, RingError> {
        Ok(Channel {
            incoming: Incoming::open(from_guest)?,
            outgoing: Outgoing::open(to_guest)?,
            buffer: PacketBuffer::new(),
            interrupt,
            counters,
            again: false,
            trace: None,
        })
    }

    /// Has every packet recorded from now on.
    pub(super) fn record(&mut self, trace: Option<ChannelTrace>) {
        self.trace = trace;
    }

    /// Hands every packet of the guest to `take`, together with a way to answer, until the ring is empty or
    /// `take` pauses. Answers reach the guest in one batch at the end. After [`RECEIVE_LIMIT`] packets other events
    /// have their turn before the worker's [`doorbell`](ChannelWorker::doorbell) is called again.
    ///
    /// # Errors
    /// A broken ring, or what `take` returns.
    pub fn receive(
        &mut self,
        mut take: impl FnMut(&Packet<'_>, &mut Replies<'_>) -> Result<Flow, ChannelError>,
    ) -> Result<(), ChannelError> {
        let Channel { incoming, outgoing, buffer, interrupt, counters, again, trace } = self;
        let trace = trace.as_ref();
        let mut flow = Flow::Continue;
        let mut taken = 0;
        while flow == Flow::Continue {
            incoming.mask()?;
            let mut replies =
                Replies { outgoing: &mut *outgoing, interrupt: &*interrupt, counters: &*counters, trace };
            while flow == Flow::Continue {
                // A guest that fills the ring goes on writing while the rest is read.
                if incoming.kept() >= incoming.capacity() / 4 && incoming.commit()? {
                    interrupt.raise(counters);
                }
                let Some(packet) = incoming.next(buffer)? else { break };
                if let Some(trace) = trace {
                    trace.received(&packet);
                }
                flow = take(&packet, &mut replies)?;
                taken += 1;
                if taken == RECEIVE_LIMIT && flow == Flow::Continue {
                    *again = true;
                    flow = Flow::Pause;
                }
            }
            if incoming.commit()? {
                interrupt.raise(counters);
            }
            if !incoming.unmask()? {
                break;
            }
        }
        self.flush()?;
        Ok(())
    }

    /// Sends one packet at once.
    ///
    /// # Errors
    /// A broken ring, or a packet that the ring can never carry.
    pub fn send(&mut self, packet: &PacketOut<'_>) -> Result<Sent, ChannelError> {
        self.send_batch(|replies| replies.send(packet))
    }

    /// Lets `write` send any number of packets, which reach the guest in one batch at the end.
    ///
    /// # Errors
    /// A broken ring, or what `write` returns.
    pub fn send_batch<T>(
        &mut self,
        write: impl FnOnce(&mut Replies<'_>) -> Result<T, ChannelError>,
    ) -> Result<T, ChannelError> {
        let Channel { outgoing, interrupt, counters, trace, .. } = self;
        let written = write(&mut Replies { outgoing, interrupt, counters, trace: trace.as_ref() })?;
        self.flush()?;
        Ok(written)
    }

    /// Has the worker's [`doorbell`](ChannelWorker::doorbell) called again once other events have had their turn:
    /// for work that would take long in one piece.
    pub fn call_again(&mut self) {
        self.again = true;
    }

    /// Notes for tables which version of the device's own protocol the guest's driver chose: major in the upper half,
    /// minor in the lower.
    pub fn agreed(&self, version: u32) {
        self.counters.agree(version);
    }

    pub(crate) fn take_again(&mut self) -> bool {
        std::mem::take(&mut self.again)
    }

    /// For guests that lose interrupts which come before they have seen OPEN_RESULT: interrupts once more if a
    /// ring is in a state in which it should have been interrupted.
    pub(super) fn unstick(&mut self) -> Result<(), ChannelError> {
        if self.outgoing.reader_is_stuck()? || self.incoming.writer_is_stuck()? {
            self.interrupt.raise(&self.counters);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ChannelError> {
        if self.outgoing.commit()? {
            self.interrupt.raise(&self.counters);
        }
        self.counters.note(&self.incoming, &self.outgoing);
        Ok(())
    }
}

/// Writes answers while packets are read; see [`Channel::receive`].
#[derive(Debug)]
pub struct Replies<'a> {
    outgoing: &'a mut Outgoing<RingPages>,
    interrupt: &'a Interrupt,
    counters: &'a ChannelCounters,
    trace: Option<&'a ChannelTrace>,
}

impl Replies<'_> {
    /// As [`Channel::agreed`].
    pub fn agreed(&self, version: u32) {
        self.counters.agree(version);
    }

    /// Puts a packet into the guest's incoming ring.
    ///
    /// # Errors
    /// A broken ring, or a packet that the ring can never carry.
    pub fn send(&mut self, packet: &PacketOut<'_>) -> Result<Sent, ChannelError> {
        loop {
            match self.outgoing.write(packet) {
                Ok(()) => {
                    if let Some(trace) = self.trace {
                        trace.sent(packet);
                    }
                    return Ok(Sent::Yes);
                }
                Err(WriteError::Full { need, .. }) => {
                    // The guest makes room only by reading what it can see.
                    if self.outgoing.commit()? {
                        self.interrupt.raise(self.counters);
                    }
                    if !self.outgoing.wait_for_room(need)? {
                        return Ok(Sent::Later);
                    }
                }
                Err(WriteError::Ring(error)) => return Err(error.into()),
                Err(error) => return Err(ChannelError::Write(error)),
            }
        }
    }
}
