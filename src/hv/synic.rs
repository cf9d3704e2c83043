//! The SynIC on KVM: messages into the guest's slots, event flags, doorbells.
//!
//! A message slot is written by the thread of its virtual processor alone, while that is out of the guest: KVM's
//! synthetic timers write the same slots from there, without a lock. Other threads queue the message and kick.
//! When the slot is busy the thread sets MessagePending, arms the VP's resample eventfd in [`KvmSynic::retry_fd`]
//! and returns to the guest; the guest's EOM (or EOI) fires it, the control loop calls [`KvmSynic::retry`], and
//! that kicks the VP again. Nothing polls, and with empty queues nothing wakes.
//!
//! An event flag is set by any thread: an atomic OR, then an irqfd if the bit was clear. KVM never touches the
//! event flags page.
//!
//! Locks: a VP's `messages`, then nothing; `event_page`, then nothing; `doorbells`, then nothing.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use devices::hvdef::{EVENT_FLAG_COUNT, SINT_COUNT, SLOT_SIZE, VMBUS_SINT};
use devices::mem::{GuestRam, PAGE_SIZE, Pages};
use devices::vmbus::synic::{MESSAGE_QUEUE_LEN, PostError, SignalError, Synic};
use kvm_ioctls::VmFd;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

use super::counters::Counter;
use super::ioctl;
use super::kick::Kick;
use super::kvm::{HostError, Refused, event_gsi, irqfd, message_gsi};
use super::messages::MessageQueues;

/// Bit 0 of SIMP, SIEFP and SCONTROL.
const ENABLE: u64 = 1;

/// The synthetic interrupt controllers of all virtual processors.
#[derive(Debug)]
pub struct KvmSynic {
    vm: Arc<VmFd>,
    ram: GuestRam,
    vps: Vec<Vp>,
    /// Doorbells by connection id.
    doorbells: RwLock<HashMap<u32, Doorbell>>,
    /// Told when a full queue has room again.
    drained: Mutex<Option<EventFd>>,
    /// Holds the resample eventfd of every VP, each armed for one event at a time.
    retry: Epoll,
}

#[derive(Debug)]
struct Vp {
    messages: Mutex<Messages>,
    /// Whether `messages` has something to deliver; read by the VP's thread without the lock.
    waiting: AtomicBool,
    event_page: RwLock<Option<SynicPage>>,
    event_irq: EventFd,
    /// Fires on EOM and on EOI of any SINT of this VP that had a message.
    resample: EventFd,
    kick: Arc<Kick>,
}

/// Messages to one virtual processor.
#[derive(Debug, Default)]
struct Messages {
    page: Option<SynicPage>,
    queues: MessageQueues,
    /// Interrupts of the SINTs that messages were for.
    irqs: [Option<EventFd>; SINT_COUNT as usize],
}

/// A page that the guest named in SIMP or SIEFP.
#[derive(Debug)]
struct SynicPage {
    msr: u64,
    page: Pages,
}

#[derive(Debug)]
struct Doorbell {
    eventfd: EventFd,
    exits: Counter,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl KvmSynic {
    /// The controllers of as many virtual processors as there are `kicks`.
    ///
    /// # Errors
    /// When KVM refuses an interrupt route.
    pub fn new(vm: Arc<VmFd>, ram: GuestRam, kicks: &[Arc<Kick>]) -> Result<Self, HostError> {
        let retry = Epoll::new().refused("make an epoll descriptor")?;
        let vps = (0..)
            .zip(kicks)
            .map(|(index, kick)| {
                let resample =
                    EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC).refused("make an eventfd")?;
                let unarmed = EpollEvent::new(EventSet::empty(), u64::from(index));
                retry
                    .ctl(ControlOperation::Add, resample.as_raw_fd(), unarmed)
                    .refused("watch an eventfd")?;
                Ok(Vp {
                    messages: Mutex::default(),
                    waiting: AtomicBool::new(false),
                    event_page: RwLock::new(None),
                    event_irq: irqfd(&vm, event_gsi(index))?,
                    resample,
                    kick: Arc::clone(kick),
                })
            })
            .collect::<Result<Vec<_>, HostError>>()?;
        Ok(KvmSynic { vm, ram, vps, doorbells: RwLock::default(), drained: Mutex::default(), retry })
    }

