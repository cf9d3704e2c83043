//! Boots Microsoft's open firmware for Hyper-V generation 2 machines (mu_msvm's MSVM.fd), which boots the guest.
//!
//! [`load`] puts the image where it is linked to, tables and registers as its first code wants them, and behind
//! them the [config blob](config), which tells it what the machine has: RAM, MMIO windows, processors. Its ACPI
//! tables are its own but for the MADT. The image is the user's file; [`image`] checks it before anything is written.

pub mod config;
pub mod image;
pub mod protocol;
pub mod smbios;

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use devices::guid::Guid;
use devices::mem::GuestRam;
use serde::{Deserialize, Serialize, Serializer};
use vm_memory::{Bytes, GuestAddress};

use super::{BootError, Entry, acpi};
use crate::layout::{self, firmware};
use config::{ConfigBlob, ENTROPY};
use image::IMAGE_SIZE;
use protocol::Flags;
use smbios::Smbios;

const _: () = assert!(IMAGE_SIZE as u64 == firmware::IMAGE.end - firmware::IMAGE.start);

/// What to boot, and how it should behave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FirmwareSource {
    /// MSVM.fd.
    pub image: PathBuf,
    /// The machine's UUID; the file of its variables may know it.
    #[serde(serialize_with = "guid_as_text")]
    pub uuid: Option<Guid>,
    /// What else the guest finds in SMBIOS.
    pub smbios: Smbios,
    /// Where its console is.
    pub console: Console,
    /// With nothing to boot it shows its front page, and otherwise powers off.
    pub front_page: bool,
    /// The guest is told of its watchdog, which resets it when it hangs.
    pub watchdog: bool,
}

/// Where the firmware shows its console and takes its keys.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Console {
    /// The first serial port.
    #[default]
    Com1,
    /// The second serial port.
    Com2,
    /// The synthetic display and keyboard.
    Screen,
    /// Nowhere.
    None,
}

/// The machine, as far as the firmware has to know it.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Processors; their APIC ids are 0, 1, …
    pub cpus: u32,
    /// Bytes of RAM.
    pub memory: u64,
    /// It has a TPM.
    pub tpm: bool,
}

/// Writes the firmware and what it wants to find to RAM and says how VP 0 starts.
///
/// # Errors
/// A sentence for the user: what is wrong with the image, or how much memory it takes.
pub fn load(ram: &GuestRam, source: &FirmwareSource, machine: &Machine) -> Result<Entry, BootError> {
    let image = read(&source.image)?;
    let entry = image::entry(&image)
        .map_err(|error| BootError::NotFirmware { path: source.image.clone(), source: error })?;
    let uuid = source.uuid.ok_or(BootError::NoUuid)?;
    let blob = describe(source, uuid, machine, &entropy().map_err(BootError::NoEntropy)?);
    ram.write_slice(&image, GuestAddress(firmware::IMAGE.start))?;
    ram.write_slice(&blob, GuestAddress(firmware::CONFIG))?;
    let entry = Entry::Firmware { rip: firmware::IMAGE.start + entry as u64 };
    entry.write_tables(ram)?;
    Ok(entry)
}

/// The file, as far as its size is an image's; a byte more tells that it is too long.
fn read(path: &Path) -> Result<Vec<u8>, BootError> {
    let failed = |source| BootError::Read { what: "firmware", path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    if size != IMAGE_SIZE as u64 {
        let source = image::ImageError::Size { size };
        return Err(BootError::NotFirmware { path: path.to_owned(), source });
    }
    let mut image = Vec::with_capacity(IMAGE_SIZE);
    file.take(size + 1).read_to_end(&mut image).map_err(failed)?;
    Ok(image)
}

/// The config blob of a machine.
fn describe(source: &FirmwareSource, uuid: Guid, machine: &Machine, entropy: &[u8; ENTROPY]) -> Vec<u8> {
    let blob = ConfigBlob::new()
        .image_size(IMAGE_SIZE as u64)
        .memory_map(&memory_map(machine.memory))
        .entropy(entropy)
        .uuid(uuid)
        .flags(flags(source, machine))
        .processors(machine.cpus)
        .mmio(layout::LOW_GAP..layout::HIGH_RAM, layout::high_mmio(machine.memory))
        .madt(&acpi::madt_table(machine.cpus));
    source.smbios.strings().fold(blob, |blob, (kind, text)| blob.text(kind, text)).finish()
}

fn flags(source: &FirmwareSource, machine: &Machine) -> Flags {
    let always = Flags::SERIAL_CONTROLLERS | Flags::MEMORY_PROTECTION | Flags::MTRRS_INITIALIZED;
    let console = match source.console {
        Console::Com1 => Flags::CONSOLE_COM1,
        Console::Com2 => Flags::CONSOLE_COM2,
        Console::Screen => Flags::empty(),
        Console::None => Flags::CONSOLE_NONE,
    };
    let page = if source.front_page { Flags::empty() } else { Flags::DISABLE_FRONT_PAGE };
    let watchdog = if source.watchdog { Flags::WATCHDOG } else { Flags::empty() };
    let tpm = if machine.tpm { Flags::TPM | Flags::TPM_LOCALITY } else { Flags::empty() };
    always | console | page | watchdog | tpm
}

/// RAM; the firmware itself takes out what it and the legacy hole need.
fn memory_map(memory: u64) -> Vec<Range<u64>> {
    let (low, high) = layout::split(memory);
    let ranges = [0..low, layout::HIGH_RAM..layout::HIGH_RAM + high];
    ranges.into_iter().filter(|range| !range.is_empty()).collect()
}

fn guid_as_text<S: Serializer>(guid: &Option<Guid>, serializer: S) -> Result<S::Ok, S::Error> {
    guid.map(|guid| guid.to_string()).serialize(serializer)
}

fn entropy() -> io::Result<[u8; ENTROPY]> {
    let mut bytes = [0; ENTROPY];
    // Requests of up to 256 bytes are never cut short.
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
