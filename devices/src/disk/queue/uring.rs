//! Parts of requests by `io_uring`: one ring of one queue.
//!
//! The ring's descriptor itself is what the channel waits on: it is readable while completions wait, so nothing has to
//! be read to clear it, and what the kernel does at once wakes nobody.
//!
//! What was weighed and left out:
//! * Registered buffers pin the memory that they name, which here is all RAM of the guest: it could no longer be
//!   overcommitted, swapped or given back. Reads out of the page cache were not faster with them (bench `disk`).
//! * Registered files made no difference there either, and keep an image open, and so locked, until every ring has let
//!   go of it.
//! * `IORING_SETUP_DEFER_TASKRUN` binds a ring to one thread from its making on; queues are made by another.
//! * A registered eventfd would also be written for what the kernel does at once, and has to be read each time.

#![expect(unsafe_code, reason = "the kernel reads and writes guest memory by address")]

use std::collections::VecDeque;
use std::fmt::{self, Debug};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;
use std::thread;
use std::time::Duration;

use io_uring::{IoUring, Probe, opcode, squeue, types};

use super::IoError;
use super::blocking::file_of;
use super::work::{Op, Part, Work};
use crate::disk::Disk;

/// Calls that the kernel has at most; a queue's other requests wait their turn.
const DEPTH: u32 = 256;

/// A ring and the requests that it carries out.
pub(super) struct Ring {
    ring: IoUring,
    slots: Vec<Option<Slot>>,
    /// Empty slots.
    free: Vec<u32>,
    /// Parts that the kernel is to be given: slot, part.
    due: VecDeque<(u32, u32)>,
    /// Parts that are in the submission queue or with the kernel.
    given: u32,
    /// Those of them that a system call has yet to tell the kernel of.
    untold: bool,
}

struct Slot {
    work: Work,
    /// Parts that have not ended.
    open: usize,
}

impl Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("given", &self.given).field("due", &self.due).finish_non_exhaustive()
    }
}

impl Ring {
    /// A ring, if the kernel has all that is used of it: Linux 5.19.
    pub(super) fn new() -> io::Result<Self> {
        let ring = IoUring::builder().setup_submit_all().setup_coop_taskrun().build(DEPTH)?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        let needed = [opcode::Readv::CODE, opcode::Writev::CODE, opcode::Fsync::CODE];
        let params = ring.params();
        if !params.is_feature_nodrop() || !params.is_feature_submit_stable() {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "This kernel's io_uring is too old"));
        }
        if !needed.into_iter().all(|code| probe.is_supported(code)) {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "io_uring has no readv, writev or fsync"));
        }
        let slots = (0..DEPTH).map(|_| None).collect();
        let (free, due) = ((0..DEPTH).rev().collect(), VecDeque::with_capacity(DEPTH as usize));
        Ok(Ring { ring, slots, free, due, given: 0, untold: false })
    }

    /// Readable while completions wait.
    pub(super) fn fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }

    /// Whether another request can be taken. Not while parts of earlier ones wait.
    pub(super) fn has_room(&self) -> bool {
        self.due.is_empty() && self.given < DEPTH && !self.free.is_empty()
    }

    /// Whether the kernel has, or shall have, something to do.
    pub(super) fn is_busy(&self) -> bool {
        self.given > 0 || !self.due.is_empty()
    }

    /// Takes a request with at least one part. Only if there is room.
    pub(super) fn start(&mut self, work: Work) {
        let Some(index) = self.free.pop() else {
            debug_assert!(false, "the caller asks for room first");
            return;
        };
        let parts = work.scratch.parts.len();
        if let Some(slot) = self.slots.get_mut(index as usize) {
            *slot = Some(Slot { work, open: parts });
        }
        self.due.extend((0..).take(parts).map(|part| (index, part)));
        self.give();
    }

    /// Puts parts into the submission queue while there is room.
    fn give(&mut self) {
        let mut queue = self.ring.submission();
        while self.given < DEPTH
            && let Some(&(index, part)) = self.due.front()
        {
            let slot = self.slots.get_mut(index as usize).and_then(Option::as_mut);
            let entry =
                slot.and_then(|slot| Some(entry(&slot.work, *slot.work.scratch.parts.get(part as usize)?)));
            let Some(entry) = entry else {
                self.due.pop_front();
                continue;
            };
            let entry = entry.user_data(u64::from(index) << 32 | u64::from(part));
            // SAFETY: what the entry points to stays where it is until the part has ended: the list of entries belongs
            // to the slot's work, whose vectors are left alone, and so does the disk, which keeps the file open. The
            // memory is guest RAM, kept mapped by the queue, which waits for all parts before it goes.
            if unsafe { queue.push(&entry) }.is_err() {
                break;
            }
            self.due.pop_front();
            self.given += 1;
            self.untold = true;
        }
    }

    /// Tells the kernel of new parts; returns whether that took a system call. On an error nothing is lost: to be
    /// called again.
    pub(super) fn enter(&mut self) -> io::Result<bool> {
        self.give();
        if !self.untold {
            return Ok(false);
        }
        loop {
            match self.ring.submit() {
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.untold = !self.ring.submission().is_empty();
        Ok(true)
    }

    /// Waits for a part to end; may return for nothing.
    pub(super) fn wait(&mut self) -> io::Result<()> {
        match self.ring.submit_and_wait(1) {
            Ok(_) => Ok(()),
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => Ok(()),
                // The kernel is short of memory.
                io::ErrorKind::WouldBlock | io::ErrorKind::ResourceBusy => {
                    thread::sleep(Duration::from_millis(1));
                    Ok(())
                }
                _ => Err(error),
            },
        }
    }

    /// Takes what has ended.
    pub(super) fn reap(&mut self, ended: &mut Vec<Work>) {
        let Ring { ring, slots, free, due, given, .. } = self;
        for completion in ring.completion() {
            *given -= 1;
            let id = completion.user_data();
            let [index, part] = [id >> 32, id & 0xffff_ffff].map(|half| u32::try_from(half).unwrap_or(0));
            let Some(place) = slots.get_mut(index as usize) else { continue };
            let Some(slot) = place else { continue };
            if slot.part_ended(part, completion.result()) {
                slot.open -= 1;
                if slot.open == 0
                    && let Some(slot) = place.take()
                {
                    free.push(index);
                    ended.push(slot.work);
                }
            } else {
                due.push_back((index, part));
            }
        }
    }

    /// Takes back the parts that the kernel has not been given; their requests are aborted.
    pub(super) fn abort(&mut self, which: impl Fn(&Disk) -> bool, ended: &mut Vec<Work>) {
        for _ in 0..self.due.len() {
            let Some((index, part)) = self.due.pop_front() else { break };
            let Some(place) = self.slots.get_mut(index as usize) else { continue };
            match place {
                Some(slot) if which(&slot.work.disk) => {
                    slot.work.fail(IoError::Aborted);
                    slot.open -= 1;
                    if slot.open == 0
                        && let Some(slot) = place.take()
                    {
                        self.free.push(index);
                        ended.push(slot.work);
                    }
                }
                _ => self.due.push_back((index, part)),
            }
        }
    }
}

