//! The register file of [`TpmRegisters`]: 0x70 bytes of MMIO and eight ports.
//!
//! vCPU threads call it, with the device locked. It copies a command out of the guest's RAM once and hands the copy
//! over; nothing here waits for the TPM.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use zerocopy::{FromBytes, IntoBytes};

use super::protocol::{
    BUFFER_SIZE, CommandHeader, INTERFACE_CRB, LOCALITY_ASSIGNED, LOCALITY_GRANTED, LOCALITY_RELINQUISH,
    LOCALITY_VALID, RC_COMMAND_SIZE, REGISTERS, STATUS_ERROR, port, refusal, register,
};
use super::{Answer, Presence, Progress, Tpm};
use crate::guest_debug;
use crate::legacy::{MmioDevice, PortDevice};
use crate::mem::{GuestRam, PAGE_SIZE, Pages};

/// The two ports, by their offset.
const COMMAND_PORT: u16 = 0;
const VALUE_PORT: u16 = 4;

/// The registers of a machine's TPM.
#[derive(Debug)]
pub struct TpmRegisters {
    tpm: Arc<dyn Tpm>,
    presence: Arc<Mutex<Presence>>,
    ram: GuestRam,
    buffers: Option<Buffers>,
    progress: Arc<Progress>,
    /// The last start found no command to carry out.
    failed: bool,
    cancel: bool,
    locality: bool,
    /// What the ports are about; no command is 0.
    command: u32,
}

/// Where commands and responses lie.
#[derive(Debug)]
struct Buffers {
    address: u32,
    /// A page for commands, and one for responses.
    pages: Pages,
}

impl TpmRegisters {
    /// I/O ports.
    pub const PORTS: u16 = 8;

    /// A machine's TPM before its firmware has said where the buffers are.
    #[must_use]
    pub fn new(ram: GuestRam, tpm: Arc<dyn Tpm>, presence: Arc<Mutex<Presence>>) -> Self {
        TpmRegisters {
            tpm,
            presence,
            ram,
            buffers: None,
            progress: Arc::default(),
            failed: false,
            cancel: false,
            locality: false,
            command: 0,
        }
    }

    /// Puts the buffers at two pages of RAM, as the firmware does with the ports; says whether they are there. A
    /// command that runs keeps its place.
    pub fn map(&mut self, address: u32) -> bool {
        let page = PAGE_SIZE as u64;
        let pfn = u64::from(address) / page;
        let aligned = u64::from(address).is_multiple_of(page) && address != 0;
        let pages = aligned.then(|| Pages::resolve(&self.ram, &[pfn, pfn + 1]).ok()).flatten();
        self.buffers = pages.map(|pages| Buffers { address, pages });
        self.failed = false;
        if self.buffers.is_none() {
            guest_debug!("The guest wants its TPM's buffers at {address:#x}, where no two pages of RAM are");
        }
        self.buffers.is_some()
    }

    /// All registers as they read now.
    fn image(&self) -> [u8; REGISTERS] {
        let mut image = [0; REGISTERS];
        let mut put = |offset: usize, value: u32| {
            if let Some(place) = image.get_mut(offset..offset + 4) {
                place.copy_from_slice(&value.to_le_bytes());
            }
        };
        let assigned = if self.locality { LOCALITY_ASSIGNED } else { 0 };
        put(register::LOCALITY_STATE, LOCALITY_VALID | assigned);
        put(register::LOCALITY_STATUS, LOCALITY_GRANTED);
        put(register::INTERFACE_ID, INTERFACE_CRB);
        put(register::STATUS, if self.failed { STATUS_ERROR } else { 0 });
        put(register::CANCEL, self.cancel.into());
        put(register::START, self.progress.busy.load(Ordering::Acquire).into());
        if let Some(Buffers { address, .. }) = self.buffers {
            let size = u32::try_from(BUFFER_SIZE).unwrap_or_default();
            put(register::COMMAND_SIZE, size);
            put(register::COMMAND_ADDRESS, address);
            put(register::RESPONSE_SIZE, size);
            put(register::RESPONSE_ADDRESS, address.wrapping_add(size));
        }
        image
    }

