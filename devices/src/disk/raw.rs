//! Raw disks: every byte of a file or block device is a byte of the disk, at the same place.
//!
//! Opened by `open`, which has locked the file. An ISO is a raw disk with sectors of 2048 bytes that nobody writes.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt};

use super::image::{Access, DiskError, Extent, Geometry, Image, Place, Zeroing};
use super::space;

/// Sectors of optical media, bytes.
const MEDIA_SECTOR: u32 = 2048;
/// Sectors of a disk in a file, bytes; what every guest knows.
const SECTOR: u32 = 512;
/// What file systems of the host write at once, bytes.
const PHYSICAL_SECTOR: u32 = 4096;

/// A raw disk.
#[derive(Debug)]
pub struct Raw {
    files: [File; 1],
    geometry: Geometry,
}

impl Raw {
    /// Takes a file or block device as a disk.
    ///
    /// # Errors
    /// [`DiskError::Unsupported`] if its size makes no disk, [`DiskError::Host`].
    pub fn disk(file: File, read_only: bool) -> Result<Self, DiskError> {
        let (logical_sector, physical_sector) = if file.metadata()?.file_type().is_block_device() {
            let logical = rustix::fs::ioctl_blksszget(&file).map_err(io::Error::from)?;
            let physical = rustix::fs::ioctl_blkpbszget(&file).map_err(io::Error::from)?;
            (logical, physical.max(logical))
        } else {
            (SECTOR, PHYSICAL_SECTOR)
        };
        let unmap_granularity = if read_only { None } else { space::granularity(&file)? };
        Self::new(
            file,
            Geometry { size: 0, logical_sector, physical_sector, read_only, unmap_granularity, id: None },
        )
    }

    /// Takes a file as an optical medium.
    ///
    /// # Errors
    /// As [`Raw::disk`].
    pub fn medium(file: File) -> Result<Self, DiskError> {
        Self::new(
            file,
            Geometry {
                size: 0,
                logical_sector: MEDIA_SECTOR,
                physical_sector: MEDIA_SECTOR,
                read_only: true,
                unmap_granularity: None,
                id: None,
            },
        )
    }

    fn new(mut file: File, mut geometry: Geometry) -> Result<Self, DiskError> {
        let (size, sector) = (file.seek(SeekFrom::End(0))?, geometry.logical_sector);
        if size == 0 {
            return Err(DiskError::Unsupported("It is empty".to_owned()));
        }
        if !size.is_multiple_of(sector.into()) {
            return Err(DiskError::Unsupported(format!(
                "It has {size} bytes, which is no multiple of its sectors of {sector} bytes; \
                 \"truncate --size %{sector} FILE\" fills the last one with zeroes"
            )));
        }
        geometry.size = size;
        Ok(Raw { files: [file], geometry })
    }

    fn writable(&self, offset: u64, len: u64) -> Result<&File, DiskError> {
        self.geometry.check_access(offset, len, Access::Write)?;
        Ok(self.file())
    }

    fn file(&self) -> &File {
        let [file] = &self.files;
        file
    }
}

impl Image for Raw {
    fn geometry(&self) -> Geometry {
        self.geometry.clone()
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.geometry.check(offset, buffer.len() as u64)?;
        Ok(self.file().read_exact_at(buffer, offset)?)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        Ok(self.writable(offset, bytes.len() as u64)?.write_all_at(bytes, offset)?)
    }

    fn zero(&self, offset: u64, len: u64, how: Zeroing) -> Result<(), DiskError> {
        Ok(space::zero(self.writable(offset, len)?, offset, len, how)?)
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
        if len > 0 {
            extents.push(Extent { place: Place::File { file: 0, offset }, len });
        }
        true
    }

    fn files(&self) -> &[File] {
        &self.files
    }

    fn flush_is_sync(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;
    use vmm_sys_util::tempfile::TempFile;

    fn file(size: u64) -> File {
        let file = TempFile::new().unwrap().into_file();
        file.set_len(size).unwrap();
        file
    }

    #[test]
    fn freed_space_goes_back_to_the_host() {
        let disk = Raw::disk(file(1 << 20), false).unwrap();
        disk.write(0, &[1; 1 << 20]).unwrap();
        disk.flush().unwrap();
        let full = disk.file().metadata().unwrap().blocks();
        disk.zero(0, 512 << 10, Zeroing::Free).unwrap();
        assert!(disk.file().metadata().unwrap().blocks() <= full - 1024);
        disk.zero(0, 512 << 10, Zeroing::Keep).unwrap();
        assert!(disk.geometry().unmap_granularity.is_some());
    }

    #[test]
    fn a_size_that_is_no_disk_is_refused_with_the_fix() {
        let error = |result: Result<Raw, DiskError>| result.unwrap_err().to_string();
        assert_eq!(error(Raw::disk(file(0), true)), "It is empty");
        let sentence = error(Raw::disk(file(1000), false));
        assert!(sentence.contains("1000 bytes") && sentence.contains("truncate --size %512"), "{sentence}");
        let sentence = error(Raw::medium(file(2560)));
        assert!(sentence.contains("2560 bytes") && sentence.contains("%2048"), "{sentence}");
        assert_eq!(Raw::medium(file(4096)).unwrap().geometry().logical_sector, 2048);
    }

    #[test]
    fn a_read_only_disk_gives_no_place_for_writes() {
        let disk = Raw::disk(file(4096), true).unwrap();
        let mut extents = Vec::new();
        assert!(!disk.extents(0, 512, Access::Write, &mut extents) && extents.is_empty());
        assert!(matches!(disk.write(0, &[0; 512]), Err(DiskError::ReadOnly)));
        assert!(matches!(disk.zero(0, 512, Zeroing::Free), Err(DiskError::ReadOnly)));
        assert!(disk.extents(512, 512, Access::Read, &mut extents));
        assert_eq!(extents, [Extent { place: Place::File { file: 0, offset: 512 }, len: 512 }]);
    }

    #[test]
    fn bytes_past_the_end_are_refused() {
        let disk = Raw::disk(file(4096), false).unwrap();
        for (offset, len) in [(4096, 512), (3584, 1024), (u64::MAX - 511, 512)] {
            let mut extents = Vec::new();
            assert!(!disk.extents(offset, len, Access::Read, &mut extents));
            let mut buffer = vec![0; len as usize];
            assert!(matches!(disk.read(offset, &mut buffer), Err(DiskError::OutOfRange { .. })));
            assert!(matches!(disk.write(offset, &buffer), Err(DiskError::OutOfRange { .. })));
            assert!(matches!(disk.zero(offset, len, Zeroing::Keep), Err(DiskError::OutOfRange { .. })));
        }
    }
}
