//! Runs a machine to its end.

use thiserror::Error;

use crate::config::Config;

/// How a machine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The guest powered off.
    PowerOff,
    /// The guest reset with `--once`.
    Reset,
    /// The guest ended in a triple fault with `--once`.
    TripleFault,
    /// The user stopped it.
    Stopped,
}

/// Why a machine could not run.
#[derive(Debug, Error)]
pub enum VmmError {
    /// This tree has no hypervisor room yet.
    #[error("Cannot run a machine yet")]
    Unfinished,
}

/// Builds the machine and runs it.
///
/// # Errors
/// Always, until hv is there.
pub fn run(_config: &Config) -> Result<End, VmmError> {
    Err(VmmError::Unfinished)
}
