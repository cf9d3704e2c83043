//! The few devices of a generation 2 machine that are not on the bus: registers behind ports or MMIO.
//!
//! Each device is a pure register file: it is read and written at an offset, and tells the world through what it
//! was given at construction (an interrupt, an output, [`PowerEvents`]). [`PortBus`] and [`MmioBus`] find the
//! device of an address; vCPU threads share them.
//!
//! | device | ports |
//! |---|---|
//! | [`Serial`] | 0x3f8: console; 0x2f8: a second port |
//! | [`Cmos`] | 0x70: clock and 114 bytes of NVRAM |
//! | [`PowerManagement`] | 0x400: ACPI registers, power off, reset |
//! | [`ResetPulse`] | 0x64: what is left of the keyboard controller |
//! | [`Absent`] | ports that guests probe although nothing is there |

mod absent;
mod bus;
pub mod cmos;
mod i8042;
pub mod pm;
mod serial;

pub use absent::{ABSENT_PORTS, Absent};
pub use bus::{BusError, MmioBus, PortBus};
pub use cmos::Cmos;
pub use i8042::ResetPulse;
pub use pm::PowerManagement;
pub use serial::{Serial, SerialOutput};

/// Registers behind I/O ports.
///
/// An access has 1, 2 or 4 bytes. It starts within the device's range and the bus cuts it at the range's end, so
/// `offset + data.len()` never exceeds the range. Bytes that a read leaves alone stay ones.
pub trait PortDevice: Send {
    /// The guest reads.
    fn read(&mut self, offset: u16, data: &mut [u8]);
    /// The guest writes.
    fn write(&mut self, offset: u16, data: &[u8]);
}

/// Registers behind guest-physical addresses; otherwise like [`PortDevice`], with accesses of up to 8 bytes.
pub trait MmioDevice: Send {
    /// The guest reads.
    fn read(&mut self, offset: u64, data: &mut [u8]);
    /// The guest writes.
    fn write(&mut self, offset: u64, data: &[u8]);
}

/// What the guest's registers ask of the VMM. Called on a vCPU thread, with the device locked: record it, wake
/// somebody, return.
pub trait PowerEvents: Send + Sync {
    /// The guest entered S5 (or S4, whose image it has written): its machine goes off.
    fn power_off(&self);
    /// The guest wants a cold start.
    fn reset(&self);
    /// The level of the system control interrupt.
    fn set_sci(&self, asserted: bool);
}

#[cfg(test)]
mod fake {
    use super::PowerEvents;
    use std::sync::{Arc, Mutex};

    /// Remembers the calls in order.
    #[derive(Clone, Debug, Default)]
    pub(super) struct Recorder(Arc<Mutex<Vec<&'static str>>>);

    impl Recorder {
        pub(super) fn take(&self) -> Vec<&'static str> {
            std::mem::take(&mut self.0.lock().unwrap())
        }

        fn push(&self, event: &'static str) {
            self.0.lock().unwrap().push(event);
        }
    }

    impl PowerEvents for Recorder {
        fn power_off(&self) {
            self.push("power off");
        }

        fn reset(&self) {
            self.push("reset");
        }

        fn set_sci(&self, asserted: bool) {
            self.push(if asserted { "SCI" } else { "no SCI" });
        }
    }
}
