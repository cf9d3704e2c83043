//! What a machine should be: options from the command line and a file, merged and checked.
//!
//! [`Options`] is the one list of names, for the command line (clap) and for TOML (serde) alike. [`Config`] is
//! what is left when every default is filled in and every value makes sense.

mod boot;
mod device_list;
mod error;
mod generation;
mod options;
mod trace;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use devices::guid::Guid;
use serde::{Serialize, Serializer};

use crate::disks::{DiskOptions, DvdOptions, Place, PlaceError, Unit, UnitConfig};
use crate::display::DisplaySize;
use crate::size::MemorySize;
use crate::tpm::TpmSource;
use crate::vnc::VncOptions;
use crate::vnc::options::Address;

pub use boot::{Boot, Uuid};
pub use device_list::DEVICES;
pub use error::ConfigError;
pub use generation::GenerationChoice;
pub use options::Options;
pub use trace::Trace;

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
    /// Where the second serial port leads.
    #[serde(serialize_with = "path_as_text")]
    pub com2: Option<PathBuf>,
    /// The initial configuration of a Windows guest.
    #[serde(serialize_with = "path_as_text")]
    pub imc: Option<PathBuf>,
    /// The machine's generation; `None`: the one of `nvram`, and never without firmware.
    #[serde(serialize_with = "generation::as_text")]
    pub generation_id: Option<Guid>,
    /// Where its TPM is, if it has one.
    pub tpm: Option<TpmSource>,
}

impl Options {
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
        if let Some(com2) = &self.com2 {
            check_directory_of("file for COM2", com2)?;
        }
        if let Some(vnc) = &self.vnc {
            check_vnc(vnc)?;
        }
        let cpus = self.cpus.unwrap_or(1);
        if cpus == 0 {
            return Err(ConfigError::NoCpus);
        }
        if let Some(imc) = &self.imc {
            check_file("imc", imc)?;
        }
        let generation_id = generation::check(self.generation_id, &boot)?;
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
            devices: device_list::check(
                self.devices,
                self.display.is_some() || self.vnc.is_some(),
                self.loopback,
            )?,
            vnc: self.vnc,
            display: self.display.unwrap_or_default(),
            disks: place(self.disks, self.dvds)?,
            trace,
            nvram: self.nvram.map(check_nvram).transpose()?,
            com2: self.com2,
            imc: self.imc,
            generation_id,
            tpm: self.tpm.map(check_tpm).transpose()?,
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

/// The directory of its state may not be there yet, the one above it has to.
fn check_tpm(tpm: TpmSource) -> Result<TpmSource, ConfigError> {
    match &tpm {
        TpmSource::State(state) if !state.is_dir() => check_directory_of("TPM's state", state)?,
        TpmSource::State(_) | TpmSource::Socket(_) => {}
    }
    Ok(tpm)
}

fn check_vnc(vnc: &VncOptions) -> Result<(), ConfigError> {
    if let Address::Unix(socket) = &vnc.listen {
        check_directory_of("socket", socket)?;
    }
    vnc.files().try_for_each(|(_, file)| check_file("vnc", file))
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
mod tests;
