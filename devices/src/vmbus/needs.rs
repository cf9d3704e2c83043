//! What a device needs of the rings that a guest donates.
//!
//! The guest alone chooses the sizes, each direction its own. Any pair is good as long as the largest packet of the
//! device can be in its ring; one that could never carry it would stall the channel on some later day, so it is
//! refused when the channel opens, by [`slot`](super::slot), before the device hears of it.

use thiserror::Error;

use super::ring::{RingMemory, RingPages, packet_bytes};
use crate::mem::PAGE_SIZE;

/// Bytes that the device's largest packet takes in each ring, descriptor, padding and trailer included; 0 of a ring
/// that may have any size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingNeeds {
    /// In the guest's outgoing ring.
    pub from_guest: u32,
    /// In the guest's incoming ring.
    pub to_guest: u32,
}

impl RingNeeds {
    /// In both rings, room for an in-band packet or a completion with this many bytes of payload.
    #[must_use]
    pub fn of_payload(bytes: usize) -> Self {
        // More than 4 GiB fits no ring anyway.
        let need = u32::try_from(packet_bytes(bytes)).unwrap_or(u32::MAX);
        RingNeeds { from_guest: need, to_guest: need }
    }

    pub(crate) fn check(self, from_guest: &RingPages, to_guest: &RingPages) -> Result<(), RingTooSmall> {
        check("outgoing", self.from_guest, from_guest)?;
        check("incoming", self.to_guest, to_guest)
    }
}

/// A ring that could never carry the device's packets.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "The guest's {ring} ring of {pages} pages carries packets of at most {most} bytes, \
     but the device's take up to {need} bytes; {enough} pages would do"
)]
pub struct RingTooSmall {
    /// Which one, as the guest calls it: `outgoing` or `incoming`.
    pub ring: &'static str,
    /// Its pages, control page included.
    pub pages: usize,
    /// Bytes of the largest packet that it can carry.
    pub most: u32,
    /// Bytes of the largest packet of the device.
    pub need: u32,
    /// Pages of the smallest ring that would do, control page included.
    pub enough: usize,
}

fn check(ring: &'static str, need: u32, memory: &RingPages) -> Result<(), RingTooSmall> {
    let most = memory.largest_packet();
    if need <= most {
        return Ok(());
    }
    let pages = 1 + memory.data_size() as usize / PAGE_SIZE;
    // A full ring must not look empty: one unit of 8 bytes stays free.
    let enough = 1 + (need as usize + 8).div_ceil(PAGE_SIZE);
    Err(RingTooSmall { ring, pages, most, need, enough })
}

#[cfg(test)]
mod tests {
    use vm_memory::GuestAddress;

    use super::*;
    use crate::mem::{GuestRam, Pages};

    fn ring(pages: u64) -> RingPages {
        let ram = GuestRam::from_ranges(&[(GuestAddress(0), PAGE_SIZE)]).unwrap();
        let pfns: Vec<u64> = (0..pages).map(|_| 0).collect();
        RingPages::new(Pages::resolve(&ram, &pfns).unwrap()).unwrap()
    }

    #[test]
    fn the_side_that_is_too_small_is_named_with_the_size_that_would_do() {
        let needs = RingNeeds { from_guest: 4088, to_guest: 4089 };
        let error = needs.check(&ring(2), &ring(2)).unwrap_err();
        assert_eq!(error, RingTooSmall { ring: "incoming", pages: 2, most: 4088, need: 4089, enough: 3 });
        assert_eq!(
            error.to_string(),
            "The guest's incoming ring of 2 pages carries packets of at most 4088 bytes, \
             but the device's take up to 4089 bytes; 3 pages would do"
        );
        assert_eq!(needs.check(&ring(2), &ring(3)), Ok(()));
        let needs = RingNeeds::of_payload(16384);
        assert_eq!(needs, RingNeeds { from_guest: 16408, to_guest: 16408 });
        assert_eq!(needs.check(&ring(5), &ring(9)).unwrap_err().ring, "outgoing");
        assert_eq!(needs.check(&ring(5), &ring(9)).unwrap_err().enough, 6);
        assert_eq!(needs.check(&ring(6), &ring(6)), Ok(()));
    }

    #[test]
    fn the_size_that_would_do_is_the_smallest_that_does() {
        for payload in (0..20_000).step_by(7) {
            let needs = RingNeeds::of_payload(payload);
            if let Err(error) = needs.check(&ring(2), &ring(2)) {
                let enough = error.enough as u64;
                assert_eq!(needs.check(&ring(enough), &ring(enough)), Ok(()), "{payload}");
                assert!(needs.check(&ring(enough - 1), &ring(enough)).is_err(), "{payload}");
            }
        }
    }

    #[test]
    fn a_device_without_needs_takes_any_ring() {
        assert_eq!(RingNeeds::default().check(&ring(2), &ring(2)), Ok(()));
    }
}
