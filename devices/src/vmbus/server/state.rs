//! The state of one channel, in two parts that move on their own.
//!
//! What the guest knows of it ([`Presence`]):
//!
//! ```text
//!              offered             RELID_RELEASED
//!   Hidden ───────────────▶ Offered ─────────────▶ Released
//!                              │ rescind
//!                              ▼   RELID_RELEASED
//!                           Revoked ─────────────▶ Gone
//! ```
//!
//! A reset (UNLOAD, a new contact, the machine's own) makes `Offered` and `Released` channels `Hidden`, and
//! sub-channels and `Revoked` ones `Gone`. A rescind makes what the guest does not know of `Gone` at once.
//!
//! What its device does ([`Run`]):
//!
//! ```text
//!             OPEN                opened: Ok             CLOSE, rescind, reset
//!   Closed ──────────▶ Opening ────────────────▶ Open ─────────────────────────▶ Closing ─┐
//!     ▲                  │  │                                                      ▲      │
//!     │    opened: Err   │  │ opened: Ok, but nobody waits for it any more         │      │
//!     ├──────────────────┘  └──────────────────────────────────────────────────────┘      │
//!     │                                                                                   │
//!     └──────────────────────── closed; then perhaps the next OPEN ───────────────────────┘
//! ```
//!
//! Hyper-V's own states are pairs of these: "closing, to be reopened" is `Closing` with [`After::Reopen`], "closing,
//! client released" is `Closing` and `Released` or `Hidden`, "reoffered" is a `Hidden` channel whose key a
//! `Revoked` one still has.

use super::action::{ChannelId, OfferId};
use super::outbox::Destination;
use crate::guid::Guid;
use crate::vmbus::channel::Offer;
use crate::vmbus::gpadl::GpadlId;

/// What the guest knows of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// Nothing (yet).
    Hidden,
    /// It was offered.
    Offered,
    /// It was offered and the guest does not want it, until the next connection.
    Released,
    /// It was rescinded; its id is the guest's until RELID_RELEASED.
    Revoked,
    /// Nothing any more: the channel goes as soon as its device has let go of everything.
    Gone,
}

/// What a channel's device does.
#[derive(Debug)]
pub(super) enum Run {
    Closed,
    /// The bus opens it; the answer goes to whoever still waits for it.
    Opening(Link, Option<OpenAnswer>),
    Open(Link),
    /// The bus stops it.
    Closing(Link, After),
}

/// What holds while a channel is not closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub ring: GpadlId,
    pub outgoing_pages: u32,
    pub incoming_pages: u32,
    pub target_vp: Option<u32>,
    pub connection_id: u32,
    pub event_flag: u16,
    /// Opened by OPEN_RESERVED_CHANNEL: outlives UNLOAD.
    pub reserved: bool,
}

/// What happens once a channel is closed.
#[derive(Debug)]
pub(super) enum After {
    Nothing,
    /// The guest opened it again: closing has no answer, so it could not know that it was early.
    Reopen(Box<Opening>),
    /// CLOSE_RESERVED_CHANNEL does have an answer.
    Answer(Destination),
}

/// Whom OPEN_CHANNEL_RESULT is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenAnswer {
    pub to: Destination,
    pub open_id: u32,
}

/// A guest's wish to open a channel, as it came.
#[derive(Clone, Debug)]
pub(super) struct Opening {
    pub answer: OpenAnswer,
    pub ring: GpadlId,
    pub downstream_page_offset: u32,
    pub target_vp: u32,
    /// Connection id and event flag, from guests that choose them.
    pub signal: Option<(u32, u16)>,
    pub user_data: [u8; 120],
    pub reserved: bool,
}

/// What tells one channel from all others, and the order in which they are offered.
pub(super) type Key = (Guid, Guid, u16);

/// One channel.
#[derive(Debug)]
pub(super) struct Channel {
    pub offer: Offer,
    /// Given with the first connection and kept for as long as the channel is there.
    pub id: Option<ChannelId>,
    pub presence: Presence,
    pub run: Run,
    /// The rings of the latest opening.
    pub latest: Option<Link>,
    /// Openings that succeeded.
    pub opens: u64,
    /// The bus was told that the offer is gone.
    pub gone_told: bool,
}

