//! Sense data: what went wrong, in SCSI's words.
//!
//! Always in the fixed format of 18 bytes, which every initiator reads and which fits a storvsp packet. Each
//! condition that a unit reports is a constant here: sense key, additional sense code and its qualifier together.
//!
//! Source: SPC-4 4.5, tables 43 (keys) and D.2 (additional sense codes).

use std::fmt;

use zerocopy::big_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// What kind of thing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SenseKey {
    /// Nothing.
    NoSense = 0x0,
    /// The unit has no medium, or cannot be used yet.
    NotReady = 0x2,
    /// The medium is bad.
    MediumError = 0x3,
    /// The unit is bad.
    HardwareError = 0x4,
    /// The command is wrong.
    IllegalRequest = 0x5,
    /// Something has happened that the initiator must know first.
    UnitAttention = 0x6,
    /// The medium must not, or cannot, be written.
    DataProtect = 0x7,
    /// The unit gave up.
    AbortedCommand = 0xB,
    /// Data differ from the medium.
    Miscompare = 0xE,
}

/// Which part of a command is wrong (SPC-4 4.5.2.4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FieldPointer {
    in_cdb: bool,
    byte: u16,
    /// The field's most significant bit.
    bit: Option<u8>,
}

/// What an initiator is told about a command that went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sense {
    key: SenseKey,
    code: u8,
    qualifier: u8,
    information: Option<u32>,
    field: Option<FieldPointer>,
}

/// Nothing to tell.
pub const NO_SENSE: Sense = Sense::new(SenseKey::NoSense, 0x00, 0x00);
/// The drive's door is closed, and no disc is in.
pub const MEDIUM_NOT_PRESENT_TRAY_CLOSED: Sense = Sense::new(SenseKey::NotReady, 0x3A, 0x01);
/// The drive's door is open.
pub const MEDIUM_NOT_PRESENT_TRAY_OPEN: Sense = Sense::new(SenseKey::NotReady, 0x3A, 0x02);
/// A write failed on the host.
pub const WRITE_ERROR: Sense = Sense::new(SenseKey::MediumError, 0x0C, 0x00);
/// A read failed on the host.
pub const UNRECOVERED_READ_ERROR: Sense = Sense::new(SenseKey::MediumError, 0x11, 0x00);
/// The host could not do it, for no reason that lies in the medium.
pub const INTERNAL_TARGET_FAILURE: Sense = Sense::new(SenseKey::HardwareError, 0x44, 0x00);
/// The guest's list of parameters is shorter or longer than it says.
pub const PARAMETER_LIST_LENGTH_ERROR: Sense = Sense::new(SenseKey::IllegalRequest, 0x1A, 0x00);
/// No such command.
pub const INVALID_COMMAND_OPERATION_CODE: Sense = Sense::new(SenseKey::IllegalRequest, 0x20, 0x00);
/// Past the end.
pub const LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE: Sense = Sense::new(SenseKey::IllegalRequest, 0x21, 0x00);
/// A field of the CDB has a value that is not served.
pub const INVALID_FIELD_IN_CDB: Sense = Sense::new(SenseKey::IllegalRequest, 0x24, 0x00);
/// No such unit.
pub const LOGICAL_UNIT_NOT_SUPPORTED: Sense = Sense::new(SenseKey::IllegalRequest, 0x25, 0x00);
/// A field of the list of parameters has a value that is not served.
pub const INVALID_FIELD_IN_PARAMETER_LIST: Sense = Sense::new(SenseKey::IllegalRequest, 0x26, 0x00);
/// The reservation to be released is of another type.
pub const INVALID_RELEASE_OF_PERSISTENT_RESERVATION: Sense = Sense::new(SenseKey::IllegalRequest, 0x26, 0x04);
/// What was asked for is of another kind of disc.
pub const INCOMPATIBLE_FORMAT: Sense = Sense::new(SenseKey::IllegalRequest, 0x30, 0x02);
/// There are no saved mode pages.
pub const SAVING_PARAMETERS_NOT_SUPPORTED: Sense = Sense::new(SenseKey::IllegalRequest, 0x39, 0x00);
/// The guest itself locked the door.
pub const MEDIUM_REMOVAL_PREVENTED: Sense = Sense::new(SenseKey::IllegalRequest, 0x53, 0x02);
/// Another disc may be in.
pub const NOT_READY_TO_READY_CHANGE: Sense = Sense::new(SenseKey::UnitAttention, 0x28, 0x00);
/// All that was set up is gone.
pub const POWER_ON_OR_RESET_OCCURRED: Sense = Sense::new(SenseKey::UnitAttention, 0x29, 0x00);
/// Another initiator changed a mode page.
pub const MODE_PARAMETERS_CHANGED: Sense = Sense::new(SenseKey::UnitAttention, 0x2A, 0x01);
/// Another initiator cleared all reservations.
pub const RESERVATIONS_PREEMPTED: Sense = Sense::new(SenseKey::UnitAttention, 0x2A, 0x03);
/// Another initiator released its reservation.
pub const RESERVATIONS_RELEASED: Sense = Sense::new(SenseKey::UnitAttention, 0x2A, 0x04);
/// Another initiator took the registration away.
pub const REGISTRATIONS_PREEMPTED: Sense = Sense::new(SenseKey::UnitAttention, 0x2A, 0x05);
/// The medium is read-only.
pub const WRITE_PROTECTED: Sense = Sense::new(SenseKey::DataProtect, 0x27, 0x00);
/// The host's disk is full.
pub const SPACE_ALLOCATION_FAILED: Sense = Sense::new(SenseKey::DataProtect, 0x27, 0x07);
/// The unit gave up, because of a reset.
pub const COMMAND_ABORTED: Sense = Sense::new(SenseKey::AbortedCommand, 0x00, 0x00);
/// The guest's data differ from the medium.
pub const MISCOMPARE_DURING_VERIFY: Sense = Sense::new(SenseKey::Miscompare, 0x1D, 0x00);

