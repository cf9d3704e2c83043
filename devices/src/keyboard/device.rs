//! The device: negotiation, then keys.
//!
//! Keys that are typed while no driver listens are nobody's: a guest that starts finds no key of the last one.

use std::io;
use std::os::fd::RawFd;

use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, IntoBytes};

use super::protocol::{
    INSTANCE, INTERFACE, KeyEvent, KeyInfo, ProtocolRequest, ProtocolResponse, VERSION, message_type,
};
use super::queue::{KeyQueue, Stroke};
use crate::display::{Keys, Prefix, Scancode};
use crate::vmbus::channel::{
    Channel, ChannelError, ChannelWorker, Flow, Offer, Opening, Replies, RingNeeds, Sent, VmbusDevice,
};
use crate::vmbus::inbox::Inbox;
use crate::vmbus::ring::protocol::PacketType;
use crate::vmbus::ring::{Packet, PacketOut};
use crate::vmbus::send_queue::SendQueue;
use crate::{guest_info, guest_warn};

/// Where a person types.
#[derive(Clone, Debug)]
pub struct KeyboardHandle(Inbox<KeyQueue>);

impl Keys for KeyboardHandle {
    fn key(&self, scancode: Scancode, pressed: bool) {
        self.0.put(|keys| keys.push(Stroke { scancode, pressed }));
    }
}

/// The device.
#[derive(Debug)]
pub struct Keyboard {
    keys: Inbox<KeyQueue>,
}

impl Keyboard {
    /// The device, and where a person types.
    ///
    /// # Errors
    /// When the host has no more descriptors.
    pub fn device() -> io::Result<(Keyboard, KeyboardHandle)> {
        let keys = Inbox::new()?;
        Ok((Keyboard { keys: keys.clone() }, KeyboardHandle(keys)))
    }
}

impl VmbusDevice for Keyboard {
    type Worker = KeyboardWorker;

    fn offer(&self) -> Offer {
        Offer::new("keyboard", INTERFACE, INSTANCE)
    }

    fn ring_needs(&self, _: &Opening) -> RingNeeds {
        RingNeeds::of_payload(size_of::<KeyEvent>())
    }

    fn open(&mut self, _: &Opening) -> Result<KeyboardWorker, ChannelError> {
        Ok(KeyboardWorker { keys: self.keys.clone(), queue: SendQueue::default() })
    }

    fn closed(&mut self, _: Option<KeyboardWorker>) {
        // Once more for a worker that panicked.
        *self.keys.queue() = None;
    }
}

/// The keyboard while its channel is open.
#[derive(Debug)]
pub struct KeyboardWorker {
    keys: Inbox<KeyQueue>,
    queue: SendQueue,
}

impl ChannelWorker for KeyboardWorker {
    fn sources(&self) -> Vec<RawFd> {
        vec![self.keys.wake_fd()]
    }

    fn doorbell(&mut self, channel: &mut Channel) -> Result<(), ChannelError> {
        if channel.send_batch(|replies| self.queue.flush(replies))? == Sent::Later {
            return Ok(());
        }
        channel.receive(|packet, replies| self.take(packet, replies))?;
        channel.send_batch(|replies| self.send_keys(replies))
    }

    fn readable(&mut self, _: usize, channel: &mut Channel) -> Result<(), ChannelError> {
        self.keys.awake();
        channel.send_batch(|replies| self.send_keys(replies))
    }

    fn stop(&mut self) {
        *self.keys.queue() = None;
    }
}

impl KeyboardWorker {
    fn take(&mut self, packet: &Packet<'_>, replies: &mut Replies<'_>) -> Result<Flow, ChannelError> {
        let kind = U32::read_from_prefix(packet.payload).ok().map(|(kind, _)| kind.get());
        match (packet.kind, kind) {
            (PacketType::IN_BAND, Some(message_type::PROTOCOL_REQUEST)) => self.negotiate(packet, replies)?,
            // The lights are the guest's own business.
            (PacketType::IN_BAND, Some(message_type::LED_INDICATORS)) => {}
            (PacketType::COMPLETION, _) => {}
            (kind, message) => guest_warn!("keyboard: {kind:?} with message {message:?} is left alone"),
        }
        self.queue.complete(replies, packet)
    }

    fn negotiate(&mut self, packet: &Packet<'_>, replies: &mut Replies<'_>) -> Result<(), ChannelError> {
        let Ok((request, _)) = ProtocolRequest::read_from_prefix(packet.payload) else {
            guest_warn!("keyboard: a request of {} bytes", packet.payload.len());
            return Ok(());
        };
        let version = request.version.get();
        let accepted = version == VERSION;
        let response = ProtocolResponse {
            message_type: message_type::PROTOCOL_RESPONSE.into(),
            accepted: u32::from(accepted).into(),
        };
        // Whether or not it waits: keys come behind it. A driver that starts over finds no key of its predecessor.
        let _ = self.queue.send(replies, &PacketOut::in_band(0, &[response.as_bytes()]))?;
        *self.keys.queue() = accepted.then(KeyQueue::default);
        if accepted {
            replies.agreed(version);
            guest_info!("keyboard: version {}.{}", version >> 16, version & 0xffff);
        } else {
            guest_warn!("keyboard: the guest asks for version {}.{}", version >> 16, version & 0xffff);
        }
        Ok(())
    }

    /// Sends what was typed, behind the answers that wait; stops when the ring is full.
    fn send_keys(&mut self, replies: &mut Replies<'_>) -> Result<(), ChannelError> {
        if self.queue.flush(replies)? == Sent::Later {
            return Ok(());
        }
        let mut keys = self.keys.queue();
        let Some(keys) = keys.as_mut() else { return Ok(()) };
        while let Some(stroke) = keys.front() {
            if replies.send(&PacketOut::in_band(0, &[event(stroke).as_bytes()]))? == Sent::Later {
                break;
            }
            keys.sent();
        }
        Ok(())
    }
}

fn event(Stroke { scancode, pressed }: Stroke) -> KeyEvent {
    let mut info = if pressed { KeyInfo::empty() } else { KeyInfo::BREAK };
    info |= match scancode.prefix {
        Prefix::None => KeyInfo::empty(),
        Prefix::E0 => KeyInfo::E0,
        Prefix::E1 => KeyInfo::E1,
    };
    KeyEvent {
        message_type: message_type::EVENT.into(),
        make_code: scancode.code.into(),
        reserved: 0.into(),
        info: info.bits().into(),
    }
}
