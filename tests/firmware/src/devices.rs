//! The platform's register devices: clock (CMOS), power management, reset.

use crate::console::{check, value};
use crate::machine::{in8, in16, in32, now, out8, out16, wait_for};

const CMOS: u16 = 0x70;
const PM1_STATUS: u16 = 0x400;
const PM1_ENABLE: u16 = 0x402;
const PM1_CONTROL: u16 = 0x404;
const PM_TIMER: u16 = 0x408;
pub const GPE0_STATUS: u16 = 0x40c;
pub const GPE0_ENABLE: u16 = 0x40e;
const RESET: u16 = 0x433;
const SLP_EN: u16 = 1 << 13;
const SCI_EN: u16 = 1;

pub fn check() {
    check_clock();
    check!(in16(PM1_CONTROL) & SCI_EN == SCI_EN, "the machine is not in ACPI mode");
    check!([in16(PM1_STATUS), in16(GPE0_STATUS)] == [0, 0], "events wait after reset");
    out16(PM1_ENABLE, 1 << 8);
    out16(GPE0_ENABLE, 1);
    check!([in16(PM1_ENABLE), in16(GPE0_ENABLE)] == [1 << 8, 1], "event enables are not kept");
    // 3.579545 MHz against the hypervisor's 10 MHz: 10 ms of one are 10 ms of the other, or nearly.
    let (timer, clock) = (in32(PM_TIMER), now());
    wait_for(|| now() - clock > 100_000);
    let (ticks, time) = (u64::from(in32(PM_TIMER).wrapping_sub(timer)), now() - clock);
    let wanted = time * 3_579_545 / 10_000_000;
    check!(ticks > wanted / 2, "the PM timer went on by {ticks} in {time} units of 100 ns");
}

fn cmos(index: u8) -> u8 {
    out8(CMOS, index);
    check!(in8(CMOS) & 0x7f == index, "the CMOS index {index:#x} reads back otherwise");
    in8(CMOS + 1)
}

/// The time as the real firmware reads it: not while an update is in progress, binary or BCD as register B says.
fn check_clock() {
    check!(cmos(0x0d) & 0x80 != 0, "the clock says that its battery is dead");
    check!(wait_for(|| cmos(0x0a) & 0x80 == 0), "the clock's update does not end");
    let binary = cmos(0x0b) & 1 << 2 != 0;
    let number = |index| {
        let byte = cmos(index);
        if binary { u32::from(byte) } else { u32::from(byte >> 4) * 10 + u32::from(byte & 0xf) }
    };
    let [century, year, month, day] = [0x32, 0x09, 0x08, 0x07].map(number);
    check!((1..=12).contains(&month) && (1..=31).contains(&day), "the month is {month}, the day {day}");
    value!("year", "{}", century * 100 + year);
}

pub fn power_off() -> ! {
    out16(PM1_CONTROL, SLP_EN);
    halt()
}

pub fn reset() -> ! {
    out8(RESET, 1);
    halt()
}

fn halt() -> ! {
    loop {
        // SAFETY: no interrupt is enabled, so this is the end.
        unsafe { core::arch::asm!("hlt") };
    }
}
