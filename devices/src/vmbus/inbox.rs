//! What a person's input waits in for a device's worker: keys for the keyboard, motion for the mouse.
//!
//! There only while a driver listens: what happens before and after is nobody's.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// Shared by the device, its worker and whoever has input.
#[derive(Debug)]
pub(crate) struct Inbox<Q>(Arc<Shared<Q>>);

#[derive(Debug)]
struct Shared<Q> {
    /// `None` while no driver listens.
    queue: Mutex<Option<Q>>,
    wake: EventFd,
}

impl<Q> Clone for Inbox<Q> {
    fn clone(&self) -> Self {
        Inbox(Arc::clone(&self.0))
    }
}

impl<Q> Inbox<Q> {
    /// One that nobody listens to.
    ///
    /// # Errors
    /// When the host has no more descriptors.
    pub fn new() -> io::Result<Self> {
        let wake = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
        Ok(Inbox(Arc::new(Shared { queue: Mutex::new(None), wake })))
    }

    /// Puts input in, if a driver listens; the worker is woken if `push` says so.
    pub fn put(&self, push: impl FnOnce(&mut Q) -> bool) {
        if self.queue().as_mut().is_some_and(push) {
            // Fails only when the counter is at its end, and then the worker is awake already.
            let _ = self.0.wake.write(1);
        }
    }

    /// The queue, locked.
    pub fn queue(&self) -> MutexGuard<'_, Option<Q>> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Readable when something was put in.
    pub fn wake_fd(&self) -> RawFd {
        self.0.wake.as_raw_fd()
    }

    /// Makes [`Inbox::wake_fd`] unreadable, before the queue is looked at.
    pub fn awake(&self) {
        let _ = self.0.wake.read();
    }
}
