//! What the user gave: one list of names for the command line (clap) and for TOML (serde) alike.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Deserialize;

use super::{ConfigError, GenerationChoice, Uuid};
use crate::boot::uefi::Console;
use crate::boot::uefi::smbios::Smbios;
use crate::disks::{DiskOptions, DvdOptions};
use crate::display::DisplaySize;
use crate::size::{FileSize, MemorySize};
use crate::tpm::TpmSource;
use crate::vnc::VncOptions;

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
    /// Where the firmware's console is: com1 (this terminal), com2, screen, or none [default: com1]
    #[arg(long, value_name = "PLACE", help_heading = "Firmware", hide_possible_values = true)]
    pub firmware_console: Option<Console>,
    /// With nothing to boot, the firmware powers off instead of showing its front page
    #[arg(long, help_heading = "Firmware")]
    pub no_front_page: bool,
    /// The guest has a watchdog, which resets it when it hangs
    #[arg(long, help_heading = "Firmware")]
    pub watchdog: bool,
    /// The machine's UUID, which the guest finds in SMBIOS; its --nvram file keeps it [default: the one in there, or a new one]
    #[arg(long, value_name = "UUID", help_heading = "Firmware")]
    pub uuid: Option<Uuid>,
    /// File of the firmware's variables, made if there is none [default: they are lost at the end]
    #[arg(long, value_name = "FILE.nvram", help_heading = "Firmware")]
    pub nvram: Option<PathBuf>,
    /// What the guest finds in SMBIOS: serial=TEXT, asset-tag, board-serial, chassis-serial, sku, family, manufacturer, product, version, separated by commas [default: the firmware's own]
    #[arg(long, value_name = "LIST", help_heading = "Firmware")]
    pub smbios: Option<Smbios>,
    /// File to whose end goes what the guest sends to its second serial port [default: nowhere]
    #[arg(long, value_name = "FILE", help_heading = "Machine")]
    pub com2: Option<PathBuf>,
    /// Initial configuration of a Windows guest, a registry hive; busman imc create makes one
    #[arg(long, value_name = "FILE.hiv", help_heading = "Firmware")]
    pub imc: Option<PathBuf>,
    /// Number of virtual processors [default: 1]
    #[arg(long, value_name = "N", help_heading = "Machine")]
    pub cpus: Option<u32>,
    /// Guest memory, for instance 512M or 2G [default: 1G]
    #[arg(long, value_name = "SIZE", help_heading = "Machine")]
    pub memory: Option<MemorySize>,
    /// Enlightenments that the guest sees: names to add (+) or leave out (-) [default: default]
    #[arg(long, value_name = "LIST", help_heading = "Machine", allow_hyphen_values = true)]
    pub hyperv: Option<String>,
    /// The machine's generation, which tells its guest of copied and restored disks: a UUID, or new [default: what --nvram keeps, else new]
    #[arg(long, value_name = "UUID|new", help_heading = "Machine")]
    pub generation_id: Option<GenerationChoice>,
    /// A TPM 2.0 whose state is in this directory, made if there is none (needs swtpm), or a swtpm that runs
    #[arg(long, value_name = "DIRECTORY|unix:PATH", help_heading = "Machine")]
    pub tpm: Option<TpmSource>,
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
    /// Let VNC viewers see the guest and type to it, and add a display with keyboard and mouse; options: password-file=FILE,tls-cert=FILE,tls-key=FILE,keymap=LAYOUT
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
        let Options { kernel, initrd, firmware, report, api_socket, trace, nvram, com2, imc, .. } =
            &mut options;
        let files = [kernel, initrd, firmware, report, api_socket, trace, nvram, com2, imc];
        for file in files.into_iter().flatten() {
            *file = directory.join(&*file);
        }
        if let Some(vnc) = &mut options.vnc {
            vnc.join(directory);
        }
        if let Some(tpm) = &mut options.tpm {
            tpm.join(directory);
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
            smbios: self.smbios.or(other.smbios),
            com2: self.com2.or(other.com2),
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
            imc: self.imc.or(other.imc),
            generation_id: self.generation_id.or(other.generation_id),
            tpm: self.tpm.or(other.tpm),
        }
    }
}
