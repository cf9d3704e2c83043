//! Carries out what users ask of the machine, on the control loop.

use devices::ic::shutdown::ShutdownKind;

use std::path::Path;

use devices::storage::scsi::Ejected;

use super::ControlLoop;
use crate::control::{Answer, Command, DeviceRow, Generation, Outcome, QUEUE, Refusal, Reply, Status};
use crate::disks::{Place, Unit, UnitConfig, UnitError};
use crate::display::{Chord, DisplaySize, Picture, PointerEvent};
use crate::hv::pause::RunState;
use crate::machine::{BUS_DEVICES, BusDevice, Machine, MachineError};
use crate::report::{Counters, End, HeartbeatReport, LoopbackReport, Vcpu, Vmbus};

impl ControlLoop<'_> {
    /// Carries a command out. The outcome comes at once, but for that of a pause and of what the guest is asked.
    pub(super) fn execute(&mut self, command: Command, reply: Reply) {
        let outcome = match command {
            Command::Shutdown => self.ask_guest(ShutdownKind::PowerOff),
            Command::Reboot => self.ask_guest(ShutdownKind::Reboot),
            Command::Hibernate => self.ask_guest(ShutdownKind::Hibernate),
            Command::Stop => self.end_with(End::Stopped),
            Command::Reset => self.end_with(End::Reset),
            Command::Pause => return self.pause(reply),
            Command::Resume => self.resume(),
            Command::NewGeneration => self.new_generation(),
            Command::State => Ok(Answer::State(self.status())),
            Command::Config => Ok(Answer::Config(Box::new(self.outside.config.clone()))),
            Command::Channels => Ok(Answer::Channels(self.machine.bus.channels())),
            Command::Counters => Ok(Answer::Counters(counters(&self.machine))),
            Command::Devices => Ok(Answer::Devices(devices(&self.machine))),
            Command::Remove(name) => self.remove(&name),
            Command::Add(name) => self.change(|machine| machine.add(&name)),
            Command::Disks => Ok(Answer::Disks(self.machine.disks.rows())),
            Command::AddDisk(unit) => self.add_disk(unit).map_err(Refusal::Disk),
            Command::RemoveDisk(place) => self.remove_disk(place).map_err(Refusal::Disk),
            Command::Insert(place, path) => self.insert(place, &path).map_err(Refusal::Disk),
            Command::Eject { place, force } => self.eject(place, force).map_err(Refusal::Disk),
            Command::Guest(command) => return self.guest(command, reply),
            Command::Display => self.display(),
            Command::Resolution(size) => self.resolution(size),
            Command::Screen => self.screen(),
            Command::Key(chord) => self.key(&chord),
            Command::Pointer(event) => self.point(&event),
            Command::Help => Ok(Answer::Help),
        };
        reply.send(outcome);
    }

    /// The last virtual processor has stopped, unless the machine was resumed meanwhile.
    pub(super) fn has_paused(&mut self) {
        if self.machine.gate.state() == RunState::Paused {
            log::info!("The machine is paused");
            self.pausing.drain(..).for_each(|reply| reply.send(Ok(Answer::Done)));
        }
    }

    fn pause(&mut self, reply: Reply) {
        if self.machine.gate.state() == RunState::Running {
            self.machine.pause();
        }
        if self.pausing.len() >= QUEUE {
            return reply.send(Err(Refusal::Busy));
        }
        self.pausing.push(reply);
        if self.machine.gate.state() == RunState::Paused {
            self.pausing.drain(..).for_each(|reply| reply.send(Ok(Answer::Done)));
        }
    }

    fn resume(&mut self) -> Outcome {
        if self.machine.gate.state() != RunState::Running {
            if let Some(firmware) = &self.machine.firmware {
                firmware.excuse();
            }
            self.machine.gate.open();
            log::info!("The machine goes on");
        }
        self.pausing.drain(..).for_each(|reply| reply.send(Err(Refusal::Resumed)));
        Ok(Answer::Done)
    }

    fn new_generation(&mut self) -> Outcome {
        let id = self.machine.new_generation().map_err(Refusal::Device)?;
        // After a reset, too.
        self.outside.config.generation_id = Some(id);
        log::info!("The machine is of a new generation, {id}");
        Ok(Answer::Generation(Generation { generation_id: id.to_string() }))
    }

    fn ask_guest(&self, kind: ShutdownKind) -> Outcome {
        if self.machine.gate.state() != RunState::Running {
            return Err(Refusal::Paused(kind));
        }
        let shutdown = self.machine.shutdown.as_ref().ok_or(Refusal::NoShutdownDevice(kind))?;
        shutdown.request(kind).map_err(|source| Refusal::NotListening { kind, source })?;
        log::info!("The guest is asked to {kind}");
        Ok(Answer::Asked(kind))
    }

    fn end_with(&mut self, end: End) -> Outcome {
        self.end.get_or_insert(Ok(end));
        Ok(Answer::Done)
    }

    fn remove(&mut self, name: &str) -> Outcome {
        self.change(|machine| machine.remove(name))
    }

    fn change(&mut self, change: impl FnOnce(&mut Machine) -> Result<(), MachineError>) -> Outcome {
        change(&mut self.machine).map_err(Refusal::Device)?;
        self.outside.desk.put(self.machine.display.clone());
        Ok(Answer::Done)
    }

    /// What is added and removed stays so when the machine is reset.
    fn add_disk(&mut self, unit: Unit) -> Result<Answer, UnitError> {
        let Machine { disks, bus, .. } = &mut self.machine;
        let place = disks.place(&unit)?;
        let config = UnitConfig::new(place, unit);
        disks.add(bus, &config)?;
        self.outside.config.disks.push(config);
        let row = disks.row(place)?;
        log::info!("The guest has a new {} at {place}", row.kind);
        Ok(Answer::Disk(Box::new(row)))
    }

    fn remove_disk(&mut self, place: Place) -> Result<Answer, UnitError> {
        self.machine.disks.remove(place)?;
        self.outside.config.disks.retain(|disk| disk.place != place);
        log::info!("What was at {place} is removed");
        Ok(Answer::Done)
    }

    fn insert(&mut self, place: Place, path: &Path) -> Result<Answer, UnitError> {
        self.machine.disks.insert(place, path)?;
        self.set_disc(place, Some(path));
        Ok(Answer::Done)
    }

    fn eject(&mut self, place: Place, force: bool) -> Result<Answer, UnitError> {
        if self.machine.disks.eject(place, force)? == Ejected::Asked {
            log::info!("The guest has locked drive {place}, and is asked to eject its disc");
            return Ok(Answer::AskedToEject);
        }
        self.set_disc(place, None);
        Ok(Answer::Done)
    }

    fn set_disc(&mut self, place: Place, disc: Option<&Path>) {
        for config in self.outside.config.disks.iter_mut().filter(|config| config.place == place) {
            if let Unit::Dvd(dvd) = &mut config.unit {
                dvd.path = disc.map(Path::to_owned);
            }
        }
    }

    fn display(&self) -> Outcome {
        let screen = self.machine.display.screen.clone().ok_or_else(|| not_there("video"))?;
        Ok(Answer::Display(Picture(screen)))
    }

    /// What is asked for stays so when the machine is reset.
    fn resolution(&mut self, size: DisplaySize) -> Outcome {
        if self.machine.display.screen.is_none() {
            return Err(not_there("video"));
        }
        self.machine.prefer(size).map_err(Refusal::Resolution)?;
        self.outside.resolution = Some(size);
        log::info!("The guest is asked for a resolution of {size}");
        Ok(Answer::AskedToResize)
    }

    fn screen(&self) -> Outcome {
        let screen = self.machine.display.screen.clone().ok_or_else(|| not_there("video"))?;
        Ok(Answer::Screen(Picture(screen)))
    }

    fn key(&self, chord: &Chord) -> Outcome {
        let keys = self.machine.display.keys.as_ref().ok_or_else(|| not_there("keyboard"))?;
        chord.strike(&**keys);
        Ok(Answer::Done)
    }

    fn point(&self, event: &PointerEvent) -> Outcome {
        let pointer = self.machine.display.pointer.as_ref().ok_or_else(|| not_there("mouse"))?;
        event.tell(&**pointer);
        Ok(Answer::Done)
    }

    fn status(&self) -> Status {
        let Counters { vmbus, heartbeat, .. } = counters(&self.machine);
        Status {
            state: self.machine.gate.state(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            resets: self.outside.resets,
            cpus: self.outside.config.cpus,
            memory: self.outside.config.memory,
            protocol: vmbus.protocol,
            heartbeat: heartbeat.map(|heartbeat| heartbeat.pulse),
            crash: self.crash.as_ref().map(ToString::to_string),
        }
    }
}

