//! The VNC server: what a guest shows, and a keyboard and a mouse for it, over the network (RFB 3.8).
//!
//! [`Server`] listens for as long as busman runs, over resets of the machine: all that it shares with the machine is
//! a [`Desk`], on which the control loop puts the devices of each new one. One thread accepts, each viewer has a
//! thread of its own, and whatever a viewer does, however slow or broken it is, neither the guest nor the control
//! loop nor another viewer waits for it. What a viewer can use up is bounded by [`Limits`] and by [`conversation`].
//!
//! A picture's way, outwards: [`desk`] → `session`, which knows what the viewer does not have yet → [`encodings`]
//! and [`pixels`] → `transport`. What a person does comes in: `transport` → [`messages`] → `input` → the guest.
//!
//! | file | what it holds |
//! |---|---|
//! | [`options`] | `--vnc` as users write it |
//! | `server` | accepts viewers, and ends them |
//! | `viewer`, `poller`, `transport` | one viewer: its thread, its waiting, its socket and TLS |
//! | [`conversation`] | all that is said with one viewer, without a socket |
//! | `handshake`, [`security`] | who is let in |
//! | [`messages`], `protocol` | RFB as it lies on the wire |
//! | `session`, `region` | a viewer that is in: updates, and what is missing |
//! | [`encodings`], [`pixels`] | pixels as bytes |
//! | `input`, [`keysyms`], [`keymap`] | keys and pointer |
//! | [`desk`] | the machine's devices for a person |

mod bands;
pub mod conversation;
pub mod desk;
pub mod encodings;
mod handshake;
mod input;
pub mod keymap;
pub mod keysyms;
pub mod messages;
pub mod options;
pub mod pixels;
mod poller;
mod protocol;
mod region;
pub mod security;
mod server;
mod session;
#[cfg(test)]
pub(crate) mod tests;
mod transport;
mod viewer;

pub use self::desk::Desk;
pub use self::handshake::HandshakeError;
pub use self::options::{VncOptionError, VncOptions};
pub use self::protocol::PixelFormat;
pub use self::server::{Limits, Server, VncError};