    fn start(&mut self) {
        if self.progress.busy.load(Ordering::Acquire) {
            guest_debug!("The guest starts a TPM command while another one runs");
            return;
        }
        let mut buffer = vec![0; BUFFER_SIZE];
        let read = self.buffers.as_ref().and_then(|buffers| {
            buffers.pages.read(0, &mut buffer).ok()?;
            Some(Answer::new(buffers.pages.clone(), Arc::clone(&self.progress)))
        });
        self.failed = read.is_none();
        let Some(answer) = read else {
            guest_debug!("The guest starts a TPM command, but has no buffer for it");
            return;
        };
        let header = CommandHeader::read_from_prefix(&buffer).ok();
        let size = header.map_or(0, |(header, _)| header.size.get() as usize);
        if (size_of::<CommandHeader>()..=BUFFER_SIZE).contains(&size) {
            buffer.truncate(size);
            self.tpm.execute(buffer, answer);
        } else {
            answer.give(refusal(RC_COMMAND_SIZE).as_bytes());
        }
    }

    fn set_cancel(&mut self, cancel: bool) {
        if cancel && !self.cancel && self.progress.busy.load(Ordering::Acquire) {
            self.tpm.cancel();
        }
        self.cancel = cancel;
    }

    fn read_port(&self) -> Option<u32> {
        match self.command {
            port::ESTABLISHED => Some(self.buffers.as_ref().map_or(0, |buffers| buffers.address)),
            command => self.presence.lock().unwrap_or_else(PoisonError::into_inner).read(command),
        }
    }

    fn write_port(&mut self, value: u32) {
        if self.command == port::MAP_SHARED_MEMORY {
            self.map(value);
            return;
        }
        let mut presence = self.presence.lock().unwrap_or_else(PoisonError::into_inner);
        if !presence.write(self.command, value) {
            guest_debug!(
                "The guest writes {value:#x} to its TPM's port for {}, which is nothing",
                self.command
            );
        }
    }
}

impl MmioDevice for TpmRegisters {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        let image = self.image();
        let registers = usize::try_from(offset).ok().and_then(|offset| image.get(offset..));
        for (to, from) in data.iter_mut().zip(registers.unwrap_or_default()) {
            *to = *from;
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        // Registers are written whole, or their low bytes: the rest of what is written is 0.
        let mut value = [0; 4];
        let (Ok(offset), Some(low)) = (usize::try_from(offset), value.get_mut(..data.len())) else {
            guest_debug!("The guest writes {} bytes to a register of its TPM", data.len());
            return;
        };
        low.copy_from_slice(data);
        let value = u32::from_le_bytes(value);
        match offset {
            register::LOCALITY_CONTROL => self.locality = value & LOCALITY_RELINQUISH == 0,
            register::CANCEL => self.set_cancel(value != 0),
            register::START if value == 1 => self.start(),
            // Power states are reached at once; other registers are not for writing.
            _ => {}
        }
    }
}

impl PortDevice for TpmRegisters {
    fn read(&mut self, offset: u16, data: &mut [u8]) {
        let value = if offset == VALUE_PORT { self.read_port() } else { None };
        for (to, from) in data.iter_mut().zip(value.map(u32::to_le_bytes).iter().flatten()) {
            *to = *from;
        }
    }

    fn write(&mut self, offset: u16, data: &[u8]) {
        match (offset, <[u8; 4]>::try_from(data)) {
            (COMMAND_PORT, Ok(value)) => self.command = u32::from_le_bytes(value),
            (VALUE_PORT, Ok(value)) => self.write_port(u32::from_le_bytes(value)),
            _ => guest_debug!("The guest writes {} bytes to its TPM's port {offset}", data.len()),
        }
    }
}
