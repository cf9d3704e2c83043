//! The services with which users reach into the guest: what it says of itself, freezing, file copy.
//!
//! Each is a device on the bus and a handle for the control loop; whoever takes the device from the bus takes the
//! handle along.

use devices::ic::fcopy::{Fcopy, FcopyHandle};
use devices::ic::kvp::{Kvp, KvpHandle};
use devices::ic::vss::{Vss, VssHandle};

use super::{Machine, MachineError};

/// The handles of those services that are on the bus.
#[derive(Debug, Default)]
pub struct GuestServices {
    /// Key-value pairs.
    pub kvp: Option<KvpHandle>,
    /// Freezing.
    pub vss: Option<VssHandle>,
    /// File copy.
    pub fcopy: Option<FcopyHandle>,
}

impl Machine {
    pub(super) fn add_kvp(&mut self) -> Result<(), MachineError> {
        let (device, handle) = Kvp::device()?;
        self.offer("kvp", device)?;
        self.guest.kvp = Some(handle);
        Ok(())
    }

    pub(super) fn add_vss(&mut self) -> Result<(), MachineError> {
        let (device, handle) = Vss::device()?;
        self.offer("vss", device)?;
        self.guest.vss = Some(handle);
        Ok(())
    }

    pub(super) fn add_fcopy(&mut self) -> Result<(), MachineError> {
        let (device, handle) = Fcopy::device()?;
        self.offer("fcopy", device)?;
        self.guest.fcopy = Some(handle);
        Ok(())
    }
}
