//! What a user can ask of a running machine, whichever way the request comes in.
//!
//! The terminal, signals and the control socket all make a [`Command`] with a [`Reply`], and the control loop
//! ([`vmm`](crate::vmm)) carries it out: there is no other way in. An outcome is an [`Answer`] or a [`Refusal`];
//! whoever asked shows it in its own form.

mod answer;
mod channel;
mod disks;
mod display;
mod guest;
mod refusal;
pub mod text;

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use devices::ic::kvp::UnknownPool;
use thiserror::Error;

pub use self::answer::{Answer, DeviceRow, Generation, Status};
pub(crate) use self::channel::QUEUE;
pub use self::channel::{CommandReceiver, CommandSender, Outcome, Reply, command_channel};
pub use self::guest::{Addresses, CopyOptions, FreezeOptions, GuestCommand};
pub use self::refusal::Refusal;
use crate::disks::{OptionError, Place, PlaceError, Unit};
use crate::display::{Chord, DisplaySize, DisplaySizeError, KeyError, PointerError, PointerEvent};

/// A request to the control loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Ask the guest to power off.
    Shutdown,
    /// Ask the guest to reboot.
    Reboot,
    /// Ask the guest to hibernate.
    Hibernate,
    /// Stop the machine at once; the guest is not asked.
    Stop,
    /// Reset the machine at once; the guest is not asked.
    Reset,
    /// Stop the virtual processors until [`Command::Resume`]. The outcome comes when all have stopped.
    Pause,
    /// Let the virtual processors go on.
    Resume,
    /// The machine's disks were copied or taken back to an earlier state: tell the guest.
    NewGeneration,
    /// Tell how the machine is.
    State,
    /// Tell with which configuration it was built.
    Config,
    /// Show the table of channels.
    Channels,
    /// Show the counters.
    Counters,
    /// Show which devices there are, and which of them are on the bus.
    Devices,
    /// Take a device off the bus, by name.
    Remove(String),
    /// Put a device back on the bus, by name.
    Add(String),
    /// Show the disks and DVD drives.
    Disks,
    /// Add a disk or a DVD drive.
    AddDisk(Unit),
    /// Take a disk or a DVD drive away.
    RemoveDisk(Place),
    /// Put the disc of this image into a DVD drive.
    Insert(Place, PathBuf),
    /// Take the disc out of a DVD drive.
    Eject {
        /// The drive.
        place: Place,
        /// Even if the guest has locked it.
        force: bool,
    },
    /// Ask the guest.
    Guest(GuestCommand),
    /// Tell what the guest shows, in short.
    Display,
    /// Ask the guest for another resolution.
    Resolution(DisplaySize),
    /// Give the screen, for a photograph.
    Screen,
    /// Press keys and let them go.
    Key(Chord),
    /// Move the pointer.
    Pointer(PointerEvent),
    /// Show [`HELP`].
    Help,
}

impl Command {
    /// How long the guest may take for it; nothing, if the machine alone carries it out.
    #[must_use]
    pub fn guests_time(&self) -> Duration {
        match self {
            Command::Guest(command) => command.patience(),
            _ => Duration::ZERO,
        }
    }
}

