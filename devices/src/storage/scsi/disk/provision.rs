//! Commands that give space back or fill it: UNMAP and WRITE SAME.
//!
//! One command can name the whole disk. What is served at once is therefore limited, and the limits are told in the
//! page of block limits.

use zerocopy::FromBytes;

use super::super::operation::Handled;
use super::super::protocol::cdb::{
    ANCHOR, PROTECT, Unmap, WRITE_SAME_NDOB, WRITE_SAME_OBSOLETE, WRITE_SAME_UNMAP,
};
use super::super::protocol::{UnmapDescriptor, UnmapHeader, opcode};
use super::super::requests::{Blocks, Parameters, parse};
use super::super::sense::{self, Sense};
use super::super::unit::{Command, Reply};
use super::ScsiDisk;
use crate::disk::{Request, Zeroing};

/// Most bytes of an UNMAP.
pub(super) const MAX_UNMAP_BYTES: u32 = 1 << 30;
/// Most descriptors of an UNMAP.
pub(super) const MAX_UNMAP_DESCRIPTORS: u32 = 256;
/// Most bytes of a WRITE SAME.
pub(super) const MAX_WRITE_SAME_BYTES: u32 = 64 << 20;

impl ScsiDisk {
    /// UNMAP (SBC-3 5.28).
    pub(super) fn unmap<'u>(&'u self, command: &Command<'_>) -> Handled<'u> {
        let cdb: &Unmap = parse(command.cdb)?;
        if cdb.flags & 1 != 0 {
            return Err(Sense::cdb_bit(1, 0).into());
        }
        self.check_writable()?;
        let length = usize::from(cdb.length.get());
        if length == 0 {
            return Ok(Reply::good().into());
        }
        let list = match Parameters::of(command, length)? {
            Parameters::Here(list) => list,
            Parameters::Fetch(step) => return Ok(step),
        };
        let ranges = self.unmap_ranges(list)?;
        Ok(if ranges.is_empty() {
            Reply::moved(u32::from(cdb.length.get())).into()
        } else {
            self.io(Request::Unmap(ranges))
        })
    }

    /// Offsets and lengths in bytes of what is to be unmapped.
    fn unmap_ranges(&self, list: &[u8]) -> Result<Vec<(u64, u64)>, Sense> {
        let (header, rest) =
            UnmapHeader::ref_from_prefix(list).map_err(|_| sense::PARAMETER_LIST_LENGTH_ERROR)?;
        // A length that is no multiple of a descriptor's is not an error: what is cut off is ignored.
        let length = usize::from(header.descriptors_length.get()) / size_of::<UnmapDescriptor>();
        let rest = rest.get(..length * size_of::<UnmapDescriptor>()).ok_or_else(|| Sense::parameter(2))?;
        let descriptors = <[UnmapDescriptor]>::ref_from_bytes(rest).map_err(|_| Sense::parameter(2))?;
        if descriptors.len() > MAX_UNMAP_DESCRIPTORS as usize {
            return Err(Sense::parameter(2));
        }
        let mut ranges = Vec::with_capacity(descriptors.len());
        let mut total = 0;
        for (index, it) in descriptors.iter().enumerate() {
            let at = size_of::<UnmapHeader>() + index * size_of::<UnmapDescriptor>();
            let (lba, count) = (it.lba.get(), u64::from(it.blocks.get()));
            let blocks = Blocks { lba, count, flags: 0, count_byte: 0 };
            blocks.check(self.blocks)?;
            total += count * u64::from(self.block);
            if total > MAX_UNMAP_BYTES.into() {
                return Err(Sense::parameter(at + 8));
            }
            if count > 0 {
                ranges.push(self.bytes(blocks));
            }
        }
        Ok(ranges)
    }

    /// WRITE SAME (10), (16) (SBC-3 5.41).
    pub(super) fn write_same<'u>(&'u self, command: &Command<'_>) -> Handled<'u> {
        let blocks = Blocks::of(command.cdb)?;
        let without_data =
            command.cdb.first() == Some(&opcode::WRITE_SAME_16) && blocks.flags & WRITE_SAME_NDOB != 0;
        let unmap = blocks.flags & WRITE_SAME_UNMAP != 0;
        for (mask, bit) in [(PROTECT, 7), (ANCHOR, 4), (WRITE_SAME_OBSOLETE, 2)] {
            if blocks.flags & mask != 0 {
                return Err(Sense::cdb_bit(1, bit).into());
            }
        }
        if unmap && !self.is_thin() {
            return Err(Sense::cdb_bit(1, 3).into());
        }
        self.check_writable()?;
        blocks.check(self.blocks)?;
        if blocks.count == 0 || blocks.count > u64::from(MAX_WRITE_SAME_BYTES / self.block) {
            return Err(Sense::cdb(blocks.count_byte).into());
        }
        let (offset, len) = self.bytes(blocks);
        let how = if unmap { Zeroing::Free } else { Zeroing::Keep };
        if without_data {
            return Ok(self.io(Request::Zero { offset, len, how }));
        }
        let pattern = match Parameters::of(command, self.block as usize)? {
            Parameters::Here(pattern) => pattern,
            Parameters::Fetch(step) => return Ok(step),
        };
        Ok(self.io(if pattern.iter().all(|&byte| byte == 0) {
            Request::Zero { offset, len, how }
        } else {
            Request::Fill { offset, len, pattern: pattern.into() }
        }))
    }
}
