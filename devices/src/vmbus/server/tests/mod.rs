//! Tables of messages in and actions out. [`Host`] is the server with a bus that carries out what is asked only
//! when a test says so; the other files are the tables.

#![expect(clippy::panic, reason = "how a test fails")]

mod floods;
mod gpadls;
mod hostile;
mod lifecycle;
mod offers;
mod opens;
mod random;
mod reserved;
mod table;
mod versions;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::*;
use crate::guid::Guid;
use crate::vmbus::channel::OfferFlags;
use crate::vmbus::gpadl::GpadlId;
use crate::vmbus::protocol::*;

const VPS: u32 = 4;
const OK: u32 = 0;
const INVALID: u32 = Status::INVALID_PARAMETER.0;
const UNSUCCESSFUL: u32 = Status::UNSUCCESSFUL.0;

/// The interface of every test device.
const INTERFACE: Guid = Guid::parse("0e0b6031-5213-4934-818b-38d90ced39db");

fn offer(instance: u8, sub_channel: u16) -> Offer {
    Offer {
        name: format!("test{instance}.{sub_channel}"),
        interface: INTERFACE,
        instance: Guid::from_bytes([instance; 16]),
        sub_channel,
        flags: OfferFlags::NAMED_PIPE_MODE,
        mmio_megabytes: 8,
        user_data: [instance; 120],
    }
}

/// A guest's message.
fn message(message_type: u32, body: &(impl IntoBytes + Immutable + ?Sized)) -> Vec<u8> {
    let header = Header { message_type: message_type.into(), padding: 0.into() };
    [header.as_bytes(), body.as_bytes()].concat()
}

fn contact(version: Version) -> InitiateContact {
    InitiateContact {
        version: version.0.into(),
        target_vp: 1.into(),
        sint: if version >= Version::V5_0 { 2 } else { 0 },
        vtl: 0,
        reserved: 0.into(),
        features: 0.into(),
        parent_to_child_monitor_page: 0.into(),
        child_to_parent_monitor_page: 0.into(),
    }
}

fn open(channel: u32, open_id: u32, gpadl: u32) -> OpenChannel {
    OpenChannel {
        channel: channel.into(),
        open_id: open_id.into(),
        ring_gpadl: gpadl.into(),
        target_vp: 3.into(),
        downstream_page_offset: 3.into(),
        user_data: [9; 120],
    }
}

/// A header message of one range of whole pages, as far as it fits.
fn gpadl_header(channel: u32, gpadl: u32, pages: u32) -> Vec<u8> {
    let header = GpadlHeader {
        channel: channel.into(),
        gpadl: gpadl.into(),
        range_buflen: u16::try_from((8 + 8 * pages) & 0xffff).unwrap().into(),
        range_count: 1.into(),
    };
    let mut bytes = message(message_type::GPADL_HEADER, &header);
    bytes.extend((pages * 4096).to_le_bytes());
    bytes.extend(0u32.to_le_bytes());
    bytes.extend((0..u64::from(pages.min(26))).flat_map(u64::to_le_bytes));
    bytes
}

/// A body message of up to 28 page numbers.
fn gpadl_body(gpadl: u32, pages: u32) -> Vec<u8> {
    let mut bytes =
        message(message_type::GPADL_BODY, &GpadlBody { message_number: 0.into(), gpadl: gpadl.into() });
    bytes.extend((0..u64::from(pages.min(28))).flat_map(u64::to_le_bytes));
    bytes
}

fn teardown(channel: u32, gpadl: u32) -> Vec<u8> {
    let body = GpadlTeardown { channel: channel.into(), gpadl: gpadl.into() };
    message(message_type::GPADL_TEARDOWN, &body)
}

fn named(message_type: u32, channel: u32) -> Vec<u8> {
    message(message_type, &ChannelName { channel: channel.into() })
}

fn modify(channel: u32, target_vp: u32) -> Vec<u8> {
    let body = ModifyChannel { channel: channel.into(), target_vp: target_vp.into() };
    message(message_type::MODIFY_CHANNEL, &body)
}

fn bare(message_type: u32) -> Vec<u8> {
    message(message_type, &[0u8; 0])
}

/// What came out of the server, in words that are easy to compare.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Out {
    /// Message number and the 32-bit words of its body.
    Sent(u32, Vec<u32>),
    Open(OfferId),
    Close(OfferId),
    Retarget(OfferId, Option<u32>),
    Map(OfferId, u32),
    Unmap(OfferId, u32),
    DropMessages,
    Gone(OfferId),
}

fn opened(channel: u32, open_id: u32, status: u32) -> Out {
    Out::Sent(message_type::OPEN_CHANNEL_RESULT, vec![channel, open_id, status])
}

fn created(channel: u32, gpadl: u32, status: u32) -> Out {
    Out::Sent(message_type::GPADL_CREATED, vec![channel, gpadl, status])
}

fn torn_down(gpadl: u32) -> Out {
    Out::Sent(message_type::GPADL_TORNDOWN, vec![gpadl])
}

fn modified(channel: u32, status: u32) -> Out {
    Out::Sent(message_type::MODIFY_CHANNEL_RESPONSE, vec![channel, status])
}

