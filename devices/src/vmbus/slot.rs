//! A channel's place on the bus: its device, and its thread while the guest has it open.
//!
//! A device's first channel and its sub-channels have a slot each and share the device, on the control loop alone.
//! The bus knows its slots as [`AnySlot`]; behind it each device keeps the type of its own worker.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thiserror::Error;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::channel::{Channel, ChannelCounters, ChannelError, Interrupt, Opening, RingTooSmall, VmbusDevice};
use super::ring::{RingError, RingPages};
use super::server::OpenRequest;
use super::synic::Synic;
use super::table::ChannelRow;
use super::trace::ChannelTrace;
use super::worker::{ChannelThread, Finished, Work};
use crate::mem::{MemError, Pages};

/// Why a channel cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The thread of the last opening has not been joined.
    #[error("The channel is open already")]
    Busy,
    /// A ring page is not RAM.
    #[error("The rings are not usable")]
    Memory(#[from] MemError),
    /// The rings are too small or their indices out of range.
    #[error("The rings are not usable")]
    Ring(#[from] RingError),
    /// The device's packets could never be in a ring of that size.
    #[error(transparent)]
    TooSmall(#[from] RingTooSmall),
    /// The device refuses.
    #[error("The device refuses")]
    Device(#[from] ChannelError),
    /// The host gives no descriptor, thread or doorbell.
    #[error("The host cannot serve the channel")]
    Host(#[from] std::io::Error),
}

/// A slot whose device's type the bus need not know.
pub(super) trait AnySlot: Debug + Send {
    fn name(&self) -> &str;
    /// A slot for another channel of the same device.
    fn another(&self, name: String) -> Box<dyn AnySlot>;
    fn open(
        &mut self,
        request: &OpenRequest,
        opening: Opening,
        synic: &Arc<dyn Synic>,
        trace: Option<ChannelTrace>,
        finished: Finished,
    ) -> Result<(), OpenError>;
    /// Asks the channel's thread to end; `false` if there is none.
    fn stop(&mut self) -> bool;
    /// Waits for the thread and gives its worker back to the device. Returns whether the thread was asked to
    /// stop; without a thread, `false`.
    fn join(&mut self, synic: &dyn Synic) -> bool;
    fn retarget(&self, vp: Option<u32>);
    /// Adds what this opening, or the last, has counted.
    fn count(&self, synic: &dyn Synic, row: &mut ChannelRow);
}

#[derive(Debug)]
pub(super) struct Slot<D: VmbusDevice> {
    name: String,
    device: Arc<Mutex<D>>,
    running: Option<Running<D>>,
    /// The last opening, for tables; kept when the channel closes.
    last: Option<Opened>,
}

#[derive(Debug)]
struct Running<D: VmbusDevice> {
    thread: ChannelThread<D::Worker>,
    interrupt: Arc<Interrupt>,
    /// From the guest, and to the guest; only looked at.
    rings: (RingPages, RingPages),
    connection_id: u32,
    stopping: bool,
}

#[derive(Debug)]
struct Opened {
    counters: Arc<ChannelCounters>,
    /// Doorbells through user space, as of when the channel closed.
    exits: u64,
}

impl<D: VmbusDevice> Slot<D> {
    pub(super) fn new(name: String, device: D) -> Self {
        Self::of(name, Arc::new(Mutex::new(device)))
    }

    fn of(name: String, device: Arc<Mutex<D>>) -> Self {
        Slot { name, device, running: None, last: None }
    }

    /// Never waits: only the control loop asks.
    fn device(&self) -> MutexGuard<'_, D> {
        self.device.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<D: VmbusDevice + 'static> AnySlot for Slot<D> {
    fn name(&self) -> &str {
        &self.name
    }

    fn another(&self, name: String) -> Box<dyn AnySlot> {
        Box::new(Slot::of(name, Arc::clone(&self.device)))
    }

    fn open(
        &mut self,
        request: &OpenRequest,
        opening: Opening,
        synic: &Arc<dyn Synic>,
        trace: Option<ChannelTrace>,
        finished: Finished,
    ) -> Result<(), OpenError> {
        if self.running.is_some() {
            return Err(OpenError::Busy);
        }
        let (from_guest, to_guest) = request.ring_pfns();
        let from_guest = RingPages::new(Pages::resolve(&opening.ram, from_guest)?)?;
        let to_guest = RingPages::new(Pages::resolve(&opening.ram, to_guest)?)?;
        self.device().ring_needs(&opening).check(&from_guest, &to_guest)?;
        let rings = (from_guest.clone(), to_guest.clone());
        let counters = Arc::new(ChannelCounters::default());
        let interrupt = Arc::new(Interrupt::new(Arc::clone(synic), request.event_flag, request.target_vp));
        let mut channel = Channel::open(from_guest, to_guest, Arc::clone(&interrupt), Arc::clone(&counters))?;
        channel.record(trace);
        let doorbell = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
        let worker = self.device().open(&opening)?;
        // Bound before the guest learns that the channel is open: its first ring must not be lost.
        let connection_id = request.connection_id;
        if let Err(error) = synic.bind_event(connection_id, &doorbell) {
            self.device().closed(Some(worker));
            return Err(error.into());
        }
        let work = Work { worker, channel, doorbell, counters: Arc::clone(&counters) };
        let thread = match ChannelThread::start(&self.name, work, finished) {
            Ok(thread) => thread,
            Err(error) => {
                synic.unbind_event(connection_id);
                self.device().closed(None);
                return Err(error.into());
            }
        };
        self.running = Some(Running { thread, interrupt, rings, connection_id, stopping: false });
        self.last = Some(Opened { counters, exits: 0 });
        Ok(())
    }

    fn stop(&mut self) -> bool {
        let Some(running) = &mut self.running else { return false };
        running.stopping = true;
        running.thread.stop();
        true
    }

    fn join(&mut self, synic: &dyn Synic) -> bool {
        let Some(running) = self.running.take() else { return false };
        if let Some(last) = &mut self.last {
            last.exits = synic.event_exits(running.connection_id);
        }
        synic.unbind_event(running.connection_id);
        let (worker, stopping) = (running.thread.join(), running.stopping);
        self.device().closed(worker);
        stopping
    }

    fn retarget(&self, vp: Option<u32>) {
        if let (Some(running), Some(last)) = (&self.running, &self.last) {
            running.interrupt.retarget(vp, &last.counters);
        }
    }

    fn count(&self, synic: &dyn Synic, row: &mut ChannelRow) {
        let Some(last) = &self.last else { return };
        let exits = match &self.running {
            Some(running) => {
                row.outgoing_used = running.rings.0.used();
                row.incoming_used = running.rings.1.used();
                synic.event_exits(running.connection_id)
            }
            None => last.exits,
        };
        row.count(&last.counters, exits);
    }
}
