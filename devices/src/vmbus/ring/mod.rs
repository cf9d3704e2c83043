//! One direction of a channel.
