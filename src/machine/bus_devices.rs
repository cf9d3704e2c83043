//! The devices of the bus that a machine has by name: what they are, and how they are added and removed.
//!
//! Whoever takes a device from the bus takes along what the machine holds of it.

use std::sync::Arc;

use devices::ic::heartbeat::Heartbeat;
use devices::ic::shutdown::Shutdown;
use devices::ic::timesync::TimeSync;
use devices::loopback::Loopback;
use devices::vmbus::channel::VmbusDevice;

use super::{Machine, MachineError};
use crate::config::DEVICES;
use crate::hv::clock::KvmClock;

/// A device of the bus.
#[derive(Debug)]
pub struct BusDevice {
    /// As in `--devices` and in tables.
    pub name: &'static str,
    /// One line for people.
    pub about: &'static str,
    add: fn(&mut Machine) -> Result<(), MachineError>,
    /// Lets go of the machine's way to it.
    forget: fn(&mut Machine),
}

const fn row(
    name: &'static str,
    about: &'static str,
    add: fn(&mut Machine) -> Result<(), MachineError>,
    forget: fn(&mut Machine),
) -> BusDevice {
    BusDevice { name, about, add, forget }
}

/// Every device that the bus can have, in the order in which they are added.
pub const BUS_DEVICES: [BusDevice; DEVICES.len()] = [
    row("shutdown", "the host asks the guest to power off or reboot", Machine::add_shutdown, |machine| {
        machine.shutdown = None;
    }),
    row("heartbeat", "the host sees whether the guest is alive", Machine::add_heartbeat, |machine| {
        machine.heartbeat = None;
    }),
    row("timesync", "the guest has the host's time", Machine::add_timesync, |_| ()),
    row("kvp", "the guest says what it is and which addresses it has", Machine::add_kvp, |machine| {
        machine.guest.kvp = None;
    }),
    row("vss", "the guest freezes its file systems for a backup", Machine::add_vss, |machine| {
        machine.guest.vss = None;
    }),
    row("fcopy", "files are copied into the guest", Machine::add_fcopy, |machine| machine.guest.fcopy = None),
    row("video", "what the guest shows", Machine::add_video, |machine| machine.display.screen = None),
    row("keyboard", "where a person types", Machine::add_keyboard, |machine| machine.display.keys = None),
    row("mouse", "where a person points", Machine::add_mouse, |machine| machine.display.pointer = None),
    row(
        "loopback",
        "a test driver's packets come back; there only when asked for",
        Machine::add_loopback,
        |machine| machine.loopback = None,
    ),
];

/// The names of all bus devices, for messages.
#[must_use]
pub fn device_names() -> String {
    BUS_DEVICES.iter().map(|device| device.name).collect::<Vec<_>>().join(", ")
}

impl Machine {
    /// Puts a device on the bus by its name; a guest that is connected sees it at once.
    ///
    /// # Errors
    /// When there is no such device or it is there already.
    pub fn add(&mut self, name: &str) -> Result<(), MachineError> {
        let device = BUS_DEVICES.iter().find(|device| device.name == name);
        let device = device.ok_or_else(|| MachineError::UnknownDevice { name: name.to_owned() })?;
        if self.bus.find(name).is_some() {
            return Err(MachineError::AlreadyThere(name.to_owned()));
        }
        (device.add)(self)
    }

    /// Takes a device from the bus by its name.
    ///
    /// # Errors
    /// When it is not there, or is a controller that still has disks.
    pub fn remove(&mut self, name: &str) -> Result<(), MachineError> {
        let id = self.bus.find(name).ok_or_else(|| MachineError::NotThere(name.to_owned()))?;
        self.disks.release_controller(name)?;
        self.bus.remove(id);
        // A disk controller is on the bus, too, and is no row of the table.
        if let Some(device) = BUS_DEVICES.iter().find(|device| device.name == name) {
            (device.forget)(self);
        }
        Ok(())
    }

    /// Puts a device on the bus; `name` is for the error.
    pub(super) fn offer(
        &mut self,
        name: &'static str,
        device: impl VmbusDevice + 'static,
    ) -> Result<(), MachineError> {
        self.bus.add(device).map(drop).map_err(|source| MachineError::Bus { name, source })
    }

    fn add_shutdown(&mut self) -> Result<(), MachineError> {
        let (device, handle) = Shutdown::device()?;
        self.offer("shutdown", device)?;
        self.shutdown = Some(handle);
        Ok(())
    }

    fn add_heartbeat(&mut self) -> Result<(), MachineError> {
        let (device, status) = Heartbeat::device();
        self.offer("heartbeat", device)?;
        self.heartbeat = Some(status);
        Ok(())
    }

    fn add_timesync(&mut self) -> Result<(), MachineError> {
        let device = TimeSync::device(Arc::new(KvmClock(Arc::clone(&self.vm))));
        self.offer("timesync", device)
    }

    fn add_loopback(&mut self) -> Result<(), MachineError> {
        let (device, counters) = Loopback::device();
        self.offer("loopback", device)?;
        self.loopback = Some(counters);
        Ok(())
    }
}
