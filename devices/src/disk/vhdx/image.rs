//! [`Vhdx`]: looking bytes up, and reading them.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::super::image::{Access, DiskError, Extent, Geometry, Image, Place, Zeroing};
use super::bat::Bat;
use super::bitmap::SectorBitmaps;
use super::medium::Medium;
use super::metadata::{Layout, Metadata};
use super::protocol::BlockState;
use super::writer::Writer;
use crate::guid::Guid;

/// Smallest piece that a host's file system frees, bytes.
const PUNCH: u32 = 4096;

/// An open VHDX file.
#[derive(Debug)]
pub struct Vhdx {
    pub(super) medium: Box<dyn Medium>,
    /// The file, then those of the parents.
    pub(super) files: Vec<File>,
    pub(super) metadata: Metadata,
    pub(super) layout: Layout,
    pub(super) bat: Bat,
    pub(super) bitmaps: SectorBitmaps,
    pub(super) parent: Option<Arc<dyn Image>>,
    pub(super) read_only: bool,
    pub(super) was_dirty: bool,
    pub(super) creator: String,
    pub(super) data_write_guid: Guid,
    /// The header says that the file is being written. Set and cleared under the writer's lock.
    pub(super) writing: AtomicBool,
    /// [`Image::flush`] has work in the log. Set and cleared under the writer's lock.
    pub(super) log_wants_flush: AtomicBool,
    /// All that changes the file's structure.
    pub(super) writer: Mutex<Writer>,
}

/// Where a piece of the disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// In this file, at this offset.
    Own(u64),
    /// In the parent.
    Parent,
    /// 0.
    Zero,
}

impl Vhdx {
    /// Where the first of the bytes is, and how many are there; `None` if a sector bitmap has to be read for that.
    pub(super) fn find(&self, offset: u64, len: u64) -> Option<(Source, u64)> {
        let Layout { block_size, sector, .. } = self.layout;
        let (block, within) = (offset / block_size, offset % block_size);
        let len = len.min(block_size - within);
        let (state, place) = self.bat.block(block);
        Some(match state {
            BlockState::Present => (Source::Own(place + within), len),
            BlockState::NotPresent if self.layout.differencing => (Source::Parent, len),
            BlockState::NotPresent | BlockState::Undefined | BlockState::Zero | BlockState::Unmapped => {
                (Source::Zero, len)
            }
            BlockState::PartiallyPresent => {
                let (present, sectors) = self.bitmaps.run(offset / sector, len.div_ceil(sector))?;
                let len = len.min(sectors * sector - offset % sector);
                (if present { Source::Own(place + within) } else { Source::Parent }, len)
            }
        })
    }

    /// As [`Vhdx::find`], but reads the sector bitmap.
    pub(super) fn look_up(&self, offset: u64, len: u64) -> Result<(Source, u64), DiskError> {
        loop {
            if let Some(found) = self.find(offset, len) {
                return Ok(found);
            }
            self.bitmaps.load(&*self.medium, &self.bat, offset / self.layout.sector)?;
        }
    }

    /// How many of the bytes the parent has: it may be smaller.
    fn parent_len(&self, offset: u64, len: u64) -> u64 {
        let size = self.parent.as_ref().map_or(0, |parent| parent.geometry().size);
        size.saturating_sub(offset).min(len)
    }

    fn parent_extents(&self, offset: u64, len: u64, extents: &mut Vec<Extent>) -> bool {
        let there = self.parent_len(offset, len);
        let first = extents.len();
        if let Some(parent) = self.parent.as_ref().filter(|_| there > 0)
            && !parent.extents(offset, there, Access::Read, extents)
        {
            return false;
        }
        for extent in extents.iter_mut().skip(first) {
            if let Place::File { file, .. } = &mut extent.place {
                *file += 1;
            }
        }
        push(extents, first, Place::Zero, len - there);
        true
    }

