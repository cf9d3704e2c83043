//! What an initiator is told about a request that the engine has not done.

use std::io::ErrorKind;

use super::protocol::opcode;
use super::requests::Blocks;
use super::sense::{self, Sense};
use crate::disk::{DiskError, IoError};

/// Says what went wrong with a command's request on a unit with blocks of this size, bytes.
pub(super) fn failure(cdb: &[u8], error: &IoError, block: u32) -> Sense {
    let lba = Blocks::of(cdb).map_or(0, |blocks| blocks.lba);
    let error = match error {
        IoError::Disk(error) => error,
        IoError::Miscompare(byte) => {
            return sense::MISCOMPARE_DURING_VERIFY.at(lba.saturating_add(byte / u64::from(block)));
        }
        IoError::Aborted => return sense::COMMAND_ABORTED,
    };
    match error {
        DiskError::OutOfRange { .. } => sense::LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE.at(lba),
        DiskError::ReadOnly => sense::WRITE_PROTECTED,
        DiskError::Damaged(_) | DiskError::Unsupported(_) | DiskError::Parent(_) => bad_medium(cdb, lba),
        DiskError::Host(error) => match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                sense::SPACE_ALLOCATION_FAILED
            }
            ErrorKind::OutOfMemory => sense::INTERNAL_TARGET_FAILURE,
            _ => bad_medium(cdb, lba),
        },
    }
}

/// What a command says of a medium that failed it.
fn bad_medium(cdb: &[u8], lba: u64) -> Sense {
    match cdb.first().copied().unwrap_or(0) {
        opcode::READ_6 | opcode::READ_10 | opcode::READ_12 | opcode::READ_16 => {
            sense::UNRECOVERED_READ_ERROR.at(lba)
        }
        opcode::VERIFY_10 | opcode::VERIFY_12 | opcode::VERIFY_16 => sense::UNRECOVERED_READ_ERROR.at(lba),
        opcode::WRITE_6 | opcode::WRITE_10 | opcode::WRITE_12 | opcode::WRITE_16 => {
            sense::WRITE_ERROR.at(lba)
        }
        _ => sense::WRITE_ERROR,
    }
}
