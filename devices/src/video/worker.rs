//! An open channel: requests in, answers out.
//!
//! A message that is wrong is left alone, with a line in the log: a display that goes on is worth more than one that
//! ends with a protocol error. Every request that a guest waits for is answered.

use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use zerocopy::{FromBytes, IntoBytes};

use super::memory::check_location;
use super::picture::Picture;
use super::pointer::Parts;
use super::protocol::{
    ACCEPTED, Ack, BiosInfo, Capability, Dirt, DirtRect, FeatureChange, PointerPosition, PointerShape,
    Resolution, ResolutionRequest, Resolutions, SituationUpdate, Version, VersionResponse, VramLocation,
    message_type,
};
use super::resolutions::{edid, offered};
use super::screen::Shared;
use crate::display::{Mode, Rect};
use crate::vmbus::channel::{Channel, ChannelError, ChannelWorker, Flow, Replies, Sent};
use crate::vmbus::pipe;
use crate::vmbus::ring::protocol::PacketType;
use crate::vmbus::ring::{Packet, PacketOut};
use crate::vmbus::send_queue::SendQueue;
use crate::{guest_info, guest_warn};

/// Resolutions that a guest has room for, at most.
pub(super) const RESOLUTIONS_MAX: usize = 64;

/// Serves one opening.
#[derive(Debug)]
pub struct VideoWorker {
    shared: Arc<Shared>,
    windows: Arc<[Range<u64>]>,
    queue: SendQueue,
    /// What was agreed on.
    version: Option<Version>,
    parts: Parts,
    /// The guest has said how its picture lies: it is done with its start.
    ready: bool,
    /// The guest has said that its output is active.
    was_on: bool,
    /// What the guest knows that the host wants to be told.
    told: Option<FeatureChange>,
    /// What the guest knows that the host prefers.
    preferred: Option<Mode>,
}

impl VideoWorker {
    pub(super) fn new(shared: Arc<Shared>, windows: Arc<[Range<u64>]>) -> Self {
        VideoWorker {
            shared,
            windows,
            queue: SendQueue::default(),
            version: None,
            parts: Parts::default(),
            ready: false,
            was_on: false,
            told: None,
            preferred: None,
        }
    }
}

impl ChannelWorker for VideoWorker {
    fn sources(&self) -> Vec<RawFd> {
        vec![self.shared.wake.as_raw_fd()]
    }

    fn doorbell(&mut self, channel: &mut Channel) -> Result<(), ChannelError> {
        if channel.send_batch(|replies| self.queue.flush(replies))? == Sent::Later {
            return Ok(());
        }
        channel.receive(|packet, replies| self.take(packet, replies))?;
        channel.send_batch(|replies| self.send_wishes(replies))
    }

    /// Somebody looks, or the host prefers another resolution.
    fn readable(&mut self, _: usize, channel: &mut Channel) -> Result<(), ChannelError> {
        let _ = self.shared.wake.read();
        channel.send_batch(|replies| self.send_wishes(replies))
    }

    fn stop(&mut self) {
        self.shared.silent();
    }
}

/// A message that is not what its type says.
struct Malformed;

/// Reads a body; what lies behind it is padding.
fn read<T: FromBytes>(body: &[u8]) -> Result<T, Malformed> {
    T::read_from_prefix(body).map(|(body, _)| body).map_err(|_| Malformed)
}

/// A message for the guest.
struct Answer {
    message_type: u32,
    body: Vec<u8>,
}

impl Answer {
    fn new(message_type: u32, body: &(impl IntoBytes + zerocopy::Immutable)) -> Self {
        Answer { message_type, body: body.as_bytes().to_vec() }
    }

    fn send(&self, queue: &mut SendQueue, replies: &mut Replies<'_>) -> Result<Sent, ChannelError> {
        let head = pipe::head(self.message_type, self.body.len(), self.body.len());
        queue.send(replies, &PacketOut::in_band(0, &[head.as_bytes(), &self.body]))
    }
}

