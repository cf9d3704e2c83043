//! What a machine should be: options from the command line and a file, merged and checked.
//!
//! [`Options`] is the one list of names, for the command line (clap) and for TOML (serde) alike. [`Config`] is
//! what is left when every default is filled in and every value makes sense.

mod boot;
mod trace;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;

use crate::boot::uefi::Console;
use crate::disks::{DiskOptions, DvdOptions, Place, PlaceError, Unit, UnitConfig};
use crate::display::DisplaySize;
use crate::size::{FileSize, MemorySize};
use crate::vnc::VncOptions;
use crate::vnc::options::Address;

pub use boot::{Boot, Uuid};
pub use trace::Trace;

/// Devices on the bus that `--devices` can name. The last few are there only when they are asked for.
pub const DEVICES: [&str; 10] = [
    "shutdown",
    "heartbeat",
    "timesync",
    "kvp",
    "vss",
    "fcopy",
    DISPLAY[0],
    DISPLAY[1],
    DISPLAY[2],
    LOOPBACK,
];
/// How many of [`DEVICES`] a machine has by default.
const DEFAULT_DEVICES: usize = 6;
/// What a person needs in front of a machine; `--display` is short for them.
const DISPLAY: [&str; 3] = ["video", "keyboard", "mouse"];
/// The device for tests of the bus; `--loopback` is short for it.
const LOOPBACK: &str = "loopback";
/// The word for an empty list of devices.
const NO_DEVICES: &str = "none";
/// A machine, ready to be built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Config {
    /// Kernel or firmware.
    #[serde(flatten)]
    pub boot: Boot,
    /// Virtual processors, at least one.
    pub cpus: u32,
    /// Bytes of RAM.
    pub memory: u64,
    /// Enlightenments, as the user wrote them; hv knows the names.
    pub hyperv: String,
    /// A reset of the guest ends busman.
    pub once: bool,
    /// Where to write the report at exit.
    #[serde(serialize_with = "path_as_text")]
    pub report: Option<PathBuf>,
    /// Where the control socket is.
    #[serde(serialize_with = "path_as_text")]
    pub api_socket: Option<PathBuf>,
    /// Where VNC viewers come in.
    pub vnc: Option<VncOptions>,
    /// Devices on the bus, out of [`DEVICES`].
    pub devices: Vec<String>,
    /// The resolution that a guest with a display is to begin with.
    pub display: DisplaySize,
    /// Disks and DVD drives, each in its place.
    pub disks: Vec<UnitConfig>,
    /// Where to record the bus, if it is to be recorded.
    pub trace: Option<Trace>,
    /// The file of the firmware's variables.
    #[serde(serialize_with = "path_as_text")]
    pub nvram: Option<PathBuf>,
}

impl Config {
    /// Whether the machine starts with firmware, and has what firmware finds of the host.
    #[must_use]
    pub fn has_firmware(&self) -> bool {
        matches!(self.boot, Boot::Firmware(_))
    }
}

