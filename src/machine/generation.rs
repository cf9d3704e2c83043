//! Which generation of itself a machine is, and how its guest learns that it is another one.
//!
//! A machine stays of one generation when it is reset or started again; when its disks were copied or taken back to an
//! earlier state, whoever did so says so. The guest finds the id in memory, either where its firmware wants it or where
//! the ACPI tables of a directly booted kernel say.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use devices::firmware::{Bios, Generation};
use devices::guid::Guid;
use devices::legacy::PowerManagement;
use devices::legacy::pm::GPE_GENERATION_ID;
use devices::mem::GuestRam;

use super::firmware::FirmwareDevices;
use super::{Machine, MachineError};
use crate::config::Config;
use crate::layout::boot;

/// A machine's generation.
#[derive(Debug)]
pub(super) struct GenerationId {
    place: Place,
    power: Arc<Mutex<PowerManagement>>,
}

#[derive(Debug)]
enum Place {
    Firmware(Arc<Mutex<Bios>>),
    Tables(GuestRam, Mutex<Generation>),
}

impl GenerationId {
    /// Of a machine with firmware, or without; what it begins with is the firmware's or the configuration's.
    pub fn new(
        firmware: Option<&FirmwareDevices>,
        ram: &GuestRam,
        config: &Config,
        power: Arc<Mutex<PowerManagement>>,
    ) -> Self {
        match firmware {
            Some(devices) => Self::of_firmware(Arc::clone(&devices.bios), power),
            None => Self::of_kernel(ram, config.generation_id.unwrap_or(Guid::ZERO), power),
        }
    }

    /// Of a machine whose firmware keeps the id with its variables, and says where the guest finds it.
    fn of_firmware(bios: Arc<Mutex<Bios>>, power: Arc<Mutex<PowerManagement>>) -> Self {
        GenerationId { place: Place::Firmware(bios), power }
    }

    /// Of a machine that boots a kernel directly.
    fn of_kernel(ram: &GuestRam, id: Guid, power: Arc<Mutex<PowerManagement>>) -> Self {
        let generation = Generation::placed(ram, id, boot::GENERATION_ID);
        GenerationId { place: Place::Tables(ram.clone(), Mutex::new(generation)), power }
    }

    /// The machine is of another generation now, and the guest is told if it listens.
    ///
    /// # Errors
    /// When the id cannot be kept; nothing has changed then.
    pub fn change(&self, id: Guid) -> io::Result<()> {
        // One lock after the other: no two of devices are ever held at once.
        let told = match &self.place {
            Place::Firmware(bios) => lock(bios).change_generation(id)?,
            Place::Tables(ram, generation) => lock(generation).change(ram, id),
        };
        if told {
            lock(&self.power).raise_gpe(GPE_GENERATION_ID);
        }
        Ok(())
    }
}

impl Machine {
    /// The machine is not what it was: its disks were copied, or taken back to an earlier state. Its guest is told, and
    /// the id of the new generation given.
    ///
    /// # Errors
    /// When there is none, or it cannot be kept.
    pub fn new_generation(&self) -> Result<Guid, MachineError> {
        let id = Guid::random().map_err(MachineError::Generation)?;
        self.generation.change(id).map_err(MachineError::Generation)?;
        Ok(id)
    }
}

fn lock<T>(device: &Mutex<T>) -> MutexGuard<'_, T> {
    device.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use devices::firmware::nvram::services::Nowhere;
    use devices::firmware::nvram::{Store, Variables};
    use devices::firmware::protocol::register;
    use devices::firmware::{Alarm, Watchdog};
    use devices::legacy::{PortDevice, PowerEvents};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;
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

    #[derive(Debug)]
    struct NoAlarm;

    impl Alarm for NoAlarm {
        fn set(&mut self, _: Option<Duration>) {}
    }

    const ONE: Guid = Guid::from_bytes([1; 16]);
    const TWO: Guid = Guid::from_bytes([2; 16]);

    fn ram() -> GuestRam {
        GuestRam::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap()
    }

    fn power() -> (Arc<Mutex<PowerManagement>>, Arc<Sci>) {
        let sci = Arc::new(Sci::default());
        let mut power = PowerManagement::new(Arc::clone(&sci) as _);
        power.write(0x0e, &[1, 0]);
        (Arc::new(Mutex::new(power)), sci)
    }

    fn id(ram: &GuestRam, address: u32) -> Guid {
        Guid::from_bytes(ram.read_obj(GuestAddress(address.into())).unwrap())
    }

    #[test]
    fn the_firmwares_guest_finds_a_change_where_it_wants_it_and_gets_the_sci() {
        let (ram, (power, sci)) = (ram(), power());
        let variables = Arc::new(Mutex::new(Variables::new(Store::new(ONE), Box::new(Nowhere))));
        let watchdog = Watchdog::new(Box::new(NoAlarm), false);
        let bios = Arc::new(Mutex::new(Bios::new(ram.clone(), Arc::clone(&variables), watchdog)));
        let generation = GenerationId::of_firmware(Arc::clone(&bios), power);
        generation.change(TWO).unwrap();
        assert!(!sci.0.load(Ordering::Relaxed), "the guest has no place for it yet");
        for (register, value) in [(register::GENERATION_ID_LOW, 0x1000u32), (register::GENERATION_ID_HIGH, 0)]
        {
            let mut bios = bios.lock().unwrap();
            bios.write(0, &register.to_le_bytes());
            bios.write(4, &value.to_le_bytes());
        }
        assert_eq!(id(&ram, 0x1000), TWO);
        assert!(!sci.0.load(Ordering::Relaxed));
        generation.change(ONE).unwrap();
        assert_eq!((id(&ram, 0x1000), variables.lock().unwrap().store().generation), (ONE, ONE));
        assert!(sci.0.load(Ordering::Relaxed));
    }

    #[test]
    fn a_kernels_guest_finds_it_where_the_tables_say() {
        let (ram, (power, sci)) = (ram(), power());
        let generation = GenerationId::of_kernel(&ram, ONE, power);
        assert_eq!((id(&ram, boot::GENERATION_ID), sci.0.load(Ordering::Relaxed)), (ONE, false));
        generation.change(TWO).unwrap();
        assert_eq!((id(&ram, boot::GENERATION_ID), sci.0.load(Ordering::Relaxed)), (TWO, true));
    }
}
