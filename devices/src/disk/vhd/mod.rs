//! VHD: the format of Virtual PC, older Hyper-V and Azure. Fixed and dynamic disks; no differencing ones.
//!
//! Opened by `open`, which has locked the file. [`protocol`] is what is in the file, [`dynamic`] keeps the blocks.
//! The file is as hostile as a guest: every number in it is checked before it is used.

mod create;
mod dynamic;
mod protocol;

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use zerocopy::{FromBytes, IntoBytes};

use self::dynamic::Dynamic;
use self::protocol::{DIFFERENCING, DYNAMIC, FIXED, Footer, SECTOR};
use super::image::{Access, DiskError, Extent, Geometry, Image, Place, Zeroing};
use super::space;

pub use self::create::VhdOptions;

/// What guests are told: the format is older than larger sectors.
const GUEST_SECTOR: u32 = 512;

/// A VHD.
#[derive(Debug)]
pub struct Vhd {
    files: [File; 1],
    geometry: Geometry,
    layout: Layout,
    problems: Vec<String>,
}

#[derive(Debug)]
enum Layout {
    Fixed,
    Dynamic(Box<Dynamic>),
}

impl Vhd {
    /// Takes a file as a VHD. To be written to, it is repaired if a crash cut its growth short.
    ///
    /// # Errors
    /// [`DiskError`]: damaged, differencing, or what the host says.
    pub fn open(mut file: File, read_only: bool) -> Result<Self, DiskError> {
        let length = file.seek(SeekFrom::End(0))?;
        let (footer, problems) = find_footer(&file, length)?;
        let size = footer.current_size.get();
        if size == 0 || !size.is_multiple_of(SECTOR) {
            return Err(DiskError::Damaged(format!("its disk has {size} bytes, which are no sectors")));
        }
        let layout = match footer.disk_type.get() {
            FIXED if length < SECTOR || size > length - SECTOR => {
                return Err(DiskError::Damaged(format!("a disk of {size} bytes in a file of {length}")));
            }
            FIXED => Layout::Fixed,
            DYNAMIC => Layout::Dynamic(Box::new(Dynamic::open(&file, length, &footer)?)),
            DIFFERENCING => return Err(DiskError::Unsupported(
                "It is a differencing VHD, which is not supported; merge it with its parents or convert it to VHDX \
                 where they are"
                    .to_owned(),
            )),
            other => return Err(DiskError::Damaged(format!("its disk is of type {other}"))),
        };
        if !read_only && !problems.is_empty() {
            file.write_all_at(footer.as_bytes(), length.next_multiple_of(SECTOR))?;
            file.sync_data()?;
        }
        let geometry = Geometry {
            size,
            logical_sector: GUEST_SECTOR,
            physical_sector: GUEST_SECTOR,
            read_only,
            unmap_granularity: if read_only { None } else { space::granularity(&file)? },
            id: Some(footer.id()),
        };
        Ok(Vhd { files: [file], geometry, layout, problems })
    }

    /// Bytes of a block, of a dynamic disk.
    #[must_use]
    pub fn block_size(&self) -> Option<u32> {
        match &self.layout {
            Layout::Fixed => None,
            Layout::Dynamic(dynamic) => Some(dynamic.block_size()),
        }
    }

    /// What was wrong when it was opened, though not so wrong that bytes are in doubt.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    fn file(&self) -> &File {
        let [file] = &self.files;
        file
    }
}

impl Image for Vhd {
    fn geometry(&self) -> Geometry {
        self.geometry.clone()
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.geometry.check(offset, buffer.len() as u64)?;
        match &self.layout {
            Layout::Fixed => Ok(self.file().read_exact_at(buffer, offset)?),
            Layout::Dynamic(dynamic) => dynamic.read(self.file(), offset, buffer),
        }
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.geometry.check_access(offset, bytes.len() as u64, Access::Write)?;
        match &self.layout {
            Layout::Fixed => Ok(self.file().write_all_at(bytes, offset)?),
            Layout::Dynamic(dynamic) => dynamic.write(self.file(), offset, bytes),
        }
    }

    fn zero(&self, offset: u64, len: u64, how: Zeroing) -> Result<(), DiskError> {
        self.geometry.check_access(offset, len, Access::Write)?;
        match &self.layout {
            Layout::Fixed => Ok(space::zero(self.file(), offset, len, how)?),
            Layout::Dynamic(dynamic) => dynamic.zero(self.file(), offset, len, how),
        }
    }

    fn flush(&self) -> Result<(), DiskError> {
        if self.geometry.read_only {
            return Ok(());
        }
        Ok(self.file().sync_data()?)
    }

    fn extents(&self, offset: u64, len: u64, access: Access, extents: &mut Vec<Extent>) -> bool {
        if self.geometry.check_access(offset, len, access).is_err() {
            return false;
        }
        match &self.layout {
            Layout::Fixed if len == 0 => true,
            Layout::Fixed => {
                extents.push(Extent { place: Place::File { file: 0, offset }, len });
                true
            }
            Layout::Dynamic(dynamic) => dynamic.extents(offset, len, access, extents),
        }
    }

    fn files(&self) -> &[File] {
        &self.files
    }

    fn flush_is_sync(&self) -> bool {
        true
    }
}

/// The footer at the file's end, or its copy at the start: that one is there only in dynamic disks, where it counts if
/// a crash left no footer at the end. In a fixed disk, the start is the guest's.
fn find_footer(file: &File, length: u64) -> Result<(Footer, Vec<String>), DiskError> {
    let last = match length.checked_sub(SECTOR) {
        Some(at) => read_footer(file, at)?,
        None => None,
    };
    if let Some(footer) = last {
        return Ok((footer, Vec::new()));
    }
    let first = if length < SECTOR { None } else { read_footer(file, 0)? };
    match first.filter(|copy| copy.disk_type.get() != FIXED) {
        Some(copy) => {
            Ok((copy, vec!["the footer at the end is missing; its copy at the start is good".to_owned()]))
        }
        None => Err(DiskError::Damaged("it has no valid footer; is the file complete?".to_owned())),
    }
}

fn read_footer(file: &File, at: u64) -> Result<Option<Footer>, DiskError> {
    let mut bytes = [0; size_of::<Footer>()];
    file.read_exact_at(&mut bytes, at)?;
    Ok(Footer::read_from_bytes(&bytes).ok().filter(Footer::is_valid))
}

#[cfg(test)]
mod tests;