/// Why a request is none.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CommandError {
    /// No such word.
    #[error(
        "Unknown command {0:?}; commands are shutdown, reboot, hibernate, stop, reset, pause, resume, new-generation, state, config, \
         channels, counters, devices, remove, add, disks, insert, eject, guest, display, resolution, key, pointer and help"
    )]
    Unknown(String),
    /// The word needs a device.
    #[error("{0} needs the name of a device, for instance: {0} heartbeat")]
    NeedsName(&'static str),
    /// The word needs a disk.
    #[error("{0} needs {1}")]
    NeedsDisk(&'static str, &'static str),
    /// The word needs others.
    #[error("{0}")]
    NeedsWhat(&'static str),
    /// A pool of the guest's values.
    #[error(transparent)]
    Pool(#[from] UnknownPool),
    /// The words for a disk.
    #[error(transparent)]
    Disk(#[from] OptionError),
    /// A disk's place.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The words for keys.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The word for a resolution.
    #[error(transparent)]
    Resolution(#[from] DisplaySizeError),
    /// The words for the pointer.
    #[error(transparent)]
    Pointer(#[from] PointerError),
    /// Something follows that has no meaning.
    #[error("Too many words: {0:?} has no meaning here")]
    TooMany(String),
    /// A key after the escape key that means nothing.
    #[error("Ctrl-A {0} has no meaning; Ctrl-A h shows the keys")]
    UnknownKey(char),
}

/// Keys and commands, for the terminal.
pub const HELP: &str = "\
Ctrl-A s       ask the guest to power off
Ctrl-A r       ask the guest to reboot
Ctrl-A x       stop the machine at once
Ctrl-A t       print the table of channels
Ctrl-A c       type a command: shutdown, reboot, hibernate, stop, reset, pause,
               resume, new-generation, state, config, channels, counters,
               devices,
               remove NAME, add NAME, disks, add disk PATH,OPTIONS,
               remove disk C:L, add dvd PATH, insert C:L PATH, eject C:L,
               guest info, guest ip, guest freeze, guest thaw,
               guest copy FROM TO,
               display, resolution WxH, key ctrl-alt-delete, pointer X Y left,
               help
Ctrl-A h       this help
Ctrl-A Ctrl-A  send one Ctrl-A to the guest";

impl FromStr for Command {
    type Err = CommandError;

    fn from_str(line: &str) -> Result<Self, CommandError> {
        if let Some(command) = disks::command(line)? {
            return Ok(command);
        }
        if let Some(words) =
            line.trim().strip_prefix("guest").filter(|words| !words.starts_with(char::is_alphabetic))
        {
            return Ok(Command::Guest(words.parse()?));
        }
        if let Some(command) = display::command(line)? {
            return Ok(command);
        }
        let mut words = line.split_whitespace();
        let word = words.next().unwrap_or_default();
        let mut name = |verb| words.next().map(str::to_owned).ok_or(CommandError::NeedsName(verb));
        let command = match word {
            "shutdown" => Command::Shutdown,
            "reboot" => Command::Reboot,
            "hibernate" => Command::Hibernate,
            "stop" => Command::Stop,
            "reset" => Command::Reset,
            "pause" => Command::Pause,
            "resume" => Command::Resume,
            "new-generation" => Command::NewGeneration,
            "state" => Command::State,
            "config" => Command::Config,
            "channels" => Command::Channels,
            "counters" => Command::Counters,
            "devices" => Command::Devices,
            "disks" => Command::Disks,
            "display" => Command::Display,
            "remove" => Command::Remove(name("remove")?),
            "add" => Command::Add(name("add")?),
            "help" => Command::Help,
            _ => return Err(CommandError::Unknown(word.to_owned())),
        };
        words.next().map_or(Ok(command), |word| Err(CommandError::TooMany(word.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_commands() {
        let table = [
            ("shutdown", Command::Shutdown),
            ("  reboot ", Command::Reboot),
            ("hibernate", Command::Hibernate),
            ("stop", Command::Stop),
            ("reset", Command::Reset),
            ("pause", Command::Pause),
            ("resume", Command::Resume),
            ("new-generation", Command::NewGeneration),
            ("state", Command::State),
            ("config", Command::Config),
            ("channels", Command::Channels),
            ("counters", Command::Counters),
            ("devices", Command::Devices),
            ("remove heartbeat", Command::Remove("heartbeat".into())),
            ("add\ttimesync", Command::Add("timesync".into())),
            ("help", Command::Help),
        ];
        for (line, command) in table {
            assert_eq!(line.parse(), Ok(command), "{line}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        let parse = |line: &str| line.parse::<Command>().unwrap_err();
        assert_eq!(parse("shutdwon"), CommandError::Unknown("shutdwon".into()));
        assert_eq!(parse(""), CommandError::Unknown(String::new()));
        assert_eq!(
            parse("remove").to_string(),
            "remove needs the name of a device, for instance: remove heartbeat"
        );
        assert_eq!(parse("add a b"), CommandError::TooMany("b".into()));
        assert_eq!(parse("stop now"), CommandError::TooMany("now".into()));
    }
}
