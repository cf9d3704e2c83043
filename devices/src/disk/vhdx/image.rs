//! [`Vhdx`]: opening a file, looking bytes up, reading.

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::super::image::{Access, DiskError, Extent, Geometry, Image, Place, Zeroing};
use super::bat::Bat;
use super::bitmap::SectorBitmaps;
use super::error::{VhdxError, damaged};
use super::header::{Headers, read_creator};
use super::locator::ParentLocator;
use super::log::{self, Step};
use super::medium::{self, Medium, Replayed};
use super::metadata::{Layout, Metadata};
use super::protocol::{BlockState, offset};
use super::region::{Regions, Span, Taken};
use super::writer::Writer;
use crate::guid::Guid;

/// Most files of a chain of differencing images and their parents.
pub const MAX_CHAIN: usize = 32;

/// Smallest piece that a host's file system frees, bytes.
const PUNCH: u32 = 4096;

/// How a file is opened.
#[derive(Debug, Default)]
pub struct OpenOptions {
    /// Nothing is written to the file, not even the replay of its log.
    pub read_only: bool,
    /// How many children are above this file: 0, or one more than those of the child that wants it as its parent.
    pub depth: usize,
    /// The same file, opened once more: what [`Image::files`] gives instead, for instance with `O_DIRECT`.
    pub data: Option<File>,
}

/// A differencing file's parent, opened for reading.
#[derive(Debug)]
pub struct Parent {
    /// What it holds.
    pub image: Arc<dyn Image>,
    /// What it is known by: [`Vhdx::data_write_guid`].
    pub data_write_guid: Guid,
}

/// What a file says about itself.
#[derive(Clone, Debug)]
pub struct Info {
    /// Who made it.
    pub creator: String,
    /// Blocks stay allocated.
    pub fixed: bool,
    /// Bytes of the disk.
    pub size: u64,
    /// Bytes of a block.
    pub block_size: u32,
    /// Bytes of a logical sector.
    pub logical_sector: u32,
    /// Bytes of a physical sector.
    pub physical_sector: u32,
    /// The disk's name.
    pub id: Guid,
    /// Changes with what the disk holds.
    pub data_write_guid: Guid,
    /// The log had to be replayed.
    pub was_dirty: bool,
    /// Blocks of the disk.
    pub blocks: u64,
    /// Blocks that have a place in the file.
    pub present_blocks: u64,
    /// Where a differencing file's parent is.
    pub parent: Option<ParentLocator>,
}

/// An open VHDX file.
#[derive(Debug)]
pub struct Vhdx {
    pub(super) medium: Box<dyn Medium>,
    /// The file, then those of the parents.
    files: Vec<File>,
    pub(super) metadata: Metadata,
    pub(super) layout: Layout,
    pub(super) bat: Bat,
    pub(super) bitmaps: SectorBitmaps,
    parent: Option<Arc<dyn Image>>,
    read_only: bool,
    was_dirty: bool,
    creator: String,
    data_write_guid: Guid,
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
    /// Opens a file. A log that was left behind is replayed: into the file, or in memory if the file is opened for
    /// reading. `parent` is asked for the parent of a differencing file, with [`OpenOptions::depth`] one higher; it
    /// must not trust the paths in the locator.
    ///
    /// # Errors
    /// [`VhdxError`]: what is wrong with the file, or with its parent.
    pub fn open(
        file: File,
        options: OpenOptions,
        parent: impl FnOnce(&ParentLocator) -> Result<Parent, VhdxError>,
    ) -> Result<Self, VhdxError> {
        let own = match options.data {
            Some(data) => data,
            None => file.try_clone()?,
        };
        Self::open_medium(Box::new(file), vec![own], (options.read_only, options.depth), parent)
    }

