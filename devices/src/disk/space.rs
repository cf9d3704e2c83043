//! Zeroes and holes: what the host's file systems and block devices offer, and what to do where they do not.
//!
//! Formats call it for whole ranges of a file. It never changes a file's size.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};

use rustix::fs::{FallocateFlags, fallocate, major, minor};
use rustix::io::Errno;

use super::image::Zeroing;

/// Zeroes that are written at once where the host cannot make them itself, bytes.
static ZEROES: [u8; 64 << 10] = [0; 64 << 10];

/// Makes a range of a file read as 0; only bytes before the file's end are touched.
pub(super) fn zero(file: &File, offset: u64, len: u64, how: Zeroing) -> io::Result<()> {
    if len == 0 {
        return Ok(());
    }
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let zeroes = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
    let ways: &[FallocateFlags] = match how {
        Zeroing::Free => &[hole, zeroes],
        Zeroing::Keep => &[zeroes],
    };
    for &way in ways {
        match rustix::io::retry_on_intr(|| fallocate(file, way, offset, len)) {
            // A block device answers INVAL to what is smaller than its own blocks.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
            done => return Ok(done?),
        }
    }
    write_zeroes(file, offset, len)
}

/// Takes space for a range at a file's end, which reads as 0 then.
pub(super) fn allocate(file: &File, offset: u64, len: u64) -> io::Result<()> {
    if len == 0 {
        return Ok(());
    }
    match rustix::io::retry_on_intr(|| fallocate(file, FallocateFlags::empty(), offset, len)) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => write_zeroes(file, offset, len),
        done => Ok(done?),
    }
}

fn write_zeroes(file: &File, mut offset: u64, mut len: u64) -> io::Result<()> {
    while len > 0 {
        let now = usize::try_from(len).unwrap_or(usize::MAX).min(ZEROES.len());
        file.write_all_at(ZEROES.get(..now).unwrap_or(&ZEROES), offset)?;
        offset += now as u64;
        len -= now as u64;
    }
    Ok(())
}

/// Bytes that [`zero`] can give back to the host together; `None` if the host takes nothing back.
pub(super) fn granularity(file: &File) -> io::Result<Option<u32>> {
    let metadata = file.metadata()?;
    if metadata.file_type().is_block_device() {
        return Ok(discard_granularity(metadata.rdev()));
    }
    let block = metadata.blksize();
    // A hole behind the end changes nothing and says whether the file system knows holes.
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let behind = metadata.len().next_multiple_of(block.max(1));
    match fallocate(file, hole, behind, block) {
        Ok(()) => Ok(u32::try_from(block).ok().filter(|block| block.is_power_of_two())),
        Err(_) => Ok(None),
    }
}

/// What sysfs says about a block device. A partition has the queue of its disk.
fn discard_granularity(device: u64) -> Option<u32> {
    let directory = format!("/sys/dev/block/{}:{}", major(device), minor(device));
    let number = |name: &str| -> Option<u64> {
        let of = |queue: &str| fs::read_to_string(format!("{directory}/{queue}/{name}")).ok();
        of("queue").or_else(|| of("../queue"))?.trim().parse().ok()
    };
    number("discard_max_bytes").filter(|&max| max > 0)?;
    number("discard_granularity").and_then(|bytes| u32::try_from(bytes).ok()).filter(|&bytes| bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmm_sys_util::tempfile::TempFile;

    #[test]
    fn zeroes_are_made_where_they_are_wanted_and_nowhere_else() {
        for how in [Zeroing::Free, Zeroing::Keep] {
            let file = TempFile::new().unwrap().into_file();
            file.write_all_at(&[7; 300_000], 0).unwrap();
            zero(&file, 1000, 200_000, how).unwrap();
            zero(&file, 299_000, 5000, how).unwrap();
            zero(&file, 0, 0, how).unwrap();
            let mut all = vec![1; 300_000];
            file.read_exact_at(&mut all, 0).unwrap();
            for (at, byte) in all.into_iter().enumerate() {
                let zeroed = (1000..201_000).contains(&at) || at >= 299_000;
                assert_eq!(byte, if zeroed { 0 } else { 7 }, "{at} {how:?}");
            }
            assert_eq!(file.metadata().unwrap().len(), 300_000);
        }
    }

    #[test]
    fn zeroes_are_written_where_the_host_makes_none() {
        let file = TempFile::new().unwrap().into_file();
        file.write_all_at(&[7; 200_000], 0).unwrap();
        write_zeroes(&file, 1, 150_000).unwrap();
        let mut all = vec![1; 200_000];
        file.read_exact_at(&mut all, 0).unwrap();
        assert!(
            all[0] == 7 && all[1..150_001].iter().all(|&b| b == 0) && all[150_001..].iter().all(|&b| b == 7)
        );
    }
}
