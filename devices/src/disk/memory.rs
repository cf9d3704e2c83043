//! A disk in this process' memory, for tests and benches: what the rest of the path costs is seen best when the disk
//! costs nothing.

use std::sync::{PoisonError, RwLock};

use super::{DiskError, Geometry, Image, Zeroing};

/// Bytes behind one lock. Larger than what most requests move, so that they take one.
const CHUNK: usize = 1 << 20;

/// A RAM disk: all of its memory is there from the start.
#[derive(Debug)]
pub struct MemoryImage {
    geometry: Geometry,
    chunks: Vec<RwLock<Box<[u8]>>>,
}

impl MemoryImage {
    /// A disk of zeroes. `size` is rounded up to sectors of `sector` bytes.
    #[must_use]
    pub fn new(size: usize, sector: u32) -> Self {
        let size = size.next_multiple_of(sector as usize);
        let lens = (0..size.div_ceil(CHUNK)).map(|i| CHUNK.min(size - i * CHUNK));
        let chunks = lens.map(|len| RwLock::new(vec![0; len].into())).collect();
        let geometry = Geometry {
            size: size as u64,
            logical_sector: sector,
            physical_sector: sector.max(4096),
            read_only: false,
            unmap_granularity: Some(sector),
            id: None,
        };
        MemoryImage { geometry, chunks }
    }

    /// Calls `each` with chunk, first byte in it and length, in order.
    fn walk(
        &self,
        offset: u64,
        len: u64,
        mut each: impl FnMut(&RwLock<Box<[u8]>>, usize, usize),
    ) -> Result<(), DiskError> {
        self.geometry.check(offset, len)?;
        // The size is a usize, so what is within it is one, too.
        let inside = |bytes| usize::try_from(bytes).unwrap_or(usize::MAX);
        let (mut at, mut left) = (inside(offset), inside(len));
        while left > 0 {
            let (skip, chunk) = (at % CHUNK, self.chunks.get(at / CHUNK));
            let len = left.min(CHUNK - skip);
            if let Some(chunk) = chunk {
                each(chunk, skip, len);
            }
            (at, left) = (at + len, left - len);
        }
        Ok(())
    }
}

impl Image for MemoryImage {
    fn geometry(&self) -> Geometry {
        self.geometry.clone()
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let len = buffer.len() as u64;
        let mut rest = buffer;
        self.walk(offset, len, |chunk, skip, len| {
            let (now, later) = std::mem::take(&mut rest).split_at_mut(len);
            let chunk = chunk.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(bytes) = chunk.get(skip..skip + len) {
                now.copy_from_slice(bytes);
            }
            rest = later;
        })
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let mut rest = bytes;
        self.walk(offset, bytes.len() as u64, |chunk, skip, len| {
            let (now, later) = rest.split_at(len);
            let mut chunk = chunk.write().unwrap_or_else(PoisonError::into_inner);
            if let Some(bytes) = chunk.get_mut(skip..skip + len) {
                bytes.copy_from_slice(now);
            }
            rest = later;
        })
    }

    fn zero(&self, offset: u64, len: u64, _: Zeroing) -> Result<(), DiskError> {
        self.walk(offset, len, |chunk, skip, len| {
            let mut chunk = chunk.write().unwrap_or_else(PoisonError::into_inner);
            if let Some(bytes) = chunk.get_mut(skip..skip + len) {
                bytes.fill(0);
            }
        })
    }

    fn flush(&self) -> Result<(), DiskError> {
        Ok(())
    }

    fn blocks(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_across_chunks_are_read_as_they_were_written() {
        let image = MemoryImage::new(2 * CHUNK + 512, 512);
        let written: Vec<u8> = (0..=255).cycle().take(4096).collect();
        image.write(2 * CHUNK as u64 - 3584, &written).unwrap();
        let mut read = vec![0; 5120];
        image.read(2 * CHUNK as u64 - 4608, &mut read).unwrap();
        assert_eq!(&read[1024..], written);
        assert!(read[..1024].iter().all(|&byte| byte == 0));
        image.zero(2 * CHUNK as u64 - 512, 1024, Zeroing::Free).unwrap();
        image.read(2 * CHUNK as u64 - 3584, &mut read[..4096]).unwrap();
        assert_eq!(&read[..3072], &written[..3072]);
        assert!(read[3072..4096].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn bytes_past_the_end_are_refused() {
        let image = MemoryImage::new(1000, 512);
        assert_eq!(image.geometry().size, 1024);
        assert!(matches!(image.read(512, &mut [0; 1024]), Err(DiskError::OutOfRange { .. })));
        assert!(matches!(image.write(u64::MAX, &[0; 512]), Err(DiskError::OutOfRange { .. })));
    }
}
