//! From one format to another.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;

use thiserror::Error;

use super::copy::{Copy, CopyError};
use super::create::{CreateError, CreateOptions, CreateReason};
use super::format::Format;
use super::image::Image;
use super::open::{FileError, OpenError, OpenOptions, Opened};
use super::parents::Parents;

/// Sectors that any software expects, bytes.
const SECTOR: u32 = 512;

/// Why there is no converted image.
#[derive(Debug, Error)]
pub enum ConvertError {
    /// The source, or a block device as target.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The target.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// In between.
    #[error("Cannot copy {source_path} to {target}", source_path = .source_path.display(), target = .target.display())]
    Copy {
        /// The source.
        source_path: PathBuf,
        /// The target.
        target: PathBuf,
        /// Why.
        #[source]
        source: CopyError,
    },
}

/// What came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Converted {
    /// Bytes of the disk.
    pub size: u64,
    /// How many of them were written, since they were not zero.
    pub written: u64,
    /// The target's format.
    pub format: Format,
}

/// Makes a new image with the bytes of another; differencing ones are merged with their parents. `progress` hears how
/// many bytes are done, and of how many.
///
/// The target's size is the source's, whatever it says; its sectors are too. A block device is written to if it may
/// be replaced.
///
/// # Errors
/// [`ConvertError`]; then there is no new file.
pub fn convert(
    source: &OpenOptions,
    target: &CreateOptions,
    mut progress: impl FnMut(u64, u64),
) -> Result<Converted, ConvertError> {
    let source_image = OpenOptions { read_only: true, ..source.clone() }.open()?;
    let geometry = source_image.geometry();
    let mut copy = |image: &dyn Image, fresh| {
        let mut progress = |done| progress(done, geometry.size);
        let copy = Copy { source: &*source_image, target: image, fresh, progress: &mut progress };
        copy.run().map_err(|error| ConvertError::Copy {
            source_path: source.path.clone(),
            target: target.path.clone(),
            source: error,
        })
    };
    let failed = |reason| CreateError { path: target.path.clone(), reason };
    if fs::metadata(&target.path).is_ok_and(|metadata| metadata.file_type().is_block_device()) {
        if !target.replace {
            return Err(failed(CreateReason::Exists).into());
        }
        let raw = OpenOptions { format: Some(Format::Raw), ..OpenOptions::new(&target.path) };
        let written = copy(&*raw.open()?, false)?;
        return Ok(Converted { size: geometry.size, written, format: Format::Raw });
    }
    // Optical media have sectors that no disk has.
    let sector = if geometry.logical_sector == 4096 { 4096 } else { SECTOR };
    let target_options =
        CreateOptions { size: geometry.size, logical_sector: Some(sector), ..target.clone() };
    let (new, format) = target_options.start().map_err(failed)?;
    let open = || {
        let file = new.file.try_clone().map_err(FileError::Host)?;
        Ok(Opened::new(format, file, false, &Parents::none())?)
    };
    let opened = open().map_err(failed)?;
    let written = copy(opened.image(), true)?;
    opened.close().map_err(|error| failed(error.into()))?;
    new.finish().map_err(failed)?;
    Ok(Converted { size: geometry.size, written, format })
}
