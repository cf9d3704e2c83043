//! Copies between guest memory and ours.
//!
//! They are relaxed atomic accesses, a word at a time, never `memcpy`: what the guest writes meanwhile is then a
//! matter of values, not of undefined behaviour, and the compiler may not fetch a byte twice, once to be checked
//! and once to be used. Blocks share one check, which makes this as fast as the first-level cache takes words.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use vm_memory::volatile_memory::Error;
use vm_memory::{VolatileMemory, VolatileSlice};

/// Bytes that are copied at a time.
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

/// Copies over all bytes of `guest`, which start at `at` in a mapping; `bytes` has as many.
pub(super) fn copy_in(guest: &VolatileSlice<'_>, at: usize, bytes: &[u8]) -> Result<(), Error> {
    let (head, aligned) = bytes.split_at(to_word(at, bytes.len()));
    let (words, tail) = aligned.as_chunks::<WORD>();
    let (blocks, words) = words.as_chunks::<BLOCK>();
    store_bytes(guest, 0, head)?;
    let mut at = head.len();
    for block in blocks {
        store_words(guest, at, block)?;
        at += BLOCK * WORD;
    }
    store_words(guest, at, words)?;
    store_bytes(guest, at + words.len() * WORD, tail)
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

/// See [`load_words`].
#[inline(always)]
fn store_words(guest: &VolatileSlice<'_>, at: usize, words: &[[u8; WORD]]) -> Result<(), Error> {
    let guest = guest.get_slice(at, words.len() * WORD)?;
    for (i, word) in words.iter().enumerate() {
        guest.get_atomic_ref::<AtomicU64>(i * WORD)?.store(u64::from_ne_bytes(*word), Ordering::Relaxed);
    }
    Ok(())
}

fn load_bytes(guest: &VolatileSlice<'_>, at: usize, bytes: &mut [u8]) -> Result<(), Error> {
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = guest.get_atomic_ref::<AtomicU8>(at + i)?.load(Ordering::Relaxed);
    }
    Ok(())
}

fn store_bytes(guest: &VolatileSlice<'_>, at: usize, bytes: &[u8]) -> Result<(), Error> {
    for (i, byte) in bytes.iter().enumerate() {
        guest.get_atomic_ref::<AtomicU8>(at + i)?.store(*byte, Ordering::Relaxed);
    }
    Ok(())
}
