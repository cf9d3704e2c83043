//! What stands between an initiator and a command: unit attentions that it must be told first, and reservations.
//!
//! Almost always nothing does. One word therefore says, a bit for each initiator, for whom there may be something;
//! for all others [`Gate::pass`] is a load of this word, without the lock. Whoever changes what is behind the lock
//! writes the word before letting go of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bitflags::bitflags;

use super::protocol::cdb::{POWER_CONDITION, START};
use super::reservation::Reservations;
use super::sense::{self, Sense};
use super::unit::{Fault, Initiator, Reset};

const _: () = assert!(Initiator::COUNT == u64::BITS as usize);

bitflags! {
    /// What an initiator must be told. It is told the first of these first.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Attention: u8 {
        const POWER_ON = 1 << 0;
        const MEDIUM_CHANGED = 1 << 1;
        const MODE_CHANGED = 1 << 2;
        const RESERVATIONS_PREEMPTED = 1 << 3;
        const RESERVATIONS_RELEASED = 1 << 4;
        const REGISTRATIONS_PREEMPTED = 1 << 5;
    }
}

impl Attention {
    /// Takes the first one. Whoever is told that all begins anew need not be told what happened before.
    fn take(&mut self) -> Option<Sense> {
        let first = self.iter().next()?;
        self.remove(if first == Attention::POWER_ON { Attention::all() } else { first });
        Some(match first {
            Attention::POWER_ON => sense::POWER_ON_OR_RESET_OCCURRED,
            Attention::MEDIUM_CHANGED => sense::NOT_READY_TO_READY_CHANGE,
            Attention::MODE_CHANGED => sense::MODE_PARAMETERS_CHANGED,
            Attention::RESERVATIONS_PREEMPTED => sense::RESERVATIONS_PREEMPTED,
            Attention::RESERVATIONS_RELEASED => sense::RESERVATIONS_RELEASED,
            _ => sense::REGISTRATIONS_PREEMPTED,
        })
    }
}

/// What a command does, as far as reservations are concerned (SPC-4 table 66, SBC-3 table 13, SPC-2 table 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Nothing stops it: neither a reservation nor a unit attention, which stays for the next command.
    Free,
    /// No reservation stops it.
    Any,
    /// A persistent reservation does not stop it, RESERVE does.
    Unreserved,
    /// It reads.
    Read,
    /// It writes or changes a setting.
    Write,
    /// PREVENT ALLOW MEDIUM REMOVAL: to prevent is to change a setting.
    Removal,
    /// START STOP UNIT: anything but a start is to change a setting.
    StartStop,
}

