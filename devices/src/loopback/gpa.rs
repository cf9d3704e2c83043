//! Requests that name guest memory: everything is checked before anything is touched, and memory goes by page by
//! page through one small buffer.

use super::protocol::{FNV_OFFSET_BASIS, MAX_GPA_BYTES, fnv1a, status};
use crate::mem::{GuestRam, MemError, PAGE_SIZE, Piece};
use crate::vmbus::ring::{GpaRanges, Packet};

/// The memory that one packet names.
#[derive(Debug)]
pub(super) struct Named<'a> {
    ram: &'a GuestRam,
    ranges: GpaRanges<'a>,
    /// Bytes in all ranges.
    pub bytes: usize,
}

impl<'a> Named<'a> {
    /// Checks the ranges and their pages; an error is the status for the guest.
    pub fn by(packet: &Packet<'a>, ram: &'a GuestRam) -> Result<Self, u32> {
        let ranges = packet.gpa_ranges().map_err(|_| status::BAD_REQUEST)?;
        let bytes = ranges.clone().try_fold(0, |sum: usize, range| {
            sum.checked_add(range.len as usize).filter(|&sum| sum <= MAX_GPA_BYTES)
        });
        let named = Named { ram, ranges, bytes: bytes.ok_or(status::BAD_REQUEST)? };
        named.for_each(|_| ()).map_err(|_| status::NO_MEMORY)?;
        Ok(named)
    }

    /// FNV-1a of the bytes in their order.
    pub fn sum(&self) -> Result<u64, MemError> {
        let mut sum = FNV_OFFSET_BASIS;
        let mut buffer = [0; PAGE_SIZE];
        self.for_each(|piece| sum = fnv1a(sum, piece.read(&mut buffer)))?;
        Ok(sum)
    }

    /// Inverts every bit, once for each time that its byte is named.
    pub fn invert(&self) -> Result<(), MemError> {
        let mut buffer = [0; PAGE_SIZE];
        self.for_each(|piece| {
            let bytes = piece.read(&mut buffer);
            bytes.iter_mut().for_each(|byte| *byte = !*byte);
            piece.write(bytes);
        })
    }

    fn for_each(&self, mut touch: impl FnMut(Piece<'_>)) -> Result<(), MemError> {
        for range in self.ranges.clone() {
            for piece in range.pieces(self.ram) {
                touch(piece?);
            }
        }
        Ok(())
    }
}
