//! The watchdogs of a Hyper-V machine: one of the firmware, behind the BIOS device, and one of the OS, which the WDAT
//! table describes. They are alike: three registers, seconds as their unit.
//!
//! A running watchdog that nobody writes to resets the machine. Time is the [`Alarm`]'s: it rings once, on whatever
//! thread, and its owner then calls [`Watchdog::rang`] and decides what follows.

use std::fmt::Debug;
use std::time::Duration;

use super::protocol::register::{WATCHDOG_CONFIG, WATCHDOG_COUNT, WATCHDOG_RESOLUTION};
use crate::legacy::PortDevice;
use crate::{guest_debug, guest_warn};

/// Configured and enabled: it counts.
const RUNNING: u32 = CONFIGURED | ENABLED;
const CONFIGURED: u32 = 1 << 0;
const ENABLED: u32 = 1 << 1;
/// Once ring, once reset: it does so anyway.
const ONE_SHOT: u32 = 1 << 4;
/// The watchdog has caused the last reset; writing a one clears it.
const CAUSED_RESET: u32 = 1 << 8;
/// Marks the OS's, and says nothing more.
const FOR_GUEST: u32 = 1 << 12;
const KNOWN: u32 = RUNNING | ONE_SHOT | CAUSED_RESET | FOR_GUEST;

/// Count after power-on: two minutes.
const COUNT: u32 = 120;
/// Seconds of one count.
const RESOLUTION: u32 = 1;

/// Rings once, after a while.
pub trait Alarm: Debug + Send {
    /// Sets it to ring after that time from now, or not at all.
    fn set(&mut self, after: Option<Duration>);
}

/// The registers.
#[derive(Debug)]
pub struct Watchdog {
    config: u32,
    count: u32,
    alarm: Box<dyn Alarm>,
}

impl Watchdog {
    /// A watchdog that sleeps. `caused_reset`: the machine is there again because it rang.
    #[must_use]
    pub fn new(alarm: Box<dyn Alarm>, caused_reset: bool) -> Self {
        Watchdog { config: if caused_reset { CAUSED_RESET } else { 0 }, count: COUNT, alarm }
    }

    /// Reads a register; `None` if it is none of the watchdog's.
    #[must_use]
    pub fn read(&self, register: u32) -> Option<u32> {
        match register {
            WATCHDOG_CONFIG => Some(self.config),
            WATCHDOG_RESOLUTION => Some(RESOLUTION),
            WATCHDOG_COUNT => Some(self.count),
            _ => None,
        }
    }

    /// Writes a register; `false` if it is none of the watchdog's.
    pub fn write(&mut self, register: u32, value: u32) -> bool {
        match register {
            WATCHDOG_CONFIG => self.configure(value),
            WATCHDOG_RESOLUTION => guest_debug!("The guest writes to the watchdog's resolution"),
            WATCHDOG_COUNT => self.count = value,
            _ => return false,
        }
        true
    }

    /// Any write that leaves it running starts the count anew: that is how the guest shows that it lives.
    fn configure(&mut self, value: u32) {
        if value & !KNOWN != 0 {
            return guest_warn!("The guest configures a watchdog with {value:#x}, which means nothing");
        }
        let kept = self.config & CAUSED_RESET & !value;
        self.config = value & !CAUSED_RESET | kept;
        if self.config & RUNNING == RUNNING && self.count == 0 {
            guest_warn!("The guest starts a watchdog with a count of 0: it does not run");
        }
        self.start();
    }

    fn start(&mut self) {
        let runs = self.config & RUNNING == RUNNING;
        let after = Duration::from_secs(u64::from(self.count) * u64::from(RESOLUTION));
        self.alarm.set((runs && !after.is_zero()).then_some(after));
    }

    /// The alarm rang. Whether the guest has failed: it may have stopped the watchdog at the last moment, and one
    /// that could not run (`running`) gets its time again. The alarm is set or silent after this.
    pub fn rang(&mut self, running: bool) -> bool {
        if !running {
            self.excuse();
        } else if self.config & RUNNING == RUNNING {
            self.config &= !RUNNING;
            self.alarm.set(None);
            return true;
        }
        false
    }

    /// The guest could not run for a while: a watchdog that counts starts anew.
    pub fn excuse(&mut self) {
        self.start();
    }
}

/// The OS's watchdog: select and data at ports of its own.
#[derive(Debug)]
pub struct GuestWatchdog {
    selected: u32,
    /// The registers.
    pub watchdog: Watchdog,
}

impl GuestWatchdog {
    /// Ports of the device.
    pub const PORTS: u16 = 8;

    /// The device of a watchdog.
    #[must_use]
    pub fn new(watchdog: Watchdog) -> Self {
        GuestWatchdog { selected: 0, watchdog }
    }
}

impl PortDevice for GuestWatchdog {
    fn read(&mut self, offset: u16, data: &mut [u8]) {
        let value = match offset {
            0 => Some(self.selected),
            4 => self.watchdog.read(self.selected),
            _ => None,
        };
        if let (Some(value), Ok(data)) = (value, <&mut [u8; 4]>::try_from(data)) {
            *data = value.to_le_bytes();
        }
    }

