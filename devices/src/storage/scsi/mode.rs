//! MODE SENSE of all kinds of unit: headers, page control, lists of pages.

use zerocopy::IntoBytes;

use super::protocol::cdb::{DISABLE_BLOCK_DESCRIPTORS, ModeSense6, ModeSense10};
use super::protocol::mode::{ALL_SUBPAGES, Header6, Header10, page};
use super::protocol::opcode;
use super::requests::parse;
use super::sense::{self, Sense};
use super::unit::{Command, Reply};

/// Which values of a page are meant (SPC-4 table 168).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PageControl {
    /// Those in effect.
    Current,
    /// A mask of what MODE SELECT can change.
    Changeable,
    /// Those at power on.
    Default,
}

/// A MODE SENSE, whatever its length.
#[derive(Clone, Copy, Debug)]
pub(super) struct ModeSense {
    pub control: PageControl,
    page: u8,
    pub block_descriptor: bool,
    long: bool,
    allocation_length: u16,
}

impl ModeSense {
    pub fn of(command: &Command<'_>) -> Result<Self, Sense> {
        let long = command.cdb.first() == Some(&opcode::MODE_SENSE_10);
        let (flags, page, subpage, allocation_length) = if long {
            let cdb: &ModeSense10 = parse(command.cdb)?;
            (cdb.flags, cdb.page, cdb.subpage, cdb.allocation_length.get())
        } else {
            let cdb: &ModeSense6 = parse(command.cdb)?;
            (cdb.flags, cdb.page, cdb.subpage, cdb.allocation_length.into())
        };
        if !matches!(subpage, 0 | ALL_SUBPAGES) {
            return Err(Sense::cdb(3));
        }
        let control = match page >> 6 {
            0 => PageControl::Current,
            1 => PageControl::Changeable,
            2 => PageControl::Default,
            _ => return Err(sense::SAVING_PARAMETERS_NOT_SUPPORTED),
        };
        let block_descriptor = flags & DISABLE_BLOCK_DESCRIPTORS == 0;
        Ok(ModeSense { control, page: page & 0x3F, block_descriptor, long, allocation_length })
    }

    /// Answers with the pages that are asked for, out of all (code and bytes, ordered by code).
    pub fn reply(
        &self,
        command: &Command<'_>,
        device_specific: u8,
        descriptor: &[u8],
        pages: &[(u8, &[u8])],
    ) -> Result<Reply, Sense> {
        let mut body = descriptor.to_vec();
        for (_, bytes) in pages.iter().filter(|(code, _)| [*code, page::ALL].contains(&self.page)) {
            body.extend_from_slice(bytes);
        }
        if body.len() == descriptor.len() {
            return Err(Sense::cdb_bit(2, 5));
        }
        let descriptors = u8::try_from(descriptor.len()).unwrap_or(0);
        let data = if self.long {
            let header = Header10 {
                data_length: u16::try_from(size_of::<Header10>() - 2 + body.len()).unwrap_or(u16::MAX).into(),
                medium_type: 0,
                device_specific,
                long_lba: 0,
                reserved: 0,
                descriptors_length: u16::from(descriptors).into(),
            };
            [header.as_bytes(), &body].concat()
        } else {
            let header = Header6 {
                data_length: u8::try_from(size_of::<Header6>() - 1 + body.len()).unwrap_or(u8::MAX),
                medium_type: 0,
                device_specific,
                descriptors_length: descriptors,
            };
            [header.as_bytes(), &body].concat()
        };
        Ok(Reply::data(command, self.allocation_length, data))
    }
}
