//! QCOW2, QEMU's format, by the `imago` crate.
//!
//! Opened by `open`, which has locked the file. The crate opens nothing by itself: a backing file comes through
//! [`Parents`], and only if the image says its format, since a guess could make a guest's raw disk a QCOW2. It keeps
//! tables in memory, which are written out after every request that may have changed them. It says nothing about
//! places in the file, so all bytes go through it: a disk that is to be fast is converted.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use imago::file::File as Storage;
use imago::storage::StorageOpenOptions;
use imago::{DenyImplicitOpenGate, FormatAccess, FormatCreateBuilder, FormatDriverBuilder};

use super::image::{Access, DiskError, Geometry, Image, Zeroing};
use super::parents::{ParentError, Parents};

/// What guests are told.
const SECTOR: u32 = 512;
/// What is written at once on the host.
const PHYSICAL_SECTOR: u32 = 4096;
/// Bytes that are freed together: a cluster, as nearly every image has it.
const CLUSTER: u32 = 64 << 10;

type Format = imago::qcow2::Qcow2<Storage>;

/// A QCOW2 image.
pub(super) struct Qcow2 {
    /// For writing while clusters are freed, which no request must be using then.
    access: RwLock<FormatAccess<Storage>>,
    geometry: Geometry,
    parent: Option<PathBuf>,
}

impl Qcow2 {
    pub fn open(file: File, read_only: bool, parents: &Parents) -> Result<Self, DiskError> {
        let (access, parent) = open(file, read_only, parents)?;
        let size = access.size();
        if size == 0 || !size.is_multiple_of(SECTOR.into()) {
            return Err(DiskError::Unsupported(format!("Its disk has {size} bytes, which are no sectors")));
        }
        let geometry = Geometry {
            size,
            logical_sector: SECTOR,
            physical_sector: PHYSICAL_SECTOR,
            read_only,
            unmap_granularity: (!read_only).then_some(CLUSTER),
            id: None,
        };
        Ok(Qcow2 { access: RwLock::new(access), geometry, parent })
    }

    /// Fills an empty file.
    pub fn create(file: &File, size: u64, cluster: Option<u32>) -> Result<(), DiskError> {
        if size == 0 || !size.is_multiple_of(SECTOR.into()) {
            return Err(DiskError::Unsupported(format!(
                "A disk has sectors of {SECTOR} bytes; {size} bytes are none"
            )));
        }
        let cluster = cluster.unwrap_or(CLUSTER);
        if !cluster.is_power_of_two() || !(SECTOR..=2 << 20).contains(&cluster) {
            return Err(DiskError::Unsupported(format!(
                "A QCOW2's blocks have a power of two from 512 bytes to 2 MiB, not {cluster} bytes"
            )));
        }
        let builder = Format::create_builder(storage(file.try_clone()?, false)?).size(size);
        Ok(builder.cluster_size(usize::try_from(cluster).unwrap_or_default()).create()?)
    }

    /// The backing file.
    pub fn parent(&self) -> Option<&Path> {
        self.parent.as_deref()
    }
}

fn storage(file: File, read_only: bool) -> io::Result<Storage> {
    Storage::from_open_file(file, StorageOpenOptions::new().write(!read_only))
}

/// An image and, if it has one, its backing file with what is behind it.
fn open(
    file: File,
    read_only: bool,
    parents: &Parents,
) -> Result<(FormatAccess<Storage>, Option<PathBuf>), DiskError> {
    let refused = |error: io::Error| DiskError::Unsupported(format!("It cannot be read as QCOW2: {error}"));
    let mut image = Format::open_image(storage(file, read_only)?, !read_only).map_err(refused)?;
    if image.requires_external_data_file() {
        return Err(DiskError::Unsupported("Its data is in another file, which is not supported".to_owned()));
    }
    image.set_data_file(None);
    let mut path = None;
    let backing = match image.implicit_backing_file().cloned() {
        None => None,
        Some(name) => {
            let format = image.implicit_backing_format().cloned();
            let (backing, found) = open_backing(&name, format.as_deref(), parents)?;
            path = Some(found);
            Some(backing)
        }
    };
    image.set_backing(backing);
    image.open_implicit_dependencies_gated(DenyImplicitOpenGate::default()).map_err(refused)?;
    Ok((FormatAccess::new(image), path))
}

fn open_backing(
    name: &str,
    format: Option<&str>,
    parents: &Parents,
) -> Result<(FormatAccess<Storage>, PathBuf), DiskError> {
    let found = parents.open(&[PathBuf::from(name)]).map_err(Box::new)?;
    let open = || match format {
        Some("qcow2") => Ok(open(found.file, true, &found.parents)?.0),
        Some("raw") => {
            let raw = imago::raw::Raw::builder(storage(found.file, true)?);
            Ok(FormatAccess::new(raw.open(DenyImplicitOpenGate::default())?))
        }
        Some(other) => Err(DiskError::Unsupported(format!("Its format is {other}, not qcow2 or raw"))),
        None => Err(DiskError::Unsupported(
            "The image does not say the parent's format; \"qemu-img rebase -u -F\" adds it".to_owned(),
        )),
    };
    match open() {
        Ok(access) => Ok((access, found.path)),
        Err(error) => Err(Box::new(ParentError::Image { path: found.path, source: Box::new(error) }).into()),
    }
}

impl Image for Qcow2 {
    fn geometry(&self) -> Geometry {
        self.geometry.clone()
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.geometry.check(offset, buffer.len() as u64)?;
        Ok(self.access.read().unwrap_or_else(PoisonError::into_inner).read(buffer, offset)?)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.geometry.check_access(offset, bytes.len() as u64, Access::Write)?;
        let access = self.access.read().unwrap_or_else(PoisonError::into_inner);
        access.write(bytes, offset)?;
        Ok(access.flush()?)
    }

    fn zero(&self, offset: u64, len: u64, how: Zeroing) -> Result<(), DiskError> {
        self.geometry.check_access(offset, len, Access::Write)?;
        let mut access = self.access.write().unwrap_or_else(PoisonError::into_inner);
        match how {
            Zeroing::Keep => access.write_zeroes(offset, len)?,
            Zeroing::Free => access.discard_to_zero(offset, len)?,
        }
        Ok(access.flush()?)
    }

    fn flush(&self) -> Result<(), DiskError> {
        if self.geometry.read_only {
            return Ok(());
        }
        let access = self.access.read().unwrap_or_else(PoisonError::into_inner);
        access.flush()?;
        Ok(access.sync()?)
    }
}

impl fmt::Debug for Qcow2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Qcow2").field("geometry", &self.geometry).field("parent", &self.parent).finish()
    }
}
