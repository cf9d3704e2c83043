//! The commands of `busman ctl`: what a person writes, and the request that it is on the socket.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;

use super::top;
use crate::disks::{DiskOptions, DvdOptions, Place};
use crate::display::{Button, DisplaySize, PointerEvent};

#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub(super) enum Command {
    /// How the machine is: running or paused, since when, what its guest is like
    State,
    /// With which configuration it was built
    Config,
    /// Stop its processors; the guest sees time go on
    Pause,
    /// Let its processors go on
    Resume,
    /// Tell the guest that its disks were copied or taken back to an earlier state: it makes new secrets, for instance
    NewGeneration,
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
    /// Ask the guest for another resolution; whether it follows is its own business
    Resolution {
        /// WIDTHxHEIGHT, for instance 1280x1024
        #[arg(value_name = "WIDTHxHEIGHT")]
        size: DisplaySize,
    },
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

/// Method, path and body.
pub(super) type Request = (&'static str, String, Option<String>);

impl Command {
    /// What is asked on the socket.
    pub(super) fn request(&self) -> Request {
        let at_once = |&now: &bool| now.then(|| r#"{"now":true}"#.to_owned());
        let (method, path, body) = match self {
            Command::State | Command::Top(_) => ("GET", "", None),
            Command::Config => ("GET", "/config", None),
            Command::Pause => ("PUT", "/pause", None),
            Command::Resume => ("PUT", "/resume", None),
            Command::NewGeneration => ("POST", "/generation", None),
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
            Command::Resolution { size } => {
                ("PUT", "/display", Some(json!({"resolution": size}).to_string()))
            }
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
pub(super) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// The machine's path.
pub(super) const VM: &str = "/api/v1/vm";

fn device_path(name: &str) -> String {
    format!("{VM}/devices/{}", segment(name))
}

/// A name as one segment of a path, whatever it contains.
pub(super) fn segment(name: &str) -> String {
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
