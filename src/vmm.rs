//! Runs a machine to its end: the control loop.
//!
//! One thread, one event loop: what the machine tells, the bus, messages that wait for a slot, signals, the
//! terminal, the control socket's commands. Everything that takes long happens on other threads (virtual
//! processors, channels), so nothing in here blocks, except that a reset waits for those threads to end.

mod ended;
mod error;
mod execute;
mod faults;
mod guest;
mod outside;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::thread::Builder;
use std::time::Instant;

use devices::vmbus::trace::TraceFile;
use event_manager::{EventManager, EventOps, EventSet, Events, MutEventSubscriber, SubscriberOps};

use self::ended::Ended;
use self::faults::Faults;
use self::outside::Outside;
use crate::api::Server;
use crate::config::{Config, Trace};
use crate::control::{Answer, Command, Outcome, Reply, command_channel};
use crate::display::{Display, DisplaySize};
use crate::events::{EventReceiver, MachineEvent, event_channel};
use crate::host::Signals;
use crate::hv::crash::CrashReport;
use crate::hv::pause::RunState;
use crate::machine::firmware::{FirmwareDevices, WatchdogOf};
use crate::machine::{Machine, SerialPort};
use crate::report::End;
use crate::vnc::{self, Desk};

pub use error::VmmError;

/// Builds the machine and runs it, again after each reset unless the configuration says once, or the guest ends in a
/// triple fault whenever it starts. `started` is when this program was.
///
/// # Errors
/// When the machine cannot be built or cannot go on.
pub fn run(config: &Config, started: Instant) -> Result<End, VmmError> {
    let signals = Signals::new()?;
    let (sender, commands) = command_channel()?;
    // Before the terminal, which goes raw; dropped after the commands, so that no client waits for the dead.
    let socket = config.api_socket.as_deref();
    let _server = socket.map(|path| Server::start(path, Arc::new(sender))).transpose()?;
    let desk = Arc::new(Desk::default());
    let vnc = config.vnc.as_ref();
    let _viewers = vnc.map(|options| vnc::Server::start(options, Arc::clone(&desk))).transpose()?;
    let trace = config.trace.as_ref().map(start_trace).transpose()?;
    let mut outside = Outside::open(config.clone(), signals, commands, desk)?;
    let (mut start_to_guest_us, mut faults) = (None, Faults::default());
    loop {
        let (sender, events) = event_channel()?;
        let mut machine = outside.build(&sender)?;
        if let Some(trace) = &trace {
            let first = outside.resets == 0;
            trace.tracer().note(if first { "The machine starts" } else { "The machine starts again" });
            machine.bus.trace(trace.tracer());
        }
        // Its video memory is as large as that of the one before.
        let _ = outside.resolution.map(|size| machine.prefer(size));
        outside.desk.put(machine.display.clone());
        machine.start()?;
        let start_to_guest_us = *start_to_guest_us
            .get_or_insert_with(|| u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX));
        let life = Instant::now();
        let ended = ControlLoop::new(machine, &events, &mut outside).run()?;
        // What a viewer has asked for holds in the next life, too.
        let asked = outside.desk.display().screen.and_then(|screen| screen.preferred()).map(DisplaySize);
        outside.resolution = asked.or(outside.resolution);
        // A viewer must not keep the old machine's memory.
        outside.desk.put(Display::default());
        let hopeless = faults.hopeless(ended.end, life.elapsed());
        if hopeless {
            log::error!("The guest ends in a triple fault whenever it starts; it is not started again");
        }
        let resets_guest = matches!(ended.end, End::Reset | End::TripleFault) && !hopeless;
        if resets_guest && !outside.config.once {
            log::info!(
                "The guest is reset{}",
                if ended.end == End::TripleFault { " after a triple fault" } else { "" }
            );
            outside.resets += 1;
            continue;
        }
        let end = ended.end;
        if let Some(path) = &outside.config.report {
            let report = ended.report(&outside, start_to_guest_us);
            report
                .write(path)
                .map_err(|source| VmmError::Report { path: path.display().to_string(), source })?;
        }
        return Ok(end);
    }
}

fn start_trace(trace: &Trace) -> Result<TraceFile, VmmError> {
    File::create(&trace.file)
        .and_then(|file| TraceFile::start(file, trace.packets.clone(), trace.limit))
        .map_err(|source| VmmError::Trace { path: trace.file.display().to_string(), source })
}

/// Event data: what became readable.
mod token {
    pub const EVENTS: u32 = 0;
    pub const BUS: u32 = 1;
    pub const SYNIC: u32 = 2;
    pub const SIGNALS: u32 = 3;
    pub const TERMINAL: u32 = 4;
    pub const SERIAL: u32 = 5;
    pub const COMMANDS: u32 = 6;
    pub const CONSOLE: u32 = 7;
    pub const FIRMWARE_WATCHDOG: u32 = 8;
    pub const SYSTEM_WATCHDOG: u32 = 9;
    pub const COM2: u32 = 10;
}

struct ControlLoop<'a> {
    machine: Machine,
    events: &'a EventReceiver,
    outside: &'a mut Outside,
    started: Instant,
    /// Who asked for a pause that is not complete.
    pausing: Vec<Reply>,
    /// A signal has asked the guest to power off; the next stops it.
    asked: bool,
    crash: Option<CrashReport>,
    end: Option<Result<End, String>>,
}

impl<'a> ControlLoop<'a> {
    fn new(machine: Machine, events: &'a EventReceiver, outside: &'a mut Outside) -> Self {
        ControlLoop {
            machine,
            events,
            outside,
            started: Instant::now(),
            pausing: Vec::new(),
            asked: false,
            crash: None,
            end: None,
        }
    }

