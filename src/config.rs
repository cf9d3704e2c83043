//! What a machine should be: options from the command line and a file, merged and checked.
//!
//! [`Options`] is the one list of names, for the command line (clap) and for TOML (serde) alike. [`Config`] is
//! what is left when every default is filled in and every value makes sense.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use serde::Deserialize;
use thiserror::Error;

/// Devices on the bus that `--devices` can name.
pub const DEVICES: [&str; 3] = ["shutdown", "heartbeat", "timesync"];
/// The word for an empty list of devices.
const NO_DEVICES: &str = "none";

const MIB: u64 = 1 << 20;
/// Less boots no current kernel.
const MIN_MEMORY: u64 = 64 * MIB;
/// Far above any host, far below what a processor can address.
const MAX_MEMORY: u64 = 4 << 40;

/// A machine, ready to be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// bzImage or ELF kernel.
    pub kernel: PathBuf,
    /// Initial RAM disk.
    pub initrd: Option<PathBuf>,
    /// Kernel command line.
    pub cmdline: String,
    /// Virtual processors, at least one.
    pub cpus: u32,
    /// Bytes of RAM.
    pub memory: u64,
    /// Enlightenments, as the user wrote them; hv knows the names.
    pub hyperv: String,
    /// A reset of the guest ends busman.
    pub once: bool,
    /// Where to write the report at exit.
    pub report: Option<PathBuf>,
    /// Devices on the bus, out of [`DEVICES`].
    pub devices: Vec<String>,
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
    /// Number of virtual processors [default: 1]
    #[arg(long, value_name = "N", help_heading = "Machine")]
    pub cpus: Option<u32>,
    /// Guest memory, for instance 512M or 2G [default: 1G]
    #[arg(long, value_name = "SIZE", help_heading = "Machine")]
    pub memory: Option<MemorySize>,
    /// Enlightenments that the guest sees: names to add (+) or leave out (-) [default: default]
    #[arg(long, value_name = "LIST", help_heading = "Machine", allow_hyphen_values = true)]
    pub hyperv: Option<String>,
    /// Devices on the bus: shutdown, heartbeat, timesync, or none [default: all]
    #[arg(long, value_name = "LIST", help_heading = "Machine", value_delimiter = ',')]
    pub devices: Option<Vec<String>>,
    /// End when the guest reboots, instead of rebooting it
    #[arg(long, help_heading = "Run")]
    pub once: bool,
    /// Write a report in JSON to this file at the end: exits, channels, packets
    #[arg(long, value_name = "FILE", help_heading = "Run")]
    pub report: Option<PathBuf>,
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
    #[error("No kernel given: name one with --kernel FILE, or as kernel = \"FILE\" in a config file")]
    NoKernel,
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
    /// The report would be lost at the very end.
    #[error("Cannot write a report to {}: its directory does not exist", .0.display())]
    NoReportDirectory(PathBuf),
    /// A name that is no device.
    #[error("Unknown device {0:?}; devices are {list}, or none", list = DEVICES.join(", "))]
    UnknownDevice(String),
    /// A name given twice.
    #[error("Device {0} is named twice in --devices")]
    DeviceTwice(String),
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
        for file in [&mut options.kernel, &mut options.initrd, &mut options.report].into_iter().flatten() {
            *file = directory.join(&*file);
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
            cpus: self.cpus.or(other.cpus),
            memory: self.memory.or(other.memory),
            hyperv: self.hyperv.or(other.hyperv),
            devices: self.devices.or(other.devices),
            once: self.once || other.once,
            report: self.report.or(other.report),
        }
    }

    /// Fills in the defaults and checks every value that can be checked without KVM.
    ///
    /// # Errors
    /// A sentence that names the value and the fix.
    pub fn check(self) -> Result<Config, ConfigError> {
        let kernel = self.kernel.ok_or(ConfigError::NoKernel)?;
        check_file("kernel", &kernel)?;
        if let Some(initrd) = &self.initrd {
            check_file("initrd", initrd)?;
        }
        if let Some(report) = &self.report {
            check_directory_of(report)?;
        }
        let cpus = self.cpus.unwrap_or(1);
        if cpus == 0 {
            return Err(ConfigError::NoCpus);
        }
        Ok(Config {
            kernel,
            initrd: self.initrd,
            cmdline: self.cmdline.unwrap_or_else(|| "console=ttyS0".to_owned()),
            cpus,
            memory: self.memory.map_or(1 << 30, |MemorySize(bytes)| bytes),
            hyperv: self.hyperv.unwrap_or_else(|| "default".to_owned()),
            once: self.once,
            report: self.report,
            devices: check_devices(self.devices)?,
        })
    }
}

fn check_file(what: &'static str, path: &Path) -> Result<(), ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { what, path: path.to_owned(), source };
    let file = fs::File::open(path).map_err(unreadable)?;
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(ConfigError::NotAFile { what, path: path.to_owned() });
    }
    Ok(())
}

fn check_directory_of(report: &Path) -> Result<(), ConfigError> {
    let directory =
        report.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    if directory.is_dir() { Ok(()) } else { Err(ConfigError::NoReportDirectory(report.to_owned())) }
}

fn check_devices(names: Option<Vec<String>>) -> Result<Vec<String>, ConfigError> {
    let Some(names) = names else { return Ok(DEVICES.map(str::to_owned).to_vec()) };
    if names == [NO_DEVICES] {
        return Ok(Vec::new());
    }
    for (i, name) in names.iter().enumerate() {
        if !DEVICES.contains(&name.as_str()) {
            return Err(ConfigError::UnknownDevice(name.clone()));
        }
        if names[..i].contains(name) {
            return Err(ConfigError::DeviceTwice(name.clone()));
        }
    }
    Ok(names)
}

/// Bytes of memory, written with a unit.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct MemorySize(pub u64);

/// Why a size is none.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SizeError {
    /// A bare number.
    #[error("{0} has no unit; write {0}M or {0}G")]
    NoUnit(u64),
    /// Anything else.
    #[error("{0:?} is no size; write a whole number with M, G or T, for instance 512M or 2G")]
    NotASize(String),
    /// Too little to boot.
    #[error("{0} is too little memory; the least is 64M")]
    TooSmall(String),
    /// More than any host has.
    #[error("{0} is too much memory; the most is 4T")]
    TooLarge(String),
}

impl FromStr for MemorySize {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let not_a_size = || SizeError::NotASize(text.to_owned());
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(split);
        let number: u64 = digits.parse().map_err(|_| not_a_size())?;
        let unit = match unit.to_ascii_uppercase().as_str() {
            "" => return Err(SizeError::NoUnit(number)),
            "M" | "MB" | "MIB" => MIB,
            "G" | "GB" | "GIB" => 1 << 30,
            "T" | "TB" | "TIB" => 1 << 40,
            _ => return Err(not_a_size()),
        };
        match number.checked_mul(unit) {
            Some(0..MIN_MEMORY) => Err(SizeError::TooSmall(text.to_owned())),
            Some(bytes @ ..=MAX_MEMORY) => Ok(MemorySize(bytes)),
            _ => Err(SizeError::TooLarge(text.to_owned())),
        }
    }
}

impl TryFrom<String> for MemorySize {
    type Error = SizeError;

    fn try_from(text: String) -> Result<Self, SizeError> {
        text.parse()
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