/// What the user gave; everything may be missing.
#[derive(Args, Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Options {
    /// Kernel to boot: a bzImage (vmlinuz), or an ELF file (vmlinux) with a PVH note
    #[arg(long, value_name = "FILE", help_heading = "Guest")]
    pub kernel: Option<PathBuf>,
    /// Initial RAM disk for the kernel
    #[arg(long, value_name = "FILE", help_heading = "Guest")]
    pub initrd: Option<PathBuf>,
    /// Command line for the kernel [default: console=ttyS0]
    #[arg(long, value_name = "TEXT", help_heading = "Guest", allow_hyphen_values = true)]
    pub cmdline: Option<String>,
    /// UEFI firmware to boot instead of a kernel: mu_msvm's MSVM.fd
    #[arg(long, value_name = "FILE", help_heading = "Firmware")]
    pub firmware: Option<PathBuf>,
    /// Where the firmware's console is: com1 (this terminal), screen, or none [default: com1]
    #[arg(long, value_name = "PLACE", help_heading = "Firmware", hide_possible_values = true)]
    pub firmware_console: Option<Console>,
    /// With nothing to boot, the firmware powers off instead of showing its front page
    #[arg(long, help_heading = "Firmware")]
    pub no_front_page: bool,
    /// The guest has a watchdog, which resets it when it hangs
    #[arg(long, help_heading = "Firmware")]
    pub watchdog: bool,
    /// The machine's UUID, which the guest finds in SMBIOS [default: a new one each time]
    #[arg(long, value_name = "UUID", help_heading = "Firmware")]
    pub uuid: Option<Uuid>,
    /// File of the firmware's variables, made if there is none [default: they are lost at the end]
    #[arg(long, value_name = "FILE.nvram", help_heading = "Firmware")]
    pub nvram: Option<PathBuf>,
    /// Number of virtual processors [default: 1]
    #[arg(long, value_name = "N", help_heading = "Machine")]
    pub cpus: Option<u32>,
    /// Guest memory, for instance 512M or 2G [default: 1G]
    #[arg(long, value_name = "SIZE", help_heading = "Machine")]
    pub memory: Option<MemorySize>,
    /// Enlightenments that the guest sees: names to add (+) or leave out (-) [default: default]
    #[arg(long, value_name = "LIST", help_heading = "Machine", allow_hyphen_values = true)]
    pub hyperv: Option<String>,
    /// Devices on the bus: shutdown, heartbeat, timesync, kvp, vss, fcopy, video, keyboard, mouse, loopback, or none [default: the first six]
    #[arg(long, value_name = "LIST", help_heading = "Machine", value_delimiter = ',')]
    pub devices: Option<Vec<String>>,
    /// Add a display with keyboard and mouse; the guest is to begin with this resolution
    #[arg(long, value_name = "WIDTHxHEIGHT", help_heading = "Machine", num_args = 0..=1, default_missing_value = "1024x768")]
    pub display: Option<DisplaySize>,
    /// Add the loopback device, which sends a test driver its packets back
    #[arg(long, help_heading = "Machine")]
    pub loopback: bool,
    /// A disk; options: path=FILE,controller=N,lun=N,readonly=on,cache=writeback|none|unsafe,format=FORMAT,iops=N,bandwidth=SIZE,serial=TEXT,sector=512|4096,parents=DIRECTORY
    #[arg(long = "disk", value_name = "PATH,OPTIONS", help_heading = "Storage")]
    #[serde(rename = "disk")]
    pub disks: Vec<DiskOptions>,
    /// A DVD drive with the disc of this image, or empty without path; options: path=FILE,controller=N,lun=N
    #[arg(long = "dvd", value_name = "PATH,OPTIONS", help_heading = "Storage")]
    #[serde(rename = "dvd")]
    pub dvds: Vec<DvdOptions>,
    /// End when the guest reboots, instead of rebooting it
    #[arg(long, help_heading = "Run")]
    pub once: bool,
    /// Write a report in JSON to this file at the end: exits, channels, packets
    #[arg(long, value_name = "FILE", help_heading = "Run")]
    pub report: Option<PathBuf>,
    /// Listen for `busman ctl` and other HTTP clients on a Unix socket here, for this user alone
    #[arg(long, value_name = "PATH", help_heading = "Run")]
    pub api_socket: Option<PathBuf>,
    /// Let VNC viewers see the guest and type to it, and add a display with keyboard and mouse; options: password-file=FILE,tls-cert=FILE,tls-key=FILE
    #[arg(long, value_name = "ADDRESS:PORT|unix:PATH,OPTIONS", help_heading = "Run")]
    pub vnc: Option<VncOptions>,
    /// Record the bus's control messages in this file, for Wireshark
    #[arg(long, value_name = "FILE.pcapng", help_heading = "Trace")]
    pub trace: Option<PathBuf>,
    /// Record the packets of these devices too, or of all
    #[arg(long, value_name = "LIST", help_heading = "Trace", value_delimiter = ',')]
    pub trace_packets: Option<Vec<String>>,
    /// Size of the trace at which recording stops, while the guest goes on [default: 256M]
    #[arg(long, value_name = "SIZE", help_heading = "Trace")]
    pub trace_limit: Option<FileSize>,
}

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
    #[error("Cannot make a UUID for the machine; give one with --uuid")]
    NoUuid(#[source] io::Error),
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
    #[error("Cannot trace the packets of {0:?}; devices are {list}, scsi0 and so on, or all", list = DEVICES.join(", "))]
    UnknownTracedDevice(String),
}

