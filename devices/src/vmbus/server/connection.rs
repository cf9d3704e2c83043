//! Contact and everything that concerns the connection as a whole.
//!
//! ```text
//!                 INITIATE_CONTACT            all closed and unmapped, version served
//!   Disconnected ────────────────▶ Resetting ───────────────────────────────────────▶ Connected
//!        ▲                          │  ▲  ▲                                               │
//!        │   all closed, unmapped   │  └──┘ INITIATE_CONTACT: the latest one counts       │
//!        └──────────────────────────┘  ▲                                                  │
//!            UNLOAD_COMPLETE, or       └──────────────────────────────────────────────────┘
//!            version refused                 INITIATE_CONTACT, UNLOAD, machine reset
//! ```
//!
//! Firmware connects first, then the operating system, then perhaps a crash kernel, each without a word about the
//! one before: contact in any state takes everything down first, waits until the devices have let go, and answers
//! then.

use log::Level;
use zerocopy::FromBytes;

use super::action::{Action, OfferId};
use super::outbox::Destination;
use super::state::{After, Channel, Presence, Run};
use super::{Handled, MULTI_CLIENT_PORT, Refusal, Server, Version, read};
use crate::guest_log;
use crate::guid::Guid;
use crate::hvdef::VMBUS_SINT;
use crate::vmbus::contacts::Contact;
use crate::vmbus::protocol::{
    Bare, CONNECTION_SUCCESSFUL, FeatureFlags, InitiateContact, InitiateContact2, ModifyConnection,
    ModifyConnectionResponse, VersionResponse, VersionResponse2, message_type,
};

/// Versions that are served. 0.13 and 1.1, with their shared interrupt page, are not.
pub(super) const VERSIONS: &[Version] = &[
    Version::V2_4,
    Version::V3_0,
    Version::V4_0,
    Version::V4_1,
    Version::V5_0,
    Version::V5_1,
    Version::V5_2,
    Version::V5_3,
    Version::V6_0,
];

#[derive(Debug, Default)]
pub(super) enum Connection {
    #[default]
    Disconnected,
    /// Devices are letting go.
    Resetting(Next),
    Connected(Session),
}

/// What follows a reset.
#[derive(Clone, Copy, Debug)]
pub(super) enum Next {
    /// The machine itself was reset: nobody waits.
    Silence,
    UnloadComplete(Destination),
    /// The contact is refused.
    Refuse(Destination),
    Connect(Session),
}

/// What was agreed with the guest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Session {
    pub version: Version,
    pub features: FeatureFlags,
    pub client_id: Option<Guid>,
    pub destination: Destination,
    pub offers_requested: bool,
}

/// What tables show of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// The version that was agreed upon.
    pub version: Version,
    /// The feature flags that were agreed upon, none before 6.0.
    pub features: FeatureFlags,
    /// Who the guest's client says it is.
    pub client_id: Option<Guid>,
    /// Virtual processor that gets the host's messages.
    pub message_vp: u32,
}

impl Connection {
    pub fn is_resetting(&self) -> bool {
        matches!(self, Connection::Resetting(_))
    }

    pub fn session(&self) -> Option<Session> {
        match self {
            Connection::Connected(session) => Some(*session),
            _ => None,
        }
    }
}

impl Server {
    /// The connection, for tables; `None` while there is none.
    #[must_use]
    pub fn connection(&self) -> Option<ConnectionInfo> {
        self.connection.session().map(|session| ConnectionInfo {
            version: session.version,
            features: session.features,
            client_id: session.client_id,
            message_vp: session.destination.vp,
        })
    }

    /// The machine is reset: takes everything down without a word to the guest. Done when
    /// [idle](Server::is_idle).
    pub fn reset(&mut self) {
        self.outbox.void_messages();
        self.take_down(Next::Silence, false);
    }

