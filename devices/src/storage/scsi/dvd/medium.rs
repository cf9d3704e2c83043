//! Commands that read the disc or move the tray.

use std::borrow::Cow;
use std::sync::Arc;

use zerocopy::IntoBytes;

use super::super::gate::Attention;
use super::super::operation::Handled;
use super::super::protocol::Capacity10;
use super::super::protocol::cdb::{
    DESCRIPTOR_FORMAT, LOAD_EJECT, POWER_CONDITION, PROTECT, PreventAllow, RequestSense, START,
    StartStopUnit, Transfer10,
};
use super::super::protocol::mmc::BLOCK;
use super::super::requests::{Blocks, parse};
use super::super::sense::{self, Sense};
use super::super::unit::{Command, Reply, Step};
use super::{Dvd, table};
use crate::disk::Request;

impl Dvd {
    /// TEST UNIT READY: whether there is a disc.
    pub(super) fn test_unit_ready<'u>(&'u self, _: &Command<'_>) -> Handled<'u> {
        self.drive().disc()?;
        Ok(Reply::good().into())
    }

    /// REQUEST SENSE: what an initiator must be told, else why there is no disc.
    pub(super) fn request_sense<'u>(&'u self, command: &Command<'_>) -> Handled<'u> {
        let cdb: &RequestSense = parse(command.cdb)?;
        if cdb.flags & DESCRIPTOR_FORMAT != 0 {
            return Err(Sense::cdb_bit(1, 0).into());
        }
        let attention = self.gate.take_attention(command.initiator);
        let sense = attention.or_else(|| self.drive().disc().err()).unwrap_or(sense::NO_SENSE);
        Ok(Reply::data(command, cdb.allocation_length, sense.to_bytes().to_vec()).into())
    }

    /// READ (10), (12).
    pub(super) fn read<'u>(&'u self, command: &Command<'_>) -> Handled<'u> {
        let blocks = Blocks::of(command.cdb)?;
        if blocks.flags & PROTECT != 0 {
            return Err(Sense::cdb_bit(1, 7).into());
        }
        let drive = self.drive();
        let disc = drive.disc()?;
        blocks.check(disc.blocks)?;
        blocks.fit(command, BLOCK.into())?;
        if blocks.count == 0 {
            return Ok(Reply::good().into());
        }
        let (offset, len) = (blocks.lba * u64::from(BLOCK), blocks.count * u64::from(BLOCK));
        Ok(Step::Io(Cow::Owned(Arc::clone(&disc.disk)), Request::Read { offset, len }))
    }

    /// SEEK (10): nothing moves.
    pub(super) fn seek<'u>(&'u self, command: &Command<'_>) -> Handled<'u> {
        let cdb: &Transfer10 = parse(command.cdb)?;
        let block = Blocks { lba: cdb.lba.get().into(), count: 1, flags: 0, count_byte: 0 };
        block.check(self.drive().disc()?.blocks)?;
        Ok(Reply::good().into())
    }

    /// READ CAPACITY (10).
    pub(super) fn read_capacity<'u>(&'u self, command: &Command<'_>) -> Handled<'u> {
        let last = self.drive().disc()?.blocks.saturating_sub(1);
        let last_lba = u32::try_from(last).unwrap_or(u32::MAX).into();
        let data = Capacity10 { last_lba, block_length: BLOCK.into() };
        Ok(Reply::data(command, u32::MAX, data.as_bytes().to_vec()).into())
    }

    /// START STOP UNIT: loads and ejects; there is nothing else to start or stop.
    pub(super) fn start_stop_unit<'u>(&'u self, command: &Command<'_>) -> Handled<'u> {
        let cdb: &StartStopUnit = parse(command.cdb)?;
        if cdb.flags & POWER_CONDITION != 0 || cdb.flags & LOAD_EJECT == 0 {
            return Ok(Reply::good().into());
        }
        let mut drive = self.drive();
        if cdb.flags & START == 0 {
            drive.eject()?;
        } else if drive.load() {
            self.gate.raise(Attention::MEDIUM_CHANGED, |_| true);
        }
        Ok(Reply::good().into())
    }

    /// PREVENT ALLOW MEDIUM REMOVAL. The persistent form, for drives with a button, is the same here.
    pub(super) fn prevent_allow<'u>(&'u self, command: &Command<'_>) -> Handled<'u> {
        let cdb: &PreventAllow = parse(command.cdb)?;
        self.drive().lock(command.initiator, cdb.prevent & 1 != 0);
        Ok(Reply::good().into())
    }

    /// REPORT SUPPORTED OPERATION CODES.
    pub(super) fn report_operations<'u>(&'u self, command: &Command<'_>) -> Handled<'u> {
        table::OPERATIONS.report(self, command)
    }
}
