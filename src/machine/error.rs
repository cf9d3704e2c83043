//! Why there is no machine, or none such as it should be.

use std::io;

use devices::legacy;
use devices::vmbus::bus::BusError;
use thiserror::Error;

use super::bus_devices::device_names;
use crate::boot::BootError;
use crate::boot::acpi::AcpiError;
use crate::disks::UnitError;
use crate::hv::cpuid::FeatureError;
use crate::hv::kvm::HostError;
use crate::memory::MemoryError;

/// Why there is no machine.
#[derive(Debug, Error)]
pub enum MachineError {
    /// The host has no memory for it.
    #[error("The guest's memory cannot be allocated")]
    Memory(#[from] MemoryError),
    /// The host's KVM cannot run it.
    #[error(transparent)]
    Host(#[from] HostError),
    /// `--hyperv` names what is not there.
    #[error(transparent)]
    Feature(#[from] FeatureError),
    /// `--hyperv` leaves out what the firmware stands on.
    #[error("The firmware needs the Hyper-V feature {0:?}: do not leave it out with --hyperv")]
    FirmwareNeeds(&'static str),
    /// The kernel or the firmware cannot be loaded.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The ACPI tables cannot be written.
    #[error("The ACPI tables cannot be written")]
    Acpi(#[from] AcpiError),
    /// Two devices want the same place.
    #[error("A device has no place")]
    Place(#[from] legacy::BusError),
    /// A device cannot join the bus.
    #[error("Device {name} cannot join the bus")]
    Bus {
        /// Its name.
        name: &'static str,
        /// Why.
        #[source]
        source: BusError,
    },
    /// The bus itself.
    #[error("The bus cannot be made")]
    NoBus(#[source] BusError),
    /// No row of [`BUS_DEVICES`](super::BUS_DEVICES) has this name.
    #[error("There is no device {name:?}; the devices are {known}", known = device_names())]
    UnknownDevice {
        /// What the user wrote.
        name: String,
    },
    /// It is there already.
    #[error("The device {0} is on the bus already")]
    AlreadyThere(String),
    /// It is not there.
    #[error("The device {0} is not on the bus")]
    NotThere(String),
    /// A disk.
    #[error(transparent)]
    Disk(#[from] UnitError),
    /// The generation id.
    #[error("The machine's generation id cannot be changed")]
    Generation(#[source] io::Error),
    /// The host has no more threads or descriptors.
    #[error("The host has no more threads or descriptors")]
    Resources(#[from] io::Error),
}
