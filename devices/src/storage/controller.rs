//! A SCSI controller: the units that its channels share, and what its channels tell each other.
//!
//! Whoever runs the machine adds and removes units here, at any time and from any thread. Workers look at a copy of the
//! table ([`Units`]) that they renew when it has changed, so that a command takes no lock.
//!
//! What one channel, or the machine, wants of all of them lies in their mailboxes as an `Order`. An order to let go
//! ([`Drain`]) is done when its last copy is dropped: a channel drops its own when nothing of what was asked for is in
//! flight there any more, or when it ends, for whatever reason. So nobody counts, and nobody waits for ever.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thiserror::Error;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::protocol::{SHORT_PACKET, Version};
use super::scsi::{Initiator, Reset, Unit};

/// Units of one controller: what Hyper-V's has.
pub const MAX_UNITS: usize = 64;

/// Why a unit cannot be added or removed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum UnitError {
    /// Not a number of a unit.
    #[error("A controller has the LUNs 0 to {last}, not {0}", last = MAX_UNITS - 1)]
    OutOfRange(u8),
    /// Somebody else is there.
    #[error("Controller {controller} has a disk at LUN {lun} already")]
    Taken {
        /// Number of the controller.
        controller: u8,
        /// The LUN.
        lun: u8,
    },
    /// Nobody is there.
    #[error("Controller {controller} has no disk at LUN {lun}")]
    Absent {
        /// Number of the controller.
        controller: u8,
        /// The LUN.
        lun: u8,
    },
}

type Table = [Option<Arc<dyn Unit>>; MAX_UNITS];

/// A SCSI controller; its [device](super::StorageDevice) is what the bus sees of it.
#[derive(Debug)]
pub struct Controller {
    initiator: Initiator,
    units: Mutex<Table>,
    /// Counts the table's changes.
    changes: AtomicU64,
    /// Version that the guest's driver chose on the first channel, 0 before that.
    version: AtomicU16,
    /// Of its open channels.
    mailboxes: Mutex<Vec<Arc<Mailbox>>>,
}

