//! The thread of an open channel: an event loop around a device's [`ChannelWorker`].
//!
//! The bus starts it when the guest opens the channel and stops it when the guest closes it. The thread never
//! outlives its [`ChannelThread`]; when its loop ends, for whatever reason, it says so through [`Finished`], and
//! joining it gives the worker back. A panic stays in the thread.

use std::fmt::{self, Debug};
use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use event_manager::{EventManager, EventOps, EventSet, Events, MutEventSubscriber, SubscriberOps};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};
use vmm_sys_util::timerfd::TimerFd;

use super::channel::{Channel, ChannelCounters, ChannelError, ChannelWorker};
use crate::guest_warn;

/// Stack of a channel's thread: workers keep their data on the heap.
const STACK_SIZE: usize = 256 << 10;
/// When a newly opened channel is looked at again, see [`Channel::unstick`]. What OpenVMM waits, too.
const UNSTICK_AFTER: Duration = Duration::from_millis(100);

/// Event data of the loop's own descriptors; a worker's sources follow.
const STOP: u32 = 0;
const DOORBELL: u32 = 1;
const UNSTICK: u32 = 2;
/// The worker asked to be called again, see [`Channel::call_again`].
const AGAIN: u32 = 3;
const FIRST_SOURCE: u32 = 4;

/// Called on the channel's thread as its last act.
pub type Finished = Box<dyn FnOnce() + Send>;

/// The running thread of an open channel.
pub struct ChannelThread<W> {
    stop: EventFd,
    thread: JoinHandle<Option<W>>,
}

impl<W> Debug for ChannelThread<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelThread").field("thread", &self.thread.thread().name()).finish_non_exhaustive()
    }
}

/// What a channel's thread works on.
#[derive(Debug)]
pub struct Work<W> {
    /// The device's part.
    pub worker: W,
    /// The rings.
    pub channel: Channel,
    /// Written when the guest rings.
    pub doorbell: EventFd,
    /// Shared with the bus, which shows them.
    pub counters: Arc<ChannelCounters>,
}

impl<W: ChannelWorker> ChannelThread<W> {
    /// Starts a thread of this name, at most 15 bytes.
    ///
    /// # Errors
    /// When the host gives no thread or descriptor.
    pub fn start(name: &str, work: Work<W>, finished: Finished) -> io::Result<Self> {
        let stop = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
        let mut unstick = TimerFd::new()?;
        unstick.reset(UNSTICK_AFTER, None)?;
        let again = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
        let event_loop = Loop { work, stop: stop.try_clone()?, unstick, again, ends: false };
        let thread = Builder::new().name(name.to_owned()).stack_size(STACK_SIZE).spawn(move || {
            // Dropped last, also when the worker panics.
            let _finished = CallOnDrop(Some(finished));
            let mut worker = event_loop.run()?;
            worker.stop();
            Some(worker)
        })?;
        Ok(ChannelThread { stop, thread })
    }

    /// Asks the thread to end; it says when it has.
    pub fn stop(&self) {
        // Fails only when the counter is at its end, and then the thread knows already.
        let _ = self.stop.write(1);
    }

    /// Waits for the thread and takes the worker back; `None` if it panicked.
    pub fn join(self) -> Option<W> {
        self.thread.join().ok().flatten()
    }
}

struct CallOnDrop(Option<Finished>);

impl Drop for CallOnDrop {
    fn drop(&mut self) {
        if let Some(finished) = self.0.take() {
            finished();
        }
    }
}

struct Loop<W> {
    work: Work<W>,
    stop: EventFd,
    unstick: TimerFd,
    again: EventFd,
    ends: bool,
}

impl<W: ChannelWorker> Loop<W> {
    fn run(mut self) -> Option<W> {
        let Work { worker, channel, .. } = &mut self.work;
        let started = worker.start(channel);
        self.note(started);
        if self.ends {
            return Some(self.work.worker);
        }
        let mut events = match EventManager::new() {
            Ok(events) => events,
            Err(error) => {
                log::error!("A channel has no event loop: {error:?}");
                return Some(self.work.worker);
            }
        };
        let id = events.add_subscriber(self);
        loop {
            if let Err(error) = events.run() {
                log::error!("A channel's event loop ended: {error:?}");
                break;
            }
            if events.subscriber_mut(id).map_or(true, |this| this.ends) {
                break;
            }
        }
        events.remove_subscriber(id).ok().map(|this| this.work.worker)
    }

    /// An error ends the service of this channel. It stays open for the guest until the guest closes it.
    fn note(&mut self, result: Result<(), ChannelError>) {
        if let Err(error) = result {
            let name = std::thread::current().name().unwrap_or("?").to_owned();
            guest_warn!("Channel {name} is no longer served: {}", chain(&error));
            self.ends = true;
        }
        if self.work.channel.take_again() {
            // Fails only when the counter is at its end, and then the call is due already.
            let _ = self.again.write(1);
        }
    }

    fn handle(&mut self, data: u32) -> Result<(), ChannelError> {
        let Work { worker, channel, doorbell, counters } = &mut self.work;
        match data {
            STOP => {
                self.ends = true;
                Ok(())
            }
            DOORBELL => {
                counters.note_doorbell(doorbell);
                worker.doorbell(channel)
            }
            UNSTICK => {
                self.unstick.wait().map_err(io::Error::from)?;
                channel.unstick()
            }
            AGAIN => {
                // Cleared by every read; the loop is the only reader.
                let _ = self.again.read();
                worker.doorbell(channel)
            }
            source => worker.readable((source - FIRST_SOURCE) as usize, channel),
        }
    }
}

impl<W: ChannelWorker> MutEventSubscriber for Loop<W> {
    fn process(&mut self, events: Events, _: &mut EventOps<'_>) {
        if !self.ends {
            let result = self.handle(events.data());
            self.note(result);
        }
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        let own = [
            Events::with_data(&self.stop, STOP, EventSet::IN),
            Events::with_data(&self.work.doorbell, DOORBELL, EventSet::IN),
            Events::with_data(&self.unstick, UNSTICK, EventSet::IN),
            Events::with_data(&self.again, AGAIN, EventSet::IN),
        ];
        let sources = (FIRST_SOURCE..).zip(self.work.worker.sources());
        let sources = sources.map(|(data, fd)| Events::with_data_raw(fd, data, EventSet::IN));
        for events in own.into_iter().chain(sources) {
            if let Err(error) = ops.add(events) {
                log::error!("A channel cannot watch a descriptor: {error:?}");
                self.ends = true;
            }
        }
    }
}

/// An error and its sources in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
