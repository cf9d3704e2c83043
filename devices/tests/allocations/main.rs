//! What costs no allocation in the steady state: an allocator counts while packets and requests pass.
//!
//! A binary of its own, because a program has one allocator. It counts each thread's allocations apart, as the test
//! harness and other tests make some meanwhile, and those of all threads for who has threads at work.

#![expect(unsafe_code, reason = "an allocator that counts")]

mod disk;
mod ring;
mod scsi;
mod storage;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts what the system's allocator is asked for.
struct Counting;

/// Of all threads.
static ALL: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static MINE: Cell<u64> = const { Cell::new(0) };
}

/// Allocations of all threads so far.
fn of_all_threads() -> u64 {
    ALL.load(Ordering::Relaxed)
}

/// Allocations of this thread so far.
fn of_this_thread() -> u64 {
    MINE.get()
}

// SAFETY: all is handed to `System` as it comes.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALL.fetch_add(1, Ordering::Relaxed);
        MINE.set(MINE.get() + 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;
