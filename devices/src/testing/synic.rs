//! A SynIC without a hypervisor: messages and event flags wait until a test takes them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use vmm_sys_util::eventfd::EventFd;

use crate::hvdef::{EVENT_FLAG_COUNT, MESSAGE_PAYLOAD_MAX, SINT_COUNT, VMBUS_SINT};
use crate::vmbus::synic::{MESSAGE_QUEUE_LEN, PostError, SignalError, Synic};

/// A message as it lies in a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestMessage {
    /// The virtual processor.
    pub vp: u32,
    /// The SINT.
    pub sint: u8,
    /// The payload, exactly as long as the host said.
    pub payload: Vec<u8>,
}

#[derive(Debug, Default)]
struct State {
    messages: VecDeque<TestMessage>,
    flags: BTreeSet<(u32, u16)>,
    interrupts: BTreeMap<(u32, u16), u64>,
    doorbells: BTreeMap<u32, EventFd>,
    drained: Option<EventFd>,
    full: bool,
}

/// The SynIC of a [`TestGuest`](super::TestGuest).
#[derive(Debug)]
pub struct TestSynic {
    vp_count: u32,
    state: Mutex<State>,
    interrupted: Condvar,
}

impl TestSynic {
    /// A SynIC of so many virtual processors.
    #[must_use]
    pub fn new(vp_count: u32) -> Self {
        TestSynic { vp_count, state: Mutex::default(), interrupted: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Takes the oldest message from its slot.
    pub fn take_message(&self) -> Option<TestMessage> {
        let mut state = self.state();
        let message = state.messages.pop_front();
        if std::mem::take(&mut state.full) {
            state.drained.as_ref().expect("the bus names an eventfd").write(1).unwrap();
        }
        message
    }

    /// Messages that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.state().messages.len()
    }

    /// Takes an event flag, waiting for it until `deadline`; whether it was set.
    pub fn take_flag(&self, vp: u32, flag: u16, deadline: Instant) -> bool {
        let mut state = self.state();
        loop {
            if state.flags.remove(&(vp, flag)) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return false;
            }
            state = self.interrupted.wait_timeout(state, left).unwrap().0;
        }
    }

    /// How often a flag was newly set, which is how often the guest was interrupted.
    #[must_use]
    pub fn interrupts(&self, vp: u32, flag: u16) -> u64 {
        self.state().interrupts.get(&(vp, flag)).copied().unwrap_or(0)
    }

    /// The guest's HvSignalEvent; whether somebody listens.
    pub fn ring(&self, connection_id: u32) -> bool {
        let state = self.state();
        let doorbell = state.doorbells.get(&connection_id);
        doorbell.is_some_and(|doorbell| doorbell.write(1).is_ok())
    }

    /// Connection ids that are bound.
    #[must_use]
    pub fn bound(&self) -> Vec<u32> {
        self.state().doorbells.keys().copied().collect()
    }
}

impl Synic for TestSynic {
    fn vp_count(&self) -> u32 {
        self.vp_count
    }

    fn post_message(&self, vp: u32, sint: u8, payload: &[u8]) -> Result<(), PostError> {
        if vp >= self.vp_count {
            return Err(PostError::NoVp(vp));
        }
        if sint >= SINT_COUNT {
            return Err(PostError::NoSint(sint));
        }
        if payload.len() > MESSAGE_PAYLOAD_MAX {
            return Err(PostError::TooLong(payload.len()));
        }
        let mut state = self.state();
        if state.messages.len() >= MESSAGE_QUEUE_LEN {
            state.full = true;
            return Err(PostError::Full(vp));
        }
        state.messages.push_back(TestMessage { vp, sint, payload: payload.to_vec() });
        Ok(())
    }

    fn drop_messages(&self) {
        self.state().messages.clear();
    }

    fn notify_drained(&self, drained: EventFd) {
        self.state().drained = Some(drained);
    }

    fn signal_event(&self, vp: u32, sint: u8, flag: u16) -> Result<(), SignalError> {
        if vp >= self.vp_count {
            return Err(SignalError::NoVp(vp));
        }
        if sint != VMBUS_SINT {
            return Err(SignalError::NoSint(sint));
        }
        if flag >= EVENT_FLAG_COUNT {
            return Err(SignalError::NoFlag(flag));
        }
        let mut state = self.state();
        if state.flags.insert((vp, flag)) {
            *state.interrupts.entry((vp, flag)).or_default() += 1;
            self.interrupted.notify_all();
        }
        Ok(())
    }

    fn bind_event(&self, connection_id: u32, doorbell: &EventFd) -> io::Result<()> {
        let mut state = self.state();
        if state.doorbells.contains_key(&connection_id) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.doorbells.insert(connection_id, doorbell.try_clone()?);
        Ok(())
    }

    fn unbind_event(&self, connection_id: u32) {
        self.state().doorbells.remove(&connection_id);
    }

    fn event_exits(&self, _: u32) -> u64 {
        0
    }
}
