//! Why a machine could not run.

use std::io;

use thiserror::Error;

use crate::api::SocketError;
use crate::machine::MachineError;
use crate::machine::firmware::FirmwareError;
use crate::tpm::TpmError;
use crate::vnc::VncError;

/// Why a machine could not run.
#[derive(Debug, Error)]
pub enum VmmError {
    /// It could not be built.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// What its firmware needs.
    #[error(transparent)]
    Firmware(#[from] FirmwareError),
    /// Its TPM.
    #[error(transparent)]
    Tpm(#[from] TpmError),
    /// It could not go on.
    #[error("The machine failed: {0}")]
    Failed(String),
    /// The event loop.
    #[error("The event loop failed: {0:?}")]
    EventLoop(event_manager::Error),
    /// The control socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The VNC server.
    #[error(transparent)]
    Vnc(#[from] VncError),
    /// Signals, terminal, descriptors.
    #[error("The host refuses")]
    Host(#[from] io::Error),
    /// What the second serial port leads to.
    #[error("Cannot write what the guest sends to COM2 to {path}")]
    Com2 {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The trace.
    #[error("Cannot write the trace to {path}")]
    Trace {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The report.
    #[error("Cannot write the report to {path}")]
    Report {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}
