//! Commands of a disk that move no blocks and have no pages.

use super::super::operation::Handled;
use super::super::protocol::cdb::{
    DESCRIPTOR_FORMAT, NO_FLUSH, POWER_CONDITION, PreventAllow, RequestSense, START, SendDiagnostic,
    StartStopUnit,
};
use super::super::requests::parse;
use super::super::sense::{self, Sense};
use super::super::unit::{Command, Reply};
use super::ScsiDisk;
use super::table;
use crate::disk::Request;

impl ScsiDisk {
    /// TEST UNIT READY: a disk is, always.
    #[expect(clippy::unnecessary_wraps, reason = "a handler")]
    pub(super) fn test_unit_ready<'u>(&'u self, _: &Command<'_>) -> Handled<'u> {
        Ok(Reply::good().into())
    }

    /// REQUEST SENSE: what an initiator must be told; failures are told with the command that failed.
    pub(super) fn request_sense<'u>(&'u self, command: &Command<'_>) -> Handled<'u> {
        let cdb: &RequestSense = parse(command.cdb)?;
        if cdb.flags & DESCRIPTOR_FORMAT != 0 {
            return Err(Sense::cdb_bit(1, 0).into());
        }
        let sense = self.gate.take_attention(command.initiator).unwrap_or(sense::NO_SENSE);
        Ok(Reply::data(command, cdb.allocation_length, sense.to_bytes().to_vec()).into())
    }

    /// RESERVE (6), (10), of the whole unit for the initiator itself.
    pub(super) fn reserve<'u>(&'u self, command: &Command<'_>) -> Handled<'u> {
        self.gate.reserve(command.initiator)?;
        Ok(Reply::good().into())
    }

    /// RELEASE (6), (10).
    pub(super) fn release<'u>(&'u self, command: &Command<'_>) -> Handled<'u> {
        self.gate.release(command.initiator)?;
        Ok(Reply::good().into())
    }

    /// START STOP UNIT: nothing starts or stops; what a stop would write out, it writes out.
    pub(super) fn start_stop_unit<'u>(&'u self, command: &Command<'_>) -> Handled<'u> {
        let cdb: &StartStopUnit = parse(command.cdb)?;
        let stops = cdb.flags & (START | NO_FLUSH | POWER_CONDITION) == 0;
        Ok(if stops { self.io(Request::Flush) } else { Reply::good().into() })
    }

    /// SEND DIAGNOSTIC: the default self-test passes, there are no others.
    pub(super) fn send_diagnostic<'u>(&'u self, command: &Command<'_>) -> Handled<'u> {
        let cdb: &SendDiagnostic = parse(command.cdb)?;
        if cdb.flags & 0xE0 != 0 {
            return Err(Sense::cdb_bit(1, 7).into());
        }
        if cdb.length.get() != 0 {
            return Err(Sense::cdb(3).into());
        }
        Ok(Reply::good().into())
    }

    /// PREVENT ALLOW MEDIUM REMOVAL: the medium cannot be taken out anyway.
    pub(super) fn prevent_allow<'u>(&'u self, command: &Command<'_>) -> Handled<'u> {
        parse::<PreventAllow>(command.cdb)?;
        Ok(Reply::good().into())
    }

    /// REPORT SUPPORTED OPERATION CODES.
    pub(super) fn report_operations<'u>(&'u self, command: &Command<'_>) -> Handled<'u> {
        table::OPERATIONS.report(self, command)
    }
}
