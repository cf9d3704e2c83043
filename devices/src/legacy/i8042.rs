//! What is left of the keyboard controller: the reset pulse at port 0x64.
//!
//! A generation 2 machine has no such controller and its FADT says so. Linux still tries it when the ACPI reset
//! register does not work, and old kernels try nothing else.

use std::fmt;
use std::sync::Arc;

use vm_superio::{I8042Device, Trigger};

use super::{PortDevice, PowerEvents};

/// Port 0x64 as vm-superio numbers it.
const COMMAND: u8 = 4;

struct Reset(Arc<dyn PowerEvents>);

impl Trigger for Reset {
    type E = std::convert::Infallible;

    fn trigger(&self) -> Result<(), Self::E> {
        self.0.reset();
        Ok(())
    }
}

/// One port: it always reads as ready, and 0xFE written to it resets the machine.
pub struct ResetPulse(I8042Device<Reset>);

impl ResetPulse {
    /// Ports of the device.
    pub const PORTS: u16 = 1;

    /// A port that resets the machine through `events`.
    #[must_use]
    pub fn new(events: Arc<dyn PowerEvents>) -> Self {
        ResetPulse(I8042Device::new(Reset(events)))
    }
}

impl fmt::Debug for ResetPulse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResetPulse")
    }
}

impl PortDevice for ResetPulse {
    fn read(&mut self, _offset: u16, data: &mut [u8]) {
        if let Some(status) = data.first_mut() {
            *status = self.0.read(COMMAND);
        }
    }

    fn write(&mut self, _offset: u16, data: &[u8]) {
        if let Some(&command) = data.first() {
            match self.0.write(COMMAND, command) {
                Ok(()) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::legacy::fake::Recorder;

    #[test]
    fn only_the_reset_command_resets() {
        let events = Recorder::default();
        let mut port = ResetPulse::new(Arc::new(events.clone()));
        for command in [0x00, 0xaa, 0xd1, 0xff] {
            port.write(0, &[command]);
        }
        assert!(events.take().is_empty());
        port.write(0, &[0xfe]);
        assert_eq!(events.take(), ["reset"]);
    }

    #[test]
    fn it_is_always_ready_for_a_command() {
        let mut port = ResetPulse::new(Arc::new(Recorder::default()));
        let mut status = [0xff];
        port.read(0, &mut status);
        assert_eq!(status, [0]);
    }
}
