//! Firmware of the same shape as MSVM.fd, which cannot be had here: it checks everything that the loader gives it, by
//! the documentation of the real one, drives the devices that the real one drives, and says so on the serial port.
//!
//! `tests/lab/src/firmware.rs` builds it and packs it into an image; the family `platform` boots that. Lines that
//! begin with `lab:` are for the tests: `value NAME=VALUE`, `fail WHY`, `ready`. Then it waits for a word.

#![no_std]
#![no_main]

mod bios;
mod blob;
mod console;
mod devices;
mod generation;
mod machine;
mod memory;
mod processors;
mod registers;
mod start;
mod synic;
mod tpm;
mod vmbfs;
mod vmbus;

use core::panic::PanicInfo;
use core::sync::atomic::{AtomicU32, Ordering};

use blob::Blob;
use console::{check, say, value};
use start::Registers;

/// In the image: a loader that does not load it again at a reset leaves another value.
static STARTS: AtomicU32 = AtomicU32::new(0x5741_5254);

/// Called once, on the first processor, with the registers as they were.
extern "C" fn run(registers: &Registers) -> ! {
    let starts = STARTS.fetch_add(1, Ordering::Relaxed);
    check!(starts == 0x5741_5254, "the image was not loaded afresh: {starts:#x}");
    registers::check(registers);
    let blob = Blob::check();
    value!("cpus", "{}", blob.processors);
    memory::check(&blob);
    processors::check(&blob);
    devices::check();
    synic::check();
    vmbus::check();
    bios::check();
    generation::check();
    tpm::check(&blob);
    say!("lab: ready");
    loop {
        match console::line().as_str() {
            "reboot" => devices::reset(),
            "poweroff" => devices::power_off(),
            "generation" => generation::tell(),
            "clear tpm" => tpm::clear(),
            other => say!("What is {other:?}? Words are reboot, poweroff, generation and clear tpm."),
        }
    }
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    say!("lab: fail the firmware panics: {info}");
    devices::power_off()
}