    /// A descriptor that is readable when [`KvmSynic::retry`] has something to do.
    #[must_use]
    pub fn retry_fd(&self) -> RawFd {
        self.retry.as_raw_fd()
    }

    /// Kicks each VP whose guest freed a slot that a message waits for. Called by the control loop.
    pub fn retry(&self) {
        let mut events = [EpollEvent::default(); 16];
        let ready = self.retry.wait(0, &mut events).unwrap_or(0);
        for event in events.iter().take(ready) {
            let vp = usize::try_from(event.data()).ok().and_then(|index| self.vps.get(index));
            if let Some(vp) = vp {
                vp.waiting.store(true, Ordering::Release);
                vp.kick.kick();
            }
        }
    }

    /// Takes over what the guest wrote to SIEFP and SIMP. Called on the VP's thread, out of the guest.
    pub fn set_pages(&self, vp: u32, event_page: u64, message_page: u64) {
        let Some(vp) = self.vp(vp) else { return };
        {
            let mut page = vp.event_page.write().unwrap_or_else(PoisonError::into_inner);
            *page = self.follow(page.take(), event_page);
        }
        let mut messages = lock(&vp.messages);
        messages.page = self.follow(messages.page.take(), message_page);
        vp.waiting.store(messages.queues.len() > 0, Ordering::Release);
    }

    /// Writes what fits into free message slots. Called on the VP's thread, out of the guest.
    pub fn deliver(&self, index: u32) {
        let Some(vp) = self.vp(index) else { return };
        if !vp.waiting.swap(false, Ordering::AcqRel) {
            return;
        }
        let mut messages = lock(&vp.messages);
        let was_full = messages.queues.len() >= MESSAGE_QUEUE_LEN;
        if let Err(error) = self.fill_slots(index, vp, &mut messages) {
            log::error!("No messages reach VP {index}: {error}");
        }
        if was_full
            && messages.queues.len() < MESSAGE_QUEUE_LEN
            && let Some(drained) = &*lock(&self.drained)
        {
            // Fails only when the counter is at its end, and then the reader is awake already.
            let _ = drained.write(1);
        }
    }

    /// The guest's HvSignalEvent when no eventfd in the kernel took it; `false` if nobody listens on the id.
    pub fn doorbell_exit(&self, connection_id: u32) -> bool {
        let doorbells = self.doorbells.read().unwrap_or_else(PoisonError::into_inner);
        let Some(doorbell) = doorbells.get(&connection_id) else { return false };
        doorbell.exits.count();
        // Fails only when the counter is at its end, and then the reader is awake already.
        let _ = doorbell.eventfd.write(1);
        true
    }

    fn vp(&self, index: u32) -> Option<&Vp> {
        self.vps.get(usize::try_from(index).ok()?)
    }

    /// The page that an MSR names now. A page that the guest newly enables starts as zeros (TLFS: it is an
    /// overlay page); with SYNIC2 KVM leaves that to us.
    fn follow(&self, old: Option<SynicPage>, msr: u64) -> Option<SynicPage> {
        if msr & ENABLE == 0 {
            return None;
        }
        if old.as_ref().is_some_and(|old| old.msr == msr) {
            return old;
        }
        let zeroed = Pages::resolve(&self.ram, &[msr / PAGE_SIZE as u64])
            .and_then(|page| page.write(0, &[0; PAGE_SIZE]).map(|()| page));
        match zeroed {
            Ok(page) => Some(SynicPage { msr, page }),
            Err(error) => {
                devices::guest_warn!("The guest's SynIC page {msr:#x} is of no use: {error}");
                None
            }
        }
    }

