//! What a channel's thread tells the control loop: that it has ended, and that its device wants more channels.
//!
//! The bus keeps the receiving end; each opening of a channel has a [`Reporter`].

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use vmm_sys_util::eventfd::EventFd;

use super::server::OfferId;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// The thread has ended.
    Finished,
    /// The device asks for sub-channels, see [`SubChannels`].
    WantsSubChannels { opening: u64, count: u16 },
}

#[derive(Debug)]
pub(super) struct Reports {
    sender: Sender<(OfferId, Report)>,
    receiver: Receiver<(OfferId, Report)>,
    wake: Arc<EventFd>,
}

/// One channel's way to the control loop.
#[derive(Clone, Debug)]
pub(super) struct Reporter {
    from: OfferId,
    sender: Sender<(OfferId, Report)>,
    wake: Arc<EventFd>,
}

impl Reports {
    /// Reports that write `wake` when they come.
    pub fn new(wake: Arc<EventFd>) -> Self {
        let (sender, receiver) = channel();
        Reports { sender, receiver, wake }
    }

    pub fn of(&self, from: OfferId) -> Reporter {
        Reporter { from, sender: self.sender.clone(), wake: Arc::clone(&self.wake) }
    }

    pub fn next(&self) -> Option<(OfferId, Report)> {
        self.receiver.try_recv().ok()
    }
}

impl Reporter {
    pub fn report(&self, report: Report) {
        // Fails when the bus is gone; the counter is at its end only when the control loop is awake already.
        let _ = self.sender.send((self.from, report));
        let _ = self.wake.write(1);
    }
}

/// A device's way to more channels of its own, while its first channel is open.
///
/// They are offered with the GUIDs of the first and the numbers from 1 on, and each that the guest opens is another
/// call of the device's [`open`](super::channel::VmbusDevice::open) and another worker, on a thread of its own. They
/// go when the first channel closes; the next opening starts without any.
#[derive(Clone, Debug)]
pub struct SubChannels(Option<(Reporter, u64)>);

impl SubChannels {
    /// Of a channel that cannot have any: a sub-channel, or one without a bus.
    #[must_use]
    pub fn none() -> Self {
        SubChannels(None)
    }

    pub(super) fn of(reporter: Reporter, opening: u64) -> Self {
        SubChannels(Some((reporter, opening)))
    }

    /// Has the sub-channels 1 to `count` offered to the guest, soon; those that are there stay. The bus has room for
    /// [`MAX_SUB_CHANNELS`](super::server::limits::MAX_SUB_CHANNELS). Works from any thread; nothing happens once the
    /// first channel has closed.
    pub fn offer(&self, count: u16) {
        if let Some((reporter, opening)) = &self.0 {
            reporter.report(Report::WantsSubChannels { opening: *opening, count });
        }
    }
}
