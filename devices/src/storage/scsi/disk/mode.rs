//! Mode pages of a disk: caching, of which the guest can change the write cache, and control.

use std::sync::atomic::Ordering;

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::super::gate::Attention;
use super::super::mode::{ModeSense, PageControl};
use super::super::operation::Handled;
use super::super::protocol::cdb::{ModeSelect6, ModeSelect10, SAVE_PAGES};
use super::super::protocol::mode::{
    BlockDescriptor, Caching, Control, DPO_FUA, Header6, Header10, PAGE_CODE, PageHeader, SUBPAGE_FORMAT,
    UNRESTRICTED_REORDERING, WRITE_CACHE_ENABLE, WRITE_PROTECT, page,
};
use super::super::protocol::opcode;
use super::super::requests::{Parameters, parse};
use super::super::sense::{self, Sense};
use super::super::unit::{Command, Reply};
use super::ScsiDisk;
use crate::disk::Request;

impl ScsiDisk {
    /// MODE SENSE (6), (10).
    pub(super) fn mode_sense<'u>(&'u self, command: &Command<'_>) -> Handled<'u> {
        let sense = ModeSense::of(command)?;
        let (caching, control) = (self.caching(sense.control), control(sense.control));
        let pages = [(page::CACHING, caching.as_bytes()), (page::CONTROL, control.as_bytes())];
        let device_specific = DPO_FUA | if self.read_only { WRITE_PROTECT } else { 0 };
        let descriptor = self.block_descriptor();
        let descriptor = if sense.block_descriptor { descriptor.as_bytes() } else { &[] };
        Ok(sense.reply(command, device_specific, descriptor, &pages)?.into())
    }

    fn block_descriptor(&self) -> BlockDescriptor {
        let [_, block_length @ ..] = self.block.to_be_bytes();
        let blocks = u32::try_from(self.blocks).unwrap_or(u32::MAX).into();
        BlockDescriptor { blocks, reserved: 0, block_length }
    }

    fn caching(&self, control: PageControl) -> Caching {
        let mut body = Caching::new_zeroed();
        body.header = header(page::CACHING, size_of::<Caching>());
        if control != PageControl::Current || self.write_cache() {
            body.flags = WRITE_CACHE_ENABLE;
        }
        body
    }

    /// MODE SELECT (6), (10).
    pub(super) fn mode_select<'u>(&'u self, command: &Command<'_>) -> Handled<'u> {
        let (flags, length, header) = if command.cdb.first() == Some(&opcode::MODE_SELECT_10) {
            let cdb: &ModeSelect10 = parse(command.cdb)?;
            (cdb.flags, cdb.length.get(), size_of::<Header10>())
        } else {
            let cdb: &ModeSelect6 = parse(command.cdb)?;
            (cdb.flags, cdb.length.into(), size_of::<Header6>())
        };
        if flags & SAVE_PAGES != 0 {
            return Err(Sense::cdb_bit(1, 0).into());
        }
        if length == 0 {
            return Ok(Reply::good().into());
        }
        let list = match Parameters::of(command, length.into())? {
            Parameters::Here(list) => list,
            Parameters::Fetch(step) => return Ok(step),
        };
        let write_cache = self.selected(list, header)?.unwrap_or_else(|| self.write_cache());
        let before = self.write_cache.swap(write_cache, Ordering::AcqRel);
        if before != write_cache {
            self.gate.raise(Attention::MODE_CHANGED, |other| other != command.initiator);
        }
        Ok(if before && !write_cache {
            // What is in the cache is written out before the guest believes that nothing is.
            self.io(Request::Flush)
        } else {
            Reply::moved(length.into()).into()
        })
    }

    /// Checks all parameters; says what the write cache is to be, if they name its page. All that cannot be changed
    /// must be as it is.
    fn selected(&self, list: &[u8], header: usize) -> Result<Option<bool>, Sense> {
        const TOO_SHORT: Sense = sense::PARAMETER_LIST_LENGTH_ERROR;
        let mut at = header;
        let mut rest = list.get(header..).ok_or(TOO_SHORT)?;
        let descriptor_at = header - 1;
        match list.get(descriptor_at).copied().unwrap_or(0) {
            0 => {}
            8 => {
                let (given, behind) = BlockDescriptor::ref_from_prefix(rest).map_err(|_| TOO_SHORT)?;
                if given.block_length != self.block_descriptor().block_length {
                    return Err(Sense::parameter(at + 5));
                }
                (at, rest) = (at + size_of::<BlockDescriptor>(), behind);
            }
            _ => return Err(Sense::parameter(descriptor_at)),
        }
        let mut write_cache = None;
        while !rest.is_empty() {
            let (given, _) = PageHeader::ref_from_prefix(rest).map_err(|_| TOO_SHORT)?;
            let length = size_of::<PageHeader>() + usize::from(given.length);
            let known = given.code & SUBPAGE_FORMAT == 0;
            let (current, changeable) = match given.code & PAGE_CODE {
                page::CACHING if known => (self.caching(PageControl::Current).as_bytes().to_vec(), 2),
                page::CONTROL if known => (control(PageControl::Current).as_bytes().to_vec(), usize::MAX),
                _ => return Err(Sense::parameter_bit(at, 5)),
            };
            if length != current.len() {
                return Err(Sense::parameter(at + 1));
            }
            let given = rest.get(..length).ok_or(TOO_SHORT)?;
            for (i, (given, current)) in given.iter().zip(&current).enumerate().skip(2) {
                let fixed = if i == changeable { !WRITE_CACHE_ENABLE } else { !0 };
                if (given ^ current) & fixed != 0 {
                    return Err(Sense::parameter(at + i));
                }
                if i == changeable {
                    write_cache = Some(given & WRITE_CACHE_ENABLE != 0);
                }
            }
            at += length;
            rest = rest.get(length..).unwrap_or_default();
        }
        Ok(write_cache)
    }
}

fn header(code: u8, size: usize) -> PageHeader {
    PageHeader { code, length: u8::try_from(size - size_of::<PageHeader>()).unwrap_or(0) }
}

fn control(control: PageControl) -> Control {
    let mut body = Control::new_zeroed();
    body.header = header(page::CONTROL, size_of::<Control>());
    if control != PageControl::Changeable {
        body.queueing = UNRESTRICTED_REORDERING;
    }
    body
}
