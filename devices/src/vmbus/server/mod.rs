//! The control plane: which channels there are, what the guest lends, what is open.
//!
//! [`Server`] is a state machine and nothing else: no descriptor, lock, thread, clock or guest memory. The bus
//! feeds it the guest's messages ([`Server::handle`]) and the host's events, and carries out what it asks for
//! ([`Server::next_action`]), in order, until there is nothing left. Tables of messages in and actions out test
//! it; arbitrary bytes fuzz it.
//!
//! Rules that hold everywhere in here:
//! - A guest that waits is answered, with a failure if need be; a message that deserves no answer is counted
//!   ([`Refusal`]) and has no other effect.
//! - No number from the guest indexes or sizes anything before it is checked; what a guest can make the server
//!   hold has a budget in [`limits`].
//! - A GPADL is reported torn down, an id is used again and a connection is reported unloaded only after the bus
//!   said that the device has let go (`closed`, `unmapped`).
//!
//! | file | what it holds |
//! |---|---|
//! | `connection` | contact, version, features, offers requested, pause, unload, reset |
//! | `offers` | offer, rescind, release of ids |
//! | `gpadls` | header, body, teardown |
//! | `channels` | open, close, modify |
//! | `reserved` | channels that outlive a connection |
//! | `sockets` | Hyper-V sockets: refused until there are any |
//! | `state` | one channel's state, drawn |
//! | `action`, `outbox` | what the bus is to do |
//! | [`limits`] | budgets and counters |

mod action;
mod channels;
mod connection;
mod gpadls;
pub mod limits;
mod offers;
mod outbox;
mod reserved;
mod sockets;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use zerocopy::FromBytes;

pub use self::action::{Action, ChannelId, HostMessage, OfferId, OpenRequest};
pub use self::connection::ConnectionInfo;
pub use self::limits::{Counters, Refusal};
pub use self::offers::OfferError;
pub use self::state::{ChannelInfo, ChannelState, RingPages};
pub use crate::vmbus::protocol::Version;

use self::connection::Connection;
use self::gpadls::Gpadls;
use self::outbox::{Destination, Outbox};
use self::state::Channel;
use crate::guest_debug;
use crate::hvdef::SINT_COUNT;
use crate::vmbus::channel::Offer;
use crate::vmbus::contacts::Contact;
use crate::vmbus::protocol::{Header, HostBody, InitiateContact, message_type};

/// Connection id of the message port of every version.
pub const MESSAGE_PORT: u32 = 1;
/// Connection id of the message port that versions from 5.0 on use.
pub const MULTI_CLIENT_PORT: u32 = 4;

/// The control plane of one machine.
#[derive(Debug)]
pub struct Server {
    vp_count: u32,
    connection: Connection,
    channels: BTreeMap<OfferId, Channel>,
    ids: BTreeMap<ChannelId, OfferId>,
    next_offer: u64,
    gpadls: Gpadls,
    outbox: Outbox,
    counters: Counters,
    /// The contact that was handled last, until somebody [takes](Server::take_contact) it.
    contact: Option<Contact>,
}

/// What came of a guest's message that was handled to its end.
type Handled = Result<(), Refusal>;

impl Server {
    /// A control plane without channels, for a machine of this many virtual processors.
    #[must_use]
    pub fn new(vp_count: u32) -> Self {
        Server {
            vp_count,
            connection: Connection::default(),
            channels: BTreeMap::new(),
            ids: BTreeMap::new(),
            next_offer: 0,
            gpadls: Gpadls::default(),
            outbox: Outbox::default(),
            counters: Counters::default(),
            contact: None,
        }
    }

    /// Takes a message that the guest posted to [`MESSAGE_PORT`] or [`MULTI_CLIENT_PORT`]; on either, any message
    /// is welcome. To be called while [`Server::ready`], or with a message that [starts
    /// over](Server::starts_over).
    pub fn handle(&mut self, connection_id: u32, message: &[u8]) {
        self.counters.messages_in += 1;
        let outcome = match Header::read_from_prefix(message) {
            Ok((header, body)) => match header.message_type.get() {
                message_type::INITIATE_CONTACT => self.on_initiate_contact(connection_id, body),
                message_type => self.dispatch(message_type, body),
            },
            Err(_) => Err(Refusal::Short),
        };
        if let Err(refusal) = outcome {
            self.counters.refuse(refusal);
            let message_type = message.first().copied().unwrap_or_default();
            guest_debug!(
                "A control message was refused: {refusal} (type {message_type}, {} bytes, port {connection_id})",
                message.len()
            );
        }
    }

    /// What the bus is to do next; actions are to be carried out in this order. Messages come last, so that
    /// nothing else waits for a guest that does not fetch them.
    pub fn next_action(&mut self) -> Option<Action> {
        let action = self.outbox.next();
        if matches!(action, Some(Action::Send(_))) {
            self.counters.messages_out += 1;
        }
        action
    }

    /// Takes back a message for which there was no room: it will be the next message again.
    pub fn retry(&mut self, message: HostMessage) {
        self.counters.messages_out = self.counters.messages_out.saturating_sub(1);
        self.outbox.put_back(message);
    }