    fn write(&mut self, offset: u16, data: &[u8]) {
        let Ok(value) = <[u8; 4]>::try_from(data).map(u32::from_le_bytes) else { return };
        match offset {
            0 => self.selected = value,
            4 if self.watchdog.write(self.selected, value) => {}
            _ => guest_debug!("Write of {value:#x} to register {:#x} of the watchdog", self.selected),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// Remembers what it was set to.
    #[derive(Clone, Debug, Default)]
    pub(in crate::firmware) struct Recorder(Arc<Mutex<Vec<Option<u64>>>>);

    impl Recorder {
        pub(in crate::firmware) fn take(&self) -> Vec<Option<u64>> {
            std::mem::take(&mut self.0.lock().unwrap())
        }
    }

    impl Alarm for Recorder {
        fn set(&mut self, after: Option<Duration>) {
            self.0.lock().unwrap().push(after.map(|after| after.as_secs()));
        }
    }

    fn device() -> (GuestWatchdog, Recorder) {
        let alarm = Recorder::default();
        (GuestWatchdog::new(Watchdog::new(Box::new(alarm.clone()), false)), alarm)
    }

    fn write(device: &mut GuestWatchdog, register: u32, value: u32) {
        device.write(0, &register.to_le_bytes());
        device.write(4, &value.to_le_bytes());
    }

    fn read(device: &mut GuestWatchdog, register: u32) -> u32 {
        device.write(0, &register.to_le_bytes());
        let mut data = [0xff; 4];
        device.read(4, &mut data);
        u32::from_le_bytes(data)
    }

    #[test]
    fn each_write_of_the_configuration_starts_the_count_anew() {
        let (mut device, alarm) = device();
        assert_eq!(read(&mut device, WATCHDOG_RESOLUTION), 1);
        assert_eq!(read(&mut device, WATCHDOG_COUNT), 120);
        write(&mut device, WATCHDOG_COUNT, 7);
        assert!(alarm.take().is_empty());
        write(&mut device, WATCHDOG_CONFIG, RUNNING | FOR_GUEST);
        write(&mut device, WATCHDOG_CONFIG, RUNNING);
        write(&mut device, WATCHDOG_CONFIG, CONFIGURED);
        write(&mut device, WATCHDOG_CONFIG, 0);
        assert_eq!(alarm.take(), [Some(7), Some(7), None, None]);
        assert_eq!(read(&mut device, WATCHDOG_COUNT), 7);
    }

    #[test]
    fn a_count_of_nothing_or_unknown_bits_start_nothing() {
        let (mut device, alarm) = device();
        write(&mut device, WATCHDOG_CONFIG, RUNNING | 1 << 20);
        assert_eq!((alarm.take(), read(&mut device, WATCHDOG_CONFIG)), (vec![], 0));
        write(&mut device, WATCHDOG_COUNT, 0);
        write(&mut device, WATCHDOG_CONFIG, RUNNING);
        assert_eq!(alarm.take(), [None]);
        write(&mut device, WATCHDOG_COUNT, u32::MAX);
        write(&mut device, WATCHDOG_CONFIG, RUNNING);
        assert_eq!(alarm.take(), [Some(u32::MAX.into())]);
    }

    #[test]
    fn who_stopped_it_in_time_is_not_reset() {
        let (mut device, alarm) = device();
        write(&mut device, WATCHDOG_CONFIG, RUNNING);
        device.watchdog.excuse();
        assert!(!device.watchdog.rang(false), "it could not run");
        assert_eq!(alarm.take(), [Some(120); 3]);
        assert!(device.watchdog.rang(true));
        assert!(!device.watchdog.rang(true), "it rings once");
        assert_eq!(alarm.take(), [None]);
        write(&mut device, WATCHDOG_CONFIG, RUNNING);
        write(&mut device, WATCHDOG_CONFIG, CONFIGURED);
        assert!(!device.watchdog.rang(true));
    }

    #[test]
    fn the_guest_learns_of_a_reset_and_clears_it_by_writing_a_one() {
        let mut watchdog = Watchdog::new(Box::new(Recorder::default()), true);
        assert_eq!(watchdog.read(WATCHDOG_CONFIG), Some(CAUSED_RESET));
        watchdog.write(WATCHDOG_CONFIG, CONFIGURED);
        assert_eq!(watchdog.read(WATCHDOG_CONFIG), Some(CAUSED_RESET | CONFIGURED));
        watchdog.write(WATCHDOG_CONFIG, CAUSED_RESET | CONFIGURED);
        assert_eq!(watchdog.read(WATCHDOG_CONFIG), Some(CONFIGURED));
    }

    #[test]
    fn other_registers_and_sizes_are_nothing() {
        let (mut device, _) = device();
        assert_eq!(read(&mut device, 0x24), u32::MAX);
        write(&mut device, 0x24, 1);
        device.write(0, &[1, 2]);
        let mut data = [0xff; 2];
        device.read(0, &mut data);
        assert_eq!(data, [0xff; 2]);
    }
}