    fn fill_slots(&self, index: u32, vp: &Vp, messages: &mut Messages) -> Result<(), HostError> {
        let Messages { page: Some(SynicPage { page, .. }), queues, irqs } = messages else { return Ok(()) };
        // Before the slots are looked at: a slot that is busy from the start, with a timer's message for instance,
        // is announced by the interrupt's resample eventfd too.
        let waiting = queues.sints();
        for (sint, irq) in (0..SINT_COUNT).zip(irqs.iter_mut()) {
            if irq.is_none() && waiting & 1 << sint != 0 {
                *irq = Some(self.message_irq(index, vp, sint)?);
            }
        }
        // Only an EOM after this tells that a slot is free which is found busy now.
        let _ = vp.resample.read();
        let filled = match queues.fill_slots(page) {
            Ok(filled) => filled,
            Err(error) => {
                devices::guest_warn!("VP {index}'s message page is of no use: {error}");
                return Ok(());
            }
        };
        for (sint, irq) in irqs.iter().enumerate() {
            if let Some(irq) = irq.as_ref().filter(|_| filled.sints & 1 << sint != 0) {
                irq.write(1).refused("raise an interrupt")?;
            }
        }
        if filled.blocked {
            self.arm(index, vp).refused("watch for a free slot")?;
        }
        Ok(())
    }

    /// The interrupt of a message slot, with the VP's resample eventfd as its echo.
    fn message_irq(&self, index: u32, vp: &Vp, sint: u8) -> Result<EventFd, HostError> {
        let irq = EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC).refused("make an eventfd")?;
        self.vm
            .register_irqfd_with_resample(&irq, &vp.resample, message_gsi(index, sint))
            .refused("bind an interrupt to an eventfd")?;
        Ok(irq)
    }

    fn arm(&self, index: u32, vp: &Vp) -> io::Result<()> {
        let once = EpollEvent::new(EventSet::IN | EventSet::ONE_SHOT, u64::from(index));
        self.retry.ctl(ControlOperation::Modify, vp.resample.as_raw_fd(), once)
    }
}

impl Synic for KvmSynic {
    fn vp_count(&self) -> u32 {
        u32::try_from(self.vps.len()).unwrap_or(u32::MAX)
    }

    fn post_message(&self, index: u32, sint: u8, payload: &[u8]) -> Result<(), PostError> {
        let vp = self.vp(index).ok_or(PostError::NoVp(index))?;
        lock(&vp.messages).queues.push(index, sint, payload)?;
        vp.waiting.store(true, Ordering::Release);
        vp.kick.kick();
        Ok(())
    }

    fn drop_messages(&self) {
        for vp in &self.vps {
            lock(&vp.messages).queues.clear();
        }
    }

    fn notify_drained(&self, drained: EventFd) {
        *lock(&self.drained) = Some(drained);
    }

    fn signal_event(&self, index: u32, sint: u8, flag: u16) -> Result<(), SignalError> {
        let vp = self.vp(index).ok_or(SignalError::NoVp(index))?;
        if sint != VMBUS_SINT {
            return Err(SignalError::NoSint(sint));
        }
        if flag >= EVENT_FLAG_COUNT {
            return Err(SignalError::NoFlag(flag));
        }
        let page = vp.event_page.read().unwrap_or_else(PoisonError::into_inner);
        let page = &page.as_ref().ok_or(SignalError::NoPage(index))?.page;
        let word = usize::from(sint) * SLOT_SIZE + usize::from(flag / 32) * 4;
        let bit = 1 << (flag % 32);
        let old = page.fetch_or(word, bit, Ordering::SeqCst).map_err(|_| SignalError::NoPage(index))?;
        if old & bit == 0 {
            // Fails only when the counter is at its end, and then the interrupt is on its way already.
            let _ = vp.event_irq.write(1);
        }
        Ok(())
    }

    fn bind_event(&self, connection_id: u32, doorbell: &EventFd) -> io::Result<()> {
        ioctl::assign_event(&self.vm, connection_id, doorbell.as_raw_fd())?;
        let doorbell = Doorbell { eventfd: doorbell.try_clone()?, exits: Counter::default() };
        self.doorbells.write().unwrap_or_else(PoisonError::into_inner).insert(connection_id, doorbell);
        Ok(())
    }

    fn unbind_event(&self, connection_id: u32) {
        let bound = self.doorbells.write().unwrap_or_else(PoisonError::into_inner).remove(&connection_id);
        if bound.is_some()
            && let Err(error) = ioctl::deassign_event(&self.vm, connection_id)
        {
            log::warn!("KVM keeps the doorbell {connection_id:#x}: {error}");
        }
    }

    fn event_exits(&self, connection_id: u32) -> u64 {
        let doorbells = self.doorbells.read().unwrap_or_else(PoisonError::into_inner);
        doorbells.get(&connection_id).map_or(0, |doorbell| doorbell.exits.get())
    }
}