    fn run(self) -> Result<Ended, VmmError> {
        let mut manager = EventManager::new().map_err(VmmError::EventLoop)?;
        let id = manager.add_subscriber(self);
        loop {
            manager.run().map_err(VmmError::EventLoop)?;
            let this = manager.subscriber_mut(id).map_err(VmmError::EventLoop)?;
            let Some(end) = this.end.take() else { continue };
            let counters = execute::counters(&this.machine);
            this.machine.stop();
            // A channel may send a last packet while it is stopped: what the trace has, the table has.
            this.outside.contacts.add(this.outside.resets, this.machine.bus.contacts());
            let (channels, disks) = (this.machine.bus.channels(), this.machine.disks.rows());
            let this = manager.remove_subscriber(id).map_err(VmmError::EventLoop)?;
            let end = end.map_err(VmmError::Failed)?;
            return Ok(Ended { end, crash: this.crash, counters, channels, disks });
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
                MachineEvent::Paused => {
                    self.has_paused();
                    continue;
                }
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
        for _ in 0..self.outside.signals.take() {
            let again = std::mem::replace(&mut self.asked, true);
            let warn = |outcome: Outcome| {
                if let Err(refusal) = outcome {
                    log::warn!("{}. Ctrl-A x or a second signal stops it", refusal.sentence());
                }
            };
            self.execute(if again { Command::Stop } else { Command::Shutdown }, Reply::new(warn));
        }
    }

    fn take_command(&mut self) {
        // One at a time: clients that never stop asking must not keep the bus waiting.
        let _ = self.outside.commands.wake.read();
        if let Some((command, reply)) = self.outside.commands.next() {
            self.execute(command, reply);
        }
    }

    /// A watchdog's time is over: its guest is stuck, unless it could not run.
    fn take_watchdog(&mut self, whose: WatchdogOf) {
        let running = self.machine.gate.state() == RunState::Running;
        let Some(devices) = &self.machine.firmware else { return };
        if devices.take_watchdog(whose, running) {
            log::warn!(
                "The watchdog resets the guest: its {} gave no sign of life",
                if whose == WatchdogOf::Firmware { "firmware" } else { "system" }
            );
            if let Some(firmware) = &mut self.outside.firmware {
                firmware.watchdog_resets();
            }
            self.end.get_or_insert(Ok(End::Reset));
        }
    }

    /// Reads the terminal, no more than the guest's console has room for.
    fn take_input(&mut self, ops: &mut EventOps<'_>) {
        let room = self.machine.serial().room();
        if room == 0 {
            return pause(ops, self.outside.terminal.as_raw_fd());
        }
        match self.outside.terminal.read(room) {
            Ok(input) => {
                self.machine.serial().send(&input.guest);
                for command in input.commands {
                    match command {
                        Ok(command) => self.execute(command, Reply::new(show)),
                        Err(error) => say(&format!("busman: {error}\n")),
                    }
                }
                if input.end {
                    pause(ops, self.outside.terminal.as_raw_fd());
                }
            }
            Err(error) => {
                log::warn!("The terminal is read no more: {error}");
                pause(ops, self.outside.terminal.as_raw_fd());
            }
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
            token::COMMANDS => self.take_command(),
            token::FIRMWARE_WATCHDOG => self.take_watchdog(WatchdogOf::Firmware),
            token::SYSTEM_WATCHDOG => self.take_watchdog(WatchdogOf::System),
            token::CONSOLE => {
                let _ = self.outside.console.drained().read();
                self.machine.serial().resume();
            }
            token::COM2 => {
                let _ = self.outside.com2.as_ref().map(|com2| com2.drained().read());
                self.machine.port(SerialPort::Com2).resume();
            }
            _ => {
                let _ = self.machine.serial().drained().read();
                watch(ops, self.outside.terminal.as_raw_fd(), token::TERMINAL);
            }
        }
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        let drained = self.machine.serial().drained().as_raw_fd();
        for (fd, token) in [
            (self.events.wake.as_raw_fd(), token::EVENTS),
            (self.machine.bus.wake_fd(), token::BUS),
            (self.machine.synic.retry_fd(), token::SYNIC),
            (self.outside.signals.as_raw_fd(), token::SIGNALS),
            (self.outside.terminal.as_raw_fd(), token::TERMINAL),
            (drained, token::SERIAL),
            (self.outside.commands.wake.as_raw_fd(), token::COMMANDS),
            (self.outside.console.drained().as_raw_fd(), token::CONSOLE),
        ] {
            watch(ops, fd, token);
        }
        if let Some(com2) = &self.outside.com2 {
            watch(ops, com2.drained().as_raw_fd(), token::COM2);
        }
        for (whose, fd) in self.machine.firmware.iter().flat_map(FirmwareDevices::timers) {
            let firmware = whose == WatchdogOf::Firmware;
            watch(ops, fd, if firmware { token::FIRMWARE_WATCHDOG } else { token::SYSTEM_WATCHDOG });
        }
    }
}

/// Shows an outcome on the terminal.
fn show(outcome: Outcome) {
    match outcome {
        // To look at all of a picture takes a while.
        Ok(answer @ Answer::Display(_)) => {
            let looking = Builder::new().name("display".to_owned()).spawn(move || say(&answer.to_string()));
            if let Err(error) = looking {
                log::warn!("Nobody looks at the display: {error}");
            }
        }
        Ok(answer) => say(&answer.to_string()),
        Err(refusal) => say(&format!("busman: {}\n", refusal.sentence())),
    }
}

fn say(text: &str) {
    // Without a reader nobody misses it.
    let _ = io::stderr().write_all(text.as_bytes());
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
