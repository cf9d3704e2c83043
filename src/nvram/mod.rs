//! `busman nvram`: the variables of a machine's firmware, while it is off.
//!
//! The file, and what may be in it, are the `devices` crate's; here are the words on the command line and the words
//! that come out. Whoever may write the file owns the machine: the host sets keys without a signature.

mod show;
mod template;
mod words;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use devices::firmware::nvram::protocol::Attributes;
use devices::firmware::nvram::services::Nowhere;
use devices::firmware::nvram::{NvramError, NvramFile, VariableId, Variables};
use devices::firmware::protocol::EfiStatus;
use devices::guid::Guid;
use thiserror::Error;

use self::show::{List, Row};
use self::template::TemplateError;
use self::words::{AttributeList, HexBytes, VariableName};

/// Arguments of `busman nvram`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct Nvram {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
enum Command {
    /// All variables: names, attributes, sizes
    List {
        #[command(flatten)]
        file: NvramPath,
        /// Print them in JSON, with their data
        #[arg(long)]
        json: bool,
    },
    /// One variable: its attributes and its data
    Get {
        #[command(flatten)]
        file: NvramPath,
        /// NAME-GUID, or the NAME of one of UEFI's own
        name: VariableName,
        #[command(flatten)]
        form: Form,
    },
    /// Set a variable, or delete it
    Set {
        #[command(flatten)]
        file: NvramPath,
        /// NAME-GUID, or the NAME of one of UEFI's own
        name: VariableName,
        #[command(flatten)]
        value: Value,
        /// What it is: nv, bs, rt, at [default: what it is already, or what is usual for it]
        #[arg(long, value_name = "LIST", conflicts_with_all = ["delete", "auth"])]
        attributes: Option<AttributeList>,
        /// The file that --auth names was signed as an addition to what is there
        #[arg(long, requires = "auth")]
        append: bool,
    },
    /// Set Secure Boot's keys from a template, in JSON as OpenVMM has it; it is on from the next start
    SecureBoot {
        #[command(flatten)]
        file: NvramPath,
        /// The template
        #[arg(value_name = "TEMPLATE.json")]
        template: PathBuf,
    },
    /// The machine's UUID, by which its guest and licences know it
    Uuid {
        #[command(flatten)]
        file: NvramPath,
        /// Give the machine this one
        #[arg(value_name = "UUID")]
        new: Option<Guid>,
    },
    /// Forget all variables; the machine's UUID stays. A file that is not there is made
    Reset {
        #[command(flatten)]
        file: NvramPath,
        /// Replace a file that is damaged or none of busman's
        #[arg(long)]
        force: bool,
    },
}

#[derive(Args, Clone, Debug, PartialEq, Eq)]
struct NvramPath {
    /// The file that --nvram of busman run names
    #[arg(long = "file", value_name = "FILE.nvram")]
    path: PathBuf,
}

/// How data come out: bytes in columns, unless something else is asked for.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[group(multiple = false)]
struct Form {
    /// Print the data as they are, and nothing else
    #[arg(long)]
    raw: bool,
    /// Print the data as text, UTF-16 or UTF-8
    #[arg(long)]
    text: bool,
    /// Print the variable in JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[group(required = true, multiple = false)]
struct Value {
    /// Its bytes in hexadecimal digits
    #[arg(long, value_name = "DIGITS")]
    hex: Option<HexBytes>,
    /// Its text, in UTF-16 with a NUL at the end, as UEFI has texts
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    /// A file with its bytes
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// A file with its bytes, signed (by sign-efi-sig-list, for instance); the signature counts as for a guest
    #[arg(long, value_name = "FILE.auth")]
    auth: Option<PathBuf>,
    /// Delete it
    #[arg(long)]
    delete: bool,
}

/// Why variables are not shown or not changed.
#[derive(Debug, Error)]
pub enum NvramCommandError {
    /// The file of variables.
    #[error(transparent)]
    File(#[from] NvramError),
    /// The file is none of a machine that has run.
    #[error(
        "The machine of {} has no UUID yet: it gets one when it runs, or with: busman nvram uuid --file {} UUID", .0.display(), .0.display()
    )]
    NoUuid(PathBuf),
    /// No such variable.
    #[error("There is no variable {0}; see busman nvram list")]
    NotFound(VariableId),
    /// A template of keys.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// A file with data.
    #[error("Cannot read {}, which holds the variable's data", path.display())]
    Data {
        /// The file.
        path: PathBuf,
        /// What the host said.
        #[source]
        source: io::Error,
    },
    /// A value that the store does not take.
    #[error("Cannot set the variable {id}: {}", reason(*status))]
    Refused {
        /// The variable.
        id: VariableId,
        /// EFI's word for it.
        status: EfiStatus,
    },
    /// Standard output.
    #[error("The terminal fails")]
    Output(#[from] io::Error),
}

/// What a status means for somebody on the host.
fn reason(status: EfiStatus) -> &'static str {
    match status {
        EfiStatus::OutOfResources => "it is too large, or the store is full",
        EfiStatus::WriteProtected => "the host shows it to the guest, from what else is in the store",
        EfiStatus::Unsupported => "its attributes have to have nv, and nothing but nv, bs, rt, at",
        EfiStatus::SecurityViolation => {
            "who may change it has not signed exactly this, or what is there was signed later; --append is for \
             files that were signed so"
        }
        EfiStatus::DeviceError => "the file cannot be written",
        _ => "its attributes or its data make no sense: rt goes with bs, and keys are lists of signatures",
    }
}

