//! The machine: the only place that creates and wires devices.
//!
//! What the guest sees: RAM and processors that show Hyper-V, the platform's few register devices
//! (`platform`), ACPI tables that describe them, and the bus with what [`BUS_DEVICES`] lists and the machine's
//! [disks](crate::disks). [`vmm`](crate::vmm) owns the machine and runs it; a reset is a new machine with the same
//! configuration.

mod display;
pub mod firmware;
mod generation;
mod guest;
mod platform;
mod start;
mod tpm;

use std::fmt::{self, Debug};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use devices::ic::heartbeat::{Heartbeat, HeartbeatStatus};
use devices::ic::shutdown::{Shutdown, ShutdownHandle};
use devices::ic::timesync::TimeSync;
use devices::legacy::{self, MmioBus, PortBus, Serial, SerialOutput};
use devices::loopback::{Loopback, LoopbackCounters};
use devices::vmbus::bus::{Bus, BusError};
use devices::vmbus::synic::Synic;
use kvm_ioctls::VmFd;
use thiserror::Error;

pub use self::guest::GuestServices;
pub use self::platform::SerialPort;
use crate::boot::BootError;
use crate::boot::acpi::AcpiError;
use crate::config::{Config, DEVICES};
use crate::disks::{Disks, UnitError};
use crate::display::{Display, DisplaySize};
use crate::events::EventSender;
use crate::hv::clock::KvmClock;
use crate::hv::counters::{ExitCounters, ExitCounts};
use crate::hv::cpuid::{FeatureError, HypervFeatures};
use crate::hv::crash::CrashRegisters;
use crate::hv::exits::ExitHandler;
use crate::hv::kick::Kick;
use crate::hv::kvm::{HostError, Partition};
use crate::hv::pause::Gate;
use crate::hv::synic::KvmSynic;
use crate::hv::vcpu::VcpuThread;
use crate::memory::{self, MemoryError};
use crate::tpm::Service;
use start::Start;

use self::firmware::{Firmware, FirmwareDevices};
use self::generation::GenerationId;
use self::platform::Registers;

/// A device of the bus: its name on the command line, what it does, and how it is added.
#[derive(Debug)]
pub struct BusDevice {
    /// As in `--devices` and in tables.
    pub name: &'static str,
    /// One line for people.
    pub about: &'static str,
    add: fn(&mut Machine) -> Result<(), MachineError>,
}

/// Every device that the bus can have, in the order in which they are added.
pub const BUS_DEVICES: [BusDevice; DEVICES.len()] = [
    BusDevice {
        name: "shutdown",
        about: "the host asks the guest to power off or reboot",
        add: Machine::add_shutdown,
    },
    BusDevice {
        name: "heartbeat",
        about: "the host sees whether the guest is alive",
        add: Machine::add_heartbeat,
    },
    BusDevice { name: "timesync", about: "the guest has the host's time", add: Machine::add_timesync },
    BusDevice {
        name: "kvp",
        about: "the guest says what it is and which addresses it has",
        add: Machine::add_kvp,
    },
    BusDevice {
        name: "vss",
        about: "the guest freezes its file systems for a backup",
        add: Machine::add_vss,
    },
    BusDevice { name: "fcopy", about: "files are copied into the guest", add: Machine::add_fcopy },
    BusDevice { name: "video", about: "what the guest shows", add: Machine::add_video },
    BusDevice { name: "keyboard", about: "where a person types", add: Machine::add_keyboard },
    BusDevice { name: "mouse", about: "where a person points", add: Machine::add_mouse },
    BusDevice {
        name: "loopback",
        about: "a test driver's packets come back; there only when asked for",
        add: Machine::add_loopback,
    },
];

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
    /// No row of [`BUS_DEVICES`] has this name.
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

/// The names of all bus devices, for messages.
#[must_use]
pub fn device_names() -> String {
    BUS_DEVICES.iter().map(|device| device.name).collect::<Vec<_>>().join(", ")
}

/// What the machines of one run share.
#[derive(Debug)]
pub struct Lasting<'a> {
    /// The firmware's variables, if it has firmware.
    pub firmware: Option<&'a mut Firmware>,
    /// Its TPM, if it has one.
    pub tpm: Option<&'a Service>,
}