    /// Whether there is no connection, and nothing left of the last one but reserved channels.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(self.connection, Connection::Disconnected)
    }

    /// The session, if it has this message.
    pub(super) fn session_for(&self, message_type: u32) -> Result<Session, Refusal> {
        let session = self.connection.session().ok_or(Refusal::NotConnected)?;
        let (version, features) = match message_type {
            message_type::TL_CONNECT_REQUEST | message_type::OPEN_RESERVED_CHANNEL => {
                (Version::V4_0, FeatureFlags::empty())
            }
            message_type::MODIFY_CHANNEL => (Version::V4_1, FeatureFlags::empty()),
            message_type::MODIFY_CONNECTION => (Version::V6_0, FeatureFlags::MODIFY_CONNECTION),
            message_type::PAUSE | message_type::RESUME => (Version::V6_0, FeatureFlags::PAUSE_RESUME),
            _ => (Version::V2_4, FeatureFlags::empty()),
        };
        let negotiated = session.version >= version && session.features.contains(features);
        if negotiated { Ok(session) } else { Err(Refusal::NotNegotiated) }
    }

    pub(super) fn on_initiate_contact(&mut self, port: u32, body: &[u8]) -> Handled {
        let (contact, _) = read::<InitiateContact>(body)?;
        self.counters.contacts += 1;
        let client_id = InitiateContact2::read_from_prefix(body).ok().map(|(contact, _)| contact.client_id);
        let next = self.negotiate(port, &contact, client_id);
        let granted = matches!(next, Next::Connect(_));
        self.contact = Some(Contact {
            guest_os_id: 0,
            version: Version(contact.version.get()),
            granted,
            features: if contact.version.get() >= Version::V6_0.0 { contact.features.get() } else { 0 },
            client_id: if let Next::Connect(session) = next { session.client_id } else { None },
            message_vp: contact.target_vp.get(),
        });
        // What a guest asks for tells which guest it is.
        guest_log!(
            Level::Info,
            "The guest proposes VMBus {}, VP {}, SINT {}, VTL {}, features {:#x}, client {:?}",
            Version(contact.version.get()),
            contact.target_vp,
            contact.sint,
            contact.vtl,
            contact.features,
            client_id
        );
        self.outbox.void_messages();
        self.take_down(next, false);
        if granted { Ok(()) } else { Err(Refusal::Contact) }
    }

    /// Decides what a contact will be answered.
    ///
    /// Only a guest that knows the newer port names a SINT and a VTL: UEFI firmware speaks 6.0 on the old port and
    /// leaves them zero.
    /// Monitor pages are ignored: no offer allocates a monitor.
    fn negotiate(&self, port: u32, contact: &InitiateContact, client_id: Option<Guid>) -> Next {
        let version = Version(contact.version.get());
        // What these bytes are in older versions is the address of a page.
        let names_target = version >= Version::V5_0 && port == MULTI_CLIENT_PORT;
        let (sint, vtl) = if names_target { (contact.sint, contact.vtl) } else { (VMBUS_SINT, 0) };
        let vp = if version >= Version::V3_0 { contact.target_vp.get() } else { 0 };
        let Some(destination) = self.destination(vp, sint.into()) else {
            let vp = if self.has_vp(vp) { vp } else { 0 };
            return Next::Refuse(Destination { vp, sint: VMBUS_SINT });
        };
        if !VERSIONS.contains(&version) || sint != VMBUS_SINT || vtl != 0 {
            return Next::Refuse(destination);
        }
        let mut features = FeatureFlags::empty();
        let mut client = None;
        if version >= Version::V6_0 {
            features = FeatureFlags::from_bits_truncate(contact.features.get());
            client = client_id.filter(|_| features.contains(FeatureFlags::CLIENT_ID));
            features.set(FeatureFlags::CLIENT_ID, client.is_some());
        }
        Next::Connect(Session { version, features, client_id: client, destination, offers_requested: false })
    }

    pub(super) fn on_unload(&mut self) -> Handled {
        let destination = match self.connection {
            Connection::Connected(session) | Connection::Resetting(Next::Connect(session)) => {
                session.destination
            }
            Connection::Resetting(Next::UnloadComplete(destination) | Next::Refuse(destination)) => {
                destination
            }
            Connection::Resetting(Next::Silence) | Connection::Disconnected => Destination::DEFAULT,
        };
        self.outbox.resume();
        self.take_down(Next::UnloadComplete(destination), true);
        Ok(())
    }

    /// Closes every channel and takes back every GPADL; `next` follows once the devices have let go. Reserved
    /// channels outlive an UNLOAD.
    fn take_down(&mut self, next: Next, keep_reserved: bool) {
        self.connection = Connection::Resetting(next);
        // Sub-channels were offered after their primary channel, and stop before it.
        let offers: Vec<OfferId> = self.channels.keys().rev().copied().collect();
        for &offer in &offers {
            self.take_down_channel(offer, keep_reserved);
        }
        self.take_back_all(keep_reserved);
        for offer in offers {
            self.settle(offer);
        }
        self.finish_reset();
    }

    fn take_down_channel(&mut self, offer: OfferId, keep_reserved: bool) {
        let Some(channel) = self.channels.get_mut(&offer) else { return };
        let reserved = keep_reserved && channel.is_reserved();
        channel.presence = match channel.presence {
            Presence::Revoked | Presence::Gone => Presence::Gone,
            _ if channel.offer.sub_channel > 0 && !reserved => Presence::Gone,
            _ => Presence::Hidden,
        };
        if reserved {
            return;
        }
        match &mut channel.run {
            Run::Closed => {}
            Run::Opening(_, answer) => *answer = None,
            Run::Closing(_, after) => *after = After::Nothing,
            Run::Open(link) => {
                channel.run = Run::Closing(*link, After::Nothing);
                self.outbox.push(Action::Close(offer));
            }
        }
    }

    /// Goes on with what follows a reset, if the devices have let go of everything.
    pub(super) fn finish_reset(&mut self) {
        let Connection::Resetting(next) = self.connection else { return };
        let keep_reserved = matches!(next, Next::UnloadComplete(_));
        let stopped = |channel: &Channel| channel.is_closed() || keep_reserved && channel.is_reserved();
        if !self.channels.values().all(stopped) || !self.all_taken_back(keep_reserved) {
            return;
        }
        self.connection = Connection::Disconnected;
        match next {
            Next::Silence => {}
            Next::UnloadComplete(to) => self.send(to, &Bare::<{ message_type::UNLOAD_COMPLETE }>),
            Next::Refuse(to) => self.send(to, &version_response(0, 0)),
            Next::Connect(session) => self.connect(session),
        }
    }

    fn connect(&mut self, session: Session) {
        self.connection = Connection::Connected(session);
        let version = session.version;
        let port = if version >= Version::V5_0 { MULTI_CLIENT_PORT } else { version.0 };
        let response = version_response(1, port);
        if version >= Version::V6_0 {
            let features = session.features.bits().into();
            self.send(session.destination, &VersionResponse2 { response, features });
        } else {
            self.send(session.destination, &response);
        }
        guest_log!(Level::Info, "The guest is connected to VMBus {version}, features {:?}", session.features);
    }

    pub(super) fn on_request_offers(&mut self, session: Session, _body: &[u8]) -> Handled {
        if session.offers_requested {
            return Err(Refusal::OffersAgain);
        }
        let session = Session { offers_requested: true, ..session };
        self.connection = Connection::Connected(session);
        self.offer_all();
        self.send(session.destination, &Bare::<{ message_type::ALL_OFFERS_DELIVERED }>);
        Ok(())
    }

    /// As at contact, monitor pages are ignored.
    pub(super) fn on_modify_connection(&mut self, session: Session, body: &[u8]) -> Handled {
        read::<ModifyConnection>(body)?;
        let response = ModifyConnectionResponse { connection_state: CONNECTION_SUCCESSFUL };
        self.send(session.destination, &response);
        Ok(())
    }

    pub(super) fn on_pause(&mut self, session: Session, _body: &[u8]) -> Handled {
        self.send(session.destination, &Bare::<{ message_type::PAUSE_RESPONSE }>);
        self.outbox.pause();
        Ok(())
    }

    pub(super) fn on_resume(&mut self, _session: Session, _body: &[u8]) -> Handled {
        self.outbox.resume();
        Ok(())
    }
}

fn version_response(supported: u8, connection_id_or_version: u32) -> VersionResponse {
    VersionResponse {
        supported,
        connection_state: CONNECTION_SUCCESSFUL,
        reserved: 0.into(),
        connection_id_or_version: connection_id_or_version.into(),
    }
}
