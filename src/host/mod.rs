//! The host side of the console and of process control: terminal, escape key, signals; and how servers accept.
//!
//! Besides hv this is the only room with unsafe code. Nothing in here knows a machine: the control loop polls
//! [`Terminal`], [`Signals`] and [`Console`] and acts on what they return.

mod accept;
mod clients;
mod console;
mod escape;
mod signals;
mod terminal;

pub use accept::{Acceptor, Listen};
pub use clients::{Clients, Place};
pub use console::{Console, ConsoleWriter};
pub use escape::{Escape, Parsed};
pub use signals::Signals;
pub use terminal::{Input, Terminal, restore};