    fn find_all(&self, mut offset: u64, mut len: u64, access: Access, extents: &mut Vec<Extent>) -> bool {
        let first = extents.len();
        while len > 0 {
            let Some((source, part)) = self.find(offset, len) else { return false };
            match source {
                Source::Own(offset) => push(extents, first, Place::File { file: 0, offset }, part),
                _ if access == Access::Write => return false,
                Source::Zero => push(extents, first, Place::Zero, part),
                Source::Parent if self.parent_extents(offset, part, extents) => {}
                Source::Parent => return false,
            }
            offset += part;
            len -= part;
        }
        true
    }

    /// Refuses what is not on the disk or not whole sectors.
    pub(super) fn check_range(&self, offset: u64, len: u64, access: Access) -> Result<(), DiskError> {
        if access == Access::Write && self.read_only {
            return Err(DiskError::ReadOnly);
        }
        if !offset.is_multiple_of(self.layout.sector) || !len.is_multiple_of(self.layout.sector) {
            let what = format!("{len} bytes at {offset} are not whole sectors of {}", self.layout.sector);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what).into());
        }
        self.geometry().check(offset, len)
    }
}

/// Appends, to the last extent where that is possible; those before `first` are a child's, with other files.
fn push(extents: &mut Vec<Extent>, first: usize, place: Place, len: u64) {
    if len == 0 {
        return;
    }
    if let Some(last) = extents.get_mut(first..).and_then(<[Extent]>::last_mut) {
        let follows = match (last.place, place) {
            (Place::File { file, offset }, Place::File { file: next_file, offset: next }) => {
                file == next_file && offset + last.len == next
            }
            (Place::Zero, Place::Zero) => true,
            _ => false,
        };
        if follows {
            last.len += len;
            return;
        }
    }
    extents.push(Extent { place, len });
}

impl Image for Vhdx {
    fn geometry(&self) -> Geometry {
        Geometry {
            size: self.metadata.size,
            logical_sector: self.metadata.logical_sector,
            physical_sector: self.metadata.physical_sector.max(self.metadata.logical_sector),
            read_only: self.read_only,
            unmap_granularity: Some(PUNCH.max(self.metadata.logical_sector)),
            id: Some(self.metadata.id),
        }
    }

    fn read(&self, mut offset: u64, mut buffer: &mut [u8]) -> Result<(), DiskError> {
        self.check_range(offset, buffer.len() as u64, Access::Read)?;
        while !buffer.is_empty() {
            let (source, part) = self.look_up(offset, buffer.len() as u64)?;
            let (piece, rest) =
                buffer.split_at_mut(usize::try_from(part).unwrap_or(usize::MAX).min(buffer.len()));
            match (source, &self.parent) {
                (Source::Own(place), _) => self.medium.read(place, piece)?,
                (Source::Parent, Some(parent)) => {
                    let there = usize::try_from(self.parent_len(offset, part)).unwrap_or(usize::MAX);
                    let (there, past_end) = piece.split_at_mut(there.min(piece.len()));
                    if !there.is_empty() {
                        parent.read(offset, there)?;
                    }
                    past_end.fill(0);
                }
                (Source::Zero | Source::Parent, _) => piece.fill(0),
            }
            buffer = rest;
            offset += part;
        }
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.write_bytes(offset, bytes)
    }

    fn zero(&self, offset: u64, len: u64, how: Zeroing) -> Result<(), DiskError> {
        self.write_zeroes(offset, len, how)
    }

    fn flush(&self) -> Result<(), DiskError> {
        self.flush_all()
    }

    fn extents(&self, offset: u64, len: u64, access: Access, extents: &mut Vec<Extent>) -> bool {
        // The first write must change the header before it may change the disk.
        let allowed = access == Access::Read || self.writing.load(Ordering::Acquire);
        if self.files.is_empty() || !allowed || self.check_range(offset, len, access).is_err() {
            return false;
        }
        let first = extents.len();
        let found = self.find_all(offset, len, access, extents);
        if !found {
            extents.truncate(first);
        }
        found
    }

    fn files(&self) -> &[File] {
        &self.files
    }

    fn flush_is_sync(&self) -> bool {
        !self.log_wants_flush.load(Ordering::Acquire)
    }
}

impl Drop for Vhdx {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            ::log::warn!(
                "A VHDX file could not be closed as it should be and will be repaired when it is opened: {error}"
            );
        }
    }
}