impl Nvram {
    /// Does it and prints what came out.
    ///
    /// # Errors
    /// A sentence for the user.
    pub fn execute(&self) -> Result<(), NvramCommandError> {
        match self.run(&mut io::stdout()) {
            // Who reads no further has seen enough.
            Err(NvramCommandError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            done => done,
        }
    }

    fn run(&self, out: &mut dyn Write) -> Result<(), NvramCommandError> {
        match &self.command {
            Command::List { file, json } => {
                let store = NvramFile::read(&file.path)?;
                let rows = store.iter().map(|(id, variable)| Row::new(id, variable)).collect();
                let list = List { rows, free: store.free() };
                Ok(if *json { list.write_json(out) } else { write!(out, "{list}") }?)
            }
            Command::Get { file, name, form } => get(&file.path, &name.0, form, out),
            Command::Set { file, name, value: Value { auth: Some(signed), .. }, append, .. } => {
                set_signed(&file.path, &name.0, signed, *append)
            }
            Command::Set { file, name, value, attributes, .. } => {
                set(&file.path, &name.0, value, attributes.as_ref().map(|list| list.0))
            }
            Command::SecureBoot { file, template } => {
                let keys = template::read(template)?;
                let (file, store) = NvramFile::open_or_create(&file.path)?;
                // A template that would be refused half way sets nothing.
                set_keys(&mut Variables::new(store.clone(), Box::new(Nowhere)), &keys)?;
                set_keys(&mut Variables::new(store, Box::new(file)), &keys)
            }
            Command::Uuid { file, new: None } => match NvramFile::read(&file.path)?.machine {
                Some(uuid) => Ok(writeln!(out, "{uuid}")?),
                None => Err(NvramCommandError::NoUuid(file.path.clone())),
            },
            Command::Uuid { file, new } => {
                let (mut file, mut store) = NvramFile::open(&file.path)?;
                file.identify(&mut store, *new)?;
                Ok(())
            }
            Command::Reset { file, force } => Ok(NvramFile::reset(&file.path, *force)?),
        }
    }
}

fn get(path: &Path, id: &VariableId, form: &Form, out: &mut dyn Write) -> Result<(), NvramCommandError> {
    let store = NvramFile::read(path)?;
    let variable = store.get(id).ok_or_else(|| NvramCommandError::NotFound(id.clone()))?;
    let row = Row::new(id, variable);
    Ok(match form {
        Form { raw: true, .. } => out.write_all(&variable.data),
        Form { text: true, .. } => writeln!(out, "{}", show::text(&variable.data)),
        Form { json: true, .. } => row.write_json(out),
        Form { .. } => write!(out, "{row}\n{}", show::columns(&variable.data)),
    }?)
}

fn set(
    path: &Path,
    id: &VariableId,
    value: &Value,
    attributes: Option<Attributes>,
) -> Result<(), NvramCommandError> {
    let data = value.bytes()?;
    let (file, store) = NvramFile::open(path)?;
    if data.is_none() && store.get(id).is_none() {
        return Err(NvramCommandError::NotFound(id.clone()));
    }
    let attributes = attributes.unwrap_or_else(|| {
        store.get(id).map_or_else(|| Variables::usual_attributes(id), |variable| variable.attributes)
    });
    let mut variables = Variables::new(store, Box::new(file));
    let set = variables.set_as_owner(id, attributes, data.as_deref());
    set.map_err(|status| NvramCommandError::Refused { id: id.clone(), status })
}

/// Sets the keys of a template.
fn set_keys(variables: &mut Variables, keys: &[template::Keys]) -> Result<(), NvramCommandError> {
    keys.iter().try_for_each(|(id, data)| {
        let set = variables.set_as_owner(id, Attributes::POLICY, data.as_deref());
        set.map_err(|status| NvramCommandError::Refused { id: id.clone(), status })
    })
}

/// A write as a guest does it: whoever may change the variable has signed it.
fn set_signed(path: &Path, id: &VariableId, signed: &Path, append: bool) -> Result<(), NvramCommandError> {
    let data = read(signed)?;
    let (file, store) = NvramFile::open(path)?;
    let append = if append { Attributes::APPEND } else { Attributes::empty() };
    let mut variables = Variables::new(store, Box::new(file));
    let set = variables.set(id, (Attributes::POLICY | append).bits(), &data);
    set.map_err(|status| NvramCommandError::Refused { id: id.clone(), status })
}

fn read(path: &Path) -> Result<Vec<u8>, NvramCommandError> {
    fs::read(path).map_err(|source| NvramCommandError::Data { path: path.to_owned(), source })
}

impl Value {
    /// `None`: the variable goes.
    fn bytes(&self) -> Result<Option<Vec<u8>>, NvramCommandError> {
        let text = self
            .text
            .as_ref()
            .map(|text| text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect::<Vec<u8>>());
        let file = self.data.as_deref().map(read);
        Ok(self.hex.as_ref().map(|hex| hex.0.clone()).or(text).or(file.transpose()?))
    }
}

#[cfg(test)]
mod tests;
