//! Holds the virtual processors out of the guest while the machine is paused.
//!
//! The control loop closes the gate and kicks every thread (see [`super::kick`]); each comes here before it enters
//! the guest again, and stays. The last to arrive says so, because the control loop does not wait for them: a
//! thread may be busy with an exit, for instance writing to a console that nobody reads.
//!
//! Only processors stop. Time goes on for the guest: its TSC, its reference time and its timers are the host's, so
//! to the guest a pause is time in which it was not scheduled, and timers that fell due fire when it goes on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

/// Whether the guest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    /// It does.
    Running,
    /// Some of its virtual processors have not stopped yet.
    Pausing,
    /// It stands still.
    Paused,
}

/// The gate that every virtual processor passes on its way into the guest.
#[derive(Debug)]
pub struct Gate {
    vps: usize,
    /// The same as in `state`, to be read without the lock.
    closed: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    /// Virtual processors that wait here.
    held: usize,
}

impl Gate {
    /// An open gate for so many virtual processors.
    #[must_use]
    pub fn new(vps: usize) -> Self {
        Gate { vps, closed: AtomicBool::new(false), state: Mutex::default(), changed: Condvar::new() }
    }

    /// Closes the gate. Kick every virtual processor after it.
    pub fn close(&self) {
        self.lock().closed = true;
        self.closed.store(true, Ordering::Release);
    }

    /// Lets all go on.
    pub fn open(&self) {
        self.lock().closed = false;
        self.closed.store(false, Ordering::Release);
        self.changed.notify_all();
    }

    /// Makes those who wait look whether they are to stop.
    pub fn wake(&self) {
        // The lock: nobody is between its look at `stop` and its sleep.
        let _state = self.lock();
        self.changed.notify_all();
    }

    /// How many are held, in one word.
    pub fn state(&self) -> RunState {
        let state = self.lock();
        match state.closed {
            false => RunState::Running,
            true if state.held < self.vps => RunState::Pausing,
            true => RunState::Paused,
        }
    }

    /// Holds the calling virtual processor while the gate is closed, or until it is to stop. `all_held` is called
    /// if it was the last to arrive.
    pub fn hold(&self, stop: &AtomicBool, all_held: impl FnOnce()) {
        if !self.closed.load(Ordering::Acquire) {
            return;
        }
        let mut state = self.lock();
        if !state.closed {
            return;
        }
        state.held += 1;
        if state.held == self.vps {
            all_held();
        }
        while state.closed && !stop.load(Ordering::Acquire) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.held -= 1;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::thread;

    #[test]
    fn an_open_gate_holds_nobody() {
        let gate = Gate::new(1);
        gate.hold(&AtomicBool::new(false), || panic!("nobody is held"));
        gate.close();
        assert_eq!(gate.state(), RunState::Pausing);
        gate.open();
        gate.hold(&AtomicBool::new(false), || panic!("nobody is held"));
        assert_eq!(gate.state(), RunState::Running);
    }

    #[test]
    fn the_machine_is_paused_when_the_last_processor_waits() {
        let (gate, stop) = (Gate::new(2), AtomicBool::new(false));
        let (held, all_held) = channel();
        gate.close();
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| gate.hold(&stop, || held.send(()).unwrap()));
            }
            all_held.recv().unwrap();
            assert_eq!(gate.state(), RunState::Paused);
            gate.open();
        });
        assert!(all_held.try_recv().is_err(), "said once");
        assert_eq!((gate.state(), gate.lock().held), (RunState::Running, 0));
    }

    #[test]
    fn a_paused_machine_can_be_stopped() {
        let (gate, stop) = (Gate::new(1), AtomicBool::new(false));
        let (held, all_held) = channel();
        gate.close();
        thread::scope(|scope| {
            scope.spawn(|| gate.hold(&stop, || held.send(()).unwrap()));
            all_held.recv().unwrap();
            stop.store(true, Ordering::Release);
            gate.wake();
        });
    }
}