fn rescinded(channel: u32) -> Out {
    Out::Sent(message_type::RESCIND_CHANNEL_OFFER, vec![channel])
}

fn unloaded() -> Out {
    Out::Sent(message_type::UNLOAD_COMPLETE, vec![])
}

/// The server and what stands for the bus.
struct Host {
    server: Server,
    /// The messages behind `Out::Sent`, of the latest look.
    messages: Vec<HostMessage>,
    /// The request behind the latest `Out::Open`.
    request: Option<Box<OpenRequest>>,
}

impl Host {
    fn new() -> Self {
        Host { server: Server::new(VPS), messages: Vec::new(), request: None }
    }

    /// Connected, with channels 1 to `channels` offered; channel 1 is `OfferId(0)` and so on.
    fn connected(version: Version, channels: u8) -> Self {
        let mut host = Host::new();
        for instance in 1..=channels {
            host.server.offer(offer(instance, 0)).unwrap();
        }
        host.connect(&contact(version));
        host
    }

    fn connect(&mut self, contact: &InitiateContact) {
        self.post(&message(message_type::INITIATE_CONTACT, contact));
        let outs = self.post(&bare(message_type::REQUEST_OFFERS));
        assert_eq!(outs.last(), Some(&Out::Sent(message_type::ALL_OFFERS_DELIVERED, vec![])));
    }

    /// Connected, with channel 1 open on GPADL 6, and GPADL 7 lent to it.
    fn open(version: Version) -> Self {
        let mut host = Host::connected(version, 2);
        host.lend(1, 6, 8);
        host.lend(1, 7, 8);
        assert_eq!(host.post(&message(message_type::OPEN_CHANNEL, &open(1, 11, 6))), [Out::Open(OfferId(0))]);
        assert_eq!(host.opened(Ok(())), [opened(1, 11, OK)]);
        host
    }

    fn lend(&mut self, channel: u32, gpadl: u32, pages: u32) {
        let outs = self.post(&gpadl_header(channel, gpadl, pages));
        assert_eq!(outs.last(), Some(&created(channel, gpadl, OK)));
    }

    fn post(&mut self, message: &[u8]) -> Vec<Out> {
        self.server.handle(MULTI_CLIENT_PORT, message);
        self.outs()
    }

    /// The device of channel 1 is ready, or is not.
    fn opened(&mut self, outcome: Result<(), Status>) -> Vec<Out> {
        self.server.opened(OfferId(0), outcome);
        self.outs()
    }

    /// The device of channel 1 has stopped.
    fn closed(&mut self) -> Vec<Out> {
        self.server.closed(OfferId(0));
        self.outs()
    }

    /// The device of channel 1 has let go of a GPADL.
    fn unmapped(&mut self, gpadl: u32) -> Vec<Out> {
        self.server.unmapped(OfferId(0), GpadlId(gpadl));
        self.outs()
    }

    fn rescind(&mut self, offer: u64) -> Vec<Out> {
        self.server.rescind(OfferId(offer));
        self.outs()
    }

    fn state(&self, offer: u64) -> Option<ChannelState> {
        self.server.channel(OfferId(offer)).map(|info| info.state)
    }

    fn refused(&self, refusal: Refusal) -> u64 {
        self.server.counters().refused(refusal)
    }

    /// Everything that the server wants done.
    fn outs(&mut self) -> Vec<Out> {
        self.messages.clear();
        std::iter::from_fn(|| self.server.next_action())
            .collect::<Vec<_>>()
            .into_iter()
            .map(|a| self.out(a))
            .collect()
    }

    fn out(&mut self, action: Action) -> Out {
        match action {
            Action::Send(message) => {
                let (header, body) = Header::read_from_prefix(message.payload()).unwrap();
                let words = body.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap()));
                let out = Out::Sent(header.message_type.get(), words.collect());
                self.messages.push(message);
                out
            }
            Action::Open(offer, request) => {
                self.request = Some(request);
                Out::Open(offer)
            }
            Action::Close(offer) => Out::Close(offer),
            Action::Retarget(offer, vp) => Out::Retarget(offer, vp),
            Action::Map(offer, gpadl, _) => Out::Map(offer, gpadl.0),
            Action::Unmap(offer, gpadl) => Out::Unmap(offer, gpadl.0),
            Action::DropMessages => Out::DropMessages,
            Action::Gone(offer) => Out::Gone(offer),
        }
    }

    /// The body of the latest look's only message.
    fn only<T: FromBytes + KnownLayout + Immutable>(&self) -> T {
        let [message] = &*self.messages else { panic!("{:?}", self.messages) };
        T::read_from_bytes(&message.payload()[8..]).unwrap()
    }
}

/// Carries out and answers everything until nothing is left to do.
fn run_bus(server: &mut Server) -> Vec<HostMessage> {
    let mut messages = Vec::new();
    while let Some(action) = server.next_action() {
        match action {
            Action::Send(message) => messages.push(message),
            Action::Open(offer, _) => server.opened(offer, Ok(())),
            Action::Close(offer) => server.closed(offer),
            Action::Unmap(offer, gpadl) => server.unmapped(offer, gpadl),
            Action::Retarget(..) | Action::Map(..) | Action::DropMessages | Action::Gone(_) => {}
        }
    }
    messages
}
