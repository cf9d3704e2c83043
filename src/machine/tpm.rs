//! The machine's TPM: its registers in their place, and the service behind them.

use std::sync::{Arc, Mutex};

use devices::legacy::{MmioBus, PortBus};
use devices::mem::GuestRam;
use devices::tpm::TpmRegisters;

use super::MachineError;
use crate::config::{Boot, Config};
use crate::layout;
use crate::tpm::Service;

/// Switches the TPM on, if there is one, and puts its registers on both buses.
pub(super) fn add(
    ports: &mut PortBus,
    mmio: &mut MmioBus,
    ram: &GuestRam,
    service: Option<&Service>,
    config: &Config,
) -> Result<(), MachineError> {
    let Some(service) = service else { return Ok(()) };
    let (tpm, presence) = service.power_on();
    let mut registers = TpmRegisters::new(ram.clone(), tpm, presence);
    if let (Boot::Kernel(_), Ok(address)) = (&config.boot, layout::tpm_buffers(config.memory).try_into()) {
        // A kernel takes the buffers where it finds them; firmware would have put them there.
        registers.map(address);
    }
    let registers = Arc::new(Mutex::new(registers));
    ports.insert("TPM", layout::port::TPM, TpmRegisters::PORTS, Arc::clone(&registers) as _)?;
    mmio.insert("TPM", layout::TPM, registers)?;
    Ok(())
}
