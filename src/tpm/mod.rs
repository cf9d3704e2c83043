//! The machine's TPM: swtpm, which busman starts or finds running.
//!
//! | file | what it is |
//! |---|---|
//! | `source` | `--tpm` as users write it |
//! | `service` | the thread that carries out the guest's commands, one machine after the other |
//! | `link` | a connection to swtpm, over `control` (its control channel), and its `process` if it is ours |
//! | `commands` | the few commands that the host itself gives |
//!
//! The guest's side are the registers in [`devices::tpm`]. The machine takes the service's two halves with it; a reset
//! takes the TPM's power and gives it back.

mod commands;
mod control;
mod link;
mod process;
mod service;
mod source;

use std::io;
use std::path::PathBuf;

use thiserror::Error;

pub use control::ControlError;
pub use service::Service;
pub use source::{TpmSource, TpmSourceError};

/// Why there is no TPM, or no more.
#[derive(Debug, Error)]
pub enum TpmError {
    /// The program is missing.
    #[error(
        "--tpm needs the program swtpm, which is not installed; Debian and Ubuntu have it in the package swtpm"
    )]
    NotInstalled,
    /// The program does not run.
    #[error("Cannot start swtpm")]
    Start(#[source] io::Error),
    /// The directory of its state.
    #[error("Cannot use {} for the TPM's state", path.display())]
    State {
        /// The directory.
        path: PathBuf,
        /// What the host said.
        #[source]
        source: io::Error,
    },
    /// It ran, but not for long.
    #[error("swtpm fails: {words}")]
    Fails {
        /// What it said.
        words: String,
        /// What was seen of it.
        #[source]
        source: ControlError,
    },
    /// Nobody is there.
    #[error("No swtpm listens on {}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the host said.
        #[source]
        source: io::Error,
    },
    /// It does not do as it should.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// It is something else.
    #[error("This TPM is no TPM 2.0; start swtpm with --tpm2")]
    NotTpm2,
    /// It went away while the machine ran.
    #[error("swtpm is lost")]
    Lost(#[source] io::Error),
}

#[cfg(test)]
mod tests;
