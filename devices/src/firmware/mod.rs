//! What UEFI firmware asks of the host, and what stays of that at run time.
//!
//! [`Bios`] is the device: one register that selects, one with data, behind which commands with guest addresses lie.
//! The firmware reaches EFI variables ([`nvram`]), watchdog, generation id and its logs through it, and so does the OS,
//! by way of the firmware's runtime services. [`GuestWatchdog`] is the OS's own watchdog, which the WDAT table shows.
//!
//! | module | what it holds |
//! |---|---|
//! | [`protocol`] | registers and wire structures |
//! | `bios` | the device |
//! | `commands` | NVRAM and crypto commands: guest memory to [`nvram`] and back |
//! | [`nvram`] | EFI variables and their file |
//! | [`watchdog`] | the watchdogs |
//! | `generation` | the generation id |
//! | `boot_events`, `advanced_log` | what the firmware tells about a boot, and its log |
//! | `time` | the time as EFI has it |

mod advanced_log;
mod bios;
mod boot_events;
mod commands;
mod generation;
mod memory;
pub mod nvram;
pub mod protocol;
mod time;
pub mod watchdog;

pub use bios::Bios;
pub use generation::Generation;
pub use watchdog::{Alarm, GuestWatchdog, Watchdog};

#[cfg(test)]
mod bios_tests;
