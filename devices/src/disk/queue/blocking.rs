//! Requests carried out by calls that wait: on a thread of the disk, or on the channel's for images that never wait.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::bounce::Bounce;
use super::vectored;
use super::work::{Op, Part, Route, Work};
use super::{IoError, Request};
use crate::disk::{Disk, Zeroing};

/// Carries out all of it and notes how it ended. Moves `chunk` bytes at a time where it has to copy.
pub(super) fn run(work: &mut Work, bounce: &mut Bounce, chunk: usize) {
    let result = match work.route {
        Route::Done => Ok(()),
        Route::Here | Route::Image => call(work, bounce, chunk),
        Route::Parts => all_parts(work, vectored::run),
        Route::Bounced => all_parts(work, |work, part| bounced(work, part, bounce, chunk)),
    };
    let result = result.and_then(|()| match work.flush_after {
        true if work.outcome.is_ok() => Ok(work.disk.image().flush()?),
        _ => Ok(()),
    });
    if let Err(error) = result {
        work.fail(error);
    }
}

fn all_parts(work: &mut Work, mut run: impl FnMut(&mut Work, Part) -> io::Result<()>) -> Result<(), IoError> {
    let mut index = 0;
    while let Some(&part) = work.scratch.parts.get(index) {
        run(work, part)?;
        index += 1;
    }
    Ok(())
}

/// The calls of the image.
fn call(work: &Work, bounce: &mut Bounce, chunk: usize) -> Result<(), IoError> {
    let (image, buffers) = (work.disk.image(), &work.scratch.buffers);
    match &work.request {
        Request::Read { offset, len } => in_chunks(*len, chunk, bounce, |at, bytes| {
            image.read(offset + at, bytes)?;
            buffers.copy_in(at, bytes);
            Ok(())
        }),
        Request::Write { offset, len, .. } => in_chunks(*len, chunk, bounce, |at, bytes| {
            buffers.copy_out(at, bytes);
            Ok(image.write(offset + at, bytes)?)
        }),
        Request::Flush => Ok(image.flush()?),
        Request::Zero { offset, len, how } => Ok(image.zero(*offset, *len, *how)?),
        Request::Unmap(ranges) => {
            ranges.iter().try_for_each(|&(offset, len)| Ok(image.zero(offset, len, Zeroing::Free)?))
        }
        Request::Fill { offset, len, pattern } => fill(work, (*offset, *len), pattern, bounce, chunk),
        Request::Compare { offset, len } => compare(work, (*offset, *len), bounce, chunk),
    }
}

/// Calls `each` with a buffer for one chunk after the other, and the byte of the request with which it starts.
fn in_chunks(
    len: u64,
    chunk: usize,
    bounce: &mut Bounce,
    mut each: impl FnMut(u64, &mut [u8]) -> Result<(), IoError>,
) -> Result<(), IoError> {
    let mut at = 0;
    while at < len {
        let now = usize::try_from(len - at).map_or(chunk, |left| left.min(chunk));
        each(at, bounce.bytes(now))?;
        at += now as u64;
    }
    Ok(())
}

fn fill(
    work: &Work,
    (offset, len): (u64, u64),
    pattern: &[u8],
    bounce: &mut Bounce,
    chunk: usize,
) -> Result<(), IoError> {
    let size = pattern.len();
    if size == 0 || size > chunk || !len.is_multiple_of(size as u64) {
        let text = format!("A pattern of {size} bytes does not fill {len}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text).into());
    }
    let chunk = chunk - chunk % size;
    in_chunks(len, chunk, bounce, |at, bytes| {
        for copy in bytes.chunks_exact_mut(size) {
            copy.copy_from_slice(pattern);
        }
        Ok(work.disk.image().write(offset + at, bytes)?)
    })
}

fn compare(work: &Work, (offset, len): (u64, u64), bounce: &mut Bounce, chunk: usize) -> Result<(), IoError> {
    // Half of each chunk is the disk's, the other the guest's.
    let half = (chunk / 2).max(work.disk.geometry().logical_sector as usize);
    let mut at = 0;
    while at < len {
        let now = usize::try_from(len - at).map_or(half, |left| left.min(half));
        let (disk, guest) = bounce.bytes(2 * now).split_at_mut(now);
        work.disk.image().read(offset + at, disk)?;
        work.scratch.buffers.copy_out(at, guest);
        if let Some(byte) = disk.iter().zip(guest.iter()).position(|(disk, guest)| disk != guest) {
            return Err(IoError::Miscompare(at + byte as u64));
        }
        at += now as u64;
    }
    Ok(())
}

/// A part by direct I/O whose guest memory is not where that takes it.
fn bounced(work: &mut Work, part: Part, bounce: &mut Bounce, chunk: usize) -> io::Result<()> {
    let buffers = &work.scratch.buffers;
    let file = file_of(&work.disk, part)?;
    let mut done = 0;
    while done < part.left {
        let now = usize::try_from(part.left - done).map_or(chunk, |left| left.min(chunk));
        let bytes = bounce.bytes(now);
        match part.op {
            Op::Read => {
                file.read_exact_at(bytes, part.offset + done)?;
                buffers.copy_in(part.at + done, bytes);
            }
            Op::Write | Op::WriteThrough => {
                buffers.copy_out(part.at + done, bytes);
                file.write_all_at(bytes, part.offset + done)?;
            }
            Op::Sync => {}
        }
        done += now as u64;
    }
    match part.op {
        Op::WriteThrough | Op::Sync => file.sync_data(),
        Op::Read | Op::Write => Ok(()),
    }
}

/// The file of a part.
pub(super) fn file_of(disk: &Disk, part: Part) -> io::Result<&File> {
    let missing = || io::Error::new(io::ErrorKind::NotFound, "The image has no such file");
    disk.file(part.file).ok_or_else(missing)
}
