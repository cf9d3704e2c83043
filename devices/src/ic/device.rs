//! The framework of the integration services: offer, negotiation, one request at a time.
//!
//! Linux reads one packet for each doorbell, so a second request before the first is answered would wait for
//! ever. A guest may leave a request unread as long as it likes (its daemon may not run yet); that is no error.

use std::fmt::Debug;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use vmm_sys_util::timerfd::TimerFd;
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::protocol::{
    FLAG_REQUEST, FLAG_RESPONSE, FLAG_TRANSACTION, IcHeader, IcVersion, Negotiate, message_type,
};
use crate::guid::Guid;
use crate::vmbus::channel::{
    Channel, ChannelError, ChannelWorker, Flow, Offer, OfferFlags, Opening, Replies, RingNeeds, Sent,
    VmbusDevice,
};
use crate::vmbus::ring::protocol::{PipeHeader, PipeMessageType};
use crate::vmbus::ring::{Packet, PacketOut, pipe_message};
use crate::{guest_info, guest_warn};

/// Frameworks that we speak. Their messages are the same; guests want to see both.
const FRAMEWORKS: [IcVersion; 2] = [IcVersion::new(1, 0), IcVersion::new(3, 0)];
/// Bytes of a negotiation that Linux reserves for its answer, at least: two versions.
const NEGOTIATE_SIZE_MIN: usize = size_of::<Negotiate>() + 2 * size_of::<IcVersion>();

/// One service, without the framework. Lives in its device while the channel is closed, on the channel's thread
/// while it is open.
pub trait Service: Debug + Send + 'static {
    /// Short name, see [`Offer::name`].
    const NAME: &'static str;
    /// Chooses the guest's driver.
    const INTERFACE: Guid;
    /// Names the device.
    const INSTANCE: Guid;
    /// See [`message_type`].
    const MESSAGE_TYPE: u16;
    /// Message versions that the service speaks, oldest first.
    const VERSIONS: &'static [IcVersion];
    /// Bytes of the largest body that the service sends; the guest's answer is as large.
    const BODY_MAX: usize;

    /// The guest chose a version: [`Service::request`] will be asked from now on.
    fn ready(&mut self, version: IcVersion);

    /// The channel has closed.
    fn closed(&mut self);

    /// The body of the next request, if there is one to send now.
    fn request(&mut self) -> Option<Vec<u8>>;

    /// The guest's answer to the last request: its HRESULT and the body as it came back.
    fn answer(&mut self, status: u32, body: &[u8]);

    /// How often [`Service::tick`] is called.
    fn period(&self) -> Option<Duration> {
        None
    }

    /// The period has passed. `waiting`: the last request has no answer yet.
    fn tick(&mut self, waiting: bool) {
        let _ = waiting;
    }

    /// A descriptor that becomes readable when there is something to request.
    fn wake(&self) -> Option<RawFd> {
        None
    }

    /// Takes what made [`Service::wake`] readable.
    fn woken(&mut self) {}
}

/// A service as a device on the bus.
#[derive(Debug)]
pub struct IcDevice<S> {
    /// `None` while the channel is open, and for good if its worker panicked.
    service: Option<S>,
}

impl<S: Service> IcDevice<S> {
    /// Wraps a service.
    pub fn new(service: S) -> Self {
        IcDevice { service: Some(service) }
    }
}

impl<S: Service> VmbusDevice for IcDevice<S> {
    type Worker = IcWorker<S>;

    fn offer(&self) -> Offer {
        let pipe = Offer::message_pipe(S::NAME, S::INTERFACE, S::INSTANCE);
        Offer { flags: pipe.flags | OfferFlags::ENUMERATE_DEVICE_INTERFACE, ..pipe }
    }

    fn ring_needs(&self, _: &Opening) -> RingNeeds {
        let body = S::BODY_MAX.max(negotiation(S::VERSIONS).len());
        RingNeeds::of_payload(size_of::<PipeHeader>() + size_of::<IcHeader>() + body)
    }

    fn open(&mut self, _: &Opening) -> Result<IcWorker<S>, ChannelError> {
        let timer = TimerFd::new().map_err(std::io::Error::from)?;
        let lost = || ChannelError::Host(std::io::Error::other("the service was lost in a panic"));
        let service = self.service.take().ok_or_else(lost)?;
        Ok(IcWorker { service, state: State::Start, waiting: false, timer })
    }

