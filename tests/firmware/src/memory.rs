//! RAM, on both sides of 4 GiB: it is where the blob says, it keeps what is written, and no two addresses are one.

use crate::blob::Blob;
use crate::console::check;
use crate::machine::{read, write};
use crate::registers::memory_type;

/// Our page directories for what lies above 4 GiB, in RAM that nothing else uses.
const DIRECTORIES: u64 = 0x80_0000;
const POINTERS: u64 = 0x70_1000;
/// GiB that we map, from address 0 on.
const GIB_MAPPED: u64 = 64;
/// The loader maps these.
const GIB_GIVEN: u64 = 4;

/// The first address that a check may write to.
const FREE: u64 = 0x100_0000;

pub fn check(blob: &Blob) {
    check!(blob.end <= DIRECTORIES, "the blob ends at {:#x}", blob.end);
    map_high_memory();
    let pattern = |address: u64| address ^ 0x5a5a_0000_1234_5678;
    let places = |&(start, end): &(u64, u64)| {
        let start = start.max(FREE);
        [start, (start + (end - start) / 2) & !7, end - 8]
    };
    for address in blob.ram().iter().flat_map(places) {
        write(address, pattern(address));
        check!(memory_type(address) == 6, "RAM at {address:#x} has memory type {}", memory_type(address));
    }
    for address in blob.ram().iter().flat_map(places) {
        let found: u64 = read(address);
        check!(found == pattern(address), "RAM at {address:#x} does not keep what was written: {found:#x}");
    }
}

fn map_high_memory() {
    for gib in GIB_GIVEN..GIB_MAPPED {
        let directory = DIRECTORIES + (gib - GIB_GIVEN) * 0x1000;
        for page in 0..512 {
            write(directory + page * 8, gib << 30 | page << 21 | 0x83);
        }
        write(POINTERS + gib * 8, directory | 3);
    }
    // SAFETY: what was mapped stays mapped as it was; the new entries were not present before.
    unsafe { core::arch::asm!("mov {0}, cr3", "mov cr3, {0}", out(reg) _) };
}
