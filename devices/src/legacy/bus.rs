//! Finds the device of a port or an MMIO address.
//!
//! A bus is built once and then only read, so vCPU threads look up without a lock; each device has its own. No
//! device calls another one through the bus, so no two device locks are ever held at once.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use thiserror::Error;

use super::{MmioDevice, PortDevice};
use crate::guest_debug;

/// A mistake in the machine's wiring.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum BusError {
    /// A range without an address.
    #[error("Device {0} has no addresses")]
    Empty(&'static str),
    /// Two devices claim an address.
    #[error("Device {new} at {start:#x} overlaps with {old}")]
    Overlap {
        /// The device that was refused.
        new: &'static str,
        /// Where it was to start.
        start: u64,
        /// The device that was there first.
        old: &'static str,
    },
}

struct Slot<D: ?Sized> {
    range: Range<u64>,
    name: &'static str,
    device: Arc<Mutex<D>>,
}

/// Slots in the order of their addresses, disjoint.
struct Slots<D: ?Sized>(Vec<Slot<D>>);

impl<D: ?Sized> fmt::Debug for Slots<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|slot| (slot.name, &slot.range))).finish()
    }
}

impl<D: ?Sized> Slots<D> {
    fn insert(
        &mut self,
        name: &'static str,
        range: Range<u64>,
        device: Arc<Mutex<D>>,
    ) -> Result<(), BusError> {
        if range.is_empty() {
            return Err(BusError::Empty(name));
        }
        let at = self.0.partition_point(|slot| slot.range.end <= range.start);
        if let Some(old) = self.0.get(at).filter(|slot| slot.range.start < range.end) {
            return Err(BusError::Overlap { new: name, start: range.start, old: old.name });
        }
        self.0.insert(at, Slot { range, name, device });
        Ok(())
    }

    /// Runs `access(device, offset, bytes that are the device's)`; says whether somebody claimed the address.
    fn with(&self, address: u64, len: usize, access: impl FnOnce(&mut D, u64, usize)) -> bool {
        let at = self.0.partition_point(|slot| slot.range.end <= address);
        let Some(slot) = self.0.get(at).filter(|slot| slot.range.start <= address) else { return false };
        let left = usize::try_from(slot.range.end - address).unwrap_or(usize::MAX);
        // A panic in one access leaves registers, not memory, in doubt: the guest keeps its device.
        let mut device = slot.device.lock().unwrap_or_else(PoisonError::into_inner);
        access(&mut device, address - slot.range.start, len.min(left));
        true
    }
}

/// I/O ports.
#[derive(Debug)]
pub struct PortBus(Slots<dyn PortDevice>);

impl PortBus {
    /// A bus without devices.
    #[must_use]
    pub fn new() -> Self {
        PortBus(Slots(Vec::new()))
    }

    /// Puts a device at `count` ports from `first` on.
    ///
    /// # Errors
    /// When the range is empty or another device has one of its ports.
    pub fn insert(
        &mut self,
        name: &'static str,
        first: u16,
        count: u16,
        device: Arc<Mutex<dyn PortDevice>>,
    ) -> Result<(), BusError> {
        let first = u64::from(first);
        self.0.insert(name, first..first + u64::from(count), device)
    }

    /// Fills `data` from the device at a port; bytes that no device gives are ones.
    pub fn read(&self, port: u16, data: &mut [u8]) {
        data.fill(0xff);
        let len = data.len();
        let claimed = self.0.with(port.into(), len, |device, offset, len| {
            if let (Ok(offset), Some(data)) = (u16::try_from(offset), data.get_mut(..len)) {
                device.read(offset, data);
            }
        });
        if !claimed {
            guest_debug!("Read of {len} bytes from port {port:#x}, where nothing is");
        }
    }

    /// Gives `data` to the device at a port; writes to nothing are dropped.
    pub fn write(&self, port: u16, data: &[u8]) {
        let claimed = self.0.with(port.into(), data.len(), |device, offset, len| {
            if let (Ok(offset), Some(data)) = (u16::try_from(offset), data.get(..len)) {
                device.write(offset, data);
            }
        });
        if !claimed {
            guest_debug!("Write of {data:02x?} to port {port:#x}, where nothing is");
        }
    }
}

impl Default for PortBus {
    fn default() -> Self {
        Self::new()
    }
}

/// Guest-physical addresses that are not RAM.
#[derive(Debug)]
pub struct MmioBus(Slots<dyn MmioDevice>);

impl MmioBus {
    /// A bus without devices.
    #[must_use]
    pub fn new() -> Self {
        MmioBus(Slots(Vec::new()))
    }

    /// Puts a device at a range of addresses.
    ///
    /// # Errors
    /// When the range is empty or another device has one of its addresses.
    pub fn insert(
        &mut self,
        name: &'static str,
        range: Range<u64>,
        device: Arc<Mutex<dyn MmioDevice>>,
    ) -> Result<(), BusError> {
        self.0.insert(name, range, device)
    }

