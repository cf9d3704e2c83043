//! Persistent reservations: who has registered with which key, and who holds the unit (SPC-4 5.13).
//!
//! They survive resets and the guest's restarts, but not this process: "activate persist through power loss" is
//! refused. What is reserved is always the whole unit. Guarded by the [gate](super::gate)'s lock.

use std::num::NonZeroU64;

use super::gate::{Access, Attention, Attentions};
use super::sense::{self, Sense};
use super::unit::{Fault, Initiator};

/// What a reservation keeps from others (SPC-4 table 182): `WE` writes, `EA` any access. `RO` lets all registrants in;
/// with `AR` all of them hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    WriteExclusive = 1,
    ExclusiveAccess = 3,
    WriteExclusiveRegistrantsOnly = 5,
    ExclusiveAccessRegistrantsOnly = 6,
    WriteExclusiveAllRegistrants = 7,
    ExclusiveAccessAllRegistrants = 8,
}

impl Kind {
    pub const ALL: [Kind; 6] = [
        Kind::WriteExclusive,
        Kind::ExclusiveAccess,
        Kind::WriteExclusiveRegistrantsOnly,
        Kind::ExclusiveAccessRegistrantsOnly,
        Kind::WriteExclusiveAllRegistrants,
        Kind::ExclusiveAccessAllRegistrants,
    ];

    /// The type of this number.
    pub fn new(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }

    /// All registrants may do what the holder may.
    fn lets_registrants_in(self) -> bool {
        !matches!(self, Kind::WriteExclusive | Kind::ExclusiveAccess)
    }

    /// All registrants hold it.
    pub fn is_held_by_all(self) -> bool {
        matches!(self, Kind::WriteExclusiveAllRegistrants | Kind::ExclusiveAccessAllRegistrants)
    }

