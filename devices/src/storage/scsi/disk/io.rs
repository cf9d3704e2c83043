//! Commands that move blocks, and what is said of all that go through the engine when they have ended.

use super::super::operation::Handled;
use super::super::protocol::cdb::{BYTCHK, BYTCHK_COMPARE, FUA, ModeSelect6, ModeSelect10, PROTECT, Unmap};
use super::super::protocol::cdb::{Transfer10, WRITE_SAME_NDOB};
use super::super::protocol::opcode;
use super::super::requests::{Blocks, parse};
use super::super::sense::Sense;
use super::super::unit::{Command, Reply};
use super::ScsiDisk;
use crate::disk::Request;

impl ScsiDisk {
    /// READ (6), (10), (12), (16). FUA asks for what is on the medium: that is what is read in any case.
    pub(super) fn read<'u>(&'u self, command: &Command<'_>) -> Handled<'u> {
        let blocks = self.blocks_of(command)?;
        blocks.fit(command, self.block.into())?;
        let (offset, len) = self.bytes(blocks);
        Ok(if len == 0 { Reply::good().into() } else { self.io(Request::Read { offset, len }) })
    }

    /// WRITE (6), (10), (12), (16).
    pub(super) fn write<'u>(&'u self, command: &Command<'_>) -> Handled<'u> {
        let blocks = self.blocks_of(command)?;
        self.write_blocks(command, blocks, blocks.flags & FUA != 0)
    }

    /// WRITE AND VERIFY (10), (12), (16): what has been written through to the host's disk is verified there.
    pub(super) fn write_and_verify<'u>(&'u self, command: &Command<'_>) -> Handled<'u> {
        let blocks = self.blocks_of(command)?;
        if blocks.flags & BYTCHK & !BYTCHK_COMPARE != 0 {
            return Err(Sense::cdb_bit(1, 2).into());
        }
        self.write_blocks(command, blocks, true)
    }

    fn write_blocks<'u>(&'u self, command: &Command<'_>, blocks: Blocks, through: bool) -> Handled<'u> {
        self.check_writable()?;
        blocks.fit(command, self.block.into())?;
        let (offset, len) = self.bytes(blocks);
        if len == 0 {
            return Ok(Reply::good().into());
        }
        let fua = through || !self.write_cache();
        Ok(self.io(Request::Write { offset, len, fua }))
    }

    /// VERIFY (10), (12), (16). Without data to compare there is nothing to do: the host's disk sees to it that it
    /// can be read, and a command may name a whole disk.
    pub(super) fn verify<'u>(&'u self, command: &Command<'_>) -> Handled<'u> {
        let blocks = self.blocks_of(command)?;
        match blocks.flags & BYTCHK {
            0 => Ok(Reply::good().into()),
            BYTCHK_COMPARE => {
                blocks.fit(command, self.block.into())?;
                let (offset, len) = self.bytes(blocks);
                Ok(if len == 0 { Reply::good().into() } else { self.io(Request::Compare { offset, len }) })
            }
            _ => Err(Sense::cdb_bit(1, 2).into()),
        }
    }

    /// SYNCHRONIZE CACHE (10), (16): of the whole disk, whichever blocks are named.
    pub(super) fn synchronize_cache<'u>(&'u self, command: &Command<'_>) -> Handled<'u> {
        Blocks::of(command.cdb)?.check(self.blocks)?;
        Ok(self.io(Request::Flush))
    }

    /// The blocks of a command that moves blocks: they are on the disk.
    fn blocks_of(&self, command: &Command<'_>) -> Result<Blocks, Sense> {
        let blocks = Blocks::of(command.cdb)?;
        if blocks.flags & PROTECT != 0 {
            return Err(const { Sense::cdb_bit(1, 7) });
        }
        blocks.check(self.blocks)?;
        Ok(blocks)
    }

    /// Bytes that a command moved whose request the engine has done.
    pub(super) fn moved(&self, command: &Command<'_>) -> u32 {
        self.moved_by(command.cdb).unwrap_or(0)
    }

    fn moved_by(&self, cdb: &[u8]) -> Result<u32, Sense> {
        Ok(match cdb.first().copied().unwrap_or(0) {
            opcode::SYNCHRONIZE_CACHE_10 | opcode::SYNCHRONIZE_CACHE_16 | opcode::START_STOP_UNIT => 0,
            opcode::UNMAP => parse::<Unmap>(cdb)?.length.get().into(),
            opcode::MODE_SELECT_6 => parse::<ModeSelect6>(cdb)?.length.into(),
            opcode::MODE_SELECT_10 => parse::<ModeSelect10>(cdb)?.length.get().into(),
            opcode::WRITE_SAME_10 | opcode::WRITE_SAME_16 => {
                let Transfer10 { opcode, flags, .. } = parse(cdb)?;
                let without_data = *opcode == opcode::WRITE_SAME_16 && flags & WRITE_SAME_NDOB != 0;
                if without_data { 0 } else { self.block }
            }
            _ => {
                let (_, len) = self.bytes(Blocks::of(cdb)?);
                u32::try_from(len).unwrap_or(u32::MAX)
            }
        })
    }
}
