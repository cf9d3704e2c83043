//! Why a command was not carried out.

use devices::display::ResolutionError;
use devices::ic::requests::GuestError;
use devices::ic::shutdown::{ShutdownError, ShutdownKind};
use thiserror::Error;

use crate::disks::UnitError;
use crate::machine::MachineError;

/// Why a command was not carried out. Sentences for the user; [`Refusal::sentence`] has the causes too.
#[derive(Debug, Error)]
pub enum Refusal {
    /// A device cannot be added or removed.
    #[error(transparent)]
    Device(MachineError),
    /// A disk cannot be added, removed or changed.
    #[error(transparent)]
    Disk(UnitError),
    /// There is nothing to ask the guest with.
    #[error("The guest cannot be asked to {0}: the shutdown device is not on the bus")]
    NoShutdownDevice(ShutdownKind),
    /// The guest has no ears.
    #[error("The guest cannot be asked to {kind}")]
    NotListening {
        /// What it was to do.
        kind: ShutdownKind,
        /// Why.
        #[source]
        source: ShutdownError,
    },
    /// The guest stands still.
    #[error("The guest cannot be asked to {0}: it is paused; resume it first")]
    Paused(ShutdownKind),
    /// No picture of the machine's can be so.
    #[error(transparent)]
    Resolution(ResolutionError),
    /// The guest does not do it.
    #[error(transparent)]
    Guest(GuestError),
    /// There is nothing to ask the guest with.
    #[error("The guest cannot be asked: the device {0} is not on the bus")]
    NoGuestService(&'static str),
    /// The guest stands still.
    #[error("The guest cannot be asked: it is paused; resume it first")]
    GuestPaused,
    /// A file for the guest.
    #[error("Cannot copy {path}")]
    Source {
        /// The host's file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Somebody else resumed it.
    #[error("The machine was resumed before all of it had stopped")]
    Resumed,
    /// Nobody carries out commands any more.
    #[error("The machine has ended")]
    Ended,
    /// Too many commands wait for the control loop.
    #[error("Too many commands wait already; try again")]
    Busy,
    /// The control loop did not answer in time.
    #[error("The machine has not answered within {0} s; the command may still be carried out")]
    Late(u64),
}

impl Refusal {
    /// The error and its causes in one line.
    #[must_use]
    pub fn sentence(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_has_its_causes() {
        let refusal =
            Refusal::NotListening { kind: ShutdownKind::Reboot, source: ShutdownError::NotListening };
        assert_eq!(
            refusal.sentence(),
            "The guest cannot be asked to reboot: The guest does not listen: its shutdown driver (Linux: hv_utils) \
             is not running"
        );
        let missing = Refusal::Device(MachineError::NotThere("heartbeat".into()));
        assert_eq!(missing.sentence(), "The device heartbeat is not on the bus");
    }
}
