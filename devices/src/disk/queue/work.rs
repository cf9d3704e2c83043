//! A request on its way: what it is for, where its memory is, and what of it the kernel has to do.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::buffers::Buffers;
use super::{IoError, Request, Tag};
use crate::disk::direct::Direct;
use crate::disk::{Access, CacheMode, Disk, DiskError, Extent, Place};

/// A request from when it is submitted until its end has been told.
#[derive(Debug)]
pub(crate) struct Work {
    pub(super) tag: Tag,
    pub(super) disk: Arc<Disk>,
    pub(super) request: Request,
    pub(super) scratch: Scratch,
    pub(super) route: Route,
    /// A call of [`Image::flush`](crate::disk::Image::flush) belongs to it, after all else.
    pub(super) flush_after: bool,
    /// It has waited for the disk's rate limit.
    late: bool,
    /// The first thing that went wrong.
    pub(super) outcome: Result<(), IoError>,
}

/// What a request needs of memory; used again by a later one.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) buffers: Buffers,
    pub(super) parts: Vec<Part>,
    extents: Vec<Extent>,
}

/// One call of the kernel's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) op: Op,
    /// Index of the disk's file, and the place in it.
    pub(super) file: usize,
    pub(super) offset: u64,
    /// Entries of the buffers' list.
    pub(super) first: usize,
    pub(super) count: usize,
    /// Byte of the request with which it starts.
    pub(super) at: u64,
    /// Bytes that are still to be moved.
    pub(super) left: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Read,
    Write,
    /// A write that ends when the bytes are on the host's disk.
    WriteThrough,
    /// `fdatasync`.
    Sync,
}

/// Who does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// Nothing is left to be done.
    Done,
    /// The image's calls, on the channel's thread.
    Here,
    /// The image's calls, on a thread of the disk.
    Image,
    /// The parts, by the kernel.
    Parts,
    /// The parts, through memory that direct I/O takes.
    Bounced,
}

impl Work {
    pub(super) fn new(tag: Tag, disk: Arc<Disk>, request: Request, scratch: Scratch) -> Self {
        let (route, outcome) = (Route::Done, Ok(()));
        Work { tag, disk, request, scratch, route, flush_after: false, late: false, outcome }
    }