impl Options {
    /// Reads a TOML file; its relative paths are relative to it.
    ///
    /// # Errors
    /// When the file cannot be read or understood.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path)
            .map_err(|source| ConfigError::ReadFile { path: path.to_owned(), source })?;
        let mut options: Options = toml::from_str(&text)
            .map_err(|source| ConfigError::ParseFile { path: path.to_owned(), source: Box::new(source) })?;
        let directory = path.parent().unwrap_or_else(|| Path::new(""));
        let Options { kernel, initrd, firmware, report, api_socket, trace, nvram, .. } = &mut options;
        for file in [kernel, initrd, firmware, report, api_socket, trace, nvram].into_iter().flatten() {
            *file = directory.join(&*file);
        }
        if let Some(vnc) = &mut options.vnc {
            vnc.join(directory);
        }
        for disk in &mut options.disks {
            disk.path = directory.join(&disk.path);
            disk.parents.iter_mut().for_each(|parent| *parent = directory.join(&*parent));
        }
        for path in options.dvds.iter_mut().filter_map(|dvd| dvd.path.as_mut()) {
            *path = directory.join(&*path);
        }
        Ok(options)
    }

    /// Fills in from `other` what is missing here.
    #[must_use]
    pub fn or(self, other: Options) -> Self {
        Options {
            kernel: self.kernel.or(other.kernel),
            initrd: self.initrd.or(other.initrd),
            cmdline: self.cmdline.or(other.cmdline),
            firmware: self.firmware.or(other.firmware),
            firmware_console: self.firmware_console.or(other.firmware_console),
            no_front_page: self.no_front_page || other.no_front_page,
            watchdog: self.watchdog || other.watchdog,
            uuid: self.uuid.or(other.uuid),
            cpus: self.cpus.or(other.cpus),
            memory: self.memory.or(other.memory),
            hyperv: self.hyperv.or(other.hyperv),
            devices: self.devices.or(other.devices),
            display: self.display.or(other.display),
            loopback: self.loopback || other.loopback,
            // All of the file's, then all of the command line's.
            disks: [other.disks, self.disks].concat(),
            dvds: [other.dvds, self.dvds].concat(),
            once: self.once || other.once,
            report: self.report.or(other.report),
            api_socket: self.api_socket.or(other.api_socket),
            vnc: self.vnc.or(other.vnc),
            trace: self.trace.or(other.trace),
            trace_packets: self.trace_packets.or(other.trace_packets),
            trace_limit: self.trace_limit.or(other.trace_limit),
            nvram: self.nvram.or(other.nvram),
        }
    }

    /// Fills in the defaults and checks every value that can be checked without KVM.
    ///
    /// # Errors
    /// A sentence that names the value and the fix.
    pub fn check(self) -> Result<Config, ConfigError> {
        let boot = boot::check(&self)?;
        if let Some(report) = &self.report {
            check_directory_of("report", report)?;
        }
        if let Some(socket) = &self.api_socket {
            check_directory_of("socket", socket)?;
        }
        if let Some(vnc) = &self.vnc {
            check_vnc(vnc)?;
        }
        let cpus = self.cpus.unwrap_or(1);
        if cpus == 0 {
            return Err(ConfigError::NoCpus);
        }
        let trace = trace::check(self.trace, self.trace_packets, self.trace_limit)?;
        Ok(Config {
            boot,
            cpus,
            memory: self.memory.map_or(1 << 30, |MemorySize(bytes)| bytes),
            hyperv: self.hyperv.unwrap_or_else(|| "default".to_owned()),
            once: self.once,
            report: self.report,
            api_socket: self.api_socket,
            // Who wants to look wants something to look at.
            devices: check_devices(
                self.devices,
                self.display.is_some() || self.vnc.is_some(),
                self.loopback,
            )?,
            vnc: self.vnc,
            display: self.display.unwrap_or_default(),
            disks: place(self.disks, self.dvds)?,
            trace,
            nvram: self.nvram.map(check_nvram).transpose()?,
        })
    }
}

