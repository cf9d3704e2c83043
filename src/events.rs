//! What the machine tells the control loop: the guest powered off, wants a reset, crashed, or cannot go on.
//!
//! Any thread sends; [`vmm`](crate::vmm) receives.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};

use vmm_sys_util::eventfd::EventFd;

use crate::hv::crash::CrashReport;

/// Something that ends the machine's life, or that its owner wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MachineEvent {
    /// The guest turned itself off.
    PowerOff,
    /// The guest asked for a reset.
    Reset,
    /// A virtual processor gave up (triple fault); hardware would reset.
    TripleFault,
    /// The guest reported a crash of its own; it goes on, to write a dump for instance.
    Crashed(CrashReport),
    /// The last virtual processor has stopped for a pause.
    Paused,
    /// A virtual processor cannot go on; the text says why.
    Failed(String),
}

/// Sends events to the control loop; a clone sends to the same.
#[derive(Debug)]
pub struct EventSender {
    events: Sender<MachineEvent>,
    wake: EventFd,
}

/// The control loop's end.
#[derive(Debug)]
pub struct EventReceiver {
    events: Receiver<MachineEvent>,
    /// Readable when there are events.
    pub wake: EventFd,
}

/// Makes a connected pair.
///
/// # Errors
/// When this process may have no more descriptors.
pub fn event_channel() -> io::Result<(EventSender, EventReceiver)> {
    let wake = EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)?;
    let (sender, receiver) = channel();
    Ok((EventSender { events: sender, wake: wake.try_clone()? }, EventReceiver { events: receiver, wake }))
}

impl EventSender {
    /// Sends an event. After the control loop is gone nobody is interested, so there is no error.
    pub fn send(&self, event: MachineEvent) {
        if self.events.send(event).is_ok() {
            // Fails only when the counter is at its end, and then the reader is awake already.
            let _ = self.wake.write(1);
        }
    }

    /// Another sender to the same control loop.
    ///
    /// # Errors
    /// When this process may have no more descriptors.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(EventSender { events: self.events.clone(), wake: self.wake.try_clone()? })
    }
}

impl EventReceiver {
    /// Takes the next event, if there is one.
    #[must_use]
    pub fn next(&self) -> Option<MachineEvent> {
        self.events.try_recv().ok()
    }
}
