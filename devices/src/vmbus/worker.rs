//! The thread of an open channel.
