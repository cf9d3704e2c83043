//! The host side of the console and of process control: terminal, escape key, signals.
//!
//! Besides hv this is the only room with unsafe code. Nothing in here knows a machine: the control loop polls
//! [`Terminal`], [`Signals`] and [`Console`] and acts on what they return.

mod console;
mod escape;
mod signals;
mod terminal;

pub use console::{Console, ConsoleWriter};
pub use escape::{Escape, Parsed};
pub use signals::Signals;
pub use terminal::{Input, Terminal, restore};
