//! The I/O engine of one channel: requests between disks and guest memory, many in flight.
//!
//! A [`Queue`] belongs to one channel's thread. Requests are submitted, handed over in batches ([`Queue::commit`]), and
//! told of when they have ended ([`Queue::reap`]), in no order. One queue serves all disks of its channel, and a disk
//! is served by many queues.
//!
//! Where an image says in which places of its files bytes lie, the kernel moves them straight between there and guest
//! memory: by `io_uring`, or by threads where a host forbids that. All else are calls of the image on a thread of the
//! disk, with memory of our own in between; and on the channel's thread for images that never wait.
//!
//! What is in flight owns no guest memory but knows its addresses. The queue keeps the RAM mapped, and its end waits
//! until nothing is in flight: then the guest's pages are the guest's again.
//!
//! | file | what it holds |
//! |---|---|
//! | `request` | what can be asked, how it ends |
//! | `work` | a request on its way: route and parts |
//! | `buffers` | its guest memory by address |
//! | `uring` | parts by `io_uring` |
//! | `vectored` | parts by `preadv2` and `pwritev2` |
//! | `blocking` | the image's calls |
//! | `bounce` | memory of our own |
//! | `pool` | threads of a disk |
//! | `alarm` | wakes the channel for what had to wait |

mod alarm;
mod blocking;
mod bounce;
mod buffers;
mod pool;
mod request;
#[cfg(test)]
mod tests;
mod uring;
mod vectored;
mod work;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

pub(super) use bounce::Bounce;
pub(super) use pool::Pool;
pub use request::{IoError, Request, Tag};

use super::Disk;
use crate::mem::{GuestRam, MemError, Piece};
use alarm::Alarm;
use pool::Returned;
use uring::Ring;
use work::{Route, Scratch, Work};

/// Bytes that the channel's thread copies at a time: they stay in the first cache.
const CHUNK: usize = 16 << 10;
/// When the kernel is asked again that had no memory for what was handed to it.
const RETRY: Duration = Duration::from_millis(1);

/// Who moves bytes between files and guest memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// `io_uring` where the host allows it, else threads.
    #[default]
    Auto,
    /// `io_uring`.
    Uring,
    /// Threads that block.
    Threads,
}

/// What a queue has done.
#[derive(Debug, Default)]
pub struct QueueCounters {
    /// System calls by which requests were handed to `io_uring`.
    pub submissions: AtomicU64,
}

/// The requests of one channel.
#[derive(Debug)]
pub struct Queue {
    /// Keeps mapped what requests in flight point to.
    ram: GuestRam,
    ring: Option<Ring>,
    returned: Arc<Returned>,
    /// Disks whose threads have requests of ours, and how many.
    pooled: Vec<(Arc<Disk>, usize)>,
    alarm: Alarm,
    /// Not yet started, in their order.
    waiting: VecDeque<Work>,
    /// Of disks with a rate limit: those that may not start yet, in their order.
    limited: VecDeque<Work>,
    /// Ended, not yet told.
    done: VecDeque<(Tag, Result<(), IoError>)>,
    /// Submitted, not yet told.
    in_flight: usize,
    /// Used again, like the lists below, so that a request allocates nothing.
    spare: Vec<Scratch>,
    ended: Vec<Work>,
    bounce: Bounce,
    counters: Arc<QueueCounters>,
}

impl Queue {
    /// A queue without requests, for guest memory of this RAM.
    ///
    /// # Errors
    /// When the host gives no descriptors, or no ring and [`Engine::Uring`] was asked for.
    pub fn new(ram: GuestRam, engine: Engine) -> io::Result<Self> {
        let ring = match engine {
            Engine::Uring => Some(Ring::new()?),
            Engine::Threads => None,
            Engine::Auto => Ring::new().map_err(|error| say_once(&error)).ok(),
        };
        Ok(Queue {
            ram,
            ring,
            returned: Arc::new(Returned::new()?),
            pooled: Vec::new(),
            alarm: Alarm::new()?,
            waiting: VecDeque::new(),
            limited: VecDeque::new(),
            done: VecDeque::new(),
            in_flight: 0,
            spare: Vec::new(),
            ended: Vec::new(),
            bounce: Bounce::default(),
            counters: Arc::default(),
        })
    }