/// Everything that the guest runs on.
pub struct Machine {
    /// The bus; the control loop calls it.
    pub bus: Bus,
    /// The SynIC; the control loop retries its messages.
    pub synic: Arc<KvmSynic>,
    /// The way to ask the guest for a shutdown, while that device is on the bus.
    pub shutdown: Option<ShutdownHandle>,
    /// What the heartbeat tells, while that device is on the bus.
    pub heartbeat: Option<Arc<HeartbeatStatus>>,
    /// The services with which users reach into the guest.
    pub guest: GuestServices,
    /// What the loopback device would not do, while it is on the bus.
    pub loopback: Option<Arc<LoopbackCounters>>,
    /// What it shows, and the ways to type and point, while those devices are on the bus.
    pub display: Display,
    /// Its disks and DVD drives.
    pub disks: Disks,
    /// Holds the virtual processors after [`Machine::pause`]; tells whether they run, and lets them go on.
    pub gate: Arc<Gate>,
    /// What its firmware finds of the host, if it has one.
    pub firmware: Option<FirmwareDevices>,
    generation: GenerationId,
    serial: [Arc<Mutex<Serial>>; 2],
    vm: Arc<VmFd>,
    /// Bytes of RAM.
    memory: u64,
    /// The resolution that video memory is made for.
    display_size: DisplaySize,
    /// The resolution that the guest is asked for.
    preferred: DisplaySize,
    processors: Vec<Processor>,
    running: Vec<VcpuThread>,
    counters: Vec<Arc<ExitCounters>>,
}

/// A virtual processor that has not started.
struct Processor {
    vcpu: kvm_ioctls::VcpuFd,
    handler: ExitHandler,
    kick: Arc<Kick>,
}

impl Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").field("bus", &self.bus).field("synic", &self.synic).finish_non_exhaustive()
    }
}

impl Machine {
    /// Builds the machine; nothing runs yet. What the guest writes to its serial ports goes to `outputs`. With
    /// firmware it has what a firmware finds of the host.
    ///
    /// # Errors
    /// A sentence for the user: which of the things asked for cannot be had.
    pub fn build(
        config: &Config,
        events: &EventSender,
        outputs: [Box<dyn SerialOutput>; 2],
        lasting: Lasting<'_>,
    ) -> Result<Self, MachineError> {
        let features: HypervFeatures = config.hyperv.parse()?;
        let ram = memory::allocate(config.memory)?;
        let partition = Partition::new(&ram, config.cpus, &features)?;
        let start = Start::load(&ram, config, &features, partition.address_bits)?;

        let mut ports = PortBus::new();
        let Registers { serial, power } = platform::add(&mut ports, &partition, events, outputs)?;
        let mut mmio = MmioBus::new();
        tpm::add(&mut ports, &mut mmio, &ram, lasting.tpm, config)?;
        let imc = lasting.firmware.as_ref().and_then(|firmware| firmware.imc.clone());
        let firmware = lasting.firmware.map(|firmware| firmware.add(&mut ports, &ram)).transpose()?;
        let generation = GenerationId::new(firmware.as_ref(), &ram, config, power);

        let kicks: Vec<_> = (0..config.cpus).map(|_| Arc::new(Kick::default())).collect();
        let synic = Arc::new(KvmSynic::new(Arc::clone(&partition.vm), ram.clone(), &kicks)?);
        let bus = Bus::new(ram.clone(), Arc::clone(&synic) as Arc<dyn Synic>).map_err(MachineError::NoBus)?;

        let crash = features.has("crash").then(|| Arc::new(CrashRegisters::default()));
        let (ports, mmio) = (Arc::new(ports), Arc::new(mmio));
        let vm = partition.vm;
        let mut processors = Vec::new();
        for ((vp, vcpu), kick) in (0..).zip(partition.vcpus).zip(kicks) {
            start.prepare(&vcpu, vp)?;
            let handler = ExitHandler {
                vp,
                ports: Arc::clone(&ports),
                mmio: Arc::clone(&mmio),
                synic: Arc::clone(&synic),
                messages: bus.port(),
                crash: crash.clone(),
                ram: ram.clone(),
                events: events.try_clone()?,
                counters: Arc::default(),
            };
            processors.push(Processor { vcpu, handler, kick });
        }
        let gate = Arc::new(Gate::new(processors.len()));
        let counters = processors.iter().map(|processor| Arc::clone(&processor.handler.counters)).collect();
        let mut machine = Machine {
            bus,
            synic,
            shutdown: None,
            heartbeat: None,
            guest: GuestServices::default(),
            loopback: None,
            display: Display::default(),
            disks: Disks::new(config.cpus),
            gate,
            firmware,
            generation,
            serial,
            vm,
            memory: config.memory,
            display_size: config.display,
            preferred: config.display,
            processors,
            running: Vec::new(),
            counters,
        };
        machine.add_all(config, imc)?;
        Ok(machine)
    }