impl VideoWorker {
    fn take(&mut self, packet: &Packet<'_>, replies: &mut Replies<'_>) -> Result<Flow, ChannelError> {
        match pipe::message(packet) {
            Some((kind, body)) => match self.serve(kind, body) {
                Ok(Some(answer)) => {
                    // Whether or not it waits.
                    let _ = answer.send(&mut self.queue, replies)?;
                    if let Some(version) = self.version {
                        replies.agreed(version.numbers());
                    }
                }
                Ok(None) => {}
                Err(Malformed) => guest_warn!("video: message {kind} of {} bytes is left alone", body.len()),
            },
            None if packet.kind == PacketType::COMPLETION => {}
            None => guest_warn!("video: {:?} is no message", packet.kind),
        }
        self.queue.complete(replies, packet)
    }

    fn serve(&mut self, kind: u32, body: &[u8]) -> Result<Option<Answer>, Malformed> {
        if kind == message_type::VERSION_REQUEST {
            return Ok(Some(self.negotiate(read(body)?)));
        }
        if self.version.is_none() {
            return Err(Malformed);
        }
        Ok(match kind {
            message_type::VRAM_LOCATION => Some(self.place(&read(body)?)),
            message_type::SITUATION_UPDATE => Some(self.situate(&read(body)?)),
            message_type::POINTER_POSITION => {
                self.shared.set_visible(read::<PointerPosition>(body)?.visible != 0);
                None
            }
            message_type::POINTER_SHAPE => self.shape(body)?,
            message_type::DIRT => self.drawn(body)?,
            message_type::BIOS_INFO_REQUEST => {
                let info = BiosInfo { stop_device_supported: 1.into(), reserved: [0; 12] };
                Some(Answer::new(message_type::BIOS_INFO_RESPONSE, &info))
            }
            message_type::RESOLUTION_REQUEST => Some(self.list(&read(body)?)),
            message_type::CAPABILITY_REQUEST => {
                let capability = Capability { lock_on_disconnect: 0.into(), reserved: [0.into(); 15] };
                Some(Answer::new(message_type::CAPABILITY_RESPONSE, &capability))
            }
            _ => return Err(Malformed),
        })
    }

    /// May come at any time: a driver starts over.
    fn negotiate(&mut self, asked: Version) -> Answer {
        let accepted = asked.major == Version::V3_5.major && asked.level() <= Version::V3_5.level();
        let version = accepted.then_some(asked);
        match version {
            Some(version) => guest_info!("video: version {version}"),
            None => guest_warn!("video: the guest asks for version {asked}"),
        }
        self.version = version;
        (self.ready, self.was_on, self.told) = (false, false, None);
        (self.preferred, self.parts) = (None, Parts::default());
        self.shared.silent();
        let response = VersionResponse {
            version: version.unwrap_or(Version::V3_5),
            accepted: if accepted { ACCEPTED } else { 0 },
            outputs: 1,
        };
        Answer::new(message_type::VERSION_RESPONSE, &response)
    }

    /// The acknowledgement has no word for a refusal, but guests look whether its context is theirs.
    fn place(&self, location: &VramLocation) -> Answer {
        let size = self.shared.pages.size() as u64;
        let wanted = (location.specified != 0).then_some(location.address.get());
        let placed = wanted
            .map_or(Ok(()), |address| check_location(address, size, &self.windows))
            .map_err(io::Error::other)
            .and_then(|()| self.shared.place(wanted));
        let context = match placed {
            Ok(()) => location.context.get(),
            Err(error) => {
                guest_warn!("video: the guest's place for video memory is refused: {error}");
                !location.context.get()
            }
        };
        Answer::new(message_type::VRAM_LOCATION_ACK, &Ack { context: context.into() })
    }

