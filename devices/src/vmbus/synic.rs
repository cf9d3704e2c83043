//! The hypervisor's part of the bus: the synthetic interrupt controller (TLFS, "Inter-Partition Communication"
//! and "Virtual Interrupt Controller").
//!
//! `busman` implements [`Synic`] on KVM, `testing` implements it in memory. The bus and the channel workers call
//! it from any thread; no call may block on the guest.

use std::fmt::Debug;
use std::io;

use thiserror::Error;
use vmm_sys_util::eventfd::EventFd;

/// Messages that wait for one VP before [`PostError::Full`]: enough for a guest that is slow, too few to make a
/// guest's refusal to read expensive.
pub const MESSAGE_QUEUE_LEN: usize = 64;

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum PostError {
    /// The queue of this VP holds [`MESSAGE_QUEUE_LEN`] messages that the guest has not fetched.
    #[error("VP {0} has not fetched its messages")]
    Full(u32),
    /// No such virtual processor.
    #[error("There is no VP {0}")]
    NoVp(u32),
    /// SINTs are 0 to 15.
    #[error("There is no SINT {0}")]
    NoSint(u8),
    /// Payloads have at most 240 bytes.
    #[error("A message of {0} bytes does not fit its slot")]
    TooLong(usize),
}

/// Why an event flag was not set.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SignalError {
    /// The guest has not enabled the event flags page of this VP.
    #[error("VP {0} has no event flags page")]
    NoPage(u32),
    /// No such virtual processor.
    #[error("There is no VP {0}")]
    NoVp(u32),
    /// No event flags are routed to this SINT.
    #[error("SINT {0} has no event flags")]
    NoSint(u8),
    /// Flags are 0 to 2047.
    #[error("There is no event flag {0}")]
    NoFlag(u16),
}

/// Messages and event flags to virtual processors, and doorbells from them.
pub trait Synic: Debug + Send + Sync {
    /// How many virtual processors there are; their indices start at 0.
    fn vp_count(&self) -> u32;

    /// Queues a message of at most 240 bytes for the message slot of (`vp`, `sint`). Messages of one VP and SINT
    /// arrive in the order in which they were posted.
    ///
    /// # Errors
    /// After [`PostError::Full`], the eventfd given to [`Synic::notify_drained`] fires when there is room.
    fn post_message(&self, vp: u32, sint: u8, payload: &[u8]) -> Result<(), PostError>;

    /// Drops every message that waits, for a guest that starts over.
    fn drop_messages(&self);

    /// Names the eventfd that is written when a full queue has room again.
    fn notify_drained(&self, drained: EventFd);

    /// Sets an event flag; interrupts the VP if the flag was clear.
    ///
    /// # Errors
    /// See [`SignalError`]. A flag for a VP without a page is lost, as on Hyper-V.
    fn signal_event(&self, vp: u32, sint: u8, flag: u16) -> Result<(), SignalError>;

    /// Has the guest's HvSignalEvent on `connection_id` write `doorbell`.
    ///
    /// # Errors
    /// When the hypervisor refuses; the connection id is then not bound.
    fn bind_event(&self, connection_id: u32, doorbell: &EventFd) -> io::Result<()>;

    /// Undoes [`Synic::bind_event`]; without effect on an id that is not bound.
    fn unbind_event(&self, connection_id: u32);

    /// How often a doorbell on `connection_id` had to go through user space.
    fn event_exits(&self, connection_id: u32) -> u64;
}
