//! The guest memory of one request, as the kernel's scatter-gather list.
//!
//! The one place that holds host addresses of guest memory after the borrow of the RAM has ended. Whoever holds
//! [`Buffers`] is part of a [`Queue`](super::Queue), which keeps the RAM mapped until nothing holds any. The guest may
//! write to that memory at any moment: what is copied here are values, on which nothing of ours depends.

#![expect(unsafe_code, reason = "guest memory by address, because the kernel takes addresses")]

use libc::iovec;
use vm_memory::VolatileSlice;

use crate::mem::{MemError, Piece};

/// Most entries of a list that the kernel takes at once (`UIO_MAXIOV`).
const MOST: usize = 1024;

/// Guest memory of one request.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    list: Vec<iovec>,
}

// SAFETY: the addresses are of guest RAM, which is shared between threads by nature and stays mapped at these addresses
// while the queue lives; nothing here is tied to a thread.
unsafe impl Send for Buffers {}

impl Buffers {
    /// Takes the addresses of `len` bytes; pieces that lie one after the other become one entry.
    pub(super) fn take<'r>(
        &mut self,
        len: u64,
        pieces: impl Iterator<Item = Result<Piece<'r>, MemError>>,
    ) -> Result<(), MemError> {
        self.list.clear();
        let mut taken = 0;
        for piece in pieces {
            let piece = piece?;
            taken += piece.size() as u64;
            let (base, size) = (piece.address().cast(), piece.size());
            match self.list.last_mut() {
                Some(last) if last.iov_base.addr() + last.iov_len == base_addr(base) => last.iov_len += size,
                _ => self.list.push(iovec { iov_base: base, iov_len: size }),
            }
        }
        if taken != len {
            let [offset, len, size] = [0, len, taken].map(|n| usize::try_from(n).unwrap_or(usize::MAX));
            return Err(MemError::OutOfRange { offset, len, size });
        }
        Ok(())
    }

    pub(super) fn clear(&mut self) {
        self.list.clear();
    }

    /// Some entries of the list.
    pub(super) fn entries(&self, first: usize, count: usize) -> &[iovec] {
        self.list.get(first..).and_then(|rest| rest.get(..count)).unwrap_or_default()
    }

    /// How many entries from `first` on hold the next `most` bytes, and how many bytes they hold: fewer if there are
    /// many entries. The last entry is cut in two where the bytes end.
    pub(super) fn cut(&mut self, first: usize, most: u64) -> (usize, u64) {
        let (mut count, mut bytes) = (0, 0);
        while let Some(entry) = self.list.get_mut(first + count)
            && bytes < most
            && count < MOST
        {
            let (size, rest) = (entry.iov_len as u64, most - bytes);
            count += 1;
            bytes += size.min(rest);
            if let Ok(rest) = usize::try_from(rest)
                && rest < entry.iov_len
            {
                let iov_base = entry.iov_base.wrapping_byte_add(rest);
                let tail = iovec { iov_base, iov_len: entry.iov_len - rest };
                entry.iov_len = rest;
                self.list.insert(first + count, tail);
            }
        }
        (count, bytes)
    }

    /// Takes bytes off the front of some entries and returns how many entries that used up.
    pub(super) fn advance(&mut self, first: usize, bytes: usize) -> usize {
        let (mut used, mut left) = (0, bytes);
        while let Some(entry) = self.list.get_mut(first + used) {
            if left < entry.iov_len {
                entry.iov_base = entry.iov_base.wrapping_byte_add(left);
                entry.iov_len -= left;
                break;
            }
            left -= entry.iov_len;
            used += 1;
        }
        used
    }

    /// Copies bytes into guest memory, from its byte `at` on.
    pub(super) fn copy_in(&self, at: u64, bytes: &[u8]) {
        let mut rest = bytes;
        self.walk(at, bytes.len(), |guest| {
            let (now, later) = rest.split_at(guest.len());
            guest.copy_from(now);
            rest = later;
        });
    }

    /// Copies bytes out of guest memory, from its byte `at` on.
    pub(super) fn copy_out(&self, at: u64, bytes: &mut [u8]) {
        let len = bytes.len();
        let mut rest = bytes;
        self.walk(at, len, |guest| {
            let (now, later) = std::mem::take(&mut rest).split_at_mut(guest.len());
            guest.copy_to(now);
            rest = later;
        });
    }

    /// Zeroes guest memory.
    pub(super) fn zero(&self, first: usize, count: usize) {
        const ZEROES: [u8; 4096] = [0; 4096];
        for entry in self.entries(first, count) {
            let guest = slice(entry);
            let mut at = 0;
            while let Ok(rest) = guest.offset(at)
                && !rest.is_empty()
            {
                rest.copy_from(&ZEROES);
                at += ZEROES.len().min(rest.len());
            }
        }
    }

    /// Calls `each` with the memory of `len` bytes from byte `at` on.
    fn walk(&self, at: u64, len: usize, mut each: impl FnMut(VolatileSlice<'_>)) {
        let (mut skip, mut left) = (usize::try_from(at).unwrap_or(usize::MAX), len);
        for entry in &self.list {
            if left == 0 {
                break;
            }
            if skip < entry.iov_len {
                let now = left.min(entry.iov_len - skip);
                if let Ok(guest) = slice(entry).subslice(skip, now) {
                    each(guest);
                }
                (skip, left) = (0, left - now);
            } else {
                skip -= entry.iov_len;
            }
        }
    }
}

fn base_addr(base: *mut libc::c_void) -> usize {
    base.addr()
}

/// The memory of an entry.
fn slice(entry: &iovec) -> VolatileSlice<'_> {
    // SAFETY: the entry is of a piece, or a part of one: checked against the RAM, which the queue keeps mapped.
    unsafe { VolatileSlice::new(entry.iov_base.cast(), entry.iov_len) }
}
