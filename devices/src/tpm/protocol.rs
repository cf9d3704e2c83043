//! What a guest and its TPM say to each other: registers, ports, and the heads of commands and responses.
//!
//! Registers are those of the Command Response Buffer interface (TCG PC Client Platform TPM Profile 1.05, 6.5.3), at
//! locality 0. The ports are Hyper-V's own (`MSFT0101`; mu_msvm's `TpmInterface.h`): with them the firmware tells where
//! in RAM the buffers are, and ACPI code carries out the Physical Presence Interface. Commands and responses are TPM
//! 2.0's (TCG TPM 2.0 Library, part 1, 18); only their heads matter here.

use zerocopy::big_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Where the firmware, and every OS after it, finds the registers.
pub const TPM_ADDRESS: u64 = 0xfed4_0000;
/// Bytes of address space there; ACPI gives the device the whole page.
pub const TPM_SIZE: u64 = 0x1000;
/// Bytes of registers, from the start of the page; behind them nothing answers.
pub const REGISTERS: usize = 0x70;
/// Offset of the control area, to which the ACPI table TPM2 leads; before it are the locality's registers.
pub const CONTROL_AREA: u64 = 0x40;
/// First of the ports: a command is chosen at offset 0, its value is at offset 4, both 32 bits wide.
pub const TPM_PORT: u16 = 0x1040;

/// Bytes of the buffer for commands, and of the one for responses, which lies right behind it.
pub const BUFFER_SIZE: usize = 4096;

/// Offsets of registers, all 32 bits wide.
pub mod register {
    /// Who has the TPM.
    pub const LOCALITY_STATE: usize = 0x00;
    /// Asks for the locality and gives it up.
    pub const LOCALITY_CONTROL: usize = 0x08;
    /// Whether the locality was granted.
    pub const LOCALITY_STATUS: usize = 0x0c;
    /// What kind of interface this is; 64 bits wide.
    pub const INTERFACE_ID: usize = 0x30;
    /// Asks for a state of power; reads as 0, which means that it was reached.
    pub const REQUEST: usize = 0x40;
    /// See [`STATUS_ERROR`](super::STATUS_ERROR).
    pub const STATUS: usize = 0x44;
    /// Not 0: the command that runs should come to an end.
    pub const CANCEL: usize = 0x48;
    /// 1 starts the command in the buffer, and reads as 1 until the response is in the other.
    pub const START: usize = 0x4c;
    /// Bytes of the command buffer.
    pub const COMMAND_SIZE: usize = 0x58;
    /// Guest-physical address of the command buffer; 64 bits wide.
    pub const COMMAND_ADDRESS: usize = 0x5c;
    /// Bytes of the response buffer.
    pub const RESPONSE_SIZE: usize = 0x64;
    /// Guest-physical address of the response buffer; 64 bits wide.
    pub const RESPONSE_ADDRESS: usize = 0x68;
}

/// `LOCALITY_STATE`: no measured launch has taken place, and the register's fields are valid.
pub const LOCALITY_VALID: u32 = 1 << 7 | 1 << 0;
/// `LOCALITY_STATE`: locality 0 is in use.
pub const LOCALITY_ASSIGNED: u32 = 1 << 1;
/// `LOCALITY_CONTROL`: gives the locality up.
pub const LOCALITY_RELINQUISH: u32 = 1 << 1;
/// `LOCALITY_STATUS`: granted.
pub const LOCALITY_GRANTED: u32 = 1 << 0;
/// `INTERFACE_ID`: version 1 of the CRB interface, which is the only one, and locality 0 alone.
pub const INTERFACE_CRB: u32 = 1 << 14 | 1 << 4 | 1 << 0;
/// `STATUS`: the command could not even be read.
pub const STATUS_ERROR: u32 = 1 << 0;

/// What the ports are asked.
pub mod port {
    /// Write: guest-physical address of the buffers, below 4 GiB.
    pub const MAP_SHARED_MEMORY: u32 = 1;
    /// Read: that address, if the buffers are there.
    pub const ESTABLISHED: u32 = 2;
    /// Read: the operation that the OS has asked for.
    pub const PENDING_OPERATION: u32 = 3;
    /// Read: the operation that was carried out last.
    pub const LAST_OPERATION: u32 = 5;
    /// Read: the TPM's response code to that.
    pub const LAST_RESULT: u32 = 6;
    /// Write: an operation to carry out at the next start. Read: 0, it will be.
    pub const SET_OPERATION: u32 = 7;
    /// Write: an operation. Read: how a user has to confirm it.
    pub const USER_CONFIRMATION: u32 = 8;
    /// Write: the argument of the operation that is set next.
    pub const SET_OPERATION_ARGUMENT: u32 = 32;
    /// Read: [`TCG2`](super::TCG2).
    pub const TCG_PROTOCOL: u32 = 64;
    /// Write: the PCR banks that the firmware knows, one bit each.
    pub const HASH_ALGORITHMS: u32 = 65;
}

/// The firmware is to give the OS the protocol of TPM 2.0.
pub const TCG2: u32 = 1;
/// The Physical Presence Interface's word for: the platform could not do it.
pub const PLATFORM_FAILURE: u32 = 0xffff_fff1;
/// The Physical Presence Interface's word for: allowed, and nobody has to confirm it.
pub const NO_CONFIRMATION: u32 = 4;

/// First bytes of a command.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
pub struct CommandHeader {
    /// With sessions or without.
    pub tag: U16,
    /// Bytes of the command, this header included.
    pub size: U32,
    /// Which command.
    pub code: U32,
}
const _: () = assert!(size_of::<CommandHeader>() == 10);

/// First bytes of a response.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ResponseHeader {
    /// As the command's.
    pub tag: U16,
    /// Bytes of the response, this header included.
    pub size: U32,
    /// 0, or what is wrong.
    pub code: U32,
}
const _: () = assert!(size_of::<ResponseHeader>() == 10);

/// `TPM_ST_NO_SESSIONS`.
pub const NO_SESSIONS: u16 = 0x8001;
/// `TPM_RC_FAILURE`: the TPM is in failure mode.
pub const RC_FAILURE: u32 = 0x101;
/// `TPM_RC_COMMAND_SIZE`: the command's size is not what its buffer holds.
pub const RC_COMMAND_SIZE: u32 = 0x142;

/// A response that is nothing but a response code.
#[must_use]
pub fn refusal(code: u32) -> ResponseHeader {
    let size = u32::try_from(size_of::<ResponseHeader>()).unwrap_or_default();
    ResponseHeader { tag: NO_SESSIONS.into(), size: size.into(), code: code.into() }
}
