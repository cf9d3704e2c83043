//! The Physical Presence Interface (TCG PC Client Platform PPI 1.30): what an OS asks the next start to do with its TPM.
//!
//! ACPI code in the firmware passes it on through the ports; Windows uses it to clear the TPM. It outlives a machine,
//! because a reset is what it waits for: [`Presence::take`] is for who makes the next machine. As Hyper-V's, it accepts
//! every operation without a person's confirmation, and those that mean nothing to a TPM 2.0 do nothing.

use super::protocol::{NO_CONFIRMATION, PLATFORM_FAILURE, TCG2, port};

/// Operations that do something (PPI 1.30, table 2).
mod operation {
    pub const CLEAR: u32 = 5;
    pub const CLEAR_ENABLE_ACTIVATE: u32 = 14;
    pub const ENABLE_ACTIVATE_CLEAR: u32 = 21;
    pub const ENABLE_ACTIVATE_CLEAR_ENABLE_ACTIVATE: u32 = 22;
    pub const SET_PCR_BANKS: u32 = 23;
}

/// What to do with the TPM before the machine starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// It forgets its owner and all that belongs to them.
    Clear,
    /// Which PCR banks it has; one bit for each, SHA-1 first.
    SetPcrBanks {
        /// Those that it should have.
        wanted: u32,
        /// Those that the firmware knows.
        known: u32,
    },
}

/// What was asked for, and what came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Presence {
    pending: u32,
    argument: u32,
    hash_algorithms: u32,
    last_operation: u32,
    last_result: u32,
}

impl Presence {
    /// The value of a port command, if it can be read.
    pub(super) fn read(&self, command: u32) -> Option<u32> {
        match command {
            port::PENDING_OPERATION => Some(self.pending),
            port::LAST_OPERATION => Some(self.last_operation),
            port::LAST_RESULT => Some(self.last_result),
            port::SET_OPERATION => Some(0),
            port::USER_CONFIRMATION => Some(NO_CONFIRMATION),
            port::TCG_PROTOCOL => Some(TCG2),
            _ => None,
        }
    }

    /// The guest writes a port command's value; says whether there is such a command.
    pub(super) fn write(&mut self, command: u32, value: u32) -> bool {
        match command {
            port::SET_OPERATION => self.pending = value,
            port::SET_OPERATION_ARGUMENT => self.argument = value,
            port::HASH_ALGORITHMS => self.hash_algorithms = value,
            // The answer is the same for every operation.
            port::USER_CONFIRMATION => {}
            _ => return false,
        }
        true
    }

    /// What is to be done now, if anything: it is pending no more. It counts as failed until [`Presence::done`] tells
    /// what came of it.
    pub fn take(&mut self) -> Option<Operation> {
        let code = std::mem::take(&mut self.pending);
        if code == 0 {
            return None;
        }
        let operation = self.operation(code);
        let result = if operation.is_some() { PLATFORM_FAILURE } else { 0 };
        (self.last_operation, self.last_result) = (code, result);
        operation
    }

    fn operation(&self, code: u32) -> Option<Operation> {
        match code {
            operation::CLEAR
            | operation::CLEAR_ENABLE_ACTIVATE
            | operation::ENABLE_ACTIVATE_CLEAR
            | operation::ENABLE_ACTIVATE_CLEAR_ENABLE_ACTIVATE => Some(Operation::Clear),
            operation::SET_PCR_BANKS => {
                Some(Operation::SetPcrBanks { wanted: self.argument, known: self.hash_algorithms })
            }
            _ => None,
        }
    }

    /// The TPM's response code to the operation that was taken.
    pub fn done(&mut self, result: u32) {
        self.last_result = result;
    }
}
