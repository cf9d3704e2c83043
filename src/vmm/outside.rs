//! What outlives a machine: its configuration, and the ways in which users reach it.
//!
//! [`run`](super::run) opens it once; each life of the machine is built from it and leaves it to the next one.

use std::io;
use std::path::Path;
use std::sync::Arc;

use devices::legacy::SerialOutput;

use super::VmmError;
use crate::config::{Boot, Config};
use crate::contacts::History;
use crate::control::CommandReceiver;
use crate::display::DisplaySize;
use crate::events::EventSender;
use crate::host::{Console, Signals, Terminal};
use crate::machine::firmware::Firmware;
use crate::machine::{Lasting, Machine, MachineError};
use crate::tpm;
use crate::vnc::Desk;

pub(super) struct Outside {
    pub config: Config,
    pub signals: Signals,
    /// What it has left is written while the terminal is raw, as all before.
    pub console: Console,
    /// Where the guest's second serial port leads, if it leads anywhere.
    pub com2: Option<Console>,
    pub terminal: Terminal,
    pub commands: CommandReceiver,
    /// The variables of its firmware, if it has one.
    pub firmware: Option<Firmware>,
    /// Its TPM, if it has one.
    pub tpm: Option<tpm::Service>,
    /// Where VNC viewers find the machine that there is now.
    pub desk: Arc<Desk>,
    /// The resolution that a user has asked for.
    pub resolution: Option<DisplaySize>,
    /// Lives of the machine before this one.
    pub resets: u64,
    /// Who made contact in all lives, the oldest first.
    pub contacts: History,
}

impl Outside {
    /// Opens files and takes the terminal; the configuration learns what the files know of the machine.
    ///
    /// # Errors
    /// A sentence for the user.
    pub fn open(
        mut config: Config,
        signals: Signals,
        commands: CommandReceiver,
        desk: Arc<Desk>,
    ) -> Result<Self, VmmError> {
        let firmware = open_firmware(&mut config)?;
        let tpm = config.tpm.as_ref().map(tpm::Service::start).transpose()?;
        let console = Console::open()?;
        let com2 = config.com2.as_deref().map(open_com2).transpose()?;
        let terminal = Terminal::open()?;
        Ok(Outside {
            config,
            signals,
            console,
            com2,
            terminal,
            commands,
            firmware,
            tpm,
            desk,
            resolution: None,
            resets: 0,
            contacts: History::default(),
        })
    }

    /// Builds the next machine.
    ///
    /// # Errors
    /// See [`Machine::build`].
    pub fn build(&mut self, events: &EventSender) -> Result<Machine, MachineError> {
        let outputs = self.serial_outputs();
        let lasting = Lasting { firmware: self.firmware.as_mut(), tpm: self.tpm.as_ref() };
        Machine::build(&self.config, events, outputs, lasting)
    }

    /// Where a machine's serial ports lead.
    fn serial_outputs(&self) -> [Box<dyn SerialOutput>; 2] {
        let com2: Box<dyn SerialOutput> = match &self.com2 {
            Some(file) => Box::new(file.writer()),
            None => Box::new(io::sink()),
        };
        [Box::new(self.console.writer()), com2]
    }
}

/// What the machine's firmware finds of the host, if it has firmware; the configuration learns the machine's UUID.
fn open_firmware(config: &mut Config) -> Result<Option<Firmware>, VmmError> {
    if let Boot::Kernel(_) = config.boot {
        return Ok(None);
    }
    let firmware = Firmware::open(config)?;
    if let Boot::Firmware(source) = &mut config.boot {
        source.uuid = Some(firmware.uuid());
    }
    Ok(Some(firmware))
}

fn open_com2(path: &Path) -> Result<Console, VmmError> {
    Console::to_file(path).map_err(|source| VmmError::Com2 { path: path.display().to_string(), source })
}