    /// Others may read.
    fn lets_others_read(self) -> bool {
        matches!(
            self,
            Kind::WriteExclusive | Kind::WriteExclusiveRegistrantsOnly | Kind::WriteExclusiveAllRegistrants
        )
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    kind: Kind,
    /// Who made it; not the only holder if all registrants are.
    holder: Initiator,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Reservations {
    /// Counts changes of registrations.
    generation: u32,
    keys: [Option<NonZeroU64>; Initiator::COUNT],
    held: Option<Held>,
}

impl Default for Reservations {
    fn default() -> Self {
        Reservations { generation: 0, keys: [None; Initiator::COUNT], held: None }
    }
}

impl Reservations {
    /// Whether an initiator may do this (SPC-4 table 66).
    pub fn permits(&self, initiator: Initiator, access: Access) -> bool {
        let Some(Held { kind, .. }) = self.held else { return true };
        let inside = self.holds(initiator) || kind.lets_registrants_in() && self.key(initiator).is_some();
        match access {
            Access::Read => inside || kind.lets_others_read(),
            Access::Write | Access::Removal | Access::StartStop => inside,
            Access::Free | Access::Any | Access::Unreserved => true,
        }
    }

    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Type and key of the reservation; no key if all registrants hold it.
    pub fn held(&self) -> Option<(Kind, Option<NonZeroU64>)> {
        self.held.map(|Held { kind, holder }| (kind, self.key(holder).filter(|_| !kind.is_held_by_all())))
    }

    /// Who has registered, with which key, by number.
    pub fn registrants(&self) -> impl Iterator<Item = (Initiator, NonZeroU64)> {
        Initiator::all().zip(&self.keys).filter_map(|(initiator, key)| Some((initiator, (*key)?)))
    }

    /// Whether the initiator holds the reservation.
    pub fn holds(&self, initiator: Initiator) -> bool {
        self.held.is_some_and(|Held { kind, holder }| {
            holder == initiator || kind.is_held_by_all() && self.key(initiator).is_some()
        })
    }

    fn key(&self, initiator: Initiator) -> Option<NonZeroU64> {
        self.keys.get(usize::from(initiator.number())).copied().flatten()
    }

    fn set_key(&mut self, initiator: Initiator, key: Option<NonZeroU64>) {
        if let Some(slot) = self.keys.get_mut(usize::from(initiator.number())) {
            *slot = key;
        }
    }

    /// Whoever wants to change something must have registered and know the key.
    fn check_key(&self, initiator: Initiator, key: u64) -> Result<(), Fault> {
        match self.key(initiator) {
            Some(own) if own.get() == key => Ok(()),
            _ => Err(Fault::Conflict),
        }
    }

    fn count_change(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    /// REGISTER: the initiator's key, which it must know, becomes another; 0 unregisters.
    pub fn register(
        &mut self,
        told: &mut Attentions,
        initiator: Initiator,
        key: u64,
        new: u64,
    ) -> Result<(), Fault> {
        if self.key(initiator).map_or(0, NonZeroU64::get) != key {
            return Err(Fault::Conflict);
        }
        self.register_and_ignore(told, initiator, new);
        Ok(())
    }

    /// REGISTER AND IGNORE EXISTING KEY.
    pub fn register_and_ignore(&mut self, told: &mut Attentions, initiator: Initiator, new: u64) {
        let released = self.held.filter(|_| new == 0 && self.unregister(initiator));
        if let Some(Held { kind, .. }) = released
            && kind.lets_registrants_in()
        {
            told.raise(Attention::RESERVATIONS_RELEASED, |other| self.key(other).is_some());
        }
        self.set_key(initiator, NonZeroU64::new(new));
        self.count_change();
    }

    /// Takes a registration away, and the reservation with its last holder; says whether it went.
    fn unregister(&mut self, initiator: Initiator) -> bool {
        let Some(Held { kind, holder }) = self.held else {
            self.set_key(initiator, None);
            return false;
        };
        self.set_key(initiator, None);
        let ends =
            if kind.is_held_by_all() { self.registrants().next().is_none() } else { holder == initiator };
        if ends {
            self.held = None;
        }
        ends
    }

    /// RESERVE.
    pub fn reserve(&mut self, initiator: Initiator, key: u64, kind: Kind) -> Result<(), Fault> {
        self.check_key(initiator, key)?;
        match self.held {
            None => {
                self.held = Some(Held { kind, holder: initiator });
                Ok(())
            }
            Some(held) if held.kind == kind && self.holds(initiator) => Ok(()),
            Some(_) => Err(Fault::Conflict),
        }
    }

    /// RELEASE: has no effect on what another holds.
    pub fn release(
        &mut self,
        told: &mut Attentions,
        initiator: Initiator,
        key: u64,
        kind: Kind,
    ) -> Result<(), Fault> {
        self.check_key(initiator, key)?;
        let Some(held) = self.held.filter(|_| self.holds(initiator)) else { return Ok(()) };
        if held.kind != kind {
            return Err(sense::INVALID_RELEASE_OF_PERSISTENT_RESERVATION.into());
        }
        self.held = None;
        if kind.lets_registrants_in() {
            told.raise(Attention::RESERVATIONS_RELEASED, |it| it != initiator && self.key(it).is_some());
        }
        Ok(())
    }

    /// CLEAR: no registration is left, no reservation.
    pub fn clear(&mut self, told: &mut Attentions, initiator: Initiator, key: u64) -> Result<(), Fault> {
        self.check_key(initiator, key)?;
        told.raise(Attention::RESERVATIONS_PREEMPTED, |it| it != initiator && self.key(it).is_some());
        *self = Reservations { generation: self.generation, ..Self::default() };
        self.count_change();
        Ok(())
    }

    /// PREEMPT: takes away all registrations of the victim's key; if one of them holds the reservation, it becomes the
    /// initiator's, of this type. Key 0 means all registrants if all of them hold it.
    pub fn preempt(
        &mut self,
        told: &mut Attentions,
        initiator: Initiator,
        (key, victim): (u64, u64),
        kind: Kind,
    ) -> Result<(), Fault> {
        self.check_key(initiator, key)?;
        let takes_over = self.held.is_some_and(|held| match self.held() {
            Some((_, Some(holder))) => holder.get() == victim,
            _ => held.kind.is_held_by_all() && victim == 0,
        });
        let everybody = takes_over && victim == 0;
        if victim == 0 && !everybody {
            return Err(Sense::parameter(8).into());
        }
        let is_victim = |(it, key): &(Initiator, NonZeroU64)| {
            // Whoever takes a reservation over stays registered, even if the key is its own.
            (everybody || key.get() == victim) && !(takes_over && *it == initiator)
        };
        let victims: Vec<Initiator> = self.registrants().filter(is_victim).map(|(it, _)| it).collect();
        if victims.is_empty() && !takes_over {
            return Err(Fault::Conflict);
        }
        let before = self.held;
        for &it in &victims {
            self.unregister(it);
        }
        told.raise(Attention::REGISTRATIONS_PREEMPTED, |it| it != initiator && victims.contains(&it));
        if takes_over {
            self.held = Some(Held { kind, holder: initiator });
            if before.is_some_and(|held| held.kind != kind) {
                told.raise(Attention::RESERVATIONS_RELEASED, |it| it != initiator && self.key(it).is_some());
            }
        }
        self.count_change();
        Ok(())
    }
}
