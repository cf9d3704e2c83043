//! The device: negotiation, what kind of device it is, then reports.
//!
//! What happens while no driver listens is nobody's.

use std::io;
use std::os::fd::RawFd;

use zerocopy::{FromBytes, IntoBytes};

use super::protocol::{
    DeviceInfo, INSTANCE, INTERFACE, ProtocolRequest, ProtocolResponse, Report, VERSION, message_type,
};
use super::queue::{MotionQueue, State};
use crate::display::Pointer;
use crate::vmbus::channel::{
    Channel, ChannelError, ChannelWorker, Flow, Offer, Opening, Replies, RingNeeds, Sent, VmbusDevice,
};
use crate::vmbus::inbox::Inbox;
use crate::vmbus::pipe::{self, Head};
use crate::vmbus::ring::protocol::PacketType;
use crate::vmbus::ring::{Packet, PacketOut};
use crate::vmbus::send_queue::SendQueue;
use crate::{guest_info, guest_warn};

/// Where a person points.
#[derive(Clone, Debug)]
pub struct MouseHandle(Inbox<MotionQueue>);

impl Pointer for MouseHandle {
    fn pointer(&self, x: u16, y: u16, buttons: u8, wheel: i8) {
        self.0.put(|motion| {
            motion.push(State { x, y, buttons, wheel: wheel.into() });
            true
        });
    }
}

/// The device.
#[derive(Debug)]
pub struct Mouse {
    motion: Inbox<MotionQueue>,
}

impl Mouse {
    /// The device, and where a person points.
    ///
    /// # Errors
    /// When the host has no more descriptors.
    pub fn device() -> io::Result<(Mouse, MouseHandle)> {
        let motion = Inbox::new()?;
        Ok((Mouse { motion: motion.clone() }, MouseHandle(motion)))
    }
}

impl VmbusDevice for Mouse {
    type Worker = MouseWorker;

    fn offer(&self) -> Offer {
        Offer::message_pipe("mouse", INTERFACE, INSTANCE)
    }

    fn ring_needs(&self, _: &Opening) -> RingNeeds {
        RingNeeds::of_payload(size_of::<Head>() + size_of::<DeviceInfo>())
    }

    fn open(&mut self, _: &Opening) -> Result<MouseWorker, ChannelError> {
        Ok(MouseWorker { motion: self.motion.clone(), queue: SendQueue::default(), described: false })
    }

    fn closed(&mut self, _: Option<MouseWorker>) {
        // Once more for a worker that panicked.
        *self.motion.queue() = None;
    }
}

/// The mouse while its channel is open.
#[derive(Debug)]
pub struct MouseWorker {
    motion: Inbox<MotionQueue>,
    queue: SendQueue,
    /// The guest was told what kind of device this is, and has not acknowledged it.
    described: bool,
}

impl ChannelWorker for MouseWorker {
    fn sources(&self) -> Vec<RawFd> {
        vec![self.motion.wake_fd()]
    }

    fn doorbell(&mut self, channel: &mut Channel) -> Result<(), ChannelError> {
        if channel.send_batch(|replies| self.queue.flush(replies))? == Sent::Later {
            return Ok(());
        }
        channel.receive(|packet, replies| self.take(packet, replies))?;
        channel.send_batch(|replies| self.send_motion(replies))
    }

    fn readable(&mut self, _: usize, channel: &mut Channel) -> Result<(), ChannelError> {
        self.motion.awake();
        channel.send_batch(|replies| self.send_motion(replies))
    }

    fn stop(&mut self) {
        *self.motion.queue() = None;
    }
}

impl MouseWorker {
    fn take(&mut self, packet: &Packet<'_>, replies: &mut Replies<'_>) -> Result<Flow, ChannelError> {
        match pipe::message(packet) {
            Some((message_type::PROTOCOL_REQUEST, body)) => self.negotiate(body, replies)?,
            Some((message_type::DEVICE_INFO_ACK, _)) if std::mem::take(&mut self.described) => {
                *self.motion.queue() = Some(MotionQueue::default());
            }
            _ if packet.kind == PacketType::COMPLETION => {}
            message => {
                let kind = message.map(|(kind, _)| kind);
                guest_warn!("mouse: {:?} with message {kind:?} is left alone", packet.kind);
            }
        }
        self.queue.complete(replies, packet)
    }

    /// A driver that starts over finds nothing of its predecessor.
    fn negotiate(&mut self, body: &[u8], replies: &mut Replies<'_>) -> Result<(), ChannelError> {
        let Ok((request, _)) = ProtocolRequest::read_from_prefix(body) else {
            guest_warn!("mouse: a request of {} bytes", body.len());
            return Ok(());
        };
        let version = request.version.get();
        let accepted = version == VERSION;
        let response = ProtocolResponse { version: request.version, approved: accepted.into() };
        *self.motion.queue() = None;
        self.described = accepted;
        // Whether or not they wait, they are sent in this order.
        let body = response.as_bytes();
        let head = pipe::head(message_type::PROTOCOL_RESPONSE, body.len(), body.len());
        let _ = self.queue.send(replies, &PacketOut::in_band(0, &[head.as_bytes(), body]))?;
        if accepted {
            replies.agreed(version);
            guest_info!("mouse: version {}.{}", version >> 16, version & 0xffff);
            let info = DeviceInfo::this();
            let body = info.as_bytes();
            let head = pipe::head(message_type::DEVICE_INFO, DeviceInfo::SIZE, body.len());
            let _ = self.queue.send(replies, &PacketOut::in_band(0, &[head.as_bytes(), body]))?;
        } else {
            guest_warn!("mouse: the guest asks for version {}.{}", version >> 16, version & 0xffff);
        }
        Ok(())
    }

    /// Sends what happened, behind the answers that wait; stops when the ring is full.
    fn send_motion(&mut self, replies: &mut Replies<'_>) -> Result<(), ChannelError> {
        if self.queue.flush(replies)? == Sent::Later {
            return Ok(());
        }
        let mut motion = self.motion.queue();
        let Some(motion) = motion.as_mut() else { return Ok(()) };
        let head = pipe::head(message_type::INPUT_REPORT, size_of::<Report>(), size_of::<Report>());
        while let Some(State { x, y, buttons, wheel }) = motion.front() {
            let report = Report { buttons, x: x.into(), y: y.into(), wheel: wheel.into() };
            let payload: &[&[u8]] = &[head.as_bytes(), report.as_bytes()];
            if replies.send(&PacketOut::in_band(0, payload))? == Sent::Later {
                break;
            }
            motion.sent();
        }
        Ok(())
    }
}
