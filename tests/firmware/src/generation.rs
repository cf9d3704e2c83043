//! The generation id: where the BIOS device is to write it, and the interrupt that tells of a change.

use crate::bios;
use crate::console::{check, value};
use crate::devices::{GPE0_ENABLE, GPE0_STATUS};
use crate::machine::{in16, out16, read, wait_for, write};

const LOW: u32 = 0x0e;
const HIGH: u32 = 0x0f;
const PLACE: u64 = 0xa0_3000;

/// The IOAPIC's index and data; the entry of the system control interrupt, to a vector that nobody serves.
const IOAPIC_INDEX: u64 = 0xfec0_0000;
const IOAPIC_DATA: u64 = 0xfec0_0010;
const SCI_ENTRY: u32 = 0x10 + 2 * 9;
const LEVEL: u32 = 1 << 15;
const SCI_VECTOR: u32 = 0x42;
/// The local APIC's word of requests that has the vector's bit.
const APIC_REQUESTS: u64 = 0xfee0_0220;

/// Names the place, and has changes told.
pub fn check() {
    write(PLACE, [0u8; 32]);
    bios::set_register(LOW, PLACE as u32);
    bios::set_register(HIGH, (PLACE >> 32) as u32);
    check!(read::<u128>(PLACE) != 0, "there is no generation id");
    check!(read::<u128>(PLACE + 16) == 0, "the generation id has more than 16 bytes");
    for (index, word) in [(SCI_ENTRY, SCI_VECTOR | LEVEL), (SCI_ENTRY + 1, 0)] {
        write(IOAPIC_INDEX, index);
        write(IOAPIC_DATA, word);
    }
    out16(GPE0_ENABLE, 1);
    value!("generation", "{:032x}", read::<u128>(PLACE));
}

/// Waits for a change and tells it.
pub fn tell() {
    check!(wait_for(|| in16(GPE0_STATUS) & 1 != 0), "no event tells of a new generation");
    let requested = read::<u32>(APIC_REQUESTS) & 1 << (SCI_VECTOR % 32) != 0;
    check!(requested, "an event raises no system control interrupt");
    out16(GPE0_STATUS, 1);
    check!(in16(GPE0_STATUS) & 1 == 0, "an event stays when it was taken");
    value!("generation", "{:032x}", read::<u128>(PLACE));
}
