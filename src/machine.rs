//! The machine: the only place that creates and wires devices.
//!
//! What the guest sees: RAM and processors that show Hyper-V, the platform's few register devices
//! (`platform`), ACPI tables that describe them, and the bus with what [`BUS_DEVICES`] lists and the machine's
//! [disks](crate::disks). [`vmm`](crate::vmm) owns the machine and runs it; a reset is a new machine with the same
//! configuration.

mod bus_devices;
mod display;
mod error;
pub mod firmware;
mod generation;
mod guest;
mod platform;
mod start;
mod tpm;

use std::fmt::{self, Debug};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use devices::ic::heartbeat::HeartbeatStatus;
use devices::ic::shutdown::ShutdownHandle;
use devices::legacy::{MmioBus, PortBus, Serial, SerialOutput};
use devices::loopback::LoopbackCounters;
use devices::vmbus::bus::Bus;
use devices::vmbus::synic::Synic;
use kvm_ioctls::VmFd;

pub use self::bus_devices::{BUS_DEVICES, BusDevice, device_names};
pub use self::error::MachineError;
pub use self::guest::GuestServices;
pub use self::platform::SerialPort;
use crate::config::Config;
use crate::disks::Disks;
use crate::display::{Display, DisplaySize};
use crate::events::EventSender;
use crate::hv::counters::{ExitCounters, ExitCounts};
use crate::hv::cpuid::HypervFeatures;
use crate::hv::crash::CrashRegisters;
use crate::hv::exits::ExitHandler;
use crate::hv::kick::Kick;
use crate::hv::kvm::Partition;
use crate::hv::pause::Gate;
use crate::hv::synic::KvmSynic;
use crate::hv::vcpu::VcpuThread;
use crate::memory;
use crate::tpm::Service;
use start::Start;

use self::firmware::{Firmware, FirmwareDevices};
use self::generation::GenerationId;
use self::platform::Registers;

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
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.stop();
    }
}
