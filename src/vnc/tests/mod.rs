//! The server without a machine: a picture in memory is the screen, and viewers are ours or other people's.

pub(super) mod client;
pub(crate) mod desk;
mod foreign;
mod server;
