//! The generation id: 16 bytes in guest memory that change when the machine is not the one it was, for instance
//! because it was copied or taken back to an earlier state. The guest learns of a change by GPE 0
//! ([`GPE_GENERATION_ID`](crate::legacy::pm::GPE_GENERATION_ID)); raising it is the machine's part.
//!
//! Source: Microsoft's "Virtual Machine Generation ID".

use super::memory;
use crate::guest_warn;
use crate::guid::Guid;
use crate::mem::GuestRam;

/// The id, and where the guest looks for it.
#[derive(Debug)]
pub struct Generation {
    id: Guid,
    low: Option<u32>,
    high: Option<u32>,
}

impl Generation {
    /// An id that the firmware has not named a place for.
    pub(super) fn new(id: Guid) -> Self {
        Generation { id, low: None, high: None }
    }

    /// An id at a place that the machine's own tables name; it is written there.
    #[must_use]
    pub fn placed(ram: &GuestRam, id: Guid, address: u32) -> Self {
        let generation = Generation { id, low: Some(address), high: Some(0) };
        generation.write(ram);
        generation
    }

    /// The lower half of the address.
    pub(super) fn set_low(&mut self, ram: &GuestRam, low: u32) {
        self.low = Some(low);
        self.write(ram);
    }

    /// The upper half.
    pub(super) fn set_high(&mut self, ram: &GuestRam, high: u32) {
        self.high = Some(high);
        self.write(ram);
    }

    /// From now on the machine is of another generation. Whether the guest has a place for it, and can be told.
    pub fn change(&mut self, ram: &GuestRam, id: Guid) -> bool {
        self.id = id;
        self.write(ram)
    }

    /// Nothing is written before both halves are known: one alone is an address in somebody else's memory.
    fn write(&self, ram: &GuestRam) -> bool {
        let (Some(low), Some(high)) = (self.low, self.high) else { return false };
        let address = u64::from(high) << 32 | u64::from(low);
        match memory::write(ram, address, &self.id) {
            Ok(()) => true,
            Err(error) => {
                guest_warn!("The generation id has no place at {address:#x}: {error}");
                false
            }
        }
    }
}
