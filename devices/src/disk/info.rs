//! What an image is, and whether it is sound.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;
use std::{fmt, fs};

use super::format::Format;
use super::image::{DiskError, Geometry};
use super::open::{FileError, OpenError, OpenOptions, OpenReason, Opened};
use super::vhdx;

/// What there is to say about an image.
#[derive(Clone, Debug)]
pub struct ImageInfo {
    /// The file or block device.
    pub path: PathBuf,
    /// Its format.
    pub format: Format,
    /// How it takes space.
    pub layout: Layout,
    /// What a guest sees.
    pub geometry: Geometry,
    /// Bytes that it takes on the host; of a block device, all of them.
    pub host_bytes: u64,
    /// Bytes that a dynamic disk takes at once.
    pub block_size: Option<u32>,
    /// The image that it is the difference to.
    pub parent: Option<PathBuf>,
}

/// How an image takes space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Every byte of the disk has its place.
    Fixed,
    /// Space is taken when it is written to.
    Dynamic,
    /// As dynamic; the rest is another image's.
    Differencing,
}

impl OpenOptions {
    /// Says what an image is. It is opened for reading.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn info(&self) -> Result<ImageInfo, OpenError> {
        let (opened, format) = self.for_reading().open_known()?;
        let host = |error| OpenError { path: self.path.clone(), reason: FileError::Host(error).into() };
        let metadata = fs::metadata(&self.path).map_err(host)?;
        let geometry = opened.image().geometry();
        let device = metadata.file_type().is_block_device();
        let (layout, block_size, parent) = match &opened {
            Opened::Raw(_) => (Layout::Fixed, None, None),
            Opened::Vhd(vhd) => match vhd.block_size() {
                None => (Layout::Fixed, None, None),
                block_size => (Layout::Dynamic, block_size, None),
            },
            Opened::Vhdx(linked) => {
                let info = linked.vhdx.info();
                let layout = match (info.fixed, info.parent) {
                    (_, Some(_)) => Layout::Differencing,
                    (true, None) => Layout::Fixed,
                    (false, None) => Layout::Dynamic,
                };
                (layout, Some(info.block_size), linked.parent.clone())
            }
            #[cfg(feature = "qcow2")]
            Opened::Qcow2(qcow2) => match qcow2.parent() {
                Some(parent) => (Layout::Differencing, None, Some(parent.to_owned())),
                None => (Layout::Dynamic, None, None),
            },
        };
        Ok(ImageInfo {
            path: self.path.clone(),
            format,
            layout,
            host_bytes: if device { geometry.size } else { metadata.blocks() * 512 },
            geometry,
            block_size,
            parent,
        })
    }

    /// Looks for damage, without repairing any. Gives a sentence for each; none is good.
    ///
    /// # Errors
    /// [`OpenError`], when it cannot be looked at.
    pub fn check(&self) -> Result<Vec<String>, OpenError> {
        let options = self.for_reading();
        let open_error = |reason| OpenError { path: self.path.clone(), reason };
        let (file, format) = options.file().map_err(open_error)?;
        if format == Format::Qcow2 {
            let text = "busman does not check QCOW2; \"qemu-img check\" does";
            return Err(open_error(DiskError::Unsupported(text.to_owned()).into()));
        }
        if format == Format::Vhdx {
            let found = vhdx::check(&file).map_err(|error| open_error(DiskError::from(error).into()))?;
            if !found.is_empty() {
                return Ok(found);
            }
        }
        match options.open_known() {
            Ok((Opened::Vhd(vhd), _)) => Ok(vhd.problems().to_vec()),
            Ok(_) => Ok(Vec::new()),
            Err(OpenError { reason: OpenReason::Disk(DiskError::Damaged(what)), .. }) => Ok(vec![what]),
            Err(error) => Err(error),
        }
    }

    fn for_reading(&self) -> OpenOptions {
        OpenOptions { read_only: true, ..self.clone() }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Layout::Fixed => "fixed",
            Layout::Dynamic => "dynamic",
            Layout::Differencing => "differencing",
        })
    }
}