impl Access {
    /// What this CDB does: none of the last two.
    fn of(self, cdb: &[u8]) -> Self {
        let flags = cdb.get(4).copied().unwrap_or(0);
        match self {
            Access::Removal if flags & 1 == 0 => Access::Any,
            Access::StartStop if flags & (START | POWER_CONDITION) == START => Access::Any,
            Access::Removal | Access::StartStop => Access::Write,
            other => other,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Gate {
    /// Bit for each initiator: look behind the lock.
    closed: AtomicU64,
    state: Mutex<State>,
}

/// What each initiator must be told.
#[derive(Debug)]
pub(super) struct Attentions([Attention; Initiator::COUNT]);

impl Attentions {
    pub fn raise(&mut self, attention: Attention, whom: impl Fn(Initiator) -> bool) {
        for (initiator, pending) in Initiator::all().zip(&mut self.0) {
            if whom(initiator) {
                *pending |= attention;
            }
        }
    }

    fn forget(&mut self, initiator: Initiator) {
        if let Some(pending) = self.0.get_mut(usize::from(initiator.number())) {
            *pending = Attention::empty();
        }
    }

    fn take(&mut self, initiator: Initiator) -> Option<Sense> {
        self.0.get_mut(usize::from(initiator.number()))?.take()
    }
}

#[derive(Debug)]
struct State {
    attentions: Attentions,
    /// Who holds the unit by RESERVE (6) or (10).
    reserved_by: Option<Initiator>,
    persistent: Reservations,
}

impl State {
    fn permits(&self, initiator: Initiator, access: Access) -> bool {
        let reserved = self.reserved_by.is_some_and(|holder| holder != initiator);
        (!reserved || access == Access::Any) && self.persistent.permits(initiator, access)
    }

    fn check_unregistered(&self) -> Result<(), Fault> {
        if self.persistent.registrants().next().is_some() { Err(Fault::Conflict) } else { Ok(()) }
    }

    fn closed(&self) -> u64 {
        let closed = |(initiator, attention): (Initiator, &Attention)| {
            !attention.is_empty() || !self.permits(initiator, Access::Write)
        };
        let bits =
            Initiator::all().zip(&self.attentions.0).map(|both| u64::from(closed(both)) << both.0.number());
        bits.fold(0, |all, bit| all | bit)
    }
}

impl Default for Gate {
    /// Nobody is told that the unit was switched on, as on Hyper-V: the firmware (StorvscDxe) takes the sense of an
    /// answer for that of every good one after it, and would test until the end of days whether the unit is ready.
    fn default() -> Self {
        let attentions = Attentions([Attention::empty(); Initiator::COUNT]);
        let state = State { attentions, reserved_by: None, persistent: Reservations::default() };
        Gate { closed: AtomicU64::new(state.closed()), state: Mutex::new(state) }
    }
}

impl Gate {
    /// Whether an initiator may do this now. The answer that says no may be a unit attention: it is told once.
    pub fn pass(&self, initiator: Initiator, access: Access, cdb: &[u8]) -> Result<(), Fault> {
        if access == Access::Free || self.closed.load(Ordering::Acquire) >> initiator.number() & 1 == 0 {
            return Ok(());
        }
        let access = access.of(cdb);
        self.change(|state| {
            // A conflict is told first (SAM-5 5.3.3); the attention waits.
            if !state.permits(initiator, access) {
                return Err(Fault::Conflict);
            }
            state.attentions.take(initiator).map_or(Ok(()), |sense| Err(sense.into()))
        })
    }

    /// Takes what the initiator must be told.
    pub fn take_attention(&self, initiator: Initiator) -> Option<Sense> {
        self.change(|state| state.attentions.take(initiator))
    }

    /// From now on these initiators must be told this.
    pub fn raise(&self, attention: Attention, whom: impl Fn(Initiator) -> bool) {
        self.change(|state| state.attentions.raise(attention, whom));
    }

    /// Ends what RESERVE began. Initiators are told of a unit's reset; one that begins anew knows of nothing that
    /// could have changed, so it is told nothing (see [`Gate::default`]).
    pub fn reset(&self, reset: Reset) {
        let concerns = |initiator| match reset {
            Reset::Initiator(one) => one == initiator,
            Reset::Unit => true,
        };
        self.change(|state| {
            state.reserved_by = state.reserved_by.filter(|&holder| !concerns(holder));
            match reset {
                Reset::Initiator(one) => state.attentions.forget(one),
                Reset::Unit => state.attentions.raise(Attention::POWER_ON, |_| true),
            }
        });
    }

    /// RESERVE (6) or (10). Conflicts with any persistent registration (SPC-2 5.5.1).
    pub fn reserve(&self, initiator: Initiator) -> Result<(), Fault> {
        self.change(|state| {
            state.check_unregistered()?;
            state.reserved_by = Some(initiator);
            Ok(())
        })
    }

    /// RELEASE (6) or (10): has no effect on the reservation of another.
    pub fn release(&self, initiator: Initiator) -> Result<(), Fault> {
        self.change(|state| {
            state.check_unregistered()?;
            state.reserved_by = state.reserved_by.filter(|&holder| holder != initiator);
            Ok(())
        })
    }

    /// Reads persistent reservations.
    pub fn persistent_in<R>(&self, read: impl FnOnce(&Reservations) -> R) -> R {
        self.change(|state| read(&state.persistent))
    }

    /// Changes persistent reservations. Conflicts with RESERVE, even the initiator's own.
    pub fn persistent_out(
        &self,
        change: impl FnOnce(&mut Reservations, &mut Attentions) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        self.change(|State { attentions, reserved_by, persistent }| match reserved_by {
            Some(_) => Err(Fault::Conflict),
            None => change(persistent, attentions),
        })
    }

    fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state: MutexGuard<'_, State> = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut state);
        self.closed.store(state.closed(), Ordering::Release);
        result
    }
}
