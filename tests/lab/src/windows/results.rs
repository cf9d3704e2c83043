//! What the script in the guest wrote (resources/windows/README.md tells what is in it), as far as it can be used.

use serde::{Deserialize, Serialize};

/// The version of the results that is understood.
const SCHEMA: u32 = 1;

/// What the guest sees of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Results {
    pub schema: u32,
    pub finished: bool,
    pub system: Option<System>,
    pub files: Vec<File>,
    pub services: Vec<Service>,
    pub devices: Vec<Device>,
    pub disks: Vec<Disk>,
    pub errors: Vec<String>,
}

/// The operating system.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct System {
    pub name: String,
    pub version: String,
    pub hypervisor: bool,
}

/// A driver's file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct File {
    pub name: String,
    pub path: String,
    pub version: String,
    pub loaded: bool,
    /// "Valid", or what is wrong.
    pub signature: String,
    pub signer: String,
    pub sha256: String,
}

/// A service or a driver.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Service {
    pub name: String,
    pub state: String,
    pub start: String,
}

/// A device, as plug and play knows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Device {
    /// Of a device on the bus `VMBUS\{type}\{instance}`.
    pub id: String,
    pub name: String,
    pub class: String,
    pub service: String,
    /// Problem code, 0 if there is none.
    pub problem: u32,
}

/// A disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Disk {
    pub name: String,
    pub serial: String,
    pub bytes: u64,
}

impl Results {
    /// Reads what the guest wrote; the sentence says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let results: Results = serde_json::from_str(text.trim_start_matches('\u{feff}'))
            .map_err(|error| format!("its results ({} bytes) are cut off or broken: {error}", text.len()))?;
        if results.schema != SCHEMA {
            return Err(format!("its results are of version {} instead of {SCHEMA}", results.schema));
        }
        if !results.finished {
            return Err("its results are not finished".to_owned());
        }
        Ok(results)
    }
}
