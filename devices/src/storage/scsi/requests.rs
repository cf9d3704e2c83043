//! What is read out of commands of all kinds of unit: CDBs, transfers, parameters.

use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::protocol::cdb::{Transfer6, Transfer10, Transfer12, Transfer16};
use super::sense::{self, Sense};
use super::unit::{Command, Step};

/// The CDB as this type; the table of commands has made sure of its length.
pub(super) fn parse<T: FromBytes + KnownLayout + Immutable + Unaligned>(cdb: &[u8]) -> Result<&T, Sense> {
    T::ref_from_prefix(cdb).map(|(cdb, _)| cdb).map_err(|_| sense::INVALID_FIELD_IN_CDB)
}

/// The blocks that a command is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Blocks {
    /// The first of them.
    pub lba: u64,
    /// How many.
    pub count: u64,
    /// The CDB's second byte; 0 in one of 6 bytes, which has no flags.
    pub flags: u8,
    /// The CDB's byte where `count` starts.
    pub count_byte: u16,
}

impl Blocks {
    /// Reads a CDB whose shape its opcode's group tells (SPC-4 4.2.5.1).
    pub fn of(cdb: &[u8]) -> Result<Self, Sense> {
        match cdb.first().map_or(0, |opcode| opcode >> 5) {
            0 => {
                let Transfer6 { lba: [high, middle, low], length, .. } = *parse(cdb)?;
                let lba = u32::from_be_bytes([0, high & 0x1F, middle, low]);
                let count = if length == 0 { 256 } else { length.into() };
                Ok(Blocks { lba: lba.into(), count, flags: 0, count_byte: 4 })
            }
            1 | 2 => {
                let Transfer10 { flags, lba, length, .. } = *parse(cdb)?;
                Ok(Blocks { lba: lba.get().into(), count: length.get().into(), flags, count_byte: 7 })
            }
            5 => {
                let Transfer12 { flags, lba, length, .. } = *parse(cdb)?;
                Ok(Blocks { lba: lba.get().into(), count: length.get().into(), flags, count_byte: 6 })
            }
            _ => {
                let Transfer16 { flags, lba, length, .. } = *parse(cdb)?;
                Ok(Blocks { lba: lba.get(), count: length.get().into(), flags, count_byte: 10 })
            }
        }
    }

    /// Checks that the blocks are on a medium of `total` blocks.
    pub fn check(&self, total: u64) -> Result<(), Sense> {
        match self.lba.checked_add(self.count) {
            Some(end) if end <= total => Ok(()),
            _ => Err(sense::LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE.at(self.lba)),
        }
    }

    /// Checks that blocks of this size fit into the guest's buffer.
    pub fn fit(&self, command: &Command<'_>, block: u64) -> Result<(), Sense> {
        match self.count.checked_mul(block) {
            Some(len) if len <= command.data_len.into() => Ok(()),
            _ => Err(Sense::cdb(self.count_byte)),
        }
    }
}

/// A list of parameters.
pub(super) enum Parameters<'u, 'c> {
    /// All that the guest sent.
    Here(&'c [u8]),
    /// It must be fetched first.
    Fetch(Step<'u>),
}

impl<'u, 'c> Parameters<'u, 'c> {
    /// The list, as long as the CDB says: not 0 bytes.
    pub fn of(command: &Command<'c>, length: usize) -> Result<Self, Sense> {
        if length > command.data_len as usize {
            return Err(sense::PARAMETER_LIST_LENGTH_ERROR);
        }
        match command.parameters.get(..length) {
            Some(list) => Ok(Parameters::Here(list)),
            None if command.parameters.is_empty() => Ok(Parameters::Fetch(Step::Parameters(length))),
            None => Err(sense::PARAMETER_LIST_LENGTH_ERROR),
        }
    }
}
