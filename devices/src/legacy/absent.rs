//! Ports that guests probe on every PC although a generation 2 machine has nothing there.
//!
//! Being claimed by [`Absent`] instead of by nobody keeps them out of the log: the guest does nothing unusual.

use super::PortDevice;

/// Answers ones, swallows writes.
#[derive(Debug, Default)]
pub struct Absent;

impl PortDevice for Absent {
    fn read(&mut self, _offset: u16, _data: &mut [u8]) {}
    fn write(&mut self, _offset: u16, _data: &[u8]) {}
}

/// (name, first port, count) of what is expected and absent. Interrupt controllers and timers are on the list for
/// the case that KVM does not emulate them in the kernel.
pub const ABSENT_PORTS: [(&str, u16, u16); 15] = [
    ("first interrupt controller", 0x20, 2),
    ("interval timer", 0x40, 4),
    ("keyboard data", 0x60, 1),
    ("speaker and timer gate", 0x61, 1),
    ("POST code and delay port", 0x80, 1),
    ("DMA page", 0x87, 1),
    ("second interrupt controller", 0xa0, 2),
    ("Linux's alternative delay port", 0xed, 1),
    ("game port", 0x201, 1),
    ("fourth serial port", 0x2e8, 8),
    ("third serial port", 0x3e8, 8),
    ("interrupt trigger modes", 0x4d0, 2),
    ("PCI configuration", 0xcf8, 8),
    ("Bochs VGA index", 0x1ce, 3),
    ("VMware backdoor", 0x5658, 1),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::legacy::PortBus;
    use std::sync::{Arc, Mutex};

    #[test]
    fn absent_ports_are_disjoint_and_read_as_ones() {
        let mut bus = PortBus::new();
        let absent = Arc::new(Mutex::new(Absent));
        for (name, first, count) in ABSENT_PORTS {
            bus.insert(name, first, count, absent.clone()).unwrap();
        }
        let mut data = [0; 4];
        bus.write(0xcf8, &0x8000_0000u32.to_le_bytes());
        bus.read(0xcf8, &mut data);
        assert_eq!(data, [0xff; 4]);
    }
}
