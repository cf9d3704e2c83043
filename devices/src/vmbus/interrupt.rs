//! How the host interrupts the guest for a channel. Called from the channel's thread, and from the control loop when
//! the guest moves the channel to another virtual processor.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::counters::ChannelCounters;
use super::synic::{SignalError, Synic};
use crate::guest_debug;
use crate::hvdef::VMBUS_SINT;

/// The host's doorbell of one channel: an event flag on the virtual processor that the guest named.
#[derive(Debug)]
pub struct Interrupt {
    synic: Arc<dyn Synic>,
    flag: u16,
    /// [`NO_VP`] while the guest wants no interrupts.
    target: AtomicU32,
}

/// Target of a channel whose guest wants no interrupts (`VP_INDEX_DISABLE_INTERRUPT` on the wire).
const NO_VP: u32 = u32::MAX;

impl Interrupt {
    /// Interrupts by `flag` on `target`.
    #[must_use]
    pub fn new(synic: Arc<dyn Synic>, flag: u16, target: Option<u32>) -> Self {
        Interrupt { synic, flag, target: AtomicU32::new(target.unwrap_or(NO_VP)) }
    }

    /// Interrupts another virtual processor from now on, and once at once: an interrupt on its way to the old one
    /// may have been missed.
    pub fn retarget(&self, target: Option<u32>, counters: &ChannelCounters) {
        self.target.store(target.unwrap_or(NO_VP), Ordering::SeqCst);
        self.raise(counters);
    }

    pub(super) fn raise(&self, counters: &ChannelCounters) {
        let target = self.target.load(Ordering::SeqCst);
        if target == NO_VP {
            return;
        }
        match self.synic.signal_event(target, VMBUS_SINT, self.flag) {
            Ok(()) => {
                counters.signals_out.fetch_add(1, Ordering::Relaxed);
            }
            Err(error @ SignalError::NoPage(_)) => guest_debug!("An interrupt is lost: {error}"),
            Err(error) => log::error!("An interrupt is lost: {error}"),
        }
    }
}
