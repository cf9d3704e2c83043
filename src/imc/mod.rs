//! `busman imc`: makes initial machine configurations; and what a machine with `--imc` takes of a file.
//!
//! Such a configuration is a registry hive of which a Windows guest's boot loader takes over what is below
//! `SYSTEM`, through [`devices::vmbfs`]. Its root has a number, `Sequence`: a guest takes a hive over if that is greater
//! than the last one's, and begins with 1 (OpenVMM's `make_imc_hive`).
//!
//! | module | what it holds |
//! |---|---|
//! | `key` | keys and values |
//! | `reg` | `.reg` files, the registry as text |
//! | `hive`, `protocol` | hives: writing them, and what tells that a file is one |

pub mod hive;
pub mod key;
mod protocol;
pub mod reg;

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use clap::{Args, Subcommand};
use thiserror::Error;

use self::hive::{HIVE_MAX, HiveError};
use self::key::{KEY_NAME_MAX, Key, Value};
use self::reg::RegError;

/// The device's name in tables and for traces; it is there with `--imc`.
pub const DEVICE: &str = "imc";

/// Arguments of `busman imc`.
#[derive(Args, Debug)]
pub struct Imc {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
enum Command {
    /// Make a registry hive for --imc of busman run
    Create(Create),
}

#[derive(Args, Clone, Debug, PartialEq, Eq)]
struct Create {
    /// The new file
    #[arg(value_name = "FILE.hiv")]
    file: PathBuf,
    /// Settings below HKEY_LOCAL_MACHINE\SYSTEM, as Windows' registry editor exports them; may be given several times
    #[arg(long, value_name = "FILE.reg")]
    reg: Vec<PathBuf>,
    /// Add a service that starts with the guest, for instance setup=D:\setup.exe --service; a program that is no service is ended after 30 s; may be given several times
    #[arg(long = "service", value_name = "NAME=COMMAND")]
    services: Vec<Service>,
    /// The hive's number: guests are said to take over only a greater one than the last [default: 2]
    #[arg(long, value_name = "N")]
    sequence: Option<u32>,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
}

/// A program that starts with the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    name: String,
    command: String,
}

impl FromStr for Service {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, command) = text.split_once('=').ok_or("write NAME=COMMAND")?;
        if name.is_empty() || name.contains(['\\', '/', '\0']) || name.encode_utf16().count() > KEY_NAME_MAX {
            return Err(format!("{name:?} is no name of a service"));
        }
        if command.trim().is_empty() || command.contains('\0') {
            return Err(format!("the service {name} has no command"));
        }
        Ok(Service { name: name.to_owned(), command: command.to_owned() })
    }
}

/// Why there is no configuration.
#[derive(Debug, Error)]
pub enum ImcError {
    /// More settings than a hive has room for.
    #[error("{} is longer than {} MiB; export only the keys that are to change", .0.display(), HIVE_MAX >> 20)]
    TooLong(PathBuf),
    /// A file that is missing or unreadable.
    #[error("Cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the host said.
        #[source]
        source: io::Error,
    },
    /// A file with another content.
    #[error("Cannot take {} for a machine's configuration", path.display())]
    Hive {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: HiveError,
    },
    /// Settings that make no sense.
    #[error("Cannot understand {}", path.display())]
    Reg {
        /// The file.
        path: PathBuf,
        /// Line and reason.
        #[source]
        source: RegError,
    },
    /// Nothing to configure.
    #[error(
        "There is nothing to configure: name settings with --reg FILE.reg or a service with --service NAME=COMMAND"
    )]
    Nothing,
    /// A file that is there already.
    #[error("{} exists; --force replaces it", .0.display())]
    Exists(PathBuf),
    /// The new file.
    #[error("Cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the host said.
        #[source]
        source: io::Error,
    },
}

/// Reads a machine's configuration.
///
/// # Errors
/// What is wrong with the file.
pub fn open(path: &Path) -> Result<Arc<[u8]>, ImcError> {
    let bytes = read(path)?;
    hive::check(&bytes).map_err(|source| ImcError::Hive { path: path.to_owned(), source })?;
    Ok(bytes.into())
}

/// A file, up to one byte more than a hive may have.
fn read(path: &Path) -> Result<Vec<u8>, ImcError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(HIVE_MAX as u64 + 1).read_to_end(&mut bytes))
        .map_err(|source| ImcError::Read { path: path.to_owned(), source })?;
    Ok(bytes)
}

impl Imc {
    /// Does it.
    ///
    /// # Errors
    /// A sentence for the user, which names the file.
    pub fn execute(&self) -> Result<(), ImcError> {
        match &self.command {
            Command::Create(create) => create.execute(),
        }
    }
}

impl Create {
    fn execute(&self) -> Result<(), ImcError> {
        let file = || self.file.clone();
        let hive = hive::write(&self.tree()?).map_err(|source| ImcError::Hive { path: file(), source })?;
        let mut options = OpenOptions::new();
        options.write(true).create(self.force).truncate(self.force).create_new(!self.force);
        let written = options.open(&self.file).and_then(|mut file| file.write_all(&hive));
        written.map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => ImcError::Exists(file()),
            _ => ImcError::Write { path: file(), source },
        })
    }

    fn tree(&self) -> Result<Key, ImcError> {
        if self.reg.is_empty() && self.services.is_empty() {
            return Err(ImcError::Nothing);
        }
        let mut root = Key::default();
        root.set("Sequence", Value::number(2));
        for path in &self.reg {
            let text = read(path)?;
            if text.len() > HIVE_MAX {
                return Err(ImcError::TooLong(path.clone()));
            }
            reg::merge(&mut root, &text).map_err(|source| ImcError::Reg { path: path.clone(), source })?;
        }
        self.services.iter().for_each(|service| service.add(&mut root));
        if let Some(sequence) = self.sequence {
            root.set("Sequence", Value::number(sequence));
        }
        Ok(root)
    }
}

impl Service {
    /// A program of its own (type 0x10) that starts by itself (2), as the system, once remote procedure calls work.
    fn add(&self, root: &mut Key) {
        let service = root.at(["SYSTEM", "CurrentControlSet", "Services", &self.name]);
        for (name, number) in [("Type", 0x10), ("Start", 2), ("ErrorControl", 1)] {
            service.set(name, Value::number(number));
        }
        service.set("ImagePath", Value::text(&self.command));
        service.set("DisplayName", Value::text(&self.name));
        service.set("ObjectName", Value::text("LocalSystem"));
        service.set("DependOnService", Value::texts(&["RpcSs"]));
    }
}

#[cfg(test)]
mod tests;