    /// Who moves the bytes: never [`Engine::Auto`].
    #[must_use]
    pub fn engine(&self) -> Engine {
        if self.ring.is_some() { Engine::Uring } else { Engine::Threads }
    }

    /// What it has done; shared, to be shown elsewhere.
    #[must_use]
    pub fn counters(&self) -> &Arc<QueueCounters> {
        &self.counters
    }

    /// Descriptors to watch for reading: when any of them is readable, [`Queue::reap`] has something to do. It clears
    /// them.
    #[must_use]
    pub fn wake_fds(&self) -> Vec<RawFd> {
        let own = [self.returned.event().as_raw_fd(), self.alarm.fd()];
        own.into_iter().chain(self.ring.as_ref().map(Ring::fd)).collect()
    }

    /// Requests whose end has not been told.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Takes a request for the next [`Queue::commit`]. `memory` is what it moves bytes from or to: exactly as many as
    /// it moves, none if it moves none. Whatever is wrong with the rest of the request is told when it has ended.
    ///
    /// A queue holds whatever it is given: the caller bounds that.
    ///
    /// # Errors
    /// When memory is not RAM, or more or less than the request moves. Nothing has been done then, and the tag is free.
    pub fn submit<'r>(
        &mut self,
        tag: Tag,
        disk: &Arc<Disk>,
        request: Request,
        memory: impl Iterator<Item = Result<Piece<'r>, MemError>>,
    ) -> Result<(), MemError> {
        let mut scratch = self.spare.pop().unwrap_or_default();
        let moves = request.moves();
        if moves > 0
            && let Err(error) = scratch.buffers.take(moves, memory)
        {
            self.spare.push(scratch);
            return Err(error);
        }
        let disk = Arc::clone(disk);
        let list = if disk.limit().is_some() { &mut self.limited } else { &mut self.waiting };
        list.push_back(Work::new(tag, disk, request, scratch));
        self.in_flight += 1;
        Ok(())
    }

    /// Starts what was submitted. Call [`Queue::reap`] afterwards: what ended at once is told there and wakes nobody.
    pub fn commit(&mut self) {
        self.release();
        while self.ring.as_ref().is_none_or(Ring::has_room)
            && let Some(work) = self.waiting.pop_front()
        {
            self.start(work);
        }
        let Some(ring) = &mut self.ring else { return };
        match ring.enter() {
            Ok(true) => {
                self.counters.submissions.fetch_add(1, Ordering::Relaxed);
            }
            Ok(false) => {}
            // No memory, or too much under way; it is gone on with when something has ended, or soon.
            Err(error) => {
                crate::guest_warn!("io_uring does not take requests now: {error}");
                self.alarm.set(RETRY);
            }
        }
    }

    /// Tells which requests have ended and how, and starts what could not be started before. Never blocks.
    pub fn reap(&mut self, mut done: impl FnMut(Tag, Result<(), IoError>)) {
        loop {
            self.collect();
            self.commit();
            if self.done.is_empty() {
                break;
            }
            while let Some((tag, outcome)) = self.done.pop_front() {
                self.in_flight -= 1;
                done(tag, outcome);
            }
        }
    }

    /// Ends those requests of a disk that neither the kernel nor a thread has begun with: [`Queue::reap`] tells of them
    /// as [`IoError::Aborted`]. The others end as they would have.
    pub fn abort(&mut self, disk: &Disk) {
        self.abort_those(|other| ptr::eq(other, disk));
    }

    /// [`Queue::abort`] for all disks.
    pub fn abort_all(&mut self) {
        self.abort_those(|_| true);
    }

    fn abort_those(&mut self, which: impl Fn(&Disk) -> bool) {
        let mut ended = std::mem::take(&mut self.ended);
        for list in [&mut self.waiting, &mut self.limited] {
            for _ in 0..list.len() {
                match list.pop_front() {
                    Some(work) if which(&work.disk) => ended.push(work),
                    Some(work) => list.push_back(work),
                    None => break,
                }
            }
        }
        for (disk, count) in &mut self.pooled {
            if which(disk) {
                disk.pool().take_back(&self.returned, |work| {
                    *count -= 1;
                    ended.push(work);
                });
            }
        }
        self.pooled.retain(|&(_, count)| count > 0);
        if let Some(ring) = &mut self.ring {
            ring.abort(which, &mut ended);
        }
        for mut work in ended.drain(..) {
            work.fail(IoError::Aborted);
            self.finish(work);
        }
        self.ended = ended;
    }

    /// Lets start what the rate limits allow by now.
    fn release(&mut self) {
        self.alarm.clear();
        if self.limited.is_empty() {
            return;
        }
        let (now, mut soonest) = (Instant::now(), None);
        for _ in 0..self.limited.len() {
            let Some(mut work) = self.limited.pop_front() else { break };
            // What a limit refuses it refuses to all that come later in this round.
            match work.disk.limit().map_or(Ok(()), |limit| limit.take(work.request.moves(), now)) {
                Ok(()) => self.waiting.push_back(work),
                Err(wait) => {
                    soonest = Some(soonest.map_or(wait, |soonest: Duration| soonest.min(wait)));
                    work.note_late();
                    self.limited.push_back(work);
                }
            }
        }
        if let Some(wait) = soonest {
            self.alarm.set(wait);
        }
    }

    fn start(&mut self, mut work: Work) {
        work.plan();
        match (work.route, &mut self.ring) {
            (Route::Done, _) if !work.flush_after => self.finish(work),
            (Route::Here, _) => {
                blocking::run(&mut work, &mut self.bounce, CHUNK);
                self.finish(work);
            }
            (Route::Parts, Some(ring)) if !work.scratch.parts.is_empty() => ring.start(work),
            _ => self.hand_to_thread(work),
        }
    }

    fn hand_to_thread(&mut self, work: Work) {
        let disk = Arc::clone(&work.disk);
        disk.counters().slow.fetch_add(1, Ordering::Relaxed);
        match disk.pool().submit(work, &self.returned) {
            Ok(()) => match self.pooled.iter_mut().find(|(other, _)| Arc::ptr_eq(other, &disk)) {
                Some((_, count)) => *count += 1,
                None => self.pooled.push((disk, 1)),
            },
            Err((mut work, error)) => {
                work.fail(error.into());
                self.finish(*work);
            }
        }
    }

    /// Takes what the kernel and the threads have done.
    fn collect(&mut self) {
        let mut ended = std::mem::take(&mut self.ended);
        if let Some(ring) = &mut self.ring {
            ring.reap(&mut ended);
            for mut work in ended.drain(..) {
                if work.flush_after && work.outcome.is_ok() {
                    work.route = Route::Done;
                    self.hand_to_thread(work);
                } else {
                    self.finish(work);
                }
            }
        }
        self.returned.take(&mut ended);
        for work in ended.drain(..) {
            self.forget_pooled(&work);
            self.finish(work);
        }
        self.ended = ended;
    }

    fn forget_pooled(&mut self, work: &Work) {
        if let Some(index) = self.pooled.iter().position(|(disk, _)| Arc::ptr_eq(disk, &work.disk))
            && let Some((_, count)) = self.pooled.get_mut(index)
        {
            *count -= 1;
            if *count == 0 {
                self.pooled.swap_remove(index);
            }
        }
    }

    fn finish(&mut self, work: Work) {
        let Work { tag, disk, request, mut scratch, outcome, .. } = work;
        disk.note(&request, &outcome);
        self.done.push_back((tag, outcome));
        scratch.clear();
        self.spare.push(scratch);
    }

    /// Waits until neither the kernel nor a thread knows guest memory.
    fn drain(&mut self) -> io::Result<()> {
        loop {
            self.abort_all();
            let mut ended = std::mem::take(&mut self.ended);
            if !self.pooled.is_empty() {
                self.returned.wait();
                self.returned.take(&mut ended);
                for work in ended.drain(..) {
                    self.forget_pooled(&work);
                }
            } else if let Some(ring) = &mut self.ring
                && ring.is_busy()
            {
                ring.wait()?;
                ring.reap(&mut ended);
                ended.clear();
            } else {
                return Ok(());
            }
            self.ended = ended;
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        if let Err(error) = self.drain() {
            log::error!("A queue cannot wait for its requests, so its guest's RAM stays mapped: {error}");
            std::mem::forget(self.ram.clone());
        }
    }
}

fn say_once(error: &io::Error) {
    static SAID: Once = Once::new();
    SAID.call_once(|| log::warn!("This host has no io_uring for us ({error}): disks are served by threads"));
}