/// A path in text for people and JSON, which know no other bytes than UTF-8.
fn path_as_text<'a, S: Serializer>(
    path: impl Into<Option<&'a PathBuf>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    path.into().map(|path| path.to_string_lossy()).serialize(serializer)
}

fn check_file(what: &'static str, path: &Path) -> Result<(), ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { what, path: path.to_owned(), source };
    let file = fs::File::open(path).map_err(unreadable)?;
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(ConfigError::NotAFile { what, path: path.to_owned() });
    }
    Ok(())
}

fn check_directory_of(what: &'static str, path: &Path) -> Result<(), ConfigError> {
    let directory =
        path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    if directory.is_dir() { Ok(()) } else { Err(ConfigError::NoDirectory { what, path: path.to_owned() }) }
}

/// The file may not be there yet, its directory has to.
fn check_nvram(path: PathBuf) -> Result<PathBuf, ConfigError> {
    let check =
        if path.exists() { check_file("nvram", &path) } else { check_directory_of("NVRAM file", &path) };
    check.map(|()| path)
}

fn check_vnc(vnc: &VncOptions) -> Result<(), ConfigError> {
    if let Address::Unix(socket) = &vnc.listen {
        check_directory_of("socket", socket)?;
    }
    vnc.files().try_for_each(|(_, file)| check_file("vnc", file))
}

fn check_devices(
    names: Option<Vec<String>>,
    display: bool,
    loopback: bool,
) -> Result<Vec<String>, ConfigError> {
    let defaults = || DEVICES[..DEFAULT_DEVICES].iter().map(|&name| name.to_owned()).collect();
    let mut names: Vec<String> = names.unwrap_or_else(defaults);
    if names == [NO_DEVICES] {
        names.clear();
    }
    for (i, name) in names.iter().enumerate() {
        if !DEVICES.contains(&name.as_str()) {
            return Err(ConfigError::UnknownDevice(name.clone()));
        }
        if names[..i].contains(name) {
            return Err(ConfigError::DeviceTwice(name.clone()));
        }
    }
    let display = DISPLAY.into_iter().filter(|_| display);
    for name in display.chain(loopback.then_some(LOOPBACK)) {
        if !names.iter().any(|have| have == name) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Finds a place for every disk and drive: those whose place the user named first, the others in their order.
fn place(disks: Vec<DiskOptions>, dvds: Vec<DvdOptions>) -> Result<Vec<UnitConfig>, PlaceError> {
    let units = disks.into_iter().map(Unit::Disk).chain(dvds.into_iter().map(Unit::Dvd));
    let (named, others): (Vec<Unit>, Vec<Unit>) = units.partition(|unit| unit.wish().1.is_some());
    let mut taken = BTreeSet::new();
    let mut placed = Vec::new();
    for unit in named.into_iter().chain(others) {
        let (controller, lun) = unit.wish();
        let place = Place::find(controller, lun, &taken)?;
        taken.insert(place);
        placed.push(UnitConfig::new(place, unit));
    }
    placed.sort_by_key(|unit| unit.place);
    Ok(placed)
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