    /// Puts on the bus what was asked for.
    fn add_all(&mut self, config: &Config, imc: Option<Arc<[u8]>>) -> Result<(), MachineError> {
        for name in &config.devices {
            self.add(name)?;
        }
        if let Some(hive) = imc {
            self.add_imc(hive)?;
        }
        for disk in &config.disks {
            self.disks.add(&mut self.bus, disk)?;
        }
        Ok(())
    }

    /// Starts the virtual processors.
    ///
    /// # Errors
    /// When the host gives no threads.
    pub fn start(&mut self) -> Result<(), MachineError> {
        for Processor { vcpu, handler, kick } in self.processors.drain(..) {
            self.running.push(VcpuThread::start(vcpu, handler, kick, Arc::clone(&self.gate))?);
        }
        Ok(())
    }

    /// Stops the virtual processors; channels go on with what is in their rings. [`MachineEvent::Paused`](crate::events::MachineEvent::Paused) tells when
    /// the last has stopped.
    pub fn pause(&self) {
        self.gate.close();
        self.running.iter().for_each(VcpuThread::kick);
    }

    /// Stops the virtual processors and every channel, and waits for their threads.
    pub fn stop(&mut self) {
        self.running.iter().for_each(VcpuThread::stop);
        self.running.drain(..).for_each(VcpuThread::join);
        self.bus.shut_down();
    }

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
        match name {
            "shutdown" => self.shutdown = None,
            "heartbeat" => self.heartbeat = None,
            "kvp" => self.guest.kvp = None,
            "vss" => self.guest.vss = None,
            "fcopy" => self.guest.fcopy = None,
            "loopback" => self.loopback = None,
            "video" => self.display.screen = None,
            "keyboard" => self.display.keys = None,
            "mouse" => self.display.pointer = None,
            _ => {}
        }
        Ok(())
    }

    /// The guest's serial console, for the terminal's input.
    pub fn serial(&self) -> MutexGuard<'_, Serial> {
        self.port(SerialPort::Com1)
    }

    /// One of the guest's serial ports.
    pub fn port(&self, port: SerialPort) -> MutexGuard<'_, Serial> {
        let [com1, com2] = &self.serial;
        let port = if port == SerialPort::Com1 { com1 } else { com2 };
        port.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Exits of each virtual processor so far.
    #[must_use]
    pub fn exits(&self) -> Vec<ExitCounts> {
        self.counters.iter().map(|counters| counters.snapshot()).collect()
    }

    fn add_shutdown(&mut self) -> Result<(), MachineError> {
        let (device, handle) = Shutdown::device()?;
        self.bus.add(device).map_err(|source| MachineError::Bus { name: "shutdown", source })?;
        self.shutdown = Some(handle);
        Ok(())
    }

    fn add_heartbeat(&mut self) -> Result<(), MachineError> {
        let (device, status) = Heartbeat::device();
        self.bus.add(device).map_err(|source| MachineError::Bus { name: "heartbeat", source })?;
        self.heartbeat = Some(status);
        Ok(())
    }

    fn add_timesync(&mut self) -> Result<(), MachineError> {
        let device = TimeSync::device(Arc::new(KvmClock(Arc::clone(&self.vm))));
        self.bus.add(device).map_err(|source| MachineError::Bus { name: "timesync", source })?;
        Ok(())
    }

    fn add_loopback(&mut self) -> Result<(), MachineError> {
        let (device, counters) = Loopback::device();
        self.bus.add(device).map_err(|source| MachineError::Bus { name: "loopback", source })?;
        self.loopback = Some(counters);
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.stop();
    }
}
