//! Why a machine cannot be what the user asked for.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::DEVICES;
use crate::disks::PlaceError;

/// Why a machine cannot be what the user asked for.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file of options is missing or unreadable.
    #[error("Cannot read config file {}", path.display())]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// What the host said.
        #[source]
        source: io::Error,
    },
    /// The file of options is no TOML or has wrong names.
    #[error("Cannot understand config file {}", path.display())]
    ParseFile {
        /// The file.
        path: PathBuf,
        /// Line and reason.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// Nothing to boot.
    #[error(
        "Nothing to boot: name a kernel with --kernel FILE or a firmware with --firmware FILE, or in a config file"
    )]
    NothingToBoot,
    /// Two things to boot.
    #[error("A machine starts with a kernel or with firmware: give --kernel or --firmware, not both")]
    KernelAndFirmware,
    /// An option about something that is not given.
    #[error("--{option} goes with --{with}, which is not given")]
    OnlyWith {
        /// The option.
        option: &'static str,
        /// What it is about.
        with: &'static str,
    },
    /// The host has no random numbers.
    #[error("Cannot make a generation id for the machine; give one with --generation-id")]
    NoGenerationId(#[source] io::Error),
    /// A machine without processors.
    #[error("A machine needs at least one CPU; --cpus is 0")]
    NoCpus,
    /// A file that has to be there.
    #[error("Cannot read {}, which --{what} names", path.display())]
    Unreadable {
        /// Which option.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the host said.
        #[source]
        source: io::Error,
    },
    /// A directory or a device in a file's place.
    #[error("{} is not a file; --{what} needs one", path.display())]
    NotAFile {
        /// Which option.
        what: &'static str,
        /// What was given.
        path: PathBuf,
    },
    /// A file that could not be created, and whose absence would show at the very end.
    #[error("Cannot create the {what} {}: its directory does not exist", path.display())]
    NoDirectory {
        /// What would be written.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// A name that is no device.
    #[error("Unknown device {0:?}; devices are {list}, or none", list = DEVICES.join(", "))]
    UnknownDevice(String),
    /// A name given twice.
    #[error("Device {0} is named twice in --devices")]
    DeviceTwice(String),
    /// Details of a trace that is not asked for.
    #[error("--{0} is about a trace; name its file with --trace FILE.pcapng")]
    NoTrace(&'static str),
    /// Disks that cannot be where they should.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// A name that is no device, of those to be traced.
    #[error("Cannot trace the packets of {0:?}; devices are {list}, imc, scsi0 and so on, or all", list = DEVICES.join(", "))]
    UnknownTracedDevice(String),
}
