//! Instructions: ports, model-specific registers, memory by address. On this machine all addresses are real ones.

use core::arch::asm;
use core::arch::x86_64::{__cpuid_count, CpuidResult};

pub fn in8(port: u16) -> u8 {
    let value;
    // SAFETY: nothing else runs; what a port does is what the caller wants.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value) };
    value
}

pub fn out8(port: u16, value: u8) {
    // SAFETY: as above.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value) };
}

pub fn in16(port: u16) -> u16 {
    let value;
    // SAFETY: as above.
    unsafe { asm!("in ax, dx", in("dx") port, out("ax") value) };
    value
}

pub fn out16(port: u16, value: u16) {
    // SAFETY: as above.
    unsafe { asm!("out dx, ax", in("dx") port, in("ax") value) };
}

pub fn in32(port: u16) -> u32 {
    let value;
    // SAFETY: as above.
    unsafe { asm!("in eax, dx", in("dx") port, out("eax") value) };
    value
}

pub fn out32(port: u16, value: u32) {
    // SAFETY: as above.
    unsafe { asm!("out dx, eax", in("dx") port, in("eax") value) };
}

pub fn rdmsr(msr: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: a register that is not there ends the test, which is right.
    unsafe { asm!("rdmsr", in("ecx") msr, out("eax") low, out("edx") high) };
    u64::from(high) << 32 | u64::from(low)
}

pub fn wrmsr(msr: u32, value: u64) {
    let [low, high] = [value as u32, (value >> 32) as u32];
    // SAFETY: as above.
    unsafe { asm!("wrmsr", in("ecx") msr, in("eax") low, in("edx") high) };
}

pub fn cpuid(leaf: u32) -> CpuidResult {
    __cpuid_count(leaf, 0)
}

/// What lies at any address, aligned or not.
#[derive(Clone, Copy)]
#[repr(C, packed)]
struct Anywhere<T>(T);

/// Reads memory; the loader's page tables or ours map it.
pub fn read<T: Copy>(address: u64) -> T {
    // SAFETY: callers name RAM, or registers that are memory.
    unsafe { (address as *const Anywhere<T>).read_volatile().0 }
}

/// Writes memory, as above.
pub fn write<T: Copy>(address: u64, value: T) {
    // SAFETY: callers name RAM that holds none of our own code or data, or registers.
    unsafe { (address as *mut Anywhere<T>).write_volatile(Anywhere(value)) };
}

/// The hypervisor's clock, in units of 100 ns.
pub fn now() -> u64 {
    rdmsr(0x4000_0020)
}

/// Waits until something is so, for 20 s: emulated machines may be slow.
pub fn wait_for(mut so: impl FnMut() -> bool) -> bool {
    let end = now() + 20 * 10_000_000;
    while !so() {
        if now() > end {
            return false;
        }
        core::hint::spin_loop();
    }
    true
}