    /// Whether the bus should feed it the guest's next message. False while actions wait to be carried out, so that
    /// a guest that does not fetch its messages cannot ask for more, and while an old connection is taken down.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.outbox.len() == 0 && !self.connection.is_resetting()
    }

    /// Whether a message makes all messages before it void, in both directions. The bus hands it over even while
    /// the server is not [ready](Server::ready), and drops the guest's messages before it: a new kernel may be
    /// talking that never fetches what the old one left unread.
    #[must_use]
    pub fn starts_over(message: &[u8]) -> bool {
        let Ok((header, body)) = Header::read_from_prefix(message) else { return false };
        header.message_type.get() == message_type::INITIATE_CONTACT
            && body.len() >= size_of::<InitiateContact>()
    }

    /// What the message that was [handled](Server::handle) last asked for, if it was a contact; who the guest is, the
    /// control plane does not know.
    pub fn take_contact(&mut self) -> Option<Contact> {
        self.contact.take()
    }

    /// What passed through so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// One channel, for tables; `None` once it is gone.
    #[must_use]
    pub fn channel(&self, offer: OfferId) -> Option<ChannelInfo> {
        self.channels.get(&offer).map(|channel| channel.info(offer))
    }

    /// Every channel, in the order in which they were offered by their devices.
    pub fn channels(&self) -> impl Iterator<Item = (ChannelInfo, &Offer)> + '_ {
        self.channels.iter().map(|(&offer, channel)| (channel.info(offer), &channel.offer))
    }

    /// Any message but INITIATE_CONTACT, which is welcome at any time.
    fn dispatch(&mut self, message_type: u32, body: &[u8]) -> Handled {
        if self.outbox.len() >= limits::MAX_UNDELIVERED {
            return Err(Refusal::Overrun);
        }
        let ends_a_pause = matches!(message_type, message_type::UNLOAD | message_type::RESUME);
        if self.outbox.is_paused() && !ends_a_pause {
            return Err(Refusal::Paused);
        }
        match message_type {
            message_type::UNLOAD => self.on_unload(),
            message_type::OPEN_RESERVED_CHANNEL => self.on_open_reserved_channel(body),
            message_type::CLOSE_RESERVED_CHANNEL => self.on_close_reserved_channel(body),
            message_type::OFFER_CHANNEL
            | message_type::RESCIND_CHANNEL_OFFER
            | message_type::ALL_OFFERS_DELIVERED
            | message_type::OPEN_CHANNEL_RESULT
            | message_type::GPADL_CREATED
            | message_type::GPADL_TORNDOWN
            | message_type::VERSION_RESPONSE
            | message_type::UNLOAD_COMPLETE
            | message_type::CLOSE_RESERVED_RESPONSE
            | message_type::TL_CONNECT_RESULT
            | message_type::MODIFY_CHANNEL_RESPONSE
            | message_type::MODIFY_CONNECTION_RESPONSE
            | message_type::PAUSE_RESPONSE => Err(Refusal::HostOnly),
            _ => self.dispatch_connected(message_type, body),
        }
    }

    fn dispatch_connected(&mut self, message_type: u32, body: &[u8]) -> Handled {
        let handler = match message_type {
            message_type::REQUEST_OFFERS => Server::on_request_offers,
            message_type::OPEN_CHANNEL => Server::on_open_channel,
            message_type::CLOSE_CHANNEL => Server::on_close_channel,
            message_type::GPADL_HEADER => Server::on_gpadl_header,
            message_type::GPADL_BODY => Server::on_gpadl_body,
            message_type::GPADL_TEARDOWN => Server::on_gpadl_teardown,
            message_type::RELID_RELEASED => Server::on_relid_released,
            message_type::TL_CONNECT_REQUEST => Server::on_tl_connect_request,
            message_type::MODIFY_CHANNEL => Server::on_modify_channel,
            message_type::MODIFY_CONNECTION => Server::on_modify_connection,
            message_type::PAUSE => Server::on_pause,
            message_type::RESUME => Server::on_resume,
            _ => return Err(Refusal::Unknown),
        };
        let session = self.session_for(message_type)?;
        handler(self, session, body)
    }

    /// Posts a message where the connection listens.
    fn send<B: HostBody>(&mut self, to: Destination, body: &B) {
        self.outbox.send(to, body);
    }

    /// A virtual processor and a SINT of the guest's, if there are such.
    fn destination(&self, vp: u32, sint: u32) -> Option<Destination> {
        let sint = u8::try_from(sint).ok().filter(|&sint| sint < SINT_COUNT)?;
        self.has_vp(vp).then_some(Destination { vp, sint })
    }

    fn has_vp(&self, vp: u32) -> bool {
        vp < self.vp_count
    }
}

/// Reads a body from a message that may be longer.
fn read<T: FromBytes>(body: &[u8]) -> Result<(T, &[u8]), Refusal> {
    T::read_from_prefix(body).map_err(|_| Refusal::Short)
}
