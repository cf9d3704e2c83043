//! Copies between guest memory and ours.
//!
//! Copies out are relaxed atomic loads, a word at a time, never `memcpy`: what the guest writes meanwhile is then a
//! matter of values, not of undefined behaviour, and the compiler may not fetch a byte twice, once to be checked
//! and once to be used. Blocks share one check, which makes this as fast as the first-level cache takes words.
//!
//! Copies in are `memcpy`: nothing in this process depends on what they leave in the guest's memory, so that a
//! guest which races with them spoils only what it reads itself. Words there would halve the speed of writing to
//! memory that another processor has in its cache.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use vm_memory::volatile_memory::Error;
use vm_memory::{VolatileMemory, VolatileSlice};

/// Bytes that are read at a time.
const WORD: usize = size_of::<u64>();

/// Words that one check of bounds covers: a cache line.
const BLOCK: usize = 8;

/// Copies all bytes of `guest`, which start at `at` in a mapping; `bytes` has as many.
pub(super) fn copy_out(guest: &VolatileSlice<'_>, at: usize, bytes: &mut [u8]) -> Result<(), Error> {
    let (head, aligned) = bytes.split_at_mut(to_word(at, bytes.len()));
    let (words, tail) = aligned.as_chunks_mut::<WORD>();
    let (blocks, words) = words.as_chunks_mut::<BLOCK>();
    load_bytes(guest, 0, head)?;
    let mut at = head.len();
    for block in blocks {
        load_words(guest, at, block)?;
        at += BLOCK * WORD;
    }
    load_words(guest, at, words)?;
    load_bytes(guest, at + words.len() * WORD, tail)
}

/// Copies over the bytes of `guest`; `bytes` has as many.
pub(super) fn copy_in(guest: &VolatileSlice<'_>, bytes: &[u8]) {
    guest.copy_from(bytes);
}

/// Bytes before the first aligned word of a copy that starts at `at`.
fn to_word(at: usize, len: usize) -> usize {
    len.min(at.wrapping_neg() % WORD)
}

/// Inlined where the number of words is known, its checks become one.
#[inline(always)]
fn load_words(guest: &VolatileSlice<'_>, at: usize, words: &mut [[u8; WORD]]) -> Result<(), Error> {
    let guest = guest.get_slice(at, words.len() * WORD)?;
    for (i, word) in words.iter_mut().enumerate() {
        *word = guest.get_atomic_ref::<AtomicU64>(i * WORD)?.load(Ordering::Relaxed).to_ne_bytes();
    }
    Ok(())
}

fn load_bytes(guest: &VolatileSlice<'_>, at: usize, bytes: &mut [u8]) -> Result<(), Error> {
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = guest.get_atomic_ref::<AtomicU8>(at + i)?.load(Ordering::Relaxed);
    }
    Ok(())
}
