//! Copies between guest memory and ours.
//!
//! Copies out are never `memcpy`: what the guest writes meanwhile must be a matter of values, not of undefined
//! behaviour, and the compiler may not fetch a byte twice, once to be checked and once to be used. Whole blocks are
//! copied by instructions that the compiler does not see into, near the speed of `memcpy`: it knows as much about
//! them as about the guest's own. What is left are relaxed atomic loads, a word at a time.
//!
//! Copies in are `memcpy`: nothing in this process depends on what they leave in the guest's memory, so that a
//! guest which races with them spoils only what it reads itself. Words there would halve the speed of writing to
//! memory that another processor has in its cache.

#![expect(unsafe_code, reason = "instructions that copy blocks, in `load_blocks`")]

use std::arch::asm;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use vm_memory::volatile_memory::Error;
use vm_memory::{VolatileMemory, VolatileSlice};

/// Bytes that are read at a time.
const WORD: usize = size_of::<u64>();

/// Bytes that are read at a time where there are as many: a cache line.
const BLOCK: usize = 64;

/// Copies all bytes of `guest`, which start at `at` in a mapping; `bytes` has as many.
pub(super) fn copy_out(guest: &VolatileSlice<'_>, at: usize, bytes: &mut [u8]) -> Result<(), Error> {
    let copied = load_blocks(guest, bytes)?;
    let (_, rest) = bytes.split_at_mut(copied);
    let (head, aligned) = rest.split_at_mut(to_word(at.wrapping_add(copied), rest.len()));
    let (words, tail) = aligned.as_chunks_mut();
    load_bytes(guest, copied, head)?;
    load_words(guest, copied + head.len(), words)?;
    load_bytes(guest, copied + head.len() + words.len() * WORD, tail)
}

/// Copies over the bytes of `guest`; `bytes` has as many.
pub(super) fn copy_in(guest: &VolatileSlice<'_>, bytes: &[u8]) {
    guest.copy_from(bytes);
}

/// Bytes before the first aligned word of a copy that starts at `at`.
fn to_word(at: usize, len: usize) -> usize {
    len.min(at.wrapping_neg() % WORD)
}

/// Copies the first blocks of `guest`, whatever their alignment, and returns their bytes: 0 on a processor without
/// AVX.
///
/// Not `rep movsb`: some processors take twenty times as long for it if only one side is aligned.
fn load_blocks(guest: &VolatileSlice<'_>, bytes: &mut [u8]) -> Result<usize, Error> {
    let blocks = bytes.len() / BLOCK;
    if blocks == 0 || !is_x86_feature_detected!("avx") {
        return Ok(0);
    }
    let guest = guest.get_slice(0, blocks * BLOCK)?;
    let mapped = guest.ptr_guard();
    // SAFETY: both sides have so many blocks, one at least, and do not overlap: what Rust refers to is never a
    // guest's. Whoever writes there meanwhile, each byte is read once. The processor has AVX.
    unsafe {
        asm!(
            "2:",
            "vmovups ymm0, [rsi]",
            "vmovups ymm1, [rsi + 32]",
            "vmovups [rdi], ymm0",
            "vmovups [rdi + 32], ymm1",
            "add rsi, 64",
            "add rdi, 64",
            "dec rcx",
            "jnz 2b",
            "vzeroupper",
            inout("rsi") mapped.as_ptr() => _,
            inout("rdi") bytes.as_mut_ptr() => _,
            inout("rcx") blocks => _,
            clobber_abi("C"),
            options(nostack),
        );
    }
    Ok(blocks * BLOCK)
}

fn load_words(guest: &VolatileSlice<'_>, at: usize, words: &mut [[u8; WORD]]) -> Result<(), Error> {
    for (i, word) in words.iter_mut().enumerate() {
        let guest = guest.get_atomic_ref::<AtomicU64>(at + i * WORD)?;
        *word = guest.load(Ordering::Relaxed).to_ne_bytes();
    }
    Ok(())
}

fn load_bytes(guest: &VolatileSlice<'_>, at: usize, bytes: &mut [u8]) -> Result<(), Error> {
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = guest.get_atomic_ref::<AtomicU8>(at + i)?.load(Ordering::Relaxed);
    }
    Ok(())
}
