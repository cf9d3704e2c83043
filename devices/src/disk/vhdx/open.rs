//! Opening a VHDX file: every part is read, checked and brought together; a log that was left behind is replayed.

use std::fs::File;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use super::super::image::Image;
use super::bat::Bat;
use super::bitmap::SectorBitmaps;
use super::error::{VhdxError, damaged};
use super::header::{Headers, read_creator};
use super::image::Vhdx;
use super::locator::ParentLocator;
use super::log::{self, Step};
use super::medium::{self, Medium, Replayed};
use super::metadata::Metadata;
use super::protocol::{BlockState, offset};
use super::region::{Regions, Span, Taken};
use super::writer::Writer;
use crate::guid::Guid;

/// Most files of a chain of differencing images and their parents.
pub const MAX_CHAIN: usize = 32;

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
    let file_write_guid = Guid::random()?;
    headers.update(&*medium, |header| {
        header.file_write_guid = file_write_guid;
        header.log_guid = Guid::ZERO;
    })?;
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
