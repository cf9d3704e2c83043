//! NVRAM and crypto commands: from guest memory to the [variables](super::nvram) and back.
//!
//! A command is a structure whose address the guest writes to the device. It is copied once; names and data come from
//! wherever it says, and are bounded before they are copied. The status goes back last. Every command is answered,
//! unless its very structure is not in RAM: then there is nowhere to answer to.

use std::sync::{Mutex, PoisonError};

use rustix::rand::{GetRandomFlags, getrandom};
use zerocopy::little_endian::{U32, U64};

use super::memory;
use super::nvram::variable::{DATA_MAX, NAME_MAX, until_nul};
use super::nvram::{Name, VariableId, Variables};
use super::protocol::{
    CRYPTO_RANDOM, CryptoCommand, EfiStatus, NvramDebugString, NvramHeader, NvramQuery, NvramVariable,
    nvram_command,
};
use crate::mem::{GuestRam, MemError};
use crate::{guest_debug, guest_warn};

/// Bytes of random that a command may ask for.
const RANDOM_MAX: usize = 8;
/// Bytes of a debug string that are shown.
const DEBUG_MAX: usize = 1024;

/// Why a command ends without having done all it should.
enum Failure {
    /// This is the answer.
    Status(EfiStatus),
    /// The guest named memory that it does not have.
    Memory(MemError),
}

impl From<EfiStatus> for Failure {
    fn from(status: EfiStatus) -> Self {
        Failure::Status(status)
    }
}

impl From<MemError> for Failure {
    fn from(error: MemError) -> Self {
        Failure::Memory(error)
    }
}

/// What the guest is told.
fn status(outcome: Result<(), Failure>) -> EfiStatus {
    match outcome {
        Ok(()) => EfiStatus::Success,
        Err(Failure::Status(status)) => status,
        Err(Failure::Memory(error)) => {
            guest_warn!("A command of the firmware names memory that is not there: {error}");
            EfiStatus::DeviceError
        }
    }
}

/// A command at its address.
struct Commands<'a> {
    ram: &'a GuestRam,
    /// Of what follows the header.
    address: u64,
}

/// Carries out the NVRAM command at an address.
pub(super) fn nvram(ram: &GuestRam, variables: &Mutex<Variables>, address: u64) -> Result<(), MemError> {
    let mut header: NvramHeader = memory::read(ram, address)?;
    // The address has 32 bits.
    let commands = Commands { ram, address: address + size_of::<NvramHeader>() as u64 };
    // A panic while it was locked left the variables as they are in the store.
    let mut variables = variables.lock().unwrap_or_else(PoisonError::into_inner);
    let outcome = match header.command.get() {
        nvram_command::GET => commands.get(&variables),
        nvram_command::SET => commands.set(&mut variables),
        nvram_command::FIRST_NAME => commands.name(&variables, true),
        nvram_command::NEXT_NAME => commands.name(&variables, false),
        nvram_command::QUERY_INFO => commands.query(&variables),
        nvram_command::SIGNAL_RUNTIME => {
            guest_debug!("The guest has left boot services");
            variables.exit_boot_services();
            Ok(())
        }
        nvram_command::DEBUG_STRING => commands.debug_string(),
        other => {
            guest_debug!("The firmware gives the NVRAM command {other}, which does not exist");
            Err(EfiStatus::Unsupported.into())
        }
    };
    header.status = status(outcome).code();
    memory::write(ram, address, &header)
}