    /// Counts, once, that the rate limit lets it wait.
    pub(super) fn note_late(&mut self) {
        if !self.late {
            self.late = true;
            self.disk.counters().limited.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Finds out who does it and divides it into parts. Never blocks. The disk is asked now rather than when the
    /// request came, because what is told of places is told for now.
    pub(super) fn plan(&mut self) {
        self.route = match self.check() {
            Ok(()) => self.find_route(),
            Err(error) => {
                self.fail(error.into());
                Route::Done
            }
        };
    }

    /// Notes what went wrong, if it is the first.
    pub(super) fn fail(&mut self, error: IoError) {
        if self.outcome.is_ok() {
            self.outcome = Err(error);
        }
    }

    fn check(&self) -> Result<(), DiskError> {
        let geometry = self.disk.geometry();
        let sector = u64::from(geometry.logical_sector);
        let check = |(offset, len): (u64, u64)| {
            geometry.check(offset, len)?;
            if offset.is_multiple_of(sector) && len.is_multiple_of(sector) {
                return Ok(());
            }
            let text = format!("{len} bytes at {offset} are not whole sectors of {sector} bytes");
            Err(DiskError::Host(io::Error::new(io::ErrorKind::InvalidInput, text)))
        };
        match &self.request {
            Request::Unmap(ranges) => ranges.iter().copied().try_for_each(check),
            request => request.range().map_or(Ok(()), check),
        }
    }

    fn find_route(&mut self) -> Route {
        let image = self.disk.image();
        let safe = self.disk.cache() != CacheMode::Unsafe;
        if !safe && self.request == Request::Flush {
            return Route::Done;
        }
        let blocking = if image.blocks() { Route::Image } else { Route::Here };
        let (offset, len, op) = match self.request {
            Request::Read { offset, len } => (offset, len, Op::Read),
            Request::Write { offset, len, fua } => {
                let through = fua && safe && image.flush_is_sync();
                self.flush_after = fua && safe && !through;
                (offset, len, if through { Op::WriteThrough } else { Op::Write })
            }
            Request::Flush if image.blocks() && image.flush_is_sync() => {
                self.scratch.parts.push(Part::SYNC);
                return Route::Parts;
            }
            _ => return blocking,
        };
        let access = if op == Op::Read { Access::Read } else { Access::Write };
        if !image.extents(offset, len, access, &mut self.scratch.extents) || !self.scratch.lay_out(op, len) {
            // Blocking calls know nothing of writing through.
            self.flush_after |= op == Op::WriteThrough;
            self.scratch.parts.clear();
            return blocking;
        }
        match self.disk.direct() {
            Some(direct) if !self.scratch.parts.iter().all(|part| direct.takes_offset(part.offset)) => {
                self.flush_after |= op == Op::WriteThrough;
                blocking
            }
            Some(direct) if !self.scratch.suits(direct) => Route::Bounced,
            _ if self.scratch.parts.is_empty() && !self.flush_after => Route::Done,
            _ => Route::Parts,
        }
    }
}

impl Scratch {
    pub(super) fn clear(&mut self) {
        self.buffers.clear();
        self.parts.clear();
        self.extents.clear();
    }

    /// Makes parts of the extents and zeroes the memory of those that are nowhere. `false` if they are not as the
    /// trait of images says; the blocking calls do it then.
    fn lay_out(&mut self, op: Op, len: u64) -> bool {
        let all = self.extents.iter().try_fold(0_u64, |sum, extent| sum.checked_add(extent.len));
        let zeroes = self.extents.iter().any(|extent| extent.place == Place::Zero);
        if all != Some(len) || zeroes && op != Op::Read {
            return false;
        }
        self.extents.dedup_by(|next, extent| extent.continue_with(next));
        let (mut at, mut first) = (0, 0);
        for extent in &self.extents {
            let mut done = 0;
            while done < extent.len {
                let (count, bytes) = self.buffers.cut(first, extent.len - done);
                if count == 0 {
                    // Cannot be: there is as much memory as the request moves.
                    return false;
                }
                match extent.place {
                    Place::Zero => self.buffers.zero(first, count),
                    Place::File { file, offset } => {
                        let offset = offset + done;
                        self.parts.push(Part { op, file, offset, first, count, at: at + done, left: bytes });
                    }
                }
                (first, done) = (first + count, done + bytes);
            }
            at += extent.len;
        }
        true
    }

    /// Whether direct I/O takes all the memory as it is.
    fn suits(&self, direct: &Direct) -> bool {
        let mut entries = self.parts.iter().flat_map(|part| self.buffers.entries(part.first, part.count));
        entries.all(|entry| direct.takes_memory(entry.iov_base.addr(), entry.iov_len))
    }
}

impl Part {
    /// Of a flush.
    const SYNC: Part = Part { op: Op::Sync, file: 0, offset: 0, first: 0, count: 0, at: 0, left: 0 };

    /// Notes that the kernel has moved so many bytes.
    pub(super) fn moved(&mut self, buffers: &mut Buffers, bytes: usize) -> io::Result<()> {
        if bytes as u64 >= self.left {
            self.left = 0;
            return Ok(());
        }
        if bytes == 0 {
            return Err(match self.op {
                Op::Read => {
                    io::Error::new(io::ErrorKind::UnexpectedEof, "The image's file is shorter than the disk")
                }
                _ => io::Error::new(io::ErrorKind::WriteZero, "The image's file takes no more bytes"),
            });
        }
        let used = buffers.advance(self.first, bytes);
        (self.first, self.count) = (self.first + used, self.count - used);
        (self.offset, self.at) = (self.offset + bytes as u64, self.at + bytes as u64);
        self.left -= bytes as u64;
        Ok(())
    }
}

impl Extent {
    /// Takes another one in, if it comes right after this one in the same file.
    fn continue_with(&mut self, next: &Extent) -> bool {
        let continues = match (self.place, next.place) {
            (Place::File { file, offset }, Place::File { file: next_file, offset: next_offset }) => {
                file == next_file && offset.checked_add(self.len) == Some(next_offset)
            }
            (Place::Zero, Place::Zero) => true,
            _ => false,
        };
        if continues {
            self.len += next.len;
        }
        continues
    }
}
