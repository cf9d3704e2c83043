//! VMBus, host side.
//!
//! The control path: a guest posts a message ([`bus::MessagePort`], on a vCPU's thread) → [`bus::Bus`] hands it,
//! on the control loop, to the state machine [`server::Server`] → the server's actions come back as values: send
//! a message ([`synic::Synic`]), open a channel, close it, let go of a GPADL.
//!
//! The data path of an open channel: guest rings the doorbell → [`worker`] thread wakes → [`ring::Incoming`]
//! yields packets, copied and checked → the device's [`channel::ChannelWorker`] answers into [`ring::Outgoing`]
//! → the guest is interrupted if it sleeps.
//!
//! | module | what it holds |
//! |---|---|
//! | [`protocol`] | control messages as they lie on the wire |
//! | [`server`] | the control plane, a state machine without threads, descriptors or guest memory |
//! | [`gpadl`] | lists of pages that the guest donated |
//! | [`ring`] | one direction of a channel: layout, packets, reading, writing |
//! | [`channel`] | the traits of a device and what it is given when its channel opens |
//! | [`pipe`] | messages in a pipe, as mouse and video have them |
//! | [`worker`] | the thread of an open channel |
//! | [`bus`] | what holds all of it together |
//! | [`contacts`] | who made contact |
//! | [`synic`] | the hypervisor's part, as a trait |
//! | [`trace`] | records what goes over the bus, for Wireshark |

pub mod bus;
pub mod channel;
pub mod contacts;
mod counters;
pub mod gpadl;
pub(crate) mod inbox;
mod interrupt;
mod needs;
mod offer;
pub mod pipe;
pub mod protocol;
mod reports;
pub mod ring;
pub(crate) mod send_queue;
pub mod server;
mod slot;
pub mod synic;
pub mod table;
pub mod trace;
pub mod worker;

#[cfg(test)]
mod tests;