impl Commands<'_> {
    fn id(&self, command: &NvramVariable) -> Result<VariableId, Failure> {
        let name = Name::new(&self.name_units(command)?).ok_or(EfiStatus::InvalidParameter)?;
        Ok(VariableId { vendor: command.vendor, name })
    }

    /// The name up to its NUL, which has to be in the buffer.
    fn name_units(&self, command: &NvramVariable) -> Result<Vec<u16>, Failure> {
        let address = command.name_address.get();
        let bytes = usize::try_from(command.name_bytes.get()).unwrap_or(usize::MAX).min(NAME_MAX);
        if address == 0 {
            return Err(EfiStatus::InvalidParameter.into());
        }
        Ok(until_nul(&memory::read_bytes(self.ram, address, bytes)?).ok_or(EfiStatus::InvalidParameter)?)
    }

    fn get(&self, variables: &Variables) -> Result<(), Failure> {
        let mut command: NvramVariable = memory::read(self.ram, self.address)?;
        let variable = variables.get(&self.id(&command)?)?;
        let capacity = usize::try_from(command.data_bytes.get()).unwrap_or(usize::MAX);
        command.attributes = U32::new(variable.attributes.bits());
        command.data_bytes = U32::new(u32::try_from(variable.data.len()).unwrap_or(u32::MAX));
        memory::write(self.ram, self.address, &command)?;
        if capacity < variable.data.len() {
            return Err(EfiStatus::BufferTooSmall.into());
        }
        if command.data_address.get() == 0 && !variable.data.is_empty() {
            return Err(EfiStatus::InvalidParameter.into());
        }
        Ok(memory::write_bytes(self.ram, command.data_address.get(), &variable.data)?)
    }

    fn set(&self, variables: &mut Variables) -> Result<(), Failure> {
        let command: NvramVariable = memory::read(self.ram, self.address)?;
        let id = self.id(&command)?;
        let bytes = usize::try_from(command.data_bytes.get()).unwrap_or(usize::MAX);
        if bytes > DATA_MAX || bytes > 0 && command.data_address.get() == 0 {
            return Err(EfiStatus::InvalidParameter.into());
        }
        let data = memory::read_bytes(self.ram, command.data_address.get(), bytes)?;
        Ok(variables.set(&id, command.attributes.get(), &data)?)
    }

    /// The first name or the next. Its size is told even if it does not fit; what was there is left then.
    fn name(&self, variables: &Variables, first: bool) -> Result<(), Failure> {
        let mut command: NvramVariable = memory::read(self.ram, self.address)?;
        let current = if first { Vec::new() } else { self.name_units(&command)? };
        let current = (!current.is_empty())
            .then(|| Name::new(&current).map(|name| VariableId { vendor: command.vendor, name }))
            .map(|id| id.ok_or(EfiStatus::InvalidParameter))
            .transpose()?;
        let next = variables.next(current.as_ref())?;
        let capacity = usize::try_from(command.name_bytes.get()).unwrap_or(usize::MAX);
        let name = next.name.to_wire();
        command.name_bytes = U32::new(u32::try_from(name.len()).unwrap_or(u32::MAX));
        let fits = name.len() <= capacity;
        if fits {
            command.vendor = next.vendor;
            memory::write_bytes(self.ram, command.name_address.get(), &name)?;
        }
        memory::write(self.ram, self.address, &command)?;
        if fits { Ok(()) } else { Err(EfiStatus::BufferTooSmall.into()) }
    }

    fn query(&self, variables: &Variables) -> Result<(), Failure> {
        let mut command: NvramQuery = memory::read(self.ram, self.address)?;
        let room = variables.room(command.attributes.get())?;
        command.maximum_storage = U64::new(room.total as u64);
        command.remaining_storage = U64::new(room.free as u64);
        command.maximum_variable = U64::new(room.largest as u64);
        Ok(memory::write(self.ram, self.address, &command)?)
    }

    /// About half of all commands of a boot.
    fn debug_string(&self) -> Result<(), Failure> {
        let command: NvramDebugString = memory::read(self.ram, self.address)?;
        let bytes = usize::try_from(command.bytes.get()).unwrap_or(usize::MAX).min(DEBUG_MAX);
        let bytes = memory::read_bytes(self.ram, command.address.get(), bytes)?;
        let units: Vec<u16> = bytes.as_chunks().0.iter().map(|&unit| u16::from_le_bytes(unit)).collect();
        let text = String::from_utf16_lossy(&units);
        guest_debug!("Firmware on variables: {}", text.trim_end_matches(['\0', '\r', '\n']).escape_debug());
        Ok(())
    }
}

/// Carries out the crypto command at an address.
pub(super) fn crypto(ram: &GuestRam, address: u64) -> Result<(), MemError> {
    let mut command: CryptoCommand = memory::read(ram, address)?;
    command.status = status(random(ram, &command)).code();
    memory::write(ram, address, &command)
}

fn random(ram: &GuestRam, command: &CryptoCommand) -> Result<(), Failure> {
    if command.command.get() != CRYPTO_RANDOM {
        return Err(EfiStatus::Unsupported.into());
    }
    let mut bytes = [0; RANDOM_MAX];
    let wanted = usize::try_from(command.bytes.get()).unwrap_or(usize::MAX);
    let bytes = bytes.get_mut(..wanted).ok_or(EfiStatus::InvalidParameter)?;
    match getrandom(&mut *bytes, GetRandomFlags::empty()) {
        Ok(filled) if filled == bytes.len() => Ok(memory::write_bytes(ram, command.address.get(), bytes)?),
        _ => Err(EfiStatus::DeviceError.into()),
    }
}