impl Controller {
    /// A controller without units. Its number is its guest's name for it, and tells it from the others that may share
    /// units.
    #[must_use]
    pub fn new(initiator: Initiator) -> Arc<Self> {
        Arc::new(Controller {
            initiator,
            units: Mutex::new([const { None }; MAX_UNITS]),
            changes: AtomicU64::new(1),
            version: AtomicU16::new(0),
            mailboxes: Mutex::default(),
        })
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u8 {
        self.initiator.number()
    }

    /// Adds a unit; a guest that runs is told at once.
    ///
    /// # Errors
    /// [`UnitError::OutOfRange`] and [`UnitError::Taken`].
    pub fn add(&self, lun: u8, unit: Arc<dyn Unit>) -> Result<(), UnitError> {
        let mut table = self.table();
        let place = table.get_mut(usize::from(lun)).ok_or(UnitError::OutOfRange(lun))?;
        if place.is_some() {
            return Err(UnitError::Taken { controller: self.number(), lun });
        }
        *place = Some(unit);
        self.changes.fetch_add(1, Ordering::Release);
        self.post(|orders| orders.rescan = true);
        Ok(())
    }

    /// Removes a unit: what is in flight there is aborted, or waited for where it cannot be. The unit is dropped when
    /// the last channel has let go of it.
    ///
    /// # Errors
    /// [`UnitError::Absent`].
    pub fn remove(&self, lun: u8) -> Result<(), UnitError> {
        let mut table = self.table();
        let removed = table.get_mut(usize::from(lun)).and_then(Option::take);
        if removed.is_none() {
            return Err(UnitError::Absent { controller: self.number(), lun });
        }
        self.changes.fetch_add(1, Ordering::Release);
        drop(table);
        let drain = Arc::new(Drain { scope: Scope::Unit(lun), told: None });
        self.post(|orders| {
            orders.drains.push(Arc::clone(&drain));
            orders.rescan = true;
        });
        Ok(())
    }

    /// The LUNs that have a unit.
    #[must_use]
    pub fn luns(&self) -> Vec<u8> {
        (0..).zip(self.table().iter()).filter(|(_, unit)| unit.is_some()).map(|(lun, _)| lun).collect()
    }

    pub(super) fn initiator(&self) -> Initiator {
        self.initiator
    }

    /// Lets a new channel take part.
    pub(super) fn join(self: &Arc<Self>) -> io::Result<Member> {
        let wake = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
        let mailbox = Arc::new(Mailbox { orders: Mutex::default(), wake });
        self.mailboxes().push(Arc::clone(&mailbox));
        Ok(Member { controller: Arc::clone(self), mailbox })
    }

    /// The guest's driver begins anew.
    pub(super) fn begin(&self) {
        self.version.store(0, Ordering::Relaxed);
        self.reset(Scope::All, Reset::Initiator(self.initiator));
    }

    /// The guest's driver has chosen a version.
    pub(super) fn speak(&self, version: Version) {
        self.version.store(version.0, Ordering::Relaxed);
    }

    /// Whether a version was chosen.
    pub(super) fn is_spoken_to(&self) -> bool {
        self.version.load(Ordering::Relaxed) != 0
    }

    /// Bytes of a packet: the fewest that make one, now.
    pub(super) fn packet_size(&self) -> usize {
        match self.version.load(Ordering::Relaxed) {
            0 => SHORT_PACKET,
            version => Version(version).packet_size(),
        }
    }

    /// Resets the units of a scope.
    pub(super) fn reset(&self, scope: Scope, reset: Reset) {
        for (lun, unit) in (0..).zip(self.table().iter()) {
            if let Some(unit) = unit
                && scope.has(lun)
            {
                unit.reset(reset);
            }
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.units.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mailboxes(&self) -> MutexGuard<'_, Vec<Arc<Mailbox>>> {
        self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn post(&self, mut write: impl FnMut(&mut Orders)) {
        for mailbox in &*self.mailboxes() {
            mailbox.post(&mut write);
        }
    }
}

/// Units that an order is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    All,
    Unit(u8),
}

impl Scope {
    pub fn has(self, lun: u8) -> bool {
        self == Scope::All || self == Scope::Unit(lun)
    }
}

/// An order to let go of units: done when its last copy is dropped.
#[derive(Debug)]
pub(super) struct Drain {
    pub scope: Scope,
    told: Option<Arc<Mailbox>>,
}

impl Drop for Drain {
    fn drop(&mut self) {
        if let Some(mailbox) = &self.told {
            mailbox.post(|orders| orders.drained = true);
        }
    }
}

/// What a channel is to do.
#[derive(Debug, Default)]
pub(super) struct Orders {
    pub drains: Vec<Arc<Drain>>,
    /// The drain that this channel asked for is done.
    pub drained: bool,
    /// Units have come or gone.
    pub rescan: bool,
}

#[derive(Debug)]
struct Mailbox {
    orders: Mutex<Orders>,
    wake: EventFd,
}

impl Mailbox {
    fn post(&self, write: impl FnOnce(&mut Orders)) {
        write(&mut self.orders.lock().unwrap_or_else(PoisonError::into_inner));
        // Fails only when the counter is at its end, and then the channel is awake already.
        let _ = self.wake.write(1);
    }
}

/// An open channel's part in its controller; gone when it is dropped.
#[derive(Debug)]
pub(super) struct Member {
    pub controller: Arc<Controller>,
    mailbox: Arc<Mailbox>,
}

impl Member {
    /// Readable when there are orders.
    pub fn wake_fd(&self) -> RawFd {
        self.mailbox.wake.as_raw_fd()
    }

    pub fn take_orders(&self) -> Orders {
        let _ = self.mailbox.wake.read();
        std::mem::take(&mut self.mailbox.orders.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Has all channels of the controller let go, this one among them; it finds `drained` in its orders when they
    /// have. Only one at a time.
    pub fn drain(&self, scope: Scope) {
        let drain = Arc::new(Drain { scope, told: Some(Arc::clone(&self.mailbox)) });
        self.controller.post(|orders| orders.drains.push(Arc::clone(&drain)));
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.controller.mailboxes().retain(|mailbox| !Arc::ptr_eq(mailbox, &self.mailbox));
        // Orders that came too late. Their drop may write to this very mailbox, so not while it is locked.
        drop(self.take_orders());
    }
}

/// A channel's copy of the units.
#[derive(Debug)]
pub(super) struct Units {
    table: Table,
    /// The controller's count of changes when it was copied.
    as_of: u64,
}

impl Units {
    pub fn new() -> Self {
        Units { table: [const { None }; MAX_UNITS], as_of: 0 }
    }

    /// Looks whether the table has changed.
    pub fn renew(&mut self, controller: &Controller) {
        if controller.changes.load(Ordering::Acquire) == self.as_of {
            return;
        }
        let table = controller.table();
        // Changes are counted under the lock.
        self.as_of = controller.changes.load(Ordering::Acquire);
        self.table.clone_from(&table);
    }

    pub fn get(&self, lun: u8) -> Option<&Arc<dyn Unit>> {
        self.table.get(usize::from(lun))?.as_ref()
    }

    /// The LUNs that have a unit.
    pub fn luns(&self) -> impl Iterator<Item = u8> {
        (0..).zip(&self.table).filter(|(_, unit)| unit.is_some()).map(|(lun, _)| lun)
    }
}
