//! The control plane.

mod action;

pub use action::{Action, ChannelId, HostMessage, OfferId, OpenRequest};

/// A version of the VMBus protocol: major in the high half, minor in the low half.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u32);
