//! Runs a machine to its end: the control loop.
//!
//! One thread, one event loop: what the machine tells, the bus, messages that wait for a slot, signals, the
//! terminal. Everything that takes long happens on other threads (virtual processors, channels), so nothing in
//! here blocks, except that a reset waits for those threads to end.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Instant;

use devices::ic::shutdown::ShutdownKind;
use devices::vmbus::table::ChannelTable;
use devices::vmbus::trace::TraceFile;
use event_manager::{EventManager, EventOps, EventSet, Events, MutEventSubscriber, SubscriberOps};
use thiserror::Error;

use crate::config::{Config, Trace};
use crate::control::{self, Command};
use crate::events::{EventReceiver, MachineEvent, event_channel};
use crate::host::{Signals, Terminal};
use crate::hv::crash::CrashReport;
use crate::machine::{Machine, MachineError};
use crate::report::{End, HeartbeatReport, Report, Vcpu, Vmbus};

/// Why a machine could not run.
#[derive(Debug, Error)]
pub enum VmmError {
    /// It could not be built.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// It could not go on.
    #[error("The machine failed: {0}")]
    Failed(String),
    /// The event loop.
    #[error("The event loop failed: {0:?}")]
    EventLoop(event_manager::Error),
    /// Signals, terminal, descriptors.
    #[error("The host refuses")]
    Host(#[from] io::Error),
    /// The trace.
    #[error("Cannot write the trace to {path}")]
    Trace {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The report.
    #[error("Cannot write the report to {path}")]
    Report {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Builds the machine and runs it, again after each reset unless the configuration says once. `started` is when
/// this program was.
///
/// # Errors
/// When the machine cannot be built or cannot go on.
pub fn run(config: &Config, started: Instant) -> Result<End, VmmError> {
    let mut signals = Signals::new()?;
    let mut terminal = Terminal::open()?;
    let trace = config.trace.as_ref().map(start_trace).transpose()?;
    let mut start_to_guest_us = None;
    let mut resets = 0;
    loop {
        let (sender, events) = event_channel()?;
        let mut machine = Machine::build(config, &sender, Box::new(io::stdout()))?;
        if let Some(trace) = &trace {
            trace.tracer().note(if resets == 0 { "The machine starts" } else { "The machine starts again" });
            machine.bus.trace(trace.tracer());
        }
        machine.start()?;
        let start_to_guest_us = *start_to_guest_us
            .get_or_insert_with(|| u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX));
        let control = ControlLoop::new(machine, &events, &mut signals, &mut terminal);
        let ended = control.run()?;
        let resets_guest = matches!(ended.end, End::Reset | End::TripleFault);
        if resets_guest && !config.once {
            log::info!(
                "The guest is reset{}",
                if ended.end == End::TripleFault { " after a triple fault" } else { "" }
            );
            resets += 1;
            continue;
        }
        if let Some(path) = &config.report {
            let report = ended.report(resets, start_to_guest_us);
            report
                .write(path)
                .map_err(|source| VmmError::Report { path: path.display().to_string(), source })?;
        }
        return Ok(ended.end);
    }
}

fn start_trace(trace: &Trace) -> Result<TraceFile, VmmError> {
    File::create(&trace.file)
        .and_then(|file| TraceFile::start(file, trace.packets.clone(), trace.limit))
        .map_err(|source| VmmError::Trace { path: trace.file.display().to_string(), source })
}

/// A machine whose life has ended; its counters can still be read.
#[derive(Debug)]
struct Ended {
    end: End,
    machine: Machine,
    crash: Option<CrashReport>,
}

impl Ended {
    fn report(&self, resets: u64, start_to_guest_us: u64) -> Report {
        let Machine { bus, heartbeat, .. } = &self.machine;
        let counters = bus.server().counters();
        Report {
            version: env!("CARGO_PKG_VERSION"),
            end: self.end,
            resets,
            start_to_guest_us,
            crash: self.crash.as_ref().map(ToString::to_string),
            vcpus: self.machine.exits().into_iter().map(|exits| Vcpu { exits }).collect(),
            vmbus: Vmbus {
                protocol: bus.version().map(|version| version.to_string()).unwrap_or_default(),
                messages_in: counters.messages_in,
                messages_out: counters.messages_out,
                contacts: counters.contacts,
            },
            heartbeat: heartbeat
                .as_ref()
                .map(|status| HeartbeatReport { pulse: status.pulse().to_string(), beats: status.beats() }),
            channels: bus.channels(),
        }
    }
}

/// Event data: what became readable.
mod token {
    pub const EVENTS: u32 = 0;
    pub const BUS: u32 = 1;
    pub const SYNIC: u32 = 2;
    pub const SIGNALS: u32 = 3;
    pub const TERMINAL: u32 = 4;
    pub const SERIAL: u32 = 5;
}

struct ControlLoop<'a> {
    machine: Machine,
    events: &'a EventReceiver,
    signals: &'a mut Signals,
    terminal: &'a mut Terminal,
    /// A signal has asked the guest to power off; the next stops it.
    asked: bool,
    crash: Option<CrashReport>,
    end: Option<Result<End, String>>,
}

impl<'a> ControlLoop<'a> {
    fn new(
        machine: Machine,
        events: &'a EventReceiver,
        signals: &'a mut Signals,
        terminal: &'a mut Terminal,
    ) -> Self {
        ControlLoop { machine, events, signals, terminal, asked: false, crash: None, end: None }
    }

    fn run(self) -> Result<Ended, VmmError> {
        let mut manager = EventManager::new().map_err(VmmError::EventLoop)?;
        let id = manager.add_subscriber(self);
        loop {
            manager.run().map_err(VmmError::EventLoop)?;
            let this = manager.subscriber_mut(id).map_err(VmmError::EventLoop)?;
            let Some(end) = this.end.take() else { continue };
            this.machine.stop();
            let this = manager.remove_subscriber(id).map_err(VmmError::EventLoop)?;
            let end = end.map_err(VmmError::Failed)?;
            return Ok(Ended { end, machine: this.machine, crash: this.crash });
        }
    }

    fn take_events(&mut self) {
        let _ = self.events.wake.read();
        while let Some(event) = self.events.next() {
            let end = match event {
                MachineEvent::PowerOff => Ok(End::PowerOff),
                MachineEvent::Reset => Ok(End::Reset),
                MachineEvent::TripleFault => Ok(End::TripleFault),
                MachineEvent::Failed(text) => Err(text),
                MachineEvent::Crashed(report) => {
                    devices::guest_warn!("{report}");
                    self.crash = Some(report);
                    continue;
                }
            };
            // What comes after the first end is an echo of it.
            self.end.get_or_insert(end);
        }
    }

    fn take_signals(&mut self) {
        for _ in 0..self.signals.take() {
            let again = std::mem::replace(&mut self.asked, true);
            self.execute(if again { Command::Stop } else { Command::Shutdown });
        }
    }

    /// Reads the terminal, no more than the guest's console has room for.
    fn take_input(&mut self, ops: &mut EventOps<'_>) {
        let room = self.machine.serial().room();
        if room == 0 {
            return pause(ops, self.terminal.as_raw_fd());
        }
        match self.terminal.read(room) {
            Ok(input) => {
                self.machine.serial().send(&input.guest);
                for command in input.commands {
                    match command {
                        Ok(command) => self.execute(command),
                        Err(error) => eprintln!("busman: {error}"),
                    }
                }
                if input.end {
                    pause(ops, self.terminal.as_raw_fd());
                }
            }
            Err(error) => {
                log::warn!("The terminal is read no more: {error}");
                pause(ops, self.terminal.as_raw_fd());
            }
        }
    }

    fn execute(&mut self, command: Command) {
        match command {
            Command::Shutdown => self.ask_guest(ShutdownKind::PowerOff),
            Command::Reboot => self.ask_guest(ShutdownKind::Reboot),
            Command::Hibernate => self.ask_guest(ShutdownKind::Hibernate),
            Command::Stop => self.end = Some(Ok(End::Stopped)),
            Command::Channels => eprint!("{}", ChannelTable(&self.machine.bus.channels())),
            Command::Remove(name) => self.note(|machine| machine.remove(&name)),
            Command::Add(name) => self.note(|machine| machine.add(&name)),
            Command::Help => eprintln!("{}", control::HELP),
        }
    }

    fn ask_guest(&self, kind: ShutdownKind) {
        let Some(shutdown) = &self.machine.shutdown else {
            return log::warn!("The guest cannot be asked to {kind}: the shutdown device is not on the bus");
        };
        match shutdown.request(kind) {
            Ok(()) => log::info!("The guest is asked to {kind}"),
            Err(error) => log::warn!(
                "The guest cannot be asked to {kind}: {error}. Ctrl-A x or a second signal stops it"
            ),
        }
    }

    fn note(&mut self, change: impl FnOnce(&mut Machine) -> Result<(), MachineError>) {
        if let Err(error) = change(&mut self.machine) {
            eprintln!("busman: {error}");
        }
    }
}

impl MutEventSubscriber for ControlLoop<'_> {
    fn process(&mut self, events: Events, ops: &mut EventOps<'_>) {
        match events.data() {
            token::EVENTS => self.take_events(),
            token::BUS => self.machine.bus.process(),
            token::SYNIC => self.machine.synic.retry(),
            token::SIGNALS => self.take_signals(),
            token::TERMINAL => self.take_input(ops),
            _ => {
                let _ = self.machine.serial().drained().read();
                watch(ops, self.terminal.as_raw_fd(), token::TERMINAL);
            }
        }
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        let drained = self.machine.serial().drained().as_raw_fd();
        for (fd, token) in [
            (self.events.wake.as_raw_fd(), token::EVENTS),
            (self.machine.bus.wake_fd(), token::BUS),
            (self.machine.synic.retry_fd(), token::SYNIC),
            (self.signals.as_raw_fd(), token::SIGNALS),
            (self.terminal.as_raw_fd(), token::TERMINAL),
            (drained, token::SERIAL),
        ] {
            watch(ops, fd, token);
        }
    }
}

fn watch(ops: &mut EventOps<'_>, fd: RawFd, token: u32) {
    if let Err(error) = ops.add(Events::with_data_raw(fd, token, EventSet::IN)) {
        log::error!("The control loop cannot watch a descriptor: {error:?}");
    }
}

fn pause(ops: &mut EventOps<'_>, fd: RawFd) {
    if let Err(error) = ops.remove(Events::with_data_raw(fd, token::TERMINAL, EventSet::IN)) {
        log::error!("The control loop cannot forget a descriptor: {error:?}");
    }
}
