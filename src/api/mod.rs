//! The control socket: JSON over HTTP/1.1 on a Unix socket, for `busman ctl`, for curl and for programs.
//!
//! [`Server`] listens for as long as busman runs, over resets of the machine. One thread accepts, each connection
//! has a thread of its own, and all that these share with the machine is a [`Vm`]: a command goes in, its outcome
//! comes back within a bounded time. So whatever a client does, however slow or broken it is, neither the guest nor
//! the control loop waits for it. What a client can use up is bounded by [`Limits`] and by [`http`]'s lengths.
//!
//! | file | what it holds |
//! |---|---|
//! | `socket` | the socket's file: made, replaced, removed |
//! | `server` | accepts connections, and ends them |
//! | `connection` | one client: requests in, responses out, in time |
//! | [`http`] | HTTP/1.1 from bytes and to bytes |
//! | `routes` | methods and paths, and the command that each is |

mod connection;
pub mod http;
mod routes;
mod server;
mod socket;
#[cfg(test)]
pub(crate) mod tests;

pub use self::server::{Limits, Server};
pub use self::socket::SocketError;
pub(crate) use self::socket::{SocketFile, listen};

use crate::control::{Command, CommandSender, Outcome};

/// The machine, as the control socket knows it.
pub trait Vm: Send + Sync {
    /// Has a command carried out; returns within a bounded time, whatever the machine does.
    ///
    /// # Errors
    /// Why it was not.
    fn execute(&self, command: Command) -> Outcome;
}

impl Vm for CommandSender {
    fn execute(&self, command: Command) -> Outcome {
        CommandSender::execute(self, command)
    }
}