impl Channel {
    pub fn new(offer: Offer) -> Self {
        Channel {
            offer,
            id: None,
            presence: Presence::Hidden,
            run: Run::Closed,
            latest: None,
            opens: 0,
            gone_told: false,
        }
    }

    pub fn key(&self) -> Key {
        (self.offer.interface, self.offer.instance, self.offer.sub_channel)
    }

    pub fn is_sub_channel_of(&self, key: Key) -> bool {
        let (interface, instance, sub_channel) = self.key();
        key == (interface, instance, 0) && sub_channel > 0
    }

    /// The host does not offer it any more.
    pub fn is_withdrawn(&self) -> bool {
        matches!(self.presence, Presence::Revoked | Presence::Gone)
    }

    pub fn is_closed(&self) -> bool {
        matches!(self.run, Run::Closed)
    }

    /// What its device may be touching.
    pub fn link(&self) -> Option<&Link> {
        match &self.run {
            Run::Closed => None,
            Run::Opening(link, _) | Run::Open(link) | Run::Closing(link, _) => Some(link),
        }
    }

    pub fn is_reserved(&self) -> bool {
        self.link().is_some_and(|link| link.reserved)
    }

    /// Whether the device may be touching this GPADL as its ring.
    pub fn uses_ring(&self, gpadl: GpadlId) -> bool {
        self.link().is_some_and(|link| link.ring == gpadl)
    }
}

/// Where a channel stands, in one word for tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelState {
    /// The guest has not been told of it.
    Hidden,
    /// Offered, not open.
    Closed,
    /// The guest asked to open it; its device is not ready.
    Opening,
    /// Open.
    Open,
    /// Its device is stopping.
    Closing,
    /// Its device is stopping, and the guest has asked to open it again.
    Reopening,
    /// The guest does not want it.
    Released,
    /// Rescinded; the guest has not released it.
    Revoked,
}

impl ChannelState {
    /// Its name in tables and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            ChannelState::Hidden => "hidden",
            ChannelState::Closed => "closed",
            ChannelState::Opening => "opening",
            ChannelState::Open => "open",
            ChannelState::Closing => "closing",
            ChannelState::Reopening => "reopening",
            ChannelState::Released => "released",
            ChannelState::Revoked => "revoked",
        }
    }
}

/// Pages of a channel's rings, as the guest donated them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingPages {
    /// The GPADL of both.
    pub gpadl: GpadlId,
    /// Guest to host, control page included.
    pub outgoing: u32,
    /// Host to guest, control page included.
    pub incoming: u32,
}

/// What tables show of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelInfo {
    /// Names the channel to the bus.
    pub offer: OfferId,
    /// Names it to the guest, once the guest asked for offers.
    pub channel: Option<ChannelId>,
    /// Where it stands.
    pub state: ChannelState,
    /// How often it was opened.
    pub opens: u64,
    /// The rings of its latest opening.
    pub ring: Option<RingPages>,
    /// Virtual processor that it interrupts, while it is open.
    pub target_vp: Option<u32>,
}

impl Channel {
    pub fn info(&self, offer: OfferId) -> ChannelInfo {
        let state = match (&self.run, self.presence) {
            (_, Presence::Revoked | Presence::Gone) => ChannelState::Revoked,
            (Run::Opening(..), _) => ChannelState::Opening,
            (Run::Open(_), _) => ChannelState::Open,
            (Run::Closing(_, After::Reopen(_)), _) => ChannelState::Reopening,
            (Run::Closing(..), _) => ChannelState::Closing,
            (Run::Closed, Presence::Hidden) => ChannelState::Hidden,
            (Run::Closed, Presence::Released) => ChannelState::Released,
            (Run::Closed, Presence::Offered) => ChannelState::Closed,
        };
        ChannelInfo {
            offer,
            channel: self.id,
            state,
            opens: self.opens,
            ring: self.latest.map(|link| RingPages {
                gpadl: link.ring,
                outgoing: link.outgoing_pages,
                incoming: link.incoming_pages,
            }),
            target_vp: self.link().and_then(|link| link.target_vp),
        }
    }
}