    /// Opens what is not necessarily a file.
    pub(super) fn open_medium(
        medium: Box<dyn Medium>,
        mut files: Vec<File>,
        (read_only, depth): (bool, usize),
        parent: impl FnOnce(&ParentLocator) -> Result<Parent, VhdxError>,
    ) -> Result<Self, VhdxError> {
        let creator = read_creator(&*medium)?;
        let mut headers = Headers::read(&*medium)?;
        let was_dirty = headers.header.log_guid != Guid::ZERO;
        let medium = if was_dirty { replay(medium, &mut headers, read_only)? } else { medium };
        if was_dirty && read_only {
            // Places in the file are not yet what they will be.
            files.clear();
        }
        let regions = Regions::read(&*medium)?;
        let places = fixed_places(&headers, &regions)?;
        let metadata = Metadata::read(&*medium, regions.metadata)?;
        let layout = metadata.layout();
        let bat = Bat::read(&*medium, layout, regions.bat)?;
        let taken = bat.verify(medium.len()?, &places)?;
        let parent = match &metadata.parent {
            Some(locator) => Some(open_parent(locator, &metadata, depth, parent)?),
            None => None,
        };
        if !files.is_empty() {
            for file in parent.iter().flat_map(|parent| parent.files()) {
                files.push(file.try_clone()?);
            }
        }
        Ok(Vhdx {
            files,
            bitmaps: SectorBitmaps::new(&layout),
            layout,
            bat,
            parent,
            read_only,
            was_dirty,
            creator,
            data_write_guid: headers.header.data_write_guid,
            writing: AtomicBool::new(false),
            log_wants_flush: AtomicBool::new(false),
            writer: Mutex::new(Writer::new(headers, &taken, medium.len()?)),
            medium,
            metadata,
        })
    }

    /// What the parent of a differencing file is known by, as of when it was opened. Of use only for a file that is
    /// opened for reading.
    #[must_use]
    pub fn data_write_guid(&self) -> Guid {
        self.data_write_guid
    }

    /// What the file says about itself.
    #[must_use]
    pub fn info(&self) -> Info {
        let present = |block: &u64| {
            matches!(self.bat.block(*block).0, BlockState::Present | BlockState::PartiallyPresent)
        };
        Info {
            creator: self.creator.clone(),
            fixed: self.metadata.fixed,
            size: self.metadata.size,
            block_size: self.metadata.block_size,
            logical_sector: self.metadata.logical_sector,
            physical_sector: self.metadata.physical_sector,
            id: self.metadata.id,
            data_write_guid: self.data_write_guid,
            was_dirty: self.was_dirty,
            blocks: self.layout.blocks(),
            present_blocks: (0..self.layout.blocks()).filter(present).count() as u64,
            parent: self.metadata.parent.clone(),
        }
    }

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
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, what).into());
        }
        self.geometry().check(offset, len)
    }
}

impl Metadata {
    /// How the disk is cut.
    pub fn layout(&self) -> Layout {
        Layout {
            size: self.size,
            block_size: self.block_size.into(),
            sector: self.logical_sector.into(),
            differencing: self.parent.is_some(),
        }
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

/// What is taken besides blocks.
pub(super) fn fixed_places(headers: &Headers, regions: &Regions) -> Result<Vec<Span>, VhdxError> {
    let (start, len) = headers.log();
    let mut places = vec![Span { start: 0, len: offset::END }, Span { start, len }];
    places.extend_from_slice(&regions.all);
    Taken::new(places.clone())
        .map_err(|span| damaged(format!("what is at {} is there twice", span.start)))?;
    Ok(places)
}

fn replay(
    medium: Box<dyn Medium>,
    headers: &mut Headers,
    read_only: bool,
) -> Result<Box<dyn Medium>, VhdxError> {
    let (steps, len) = log::read(&*medium, headers)?;
    if read_only {
        return Ok(Box::new(Replayed::new(medium, steps, len)));
    }
    medium.extend(len)?;
    for step in &steps {
        match step {
            Step::Page { offset, bytes } => medium.write(*offset, &bytes[..])?,
            Step::Zero { offset, len } => medium::free(&*medium, *offset, *len)?,
        }
    }
    medium.sync()?;
    headers.update(&*medium, |header| header.log_guid = Guid::ZERO)?;
    Ok(medium)
}

fn open_parent(
    locator: &ParentLocator,
    child: &Metadata,
    depth: usize,
    open: impl FnOnce(&ParentLocator) -> Result<Parent, VhdxError>,
) -> Result<Arc<dyn Image>, VhdxError> {
    if depth + 1 >= MAX_CHAIN {
        return Err(VhdxError::ChainTooLong(MAX_CHAIN));
    }
    let Parent { image, data_write_guid: found } = open(locator)?;
    if found != locator.linkage && Some(found) != locator.linkage_2 {
        return Err(VhdxError::ParentChanged { found, expected: locator.linkage });
    }
    let sector = image.geometry().logical_sector;
    if sector != child.logical_sector {
        let own = child.logical_sector;
        return Err(damaged(format!("its sectors have {own} bytes, but those of its parent have {sector}")));
    }
    Ok(image)
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
