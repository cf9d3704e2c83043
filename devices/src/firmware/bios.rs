//! The BIOS device: select and data registers at ports 0x28 and 0x2c.
//!
//! It lives as long as the machine: the OS's runtime services come here too. What a command asks is done before the
//! write to the port ends, on the virtual processor's thread; a change of a variable waits for the disk.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use zerocopy::IntoBytes;
use zerocopy::little_endian::U64;

use super::advanced_log::AdvancedLog;
use super::generation::Generation;
use super::nvram::protocol::{Attributes, vendor};
use super::nvram::{Variable, VariableId, Variables};
use super::protocol::{EfiStatus, EfiTime, TimeCommand, register};
use super::watchdog::Watchdog;
use super::{boot_events, commands, memory, time};
use crate::guid::Guid;
use crate::legacy::PortDevice;
use crate::mem::{GuestRam, MemError};
use crate::{guest_debug, guest_warn};

/// Offset of the select register.
const SELECT: u16 = 0;
/// Offset of the data register.
const DATA: u16 = 4;
/// What a register that is not there reads as.
const NOTHING: u32 = u32::MAX;
/// `EFI_STATUS` has its error bit where the host's status codes usually have none.
const EFI_ERROR: u64 = 1 << 63;

/// The device.
pub struct Bios {
    ram: GuestRam,
    selected: u32,
    variables: Arc<Mutex<Variables>>,
    generation: Generation,
    log: AdvancedLog,
    /// What became of the last memory overwrite request, in the words of the TPM's ACPI method: 0 is success.
    overwrite_result: u32,
    /// The firmware's own watchdog.
    pub watchdog: Watchdog,
}

impl fmt::Debug for Bios {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bios")
            .field("selected", &self.selected)
            .field("log", &self.log)
            .finish_non_exhaustive()
    }
}

impl Bios {
    /// Ports of the device.
    pub const PORTS: u16 = 8;

    /// The device at power-on. The variables are the machine's, over all its resets; their store names its
    /// generation.
    #[must_use]
    pub fn new(ram: GuestRam, variables: Arc<Mutex<Variables>>, watchdog: Watchdog) -> Self {
        let generation = {
            let mut variables = variables.lock().unwrap_or_else(PoisonError::into_inner);
            variables.power_on();
            Generation::new(variables.store().generation)
        };
        Bios {
            ram,
            selected: 0,
            variables,
            generation,
            log: AdvancedLog::new(),
            overwrite_result: 0,
            watchdog,
        }
    }

    /// The machine is of another generation now. Whether the guest has a place for the id: then it is to be told, by
    /// [`GPE_GENERATION_ID`](crate::legacy::pm::GPE_GENERATION_ID).
    ///
    /// # Errors
    /// When it cannot be kept for the machine's next start; nothing has changed then.
    pub fn change_generation(&mut self, id: Guid) -> io::Result<bool> {
        self.variables.lock().unwrap_or_else(PoisonError::into_inner).set_generation(id)?;
        Ok(self.generation.change(&self.ram, id))
    }

    fn read_data(&self) -> u32 {
        match self.selected {
            register::NFIT_SIZE => 0,
            register::MOR_SET => self.overwrite_result,
            other => self.watchdog.read(other).unwrap_or_else(|| {
                guest_debug!("The firmware reads register {other:#x} of the BIOS device, which is not there");
                NOTHING
            }),
        }
    }

    fn write_data(&mut self, data: u32) {
        let address = u64::from(data);
        let done = match self.selected {
            register::NVRAM_COMMAND => commands::nvram(&self.ram, &self.variables, address),
            register::CRYPTO_COMMAND => commands::crypto(&self.ram, address),
            register::EVENT_LOG_FLUSH => boot_events::flush(&self.ram, address),
            register::ADVANCED_LOG_PROCESS => self.log.process(&self.ram),
            register::GET_TIME => self.get_time(address),
            register::SET_TIME => self.refuse_time(address),
            _ => {
                self.write_value(data);
                Ok(())
            }
        };
        if let Err(error) = done {
            let register = self.selected;
            guest_warn!(
                "The firmware writes {data:#x} to register {register:#x} of the BIOS device: {error}"
            );
        }
    }

    /// Registers whose data are no address of a structure.
    fn write_value(&mut self, data: u32) {
        match self.selected {
            register::GENERATION_ID_LOW => self.generation.set_low(&self.ram, data),
            register::GENERATION_ID_HIGH => self.generation.set_high(&self.ram, data),
            register::ADVANCED_LOG_ADDRESS => self.log.set_address(data),
            register::MOR_SET => self.set_memory_overwrite(data),
            // KVM's memory is write-back whatever a guest's MTRRs say.
            register::BOOT_FINALIZE => {}
            other => {
                if !self.watchdog.write(other, data) {
                    guest_debug!("The firmware writes {data:#x} to register {other:#x} of the BIOS device");
                }
            }
        }
    }

    /// The OS wants memory overwritten at the next boot: the TPM's ACPI method cannot set the variable itself.
    fn set_memory_overwrite(&mut self, data: u32) {
        self.overwrite_result = 1;
        let Some(id) = VariableId::new(vendor::MEMORY_OVERWRITE, "MemoryOverwriteRequestControl") else {
            return;
        };
        let [value, ..] = data.to_le_bytes();
        let variable = Variable::new(Attributes::LASTING, vec![value]);
        let mut variables = self.variables.lock().unwrap_or_else(PoisonError::into_inner);
        match variables.change(&id, Some(variable)) {
            Ok(()) => self.overwrite_result = 0,
            Err(status) => guest_warn!("The memory overwrite request cannot be kept: {status:?}"),
        }
    }

    fn get_time(&self, address: u64) -> Result<(), MemError> {
        let now = time::now();
        let status = if now.is_some() { 0 } else { EFI_ERROR | EfiStatus::DeviceError.code().get() };
        let time: EfiTime = now.unwrap_or(super::nvram::variable::NO_TIME);
        memory::write(&self.ram, address, &TimeCommand { status: U64::new(status), time })
    }

    fn refuse_time(&self, address: u64) -> Result<(), MemError> {
        let status = U64::new(EFI_ERROR | EfiStatus::Unsupported.code().get());
        memory::write_bytes(&self.ram, address, status.as_bytes())
    }
}

impl PortDevice for Bios {
    /// Only whole registers answer; bytes of anything else stay ones.
    fn read(&mut self, offset: u16, data: &mut [u8]) {
        let Ok(data) = <&mut [u8; 4]>::try_from(data) else { return };
        match offset {
            SELECT => *data = self.selected.to_le_bytes(),
            DATA => *data = self.read_data().to_le_bytes(),
            _ => {}
        }
    }

    fn write(&mut self, offset: u16, data: &[u8]) {
        let Ok(value) = <[u8; 4]>::try_from(data).map(u32::from_le_bytes) else { return };
        match offset {
            SELECT => self.selected = value,
            DATA => self.write_data(value),
            _ => {}
        }
    }
}