impl Slot {
    /// Notes what the kernel did; `false` if it has to do more.
    fn part_ended(&mut self, part: u32, result: i32) -> bool {
        let Work { scratch, outcome, .. } = &mut self.work;
        let Some(part) = scratch.parts.get_mut(part as usize) else { return true };
        let ended = match usize::try_from(result) {
            Ok(_) if part.op == Op::Sync => Ok(()),
            Ok(bytes) => part.moved(&mut scratch.buffers, bytes),
            Err(_) => Err(io::Error::from_raw_os_error(result.wrapping_neg())),
        };
        match ended {
            Ok(()) => part.left == 0 || outcome.is_err(),
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {
                outcome.is_err()
            }
            Err(error) => {
                self.work.fail(error.into());
                true
            }
        }
    }
}

/// What the kernel is told of a part.
fn entry(work: &Work, part: Part) -> squeue::Entry {
    let fd = match file_of(&work.disk, part) {
        Ok(file) => types::Fd(file.as_raw_fd()),
        // Ends with EBADF.
        Err(_) => types::Fd(-1),
    };
    let entries = work.scratch.buffers.entries(part.first, part.count);
    let through = libc::RWF_DSYNC;
    if part.op == Op::Sync {
        return opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build();
    }
    // A list of one costs the kernel more than the one.
    if let [one] = entries
        && let Ok(len) = u32::try_from(one.iov_len)
    {
        let base = one.iov_base.cast::<u8>();
        return match part.op {
            Op::Read => opcode::Read::new(fd, base, len).offset(part.offset).build(),
            Op::WriteThrough => {
                opcode::Write::new(fd, base, len).offset(part.offset).rw_flags(through).build()
            }
            Op::Write | Op::Sync => opcode::Write::new(fd, base, len).offset(part.offset).build(),
        };
    }
    let (list, count) = (ptr::from_ref(entries).cast(), u32::try_from(entries.len()).unwrap_or(0));
    match part.op {
        Op::Read => opcode::Readv::new(fd, list, count).offset(part.offset).build(),
        Op::WriteThrough => {
            opcode::Writev::new(fd, list, count).offset(part.offset).rw_flags(through).build()
        }
        Op::Write | Op::Sync => opcode::Writev::new(fd, list, count).offset(part.offset).build(),
    }
}
