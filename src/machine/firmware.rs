//! What UEFI firmware finds of the host: the BIOS device, the watchdogs, and what of them outlives a machine.
//!
//! [`Firmware`] is made once, before the first machine: the EFI variables, and whether a watchdog reset the last one.
//! [`FirmwareDevices`] are a machine's. A watchdog's time ends on the control loop, which knows whether the machine ran.

use std::mem;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use devices::firmware::nvram::services::Nowhere;
use devices::firmware::nvram::{NvramFile, Store, Variables};
use devices::firmware::protocol::{BIOS_PORT, WATCHDOG_PORT};
use devices::firmware::{Alarm, Bios, GuestWatchdog, Watchdog};
use devices::guid::Guid;
use devices::legacy::pm::GPE_GENERATION_ID;
use devices::legacy::{PortBus, PowerManagement};
use devices::mem::GuestRam;
use vmm_sys_util::timerfd::TimerFd;

use super::MachineError;

/// What the machines of one run share.
#[derive(Debug)]
pub struct Firmware {
    variables: Arc<Mutex<Variables>>,
    uuid: Guid,
    /// A watchdog has ended the machine before; the next one's guest may ask.
    watchdog_reset: bool,
}

impl Firmware {
    /// The variables of a file, which is made if there is none; without a file they last as long as this process. So
    /// does the machine's UUID, unless there is a file or the user wants a certain one.
    ///
    /// # Errors
    /// See [`MachineError::Nvram`] and [`MachineError::Resources`].
    pub fn open(nvram: Option<&Path>, uuid: Option<Guid>) -> Result<Self, MachineError> {
        let (variables, uuid) = match nvram {
            Some(path) => {
                let (mut file, mut store) = NvramFile::open_or_create(path)?;
                let uuid = file.identify(&mut store, uuid)?;
                (Variables::new(store, Box::new(file)), uuid)
            }
            None => {
                let uuid = uuid.map_or_else(Guid::random, Ok)?;
                (Variables::new(Store::new(Guid::random()?), Box::new(Nowhere)), uuid)
            }
        };
        Ok(Firmware { variables: Arc::new(Mutex::new(variables)), uuid, watchdog_reset: false })
    }

    /// The machine's UUID.
    #[must_use]
    pub fn uuid(&self) -> Guid {
        self.uuid
    }

    /// A watchdog ends the machine: the next one's guest learns of it.
    pub fn watchdog_resets(&mut self) {
        self.watchdog_reset = true;
    }

    /// Puts the devices of a new machine on its ports.
    pub(super) fn add(
        &mut self,
        ports: &mut PortBus,
        ram: &GuestRam,
        power: Arc<Mutex<PowerManagement>>,
    ) -> Result<FirmwareDevices, MachineError> {
        let caused_reset = mem::take(&mut self.watchdog_reset);
        let (firmware_timer, guest_timer) = (Timer::new()?, Timer::new()?);
        let timers = [
            (WatchdogOf::Firmware, firmware_timer.0.as_raw_fd()),
            (WatchdogOf::System, guest_timer.0.as_raw_fd()),
        ];
        // The firmware has its own from power-on on, and needs no history: the OS's tells it.
        let watchdog = Watchdog::new(Box::new(firmware_timer), false);
        let bios = Arc::new(Mutex::new(Bios::new(ram.clone(), Arc::clone(&self.variables), watchdog)));
        let watchdog = GuestWatchdog::new(Watchdog::new(Box::new(guest_timer), caused_reset));
        let guest_watchdog = Arc::new(Mutex::new(watchdog));
        ports.insert("BIOS device", BIOS_PORT, Bios::PORTS, Arc::clone(&bios) as _)?;
        ports.insert("watchdog", WATCHDOG_PORT, GuestWatchdog::PORTS, Arc::clone(&guest_watchdog) as _)?;
        Ok(FirmwareDevices { bios, guest_watchdog, power, timers })
    }
}

/// Who has to show that it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchdogOf {
    /// The firmware, while it boots.
    Firmware,
    /// The operating system.
    System,
}

/// The devices of a machine.
#[derive(Debug)]
pub struct FirmwareDevices {
    bios: Arc<Mutex<Bios>>,
    guest_watchdog: Arc<Mutex<GuestWatchdog>>,
    power: Arc<Mutex<PowerManagement>>,
    timers: [(WatchdogOf, RawFd); 2],
}

impl FirmwareDevices {
    /// Descriptors that are readable when a watchdog's time is over; they live as long as this does.
    #[must_use]
    pub fn timers(&self) -> [(WatchdogOf, RawFd); 2] {
        self.timers
    }

    /// A watchdog's time is over. Whether its guest has failed: it may have stopped it at the last moment, and while
    /// the machine does not run (`running`) no guest can do anything.
    #[must_use]
    pub fn take_watchdog(&self, whose: WatchdogOf, running: bool) -> bool {
        self.with_watchdog(whose, |watchdog| watchdog.rang(running))
    }

    /// The machine goes on after a pause: its guest has all its time again.
    pub fn excuse(&self) {
        for (whose, _) in self.timers {
            self.with_watchdog(whose, Watchdog::excuse);
        }
    }