    fn closed(&mut self, worker: Option<IcWorker<S>>) {
        self.service = worker.map(|worker| worker.service);
        if let Some(service) = &mut self.service {
            service.closed();
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The negotiation is not in the ring yet.
    Start,
    /// The negotiation has no answer yet.
    Negotiating,
    /// Versions are agreed on.
    Ready { framework: IcVersion, version: IcVersion },
    /// The guest speaks no version of ours: the channel stays silent.
    Refused,
}

/// A service while its channel is open.
#[derive(Debug)]
pub struct IcWorker<S> {
    service: S,
    state: State,
    /// A request is in the ring and has no answer.
    waiting: bool,
    timer: TimerFd,
}

/// Indices of [`ChannelWorker::sources`].
const TIMER: usize = 0;

impl<S: Service> ChannelWorker for IcWorker<S> {
    fn sources(&self) -> Vec<RawFd> {
        std::iter::once(self.timer.as_raw_fd()).chain(self.service.wake()).collect()
    }

    fn doorbell(&mut self, channel: &mut Channel) -> Result<(), ChannelError> {
        channel.receive(|packet, replies| {
            self.take(packet, replies)?;
            Ok(Flow::Continue)
        })?;
        self.send_next(channel)
    }

    fn readable(&mut self, source: usize, channel: &mut Channel) -> Result<(), ChannelError> {
        if source == TIMER {
            self.timer.wait().map_err(std::io::Error::from)?;
            self.service.tick(self.waiting);
        } else {
            self.service.woken();
        }
        self.send_next(channel)
    }
}

impl<S: Service> IcWorker<S> {
    fn send_next(&mut self, channel: &mut Channel) -> Result<(), ChannelError> {
        match self.state {
            State::Start => {
                let body = negotiation(S::VERSIONS);
                let zero = IcVersion::new(0, 0);
                if send(channel, zero, zero, message_type::NEGOTIATE, &body)? == Sent::Yes {
                    self.state = State::Negotiating;
                }
            }
            State::Ready { framework, version } if !self.waiting => {
                let Some(body) = self.service.request() else { return Ok(()) };
                // With one request at a time the ring is empty, so "later" is only for a guest that shrank it.
                self.waiting = send(channel, framework, version, S::MESSAGE_TYPE, &body)? == Sent::Yes;
            }
            _ => {}
        }
        Ok(())
    }

    fn take(&mut self, packet: &Packet<'_>, replies: &Replies<'_>) -> Result<(), ChannelError> {
        let (kind, data) = pipe_message(packet.payload)?;
        if kind != PipeMessageType::DATA {
            return Err(ChannelError::Protocol(format!("a pipe message of type {}", kind.0)));
        }
        let Ok((header, body)) = IcHeader::read_from_prefix(data) else {
            return Err(ChannelError::Protocol(format!("a message of {} bytes", data.len())));
        };
        if header.flags & FLAG_RESPONSE == 0 {
            return Err(ChannelError::Protocol("a request, which only the host sends".to_owned()));
        }
        match (header.message_type.get(), self.state) {
            (message_type::NEGOTIATE, State::Negotiating) => self.negotiated(body, replies),
            (kind, State::Ready { .. }) if kind == S::MESSAGE_TYPE && self.waiting => {
                self.waiting = false;
                self.service.answer(header.status.get(), body);
            }
            (kind, _) => guest_warn!("{}: an answer of type {kind} to no request", S::NAME),
        }
        Ok(())
    }

    fn negotiated(&mut self, body: &[u8], replies: &Replies<'_>) {
        let Some((framework, version)) = chosen(body) else {
            self.state = State::Refused;
            guest_warn!("{}: the guest speaks none of our versions", S::NAME);
            return;
        };
        if !FRAMEWORKS.contains(&framework) || !S::VERSIONS.contains(&version) {
            self.state = State::Refused;
            guest_warn!(
                "{}: the guest chose framework {framework}, version {version}, which we did not name",
                S::NAME
            );
            return;
        }
        guest_info!("{}: version {version}, framework {framework}", S::NAME);
        replies.agreed(version.numbers());
        self.state = State::Ready { framework, version };
        if let Some(period) = self.service.period()
            && let Err(error) = self.timer.reset(period, Some(period))
        {
            log::error!("{}: no timer: {error}", S::NAME);
        }
        self.service.ready(version);
    }
}

/// The body of a negotiation: all frameworks, then all message versions.
fn negotiation(versions: &[IcVersion]) -> Vec<u8> {
    let count = |list: &[IcVersion]| U16::new(u16::try_from(list.len()).unwrap_or(u16::MAX));
    let head = Negotiate {
        framework_count: count(&FRAMEWORKS),
        version_count: count(versions),
        reserved: U32::new(0),
    };
    let mut body = head.as_bytes().to_vec();
    body.extend_from_slice(FRAMEWORKS.as_bytes());
    body.extend_from_slice(versions.as_bytes());
    body.resize(body.len().max(NEGOTIATE_SIZE_MIN), 0);
    body
}

/// Framework and message version of the guest's answer; `None` if it chose nothing.
fn chosen(body: &[u8]) -> Option<(IcVersion, IcVersion)> {
    let (head, rest) = Negotiate::read_from_prefix(body).ok()?;
    let (framework, rest) = IcVersion::read_from_prefix(rest).ok()?;
    let (version, _) = IcVersion::read_from_prefix(rest).ok()?;
    (head.framework_count.get() == 1 && head.version_count.get() == 1).then_some((framework, version))
}

fn send(
    channel: &mut Channel,
    framework: IcVersion,
    version: IcVersion,
    message_type: u16,
    body: &[u8],
) -> Result<Sent, ChannelError> {
    let mut header = IcHeader::new_zeroed();
    header.framework = framework;
    header.version = version;
    header.message_type = message_type.into();
    // Bodies are built here and far below 64 KiB.
    header.size = u16::try_from(body.len()).unwrap_or(u16::MAX).into();
    header.flags = FLAG_TRANSACTION | FLAG_REQUEST;
    let length = u32::try_from(size_of::<IcHeader>() + body.len()).unwrap_or(u32::MAX);
    let pipe = PipeHeader::data(length);
    channel.send(&PacketOut::in_band(0, &[pipe.as_bytes(), header.as_bytes(), body]))
}
