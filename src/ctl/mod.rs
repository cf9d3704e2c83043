//! `busman ctl`, the control socket's command line; `busman guest` ([`Guest`]), which asks the guest through it, and
//! `busman screenshot`.
//!
//! Knows the machine only by what the socket says: it can run against another version of busman, shows fields that
//! it has never heard of, and prints nothing that a terminal would take for a command.

mod client;
mod guest;
mod screenshot;
mod top;

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use devices::vmbus::table::{ChannelRow, ChannelTable};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use thiserror::Error;

use self::client::{Answer, Client};
pub use self::guest::Guest;
pub use self::screenshot::Screenshot;
use crate::control::text;
use crate::disks::{DiskOptions, DvdOptions, Place};
use crate::display::{Button, PointerEvent};

/// Arguments of `busman ctl`.
#[derive(Args, Debug)]
pub struct Ctl {
    /// The machine's control socket
    #[arg(long, value_name = "PATH", env = "BUSMAN_SOCKET", global = true)]
    socket: Option<PathBuf>,
    /// Print the answer as the machine gives it, in JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
enum Command {
    /// How the machine is: running or paused, since when, what its guest is like
    State,
    /// With which configuration it was built
    Config,
    /// Stop its processors; the guest sees time go on
    Pause,
    /// Let its processors go on
    Resume,
    /// Ask the guest to power off
    Shutdown {
        /// End the machine at once; the guest is not asked
        #[arg(long)]
        now: bool,
    },
    /// Ask the guest to reboot
    Reboot {
        /// Reset the machine at once; the guest is not asked
        #[arg(long)]
        now: bool,
    },
    /// Ask the guest to hibernate
    Hibernate,
    /// The channels of its bus
    Channels,
    /// What it has counted: exits, control messages, refusals, heartbeats
    Counters,
    /// Which devices there are, and which of them are on the bus
    Devices,
    /// Put a device on the bus
    Add {
        /// The device's name, for instance heartbeat
        name: String,
    },
    /// Take a device from the bus
    Remove {
        /// The device's name, for instance heartbeat
        name: String,
    },
    /// The disks and DVD drives, and what they have done
    Disks,
    /// Add a disk, written as for --disk of busman run
    AddDisk {
        /// For instance data.vhdx,lun=3,cache=none
        #[arg(value_name = "PATH,OPTIONS")]
        disk: DiskOptions,
    },
    /// Add a DVD drive, written as for --dvd of busman run
    AddDvd {
        /// For instance disc.iso,lun=3
        #[arg(value_name = "PATH,OPTIONS")]
        dvd: DvdOptions,
    },
    /// Take a disk or a DVD drive away
    RemoveDisk {
        /// Where it is, for instance 0:3
        #[arg(value_name = "CONTROLLER:LUN")]
        place: Place,
    },
    /// Put a disc into a DVD drive
    Insert {
        /// Where the drive is, for instance 0:3
        #[arg(value_name = "CONTROLLER:LUN")]
        place: Place,
        /// The disc's image
        image: PathBuf,
    },
    /// Take the disc out of a DVD drive
    Eject {
        /// Where the drive is, for instance 0:3
        #[arg(value_name = "CONTROLLER:LUN")]
        place: Place,
        /// Even if the guest has locked it
        #[arg(long)]
        force: bool,
    },
    /// What the guest shows, in short: resolution, and a checksum that tells when the picture changes
    Display,
    /// Press keys together and let them go
    Key {
        /// Places on an American keyboard, for instance a, enter, ctrl-alt-delete
        keys: String,
    },
    /// Move the pointer; buttons that are not named are let go
    Pointer {
        /// From 0, the left edge, to 32767, the right one
        x: u16,
        /// From 0, the upper edge, to 32767
        y: u16,
        /// Buttons to hold
        #[arg(long, value_name = "LIST", value_delimiter = ',')]
        buttons: Vec<Button>,
        /// Notches to turn the wheel, positive away from the user
        #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
        wheel: i8,
    },
    /// Watch the channels: packets, bytes, signals and exits a second, and how full the rings are
    Top(top::Options),
}

/// Why a machine was not asked, or did not do it.
#[derive(Debug, Error)]
pub enum CtlError {
    /// Which machine?
    #[error("No machine given: name its control socket with --socket PATH or in BUSMAN_SOCKET")]
    NoSocket,
    /// No machine there.
    #[error("Nothing answers at {}; is a machine running with --api-socket?", path.display())]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// What the host said.
        #[source]
        source: io::Error,
    },
    /// The machine is not busman, or a very different one.
    #[error("This is no answer of busman's: {0}")]
    Protocol(String),
    /// The machine says no.
    #[error("{0}")]
    Refused(String),
    /// The connection broke.
    #[error("The machine's answer was lost")]
    Lost(#[source] io::Error),
    /// Somebody did not want it any more.
    #[error("The copy was cancelled")]
    Cancelled,
    /// A list of names in one place.
    #[error("top has no JSON; for instance: watch the output of busman ctl --json channels")]
    TopJson,
    /// The file for a screenshot.
    #[error("Cannot write {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the host said.
        #[source]
        source: io::Error,
    },
    /// Standard output, or the terminal.
    #[error("The terminal fails")]
    Output(#[from] io::Error),
}

/// Method, path and body.
type Request = (&'static str, String, Option<String>);

impl Command {
    fn request(&self) -> Request {
        let at_once = |&now: &bool| now.then(|| r#"{"now":true}"#.to_owned());
        let (method, path, body) = match self {
            Command::State | Command::Top(_) => ("GET", "", None),
            Command::Config => ("GET", "/config", None),
            Command::Pause => ("PUT", "/pause", None),
            Command::Resume => ("PUT", "/resume", None),
            Command::Shutdown { now } => ("PUT", "/shutdown", at_once(now)),
            Command::Reboot { now } => ("PUT", "/reboot", at_once(now)),
            Command::Hibernate => ("PUT", "/hibernate", None),
            Command::Channels => ("GET", "/channels", None),
            Command::Counters => ("GET", "/counters", None),
            Command::Devices => ("GET", "/devices", None),
            Command::Add { name } => return ("PUT", device_path(name), None),
            Command::Remove { name } => return ("DELETE", device_path(name), None),
            Command::Disks => ("GET", "/disks", None),
            Command::AddDisk { disk } => {
                let mut disk = disk.clone();
                disk.path = absolute(&disk.path);
                disk.parents = disk.parents.iter().map(|path| absolute(path)).collect();
                ("POST", "/disks", Some(json!(disk).to_string()))
            }
            Command::AddDvd { dvd } => {
                let path = dvd.path.as_deref().map(absolute);
                ("POST", "/dvds", Some(json!(DvdOptions { path, ..dvd.clone() }).to_string()))
            }
            Command::RemoveDisk { place } => return ("DELETE", format!("{VM}/disks/{place}"), None),
            Command::Insert { place, image } => {
                let body = json!({"path": absolute(image)});
                return ("PUT", format!("{VM}/discs/{place}"), Some(body.to_string()));
            }
            Command::Display => ("GET", "/display", None),
            Command::Key { keys } => ("PUT", "/keyboard", Some(json!({"keys": keys}).to_string())),
            Command::Pointer { x, y, buttons, wheel } => {
                let event = PointerEvent { x: *x, y: *y, buttons: buttons.clone(), wheel: *wheel };
                ("PUT", "/pointer", Some(json!(event).to_string()))
            }
            Command::Eject { place, force } => {
                let body = json!({"force": force});
                return ("DELETE", format!("{VM}/discs/{place}"), Some(body.to_string()));
            }
        };
        (method, format!("{VM}{path}"), body)
    }
}

/// A path as the machine sees it, which may run in another directory.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// The machine's path.
const VM: &str = "/api/v1/vm";

fn device_path(name: &str) -> String {
    format!("{VM}/devices/{}", segment(name))
}

/// A name as one segment of a path, whatever it contains.
fn segment(name: &str) -> String {
    let mut path = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b':' => {
                path.push(char::from(byte));
            }
            // A String takes all.
            other => drop(write!(path, "%{other:02X}")),
        }
    }
    path
}

impl Ctl {
    /// Asks the machine, and prints what it answers.
    ///
    /// # Errors
    /// A sentence for the user.
    pub fn execute(&self) -> Result<(), CtlError> {
        let client = Client::new(self.socket.clone().ok_or(CtlError::NoSocket)?);
        let done = match &self.command {
            Command::Top(_) if self.json => Err(CtlError::TopJson),
            Command::Top(options) => top::run(client, options),
            _ => self.ask(client, &mut io::stdout()),
        };
        match done {
            // Who reads no further has seen enough.
            Err(CtlError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }

    fn ask(&self, mut client: Client, out: &mut dyn Write) -> Result<(), CtlError> {
        let (method, path, body) = self.command.request();
        let answer = client.call(method, &path, body.as_deref())?;
        if self.command == Command::Channels && !self.json {
            let rows: Vec<ChannelRow> = understand(&answer.body)?;
            return Ok(write!(out, "{}", ChannelTable(&rows))?);
        }
        print(&answer, self.json, out)
    }
}

/// Prints an answer, for people or as it came.
fn print(answer: &Answer, json: bool, out: &mut dyn Write) -> Result<(), CtlError> {
    if answer.body.is_empty() {
        if answer.status == 202 {
            writeln!(out, "The guest is asked; it does so in its own time")?;
        }
    } else if json {
        out.write_all(&answer.body)?;
        writeln!(out)?;
    } else {
        let value: Value = understand(&answer.body)?;
        let mut lines = String::new();
        // A String takes all.
        let _ = text::write_value(&mut lines, &value);
        write!(out, "{lines}")?;
    }
    Ok(())
}

fn understand<T: DeserializeOwned>(body: &[u8]) -> Result<T, CtlError> {
    serde_json::from_slice(body).map_err(|error| CtlError::Protocol(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::Fixture;
    use crate::control::{self, Refusal};
    use crate::disks::Unit;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        ctl: Ctl,
    }

    fn parse(line: &str) -> Result<Ctl, clap::Error> {
        Cli::try_parse_from(format!("ctl {line}").split_whitespace()).map(|cli| cli.ctl)
    }

    /// What a command line prints, or its error.
    fn ctl(api: &Fixture, line: &str) -> Result<String, String> {
        let mut out = Vec::new();
        let ctl = parse(&format!("--socket {} {line}", api.path.display())).unwrap();
        let client = Client::new(ctl.socket.clone().unwrap());
        ctl.ask(client, &mut out).map_err(|error| error.to_string())?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn words_are_commands() {
        for (line, command) in [
            ("state", Command::State),
            ("shutdown", Command::Shutdown { now: false }),
            ("shutdown --now", Command::Shutdown { now: true }),
            ("reboot --now", Command::Reboot { now: true }),
            ("add heartbeat", Command::Add { name: "heartbeat".into() }),
            ("top --count 3", Command::Top(top::Options { count: Some(3) })),
        ] {
            assert_eq!(parse(line).unwrap().command, command, "{line}");
        }
        let ctl = parse("state --json --socket x").unwrap();
        assert!(ctl.json && ctl.socket == Some("x".into()));
        for line in ["", "remove", "pause now", "add a b", "sate"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn every_command_reaches_the_machine() {
        use control::Command as Asked;
        let api = Fixture::new();
        for (line, asked) in [
            ("state", Asked::State),
            ("config", Asked::Config),
            ("pause", Asked::Pause),
            ("resume", Asked::Resume),
            ("shutdown", Asked::Shutdown),
            ("shutdown --now", Asked::Stop),
            ("reboot", Asked::Reboot),
            ("reboot --now", Asked::Reset),
            ("hibernate", Asked::Hibernate),
            ("channels", Asked::Channels),
            ("counters", Asked::Counters),
            ("devices", Asked::Devices),
            ("add timesync", Asked::Add("timesync".into())),
            ("remove timesync", Asked::Remove("timesync".into())),
            ("disks", Asked::Disks),
            ("add-disk /a.vhdx,lun=3", Asked::AddDisk(Unit::Disk("/a.vhdx,lun=3".parse().unwrap()))),
            ("add-dvd /a.iso", Asked::AddDisk(Unit::Dvd("/a.iso".parse().unwrap()))),
            ("remove-disk 0:3", Asked::RemoveDisk(Place { controller: 0, lun: 3 })),
            ("insert 0:3 /a.iso", Asked::Insert(Place { controller: 0, lun: 3 }, "/a.iso".into())),
            ("display", Asked::Display),
            ("key ctrl-alt-delete", Asked::Key("ctrl-alt-delete".parse().unwrap())),
            (
                "pointer 1 2 --buttons left,back --wheel -1",
                Asked::Pointer(PointerEvent { wheel: -1, ..("1 2 left,back".parse().unwrap()) }),
            ),
            ("eject 0:3 --force", Asked::Eject { place: Place { controller: 0, lun: 3 }, force: true }),
        ] {
            ctl(&api, line).unwrap();
            assert_eq!(api.asked(), [asked], "{line}");
        }
    }

    #[test]
    fn answers_are_for_people_or_as_they_came() {
        let api = Fixture::new();
        let state = ctl(&api, "state").unwrap();
        assert!(state.starts_with("state      paused\nversion    0.1.0\n"), "{state}");
        assert!(ctl(&api, "devices").unwrap().starts_with("name       about"));
        assert!(ctl(&api, "channels").unwrap().contains("\nheartbeat     1 open"));
        assert!(ctl(&api, "counters").unwrap().contains("\nvmbus.refusals.too short  3\n"));
        assert_eq!(ctl(&api, "pause").unwrap(), "");
        assert!(ctl(&api, "shutdown").unwrap().starts_with("The guest is asked"));
        let raw: Value = serde_json::from_str(&ctl(&api, "--json state").unwrap()).unwrap();
        assert_eq!(raw["state"], "paused");
    }

    #[test]
    fn the_machines_refusal_is_the_error() {
        let api = Fixture::new();
        api.vm.refuse.lock().unwrap().push(Refusal::Resumed);
        assert_eq!(ctl(&api, "pause").unwrap_err(), Refusal::Resumed.sentence());
    }

    #[test]
    fn a_devices_name_is_no_way_to_another_path() {
        let api = Fixture::new();
        ctl(&api, "add ../pause").unwrap();
        assert_eq!(api.asked(), [control::Command::Add("..%2Fpause".into())]);
    }

    #[test]
    fn a_machine_that_is_not_there_is_said_to_be() {
        let api = Fixture::new();
        let path = api.path.with_extension("none");
        let ctl = parse(&format!("--socket {} state", path.display())).unwrap();
        let error = ctl.execute().unwrap_err().to_string();
        assert!(error.starts_with("Nothing answers at /tmp/"), "{error}");
    }
}