    fn with_watchdog<T>(&self, whose: WatchdogOf, act: impl FnOnce(&mut Watchdog) -> T) -> T {
        match whose {
            WatchdogOf::Firmware => act(&mut lock(&self.bios).watchdog),
            WatchdogOf::System => act(&mut lock(&self.guest_watchdog).watchdog),
        }
    }

    /// The machine is not what it was: it was copied, or taken back to an earlier state. Its guest is told.
    ///
    /// # Errors
    /// When the host has no random numbers.
    pub fn change_generation(&self) -> Result<(), MachineError> {
        let id = Guid::random()?;
        // One lock after the other: no two of devices are ever held at once.
        let told = lock(&self.bios).change_generation(id);
        if told {
            lock(&self.power).raise_gpe(GPE_GENERATION_ID);
        }
        Ok(())
    }
}

fn lock<T>(device: &Mutex<T>) -> MutexGuard<'_, T> {
    device.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A watchdog's time, as a descriptor.
#[derive(Debug)]
struct Timer(TimerFd);

impl Timer {
    fn new() -> Result<Self, MachineError> {
        Ok(Timer(TimerFd::new().map_err(std::io::Error::from)?))
    }
}

impl Alarm for Timer {
    /// Either way what was readable no longer is.
    fn set(&mut self, after: Option<Duration>) {
        let set = match after {
            Some(after) => self.0.reset(after, None),
            None => self.0.clear(),
        };
        if let Err(error) = set {
            log::error!("A watchdog's timer cannot be set: {}", std::io::Error::from(error));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use devices::firmware::protocol::register;
    use devices::legacy::PowerEvents;
    use devices::mem::PAGE_SIZE;
    use std::sync::atomic::{AtomicBool, Ordering};
    use vm_memory::{Bytes, GuestAddress};

    #[derive(Default)]
    struct Sci(AtomicBool);

    impl PowerEvents for Sci {
        fn power_off(&self) {}
        fn reset(&self) {}
        fn set_sci(&self, asserted: bool) {
            self.0.store(asserted, Ordering::Relaxed);
        }
    }

    struct Platform {
        ports: PortBus,
        ram: GuestRam,
        sci: Arc<Sci>,
        devices: FirmwareDevices,
    }

    impl Platform {
        fn new(firmware: &mut Firmware) -> Self {
            let ram = GuestRam::from_ranges(&[(GuestAddress(0), 4 * PAGE_SIZE)]).unwrap();
            let sci = Arc::new(Sci::default());
            let power = Arc::new(Mutex::new(PowerManagement::new(Arc::clone(&sci) as _)));
            let mut ports = PortBus::new();
            ports.insert("power management", 0x400, PowerManagement::PORTS, Arc::clone(&power) as _).unwrap();
            let devices = firmware.add(&mut ports, &ram, power).unwrap();
            Platform { ports, ram, sci, devices }
        }

        fn write(&self, port: u16, register: u32, value: u32) {
            self.ports.write(port, &register.to_le_bytes());
            self.ports.write(port + 4, &value.to_le_bytes());
        }

        fn read(&self, port: u16, register: u32) -> u32 {
            let mut data = [0; 4];
            self.ports.write(port, &register.to_le_bytes());
            self.ports.read(port + 4, &mut data);
            u32::from_le_bytes(data)
        }
    }

    #[test]
    fn a_changed_generation_is_written_and_told_by_the_sci() {
        let platform = Platform::new(&mut Firmware::open(None, None).unwrap());
        platform.ports.write(0x40e, &[1, 0]);
        platform.devices.change_generation().unwrap();
        assert!(!platform.sci.0.load(Ordering::Relaxed), "the guest has no place for it yet");
        platform.write(BIOS_PORT, register::GENERATION_ID_LOW, 0x1000);
        platform.write(BIOS_PORT, register::GENERATION_ID_HIGH, 0);
        let id = || platform.ram.read_obj::<u128>(GuestAddress(0x1000)).unwrap();
        let first = id();
        assert!(!platform.sci.0.load(Ordering::Relaxed));
        platform.devices.change_generation().unwrap();
        assert!(id() != first && first != 0 && platform.sci.0.load(Ordering::Relaxed));
    }

    #[test]
    fn a_watchdog_that_rang_ends_the_machine_and_the_next_one_tells_it() {
        let mut firmware = Firmware::open(None, None).unwrap();
        let platform = Platform::new(&mut firmware);
        let [_, (whose, _)] = platform.devices.timers();
        assert_eq!(whose, WatchdogOf::System);
        platform.write(WATCHDOG_PORT, register::WATCHDOG_COUNT, 1);
        platform.write(WATCHDOG_PORT, register::WATCHDOG_CONFIG, 3);
        assert!(!platform.devices.take_watchdog(whose, false), "a machine that does not run cannot fail");
        assert!(platform.devices.take_watchdog(whose, true));
        assert!(!platform.devices.take_watchdog(whose, true), "it rings once");
        firmware.watchdog_resets();
        let next = Platform::new(&mut firmware);
        assert_eq!(next.read(WATCHDOG_PORT, register::WATCHDOG_CONFIG), 0x100);
        assert_eq!(next.read(BIOS_PORT, register::WATCHDOG_CONFIG), 0);
        let third = Platform::new(&mut firmware);
        assert_eq!(third.read(WATCHDOG_PORT, register::WATCHDOG_CONFIG), 0);
    }
}
