//! Makes new VHDs.

use std::fs::File;
use std::os::unix::fs::FileExt;

use zerocopy::IntoBytes;

use super::Vhd;
use super::protocol::{DYNAMIC, DynamicHeader, FIXED, Footer, SECTOR, SIZE_MAX};
use crate::disk::image::DiskError;
use crate::disk::space;
use crate::guid::Guid;

/// Bytes of a block unless somebody wants others.
const BLOCK_SIZE: u32 = 2 << 20;
/// Other readers know these.
const BLOCK_SIZES: [u32; 2] = [512 << 10, BLOCK_SIZE];

/// What a new VHD should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VhdOptions {
    /// Bytes of the disk.
    pub size: u64,
    /// All space is taken at once.
    pub fixed: bool,
    /// Bytes of a dynamic disk's block: 512 KiB or 2 MiB, which is what `None` means.
    pub block_size: Option<u32>,
}

impl Vhd {
    /// Fills an empty file.
    ///
    /// # Errors
    /// [`DiskError::Unsupported`] if there cannot be such a disk, [`DiskError::Host`].
    pub fn create(file: &File, options: &VhdOptions) -> Result<(), DiskError> {
        let &VhdOptions { size, fixed, block_size } = options;
        if size == 0 || !size.is_multiple_of(SECTOR) || size > SIZE_MAX {
            return Err(DiskError::Unsupported(format!(
                "A VHD of {size} bytes cannot be: it has sectors of {SECTOR} bytes and ends at 2040G; \
                 VHDX goes further"
            )));
        }
        let id = Guid::random()?;
        if fixed {
            if block_size.is_some() {
                return Err(DiskError::Unsupported("A fixed VHD has no blocks".to_owned()));
            }
            space::allocate(file, 0, size)?;
            file.write_all_at(Footer::new(size, FIXED, id).as_bytes(), size)?;
        } else {
            let block_size = block_size.unwrap_or(BLOCK_SIZE);
            if !BLOCK_SIZES.contains(&block_size) {
                return Err(DiskError::Unsupported(format!(
                    "A VHD's blocks have 512 KiB or 2 MiB, not {block_size} bytes"
                )));
            }
            create_dynamic(file, &Footer::new(size, DYNAMIC, id), block_size)?;
        }
        Ok(file.sync_all()?)
    }
}

fn create_dynamic(file: &File, footer: &Footer, block_size: u32) -> Result<(), DiskError> {
    let entries = footer.current_size.get().div_ceil(block_size.into());
    let too_many = |_| DiskError::Unsupported(format!("{entries} blocks are too many"));
    let entries = u32::try_from(entries).map_err(too_many)?;
    let table_offset = footer.data_offset.get() + size_of::<DynamicHeader>() as u64;
    let table_len = (u64::from(entries) * 4).next_multiple_of(SECTOR);
    let table = vec![0xff; usize::try_from(table_len).unwrap_or(usize::MAX)];
    file.write_all_at(footer.as_bytes(), 0)?;
    let header = DynamicHeader::new(table_offset, entries, block_size);
    file.write_all_at(header.as_bytes(), footer.data_offset.get())?;
    file.write_all_at(&table, table_offset)?;
    file.write_all_at(footer.as_bytes(), table_offset + table_len)?;
    Ok(())
}
