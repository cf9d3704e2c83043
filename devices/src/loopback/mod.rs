//! The loopback device: sends a guest its own packets back, for tests and measures of rings.
//!
//! No guest needs it, so it is offered only when somebody asks for it. Its protocol is this project's own
//! ([`protocol`]): the guest chooses the sizes of both rings and of its packets and then has the host echo them, drop
//! them, send any number by itself, read or change guest memory, or answer late. It holds little: one answer that
//! waits for room, and [`protocol::MAX_DELAYED`] that wait for their time.
//!
//! | file | what it holds |
//! |---|---|
//! | [`protocol`] | packets as they lie on the wire |
//! | `device` | the offer, and what the opener says |
//! | `worker` | requests and answers of an open channel |
//! | `delays` | answers that wait for their time, and their timer |
//! | `gpa` | requests that name guest memory |

mod delays;
mod device;
mod gpa;
pub mod protocol;
mod worker;

#[cfg(test)]
mod tests;

pub use device::{Loopback, LoopbackCounters};
pub use worker::LoopbackWorker;