fn not_there(name: &str) -> Refusal {
    Refusal::Device(MachineError::NotThere(name.to_owned()))
}

fn devices(machine: &Machine) -> Vec<DeviceRow> {
    let row = |device: &BusDevice| DeviceRow {
        name: device.name.to_owned(),
        about: device.about.to_owned(),
        on_bus: machine.bus.find(device.name).is_some(),
    };
    BUS_DEVICES.iter().map(row).collect()
}

/// What a machine has counted so far.
pub(super) fn counters(machine: &Machine) -> Counters {
    let Machine { bus, heartbeat, loopback, .. } = machine;
    let counted = bus.server().counters();
    Counters {
        vcpus: machine.exits().into_iter().map(|exits| Vcpu { exits }).collect(),
        vmbus: Vmbus {
            protocol: bus.version().map(|version| version.to_string()).unwrap_or_default(),
            messages_in: counted.messages_in,
            messages_out: counted.messages_out,
            contacts: counted.contacts,
            refusals: counted.refusals().map(|(why, count)| (why.name().to_owned(), count)).collect(),
        },
        heartbeat: heartbeat
            .as_ref()
            .map(|status| HeartbeatReport { pulse: status.pulse().to_string(), beats: status.beats() }),
        loopback: loopback
            .as_ref()
            .map(|counters| LoopbackReport { dropped: counters.dropped(), refused: counters.refused() }),
    }
}