impl Sense {
    const fn new(key: SenseKey, code: u8, qualifier: u8) -> Self {
        Sense { key, code, qualifier, information: None, field: None }
    }

    /// The sense key.
    #[must_use]
    pub const fn key(&self) -> SenseKey {
        self.key
    }

    /// Additional sense code and qualifier.
    #[must_use]
    pub const fn code(&self) -> (u8, u8) {
        (self.code, self.qualifier)
    }

    /// Names the block; one that the fixed format cannot name is left out.
    #[must_use]
    pub(super) fn at(self, lba: u64) -> Self {
        Sense { information: u32::try_from(lba).ok(), ..self }
    }

    /// The CDB's field that starts in this byte is wrong.
    pub(super) const fn cdb(byte: u16) -> Self {
        let field = FieldPointer { in_cdb: true, byte, bit: None };
        Sense { field: Some(field), ..INVALID_FIELD_IN_CDB }
    }

    /// The CDB's field with this most significant bit is wrong.
    pub(super) const fn cdb_bit(byte: u16, bit: u8) -> Self {
        let field = FieldPointer { in_cdb: true, byte, bit: Some(bit) };
        Sense { field: Some(field), ..INVALID_FIELD_IN_CDB }
    }

    /// The parameter that starts in this byte is wrong.
    pub(super) fn parameter(byte: usize) -> Self {
        let byte = u16::try_from(byte).unwrap_or(u16::MAX);
        let field = FieldPointer { in_cdb: false, byte, bit: None };
        Sense { field: Some(field), ..INVALID_FIELD_IN_PARAMETER_LIST }
    }

    /// The parameter with this most significant bit is wrong.
    pub(super) fn parameter_bit(byte: usize, bit: u8) -> Self {
        let byte = u16::try_from(byte).unwrap_or(u16::MAX);
        let field = FieldPointer { in_cdb: false, byte, bit: Some(bit) };
        Sense { field: Some(field), ..INVALID_FIELD_IN_PARAMETER_LIST }
    }

    /// As it lies on the wire.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; size_of::<FixedSense>()] {
        let mut specific = SenseKeySpecific { flags: 0, pointer: U16::new(0) };
        if let Some(field) = self.field {
            specific.flags = SKS_VALID | if field.in_cdb { SKS_IN_CDB } else { 0 };
            specific.flags |= field.bit.map_or(0, |bit| SKS_BIT_VALID | bit & 7);
            specific.pointer = field.byte.into();
        }
        let sense = FixedSense {
            response_code: CURRENT_FIXED | if self.information.is_some() { INFORMATION_VALID } else { 0 },
            obsolete: 0,
            key: self.key as u8,
            information: self.information.unwrap_or(0).into(),
            additional_length: 10,
            command_specific: U32::new(0),
            code: self.code,
            qualifier: self.qualifier,
            replaceable_unit: 0,
            specific,
        };
        zerocopy::transmute!(sense)
    }
}

/// As people write it: sense key, code and qualifier, `05/24/00`.
impl fmt::Display for Sense {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}/{:02x}/{:02x}", self.key as u8, self.code, self.qualifier)
    }
}

/// Response code of current errors in the fixed format.
const CURRENT_FIXED: u8 = 0x70;
/// The information field says something.
const INFORMATION_VALID: u8 = 0x80;
/// The sense key specific field says something.
const SKS_VALID: u8 = 0x80;
/// It points into the CDB, else into the parameters.
const SKS_IN_CDB: u8 = 0x40;
/// It names a bit.
const SKS_BIT_VALID: u8 = 0x08;

/// Sense data, fixed format (SPC-4 4.5.3).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
struct FixedSense {
    response_code: u8,
    obsolete: u8,
    key: u8,
    information: U32,
    additional_length: u8,
    command_specific: U32,
    code: u8,
    qualifier: u8,
    replaceable_unit: u8,
    specific: SenseKeySpecific,
}
const _: () = assert!(size_of::<FixedSense>() == 18);

/// Field pointer sense key specific information (SPC-4 4.5.2.4.2).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
struct SenseKeySpecific {
    flags: u8,
    pointer: U16,
}
const _: () = assert!(size_of::<SenseKeySpecific>() == 3);