    /// Fills `data` from the device at an address; bytes that no device gives are ones.
    pub fn read(&self, address: u64, data: &mut [u8]) {
        data.fill(0xff);
        let len = data.len();
        let claimed = self.0.with(address, len, |device, offset, len| {
            if let Some(data) = data.get_mut(..len) {
                device.read(offset, data);
            }
        });
        if !claimed {
            guest_debug!("Read of {len} bytes at {address:#x}, where nothing is");
        }
    }

    /// Gives `data` to the device at an address; writes to nothing are dropped.
    pub fn write(&self, address: u64, data: &[u8]) {
        let claimed = self.0.with(address, data.len(), |device, offset, len| {
            if let Some(data) = data.get(..len) {
                device.write(offset, data);
            }
        });
        if !claimed {
            guest_debug!("Write of {data:02x?} at {address:#x}, where nothing is");
        }
    }
}

impl Default for MmioBus {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads as its offset; remembers writes.
    #[derive(Default)]
    struct Probe(Vec<(u64, Vec<u8>)>);

    impl MmioDevice for Probe {
        fn read(&mut self, offset: u64, data: &mut [u8]) {
            for (i, byte) in (0..).zip(data) {
                *byte = (offset + i).to_le_bytes()[0];
            }
        }

        fn write(&mut self, offset: u64, data: &[u8]) {
            self.0.push((offset, data.to_vec()));
        }
    }

    impl PortDevice for Probe {
        fn read(&mut self, offset: u16, data: &mut [u8]) {
            MmioDevice::read(self, offset.into(), data);
        }

        fn write(&mut self, offset: u16, data: &[u8]) {
            MmioDevice::write(self, offset.into(), data);
        }
    }

    fn probe() -> Arc<Mutex<Probe>> {
        Arc::default()
    }

    #[test]
    fn an_access_reaches_its_device_at_its_offset() {
        let (low, high) = (probe(), probe());
        let mut bus = PortBus::new();
        bus.insert("high", 0x400, 0x34, high.clone()).unwrap();
        bus.insert("low", 0x3f8, 8, low.clone()).unwrap();
        let mut byte = [0];
        bus.read(0x3ff, &mut byte);
        assert_eq!(byte, [7]);
        bus.read(0x400, &mut byte);
        assert_eq!(byte, [0]);
        bus.write(0x3f9, &[1]);
        bus.write(0x433, &[2]);
        assert_eq!(low.lock().unwrap().0, [(1, vec![1])]);
        assert_eq!(high.lock().unwrap().0, [(0x33, vec![2])]);
    }

    #[test]
    fn unclaimed_reads_are_ones_and_unclaimed_writes_are_dropped() {
        let mut bus = PortBus::new();
        bus.insert("probe", 0x10, 2, probe()).unwrap();
        for port in [0, 0x0f, 0x12, 0xffff] {
            let mut data = [0; 4];
            bus.read(port, &mut data);
            bus.write(port, &data);
            assert_eq!(data, [0xff; 4], "{port:#x}");
        }
    }

    #[test]
    fn an_access_is_cut_at_the_end_of_its_device() {
        let device = probe();
        let mut bus = PortBus::new();
        bus.insert("probe", 0x10, 2, device.clone()).unwrap();
        let mut data = [0; 4];
        bus.read(0x11, &mut data);
        assert_eq!(data, [1, 0xff, 0xff, 0xff]);
        bus.write(0x10, &[1, 2, 3, 4]);
        assert_eq!(device.lock().unwrap().0, [(0, vec![1, 2])]);
    }

    #[test]
    fn the_last_port_is_a_port() {
        let mut bus = PortBus::new();
        bus.insert("last", 0xffff, 1, probe()).unwrap();
        let mut data = [0xee; 2];
        bus.read(0xffff, &mut data);
        assert_eq!(data, [0, 0xff]);
    }

    #[test]
    fn overlapping_and_empty_devices_are_refused() {
        let mut bus = MmioBus::new();
        bus.insert("first", 0x1000..0x2000, probe()).unwrap();
        for range in [0x0..0x1001, 0x1fff..0x3000, 0x1800..0x1801, 0x0..0x4000] {
            let start = range.start;
            let refused = bus.insert("second", range, probe());
            assert_eq!(refused, Err(BusError::Overlap { new: "second", start, old: "first" }));
        }
        assert_eq!(bus.insert("none", 0x5000..0x5000, probe()), Err(BusError::Empty("none")));
        bus.insert("below", 0x0..0x1000, probe()).unwrap();
        bus.insert("above", 0x2000..0x3000, probe()).unwrap();
        let mut data = [0; 8];
        bus.read(0x1ffc, &mut data);
        assert_eq!(data[4..], [0xff; 4]);
        bus.write(u64::MAX, &data);
    }
}
