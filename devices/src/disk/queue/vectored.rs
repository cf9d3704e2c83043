//! Parts of requests by `preadv2` and `pwritev2`, which return when they are done.

#![expect(unsafe_code, reason = "the kernel reads and writes guest memory by address")]

use std::io;
use std::os::fd::AsRawFd;

use super::blocking::file_of;
use super::work::{Op, Part, Work};

/// Moves all bytes of a part; what the kernel does in pieces is gone on with.
pub(super) fn run(work: &mut Work, mut part: Part) -> io::Result<()> {
    let file = file_of(&work.disk, part)?;
    if part.op == Op::Sync {
        return file.sync_data();
    }
    let fd = file.as_raw_fd();
    while part.left > 0 {
        let entries = work.scratch.buffers.entries(part.first, part.count);
        // A part has at most as many entries as the kernel takes.
        let (list, count) = (entries.as_ptr(), i32::try_from(entries.len()).unwrap_or(0));
        let offset = i64::try_from(part.offset).map_err(io::Error::other)?;
        // SAFETY: the list is borrowed until the call returns; its entries are of guest RAM, which the queue keeps
        // mapped, and which the guest may change meanwhile in any case.
        let moved = unsafe {
            match part.op {
                Op::Read => libc::preadv2(fd, list, count, offset, 0),
                Op::WriteThrough => libc::pwritev2(fd, list, count, offset, libc::RWF_DSYNC),
                Op::Write | Op::Sync => libc::pwritev2(fd, list, count, offset, 0),
            }
        };
        match usize::try_from(moved) {
            Ok(moved) => part.moved(&mut work.scratch.buffers, moved)?,
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}
