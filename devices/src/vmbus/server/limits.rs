//! What a guest can make the control plane hold, and how often it was told no.
//!
//! Each budget has its reason here, its [`Refusal`] and a test that floods it. Over its budget a guest gets the
//! protocol's failure answer where it waits for one; nothing that it already has is lost.

use std::fmt;

use crate::vmbus::protocol::Status;

/// Channels at one time: event flags are 0 to 2047, and flag 0 is not a channel's.
pub const MAX_CHANNELS: usize = 2047;

/// Sub-channels of one device. Each has a thread and descriptors of the host's; Linux and Windows ask for one on each
/// virtual processor at most.
pub const MAX_SUB_CHANNELS: u16 = 64;

/// GPADLs of one connection, complete or not. A network card with 64 channels has 66, a disk controller as many;
/// every channel that there can be has its ring, and as many again are left for buffers.
pub const MAX_GPADLS: usize = 4096;

/// 64-bit units in all GPADLs of one connection: 1 GiB of donated pages, in one range each. The largest buffers
/// that Linux donates are 31 MiB and 16 MiB for each network card. Costs the host 2 MiB; ranges of single pages,
/// the most wasteful lists, cost some 10 MiB.
pub const MAX_GPADL_UNITS: usize = 256 * 1024;

/// GPADLs whose pages have not all arrived. Guests send one list after the other, or one on each processor.
pub const MAX_PARTIAL_GPADLS: usize = 256;

/// Actions that the bus has not fetched when further messages of the guest are dropped unread. The bus feeds none
/// while there is any (see [`Server::ready`](super::Server::ready)), so reaching it is an error of the bus.
pub const MAX_UNDELIVERED: usize = 1024;

/// Defines the refusals with what they are called in tables and logs.
macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Why a message of the guest had no effect, or had a failure for an answer.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Refusal {
            $($(#[$doc])* $name,)*
        }

        impl Refusal {
            /// Every refusal that there is.
            pub const ALL: &[Refusal] = &[$(Refusal::$name),*];

            /// Its name in tables and logs.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Refusal::$name => $text,)*
                }
            }
        }
    };
}

refusals! {
    /// Shorter than its type demands.
    Short = "too short",
    /// A message type that does not exist.
    Unknown = "unknown type",
    /// A message type that only the host sends.
    HostOnly = "host's type",
    /// Without a connection, or while an old one is still being taken down.
    NotConnected = "not connected",
    /// The connection's version or feature flags do not have it.
    NotNegotiated = "not negotiated",
    /// The guest paused the connection.
    Paused = "while paused",
    /// A version, a SINT, a VTL or a virtual processor that there is not.
    Contact = "contact refused",
    /// Offers are delivered once per connection.
    OffersAgain = "offers requested again",
    /// No such channel is offered.
    NoChannel = "no such channel",
    /// Not in the channel's state.
    WrongState = "wrong channel state",
    /// The list of pages makes no sense.
    BadGpadl = "malformed GPADL",
    /// The name is taken.
    GpadlExists = "GPADL exists",
    /// The name is not known.
    NoGpadl = "no such GPADL",
    /// More than [`MAX_GPADLS`].
    TooManyGpadls = "too many GPADLs",
    /// More than [`MAX_GPADL_UNITS`].
    TooManyPages = "too many pages",
    /// More than [`MAX_PARTIAL_GPADLS`].
    TooManyPartial = "too many unfinished GPADLs",
    /// The ring's pages, or where they are split.
    BadRing = "bad ring",
    /// A virtual processor or SINT that there is not.
    BadTarget = "bad target",
    /// A connection id or event flag that is out of range or taken.
    BadSignal = "bad signal parameters",
    /// The device did not open its channel.
    Device = "device refused",
    /// Nobody listens for this Hyper-V socket.
    Socket = "socket refused",
    /// More than [`MAX_UNDELIVERED`].
    Overrun = "overrun",
}

impl Refusal {
    /// What a guest is told that waits for an answer.
    pub(super) fn status(self) -> Status {
        match self {
            Refusal::TooManyGpadls | Refusal::TooManyPages | Refusal::TooManyPartial => {
                Status::INSUFFICIENT_RESOURCES
            }
            Refusal::Socket => Status::CONNECTION_REFUSED,
            _ => Status::INVALID_PARAMETER,
        }
    }
}

/// What passed through the control plane since the machine started.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Messages that the guest posted.
    pub messages_in: u64,
    /// Messages handed to the bus for posting.
    pub messages_out: u64,
    /// Contacts, answered or not.
    pub contacts: u64,
    refused: [u64; Refusal::ALL.len()],
}

impl Counters {
    /// How often this refusal happened.
    #[must_use]
    pub fn refused(&self, refusal: Refusal) -> u64 {
        self.refused.get(refusal as usize).copied().unwrap_or_default()
    }

    /// Every refusal that happened, and how often.
    pub fn refusals(&self) -> impl Iterator<Item = (Refusal, u64)> + '_ {
        Refusal::ALL.iter().map(|&refusal| (refusal, self.refused(refusal))).filter(|&(_, count)| count > 0)
    }

    pub(super) fn refuse(&mut self, refusal: Refusal) {
        if let Some(count) = self.refused.get_mut(refusal as usize) {
            *count += 1;
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