    fn situate(&mut self, update: &SituationUpdate) -> Answer {
        // Firmware never says that its output is active, and nothing more when it draws: off is only what was on.
        let on = update.active != 0;
        self.was_on |= on;
        let shown = update.outputs != 0 && (on || !self.was_on);
        let picture = if shown { Picture::new(update, self.shared.pages.size()) } else { None };
        if shown && picture.is_none() {
            let SituationUpdate { width, height, depth, pitch, offset, .. } = update;
            guest_warn!(
                "video: {width}x{height} pixels of {depth} bits, {pitch} bytes a row from {offset} on, is no picture"
            );
        }
        self.shared.show(picture);
        self.ready = true;
        Answer::new(message_type::SITUATION_UPDATE_ACK, &Ack { context: update.context })
    }

    fn shape(&mut self, body: &[u8]) -> Result<Option<Answer>, Malformed> {
        let (shape, pixels) = PointerShape::read_from_prefix(body).map_err(|_| Malformed)?;
        match self.parts.add(&shape, pixels) {
            Ok(Some(cursor)) => self.shared.set_cursor(cursor),
            Ok(None) => {}
            Err(error) => guest_warn!("video: the pointer's shape is left out: {error}"),
        }
        Ok(None)
    }

    fn drawn(&self, body: &[u8]) -> Result<Option<Answer>, Malformed> {
        let (dirt, rects) = Dirt::read_from_prefix(body).map_err(|_| Malformed)?;
        let rects = <[DirtRect]>::ref_from_prefix_with_elems(rects, dirt.count.into());
        let (rects, _) = rects.map_err(|_| Malformed)?;
        if dirt.output == 0 {
            let rects: Vec<Rect> = rects.iter().map(visible).collect();
            self.shared.drawn(&rects);
        }
        Ok(None)
    }

    /// As many as the guest has room for, the preferred one first.
    fn list(&mut self, request: &ResolutionRequest) -> Answer {
        let preferred = self.shared.state().preferred;
        self.preferred = Some(preferred);
        let mut modes = offered(preferred, self.shared.pages.size());
        modes.truncate(RESOLUTIONS_MAX.min(request.max.into()));
        let head = Resolutions {
            edid: edid(preferred),
            count: u8::try_from(modes.len()).unwrap_or(u8::MAX),
            preferred: 0,
            standard: 0,
        };
        let mut answer = Answer::new(message_type::RESOLUTION_RESPONSE, &head);
        for Mode { width, height } in modes {
            let mode = Resolution { width: width.into(), height: height.into() };
            answer.body.extend_from_slice(mode.as_bytes());
        }
        answer
    }

    /// Tells the guest what the host wants to be told, and which resolution it prefers, when that has changed.
    ///
    /// That nobody looks any more is seen when the guest draws next; so a guest whose screen stands still sleeps.
    fn send_wishes(&mut self, replies: &mut Replies<'_>) -> Result<(), ChannelError> {
        if !self.ready || self.queue.flush(replies)? == Sent::Later {
            return Ok(());
        }
        let looks = u8::from(self.shared.viewers.any());
        let wanted =
            FeatureChange { dirt: looks, pointer_position: looks, pointer_shape: looks, situation: 1 };
        let preferred = self.shared.state().preferred;
        // Those who never asked for resolutions have their own.
        let news = self.version.is_some_and(|version| version.level() >= Version::V3_4.level())
            && self.preferred.is_some_and(|known| known != preferred);
        if self.told == Some(wanted) && !news {
            return Ok(());
        }
        let mut answer = Answer::new(message_type::FEATURE_CHANGE, &wanted);
        if news {
            // The longer form of the message, which has the monitor's new description.
            answer.body.extend_from_slice(&edid(preferred));
            self.preferred = Some(preferred);
        }
        self.told = Some(wanted);
        if wanted.dirt == 0 {
            self.shared.silent();
        }
        let _ = answer.send(&mut self.queue, replies)?;
        Ok(())
    }
}

/// The part of a rectangle that a picture can have.
fn visible(rect: &DirtRect) -> Rect {
    let side = |at: zerocopy::little_endian::I32| {
        u16::try_from(at.get().clamp(0, u16::MAX.into())).unwrap_or(u16::MAX)
    };
    Rect::between((side(rect.left), side(rect.top)), (side(rect.right), side(rect.bottom)))
}
