//! A timer that a channel's thread waits on beside its other descriptors: for requests over a rate limit, and for a
//! kernel that had no memory.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use vmm_sys_util::timerfd::TimerFd;

/// Wakes the channel after a while.
#[derive(Debug)]
pub(super) struct Alarm {
    timer: TimerFd,
    set: bool,
}

impl Alarm {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Alarm { timer: TimerFd::new()?, set: false })
    }

    pub(super) fn fd(&self) -> RawFd {
        self.timer.as_raw_fd()
    }

    /// Instead of what was set before.
    pub(super) fn set(&mut self, after: Duration) {
        // A timer of no time would be off.
        let after = after.max(Duration::from_micros(1));
        // Fails for no timer that exists.
        self.set = self.timer.reset(after, None).is_ok();
    }

    /// Off, and no longer readable.
    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.set) {
            let _ = self.timer.clear();
        }
    }
}
