//! An image that its guest sees with larger sectors than it has.

use std::fs::File;

use super::image::{Access, DiskError, Extent, Geometry, Image, Zeroing};

/// An image with other sectors.
#[derive(Debug)]
pub struct Sectors {
    image: Box<dyn Image>,
    geometry: Geometry,
}

impl Sectors {
    /// Gives an image logical sectors of so many bytes.
    ///
    /// # Errors
    /// [`DiskError::Unsupported`] when they are not made of whole sectors of the image, or the disk not of them.
    pub fn new(image: Box<dyn Image>, sector: u32) -> Result<Self, DiskError> {
        let mut geometry = image.geometry();
        let own = geometry.logical_sector;
        if !sector.is_multiple_of(own) || sector == 0 {
            let text = format!("Its sectors have {own} bytes, of which none of {sector} bytes can be made");
            return Err(DiskError::Unsupported(text));
        }
        if !geometry.size.is_multiple_of(sector.into()) {
            let text =
                format!("It has {} bytes, which is no multiple of sectors of {sector} bytes", geometry.size);
            return Err(DiskError::Unsupported(text));
        }
        geometry.logical_sector = sector;
        geometry.physical_sector = geometry.physical_sector.max(sector);
        geometry.unmap_granularity = geometry.unmap_granularity.map(|bytes| bytes.max(sector));
        Ok(Sectors { image, geometry })
    }
}

impl Image for Sectors {
    fn geometry(&self) -> Geometry {
        self.geometry.clone()
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.image.read(offset, buffer)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.image.write(offset, bytes)
    }

    fn zero(&self, offset: u64, len: u64, how: Zeroing) -> Result<(), DiskError> {
        self.image.zero(offset, len, how)
    }

    fn flush(&self) -> Result<(), DiskError> {
        self.image.flush()
    }

    fn extents(&self, offset: u64, len: u64, access: Access, extents: &mut Vec<Extent>) -> bool {
        self.image.extents(offset, len, access, extents)
    }

    fn files(&self) -> &[File] {
        self.image.files()
    }

    fn blocks(&self) -> bool {
        self.image.blocks()
    }

    fn flush_is_sync(&self) -> bool {
        self.image.flush_is_sync()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemoryImage;

    #[test]
    fn sectors_grow_and_nothing_else_changes() {
        let image = || Box::new(MemoryImage::new(12 << 10, 512));
        let disk = Sectors::new(image(), 4096).unwrap();
        let geometry = disk.geometry();
        assert_eq!(
            (geometry.size, geometry.logical_sector, geometry.physical_sector),
            (12 << 10, 4096, 4096)
        );
        disk.write(4096, &[7; 4096]).unwrap();
        let mut bytes = [0; 4096];
        disk.read(4096, &mut bytes).unwrap();
        assert_eq!(bytes, [7; 4096]);
        let refusal = |sector| Sectors::new(image(), sector).unwrap_err().to_string();
        assert!(refusal(0).contains("none of 0 bytes"));
        assert!(refusal(520).contains("none of 520 bytes"));
        assert!(refusal(8192).contains("no multiple"));
    }
}
