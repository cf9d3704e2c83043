//! Threads of a disk, for what blocks. They start when there is work and end when there has been none for a while.
//!
//! Work goes to them and comes back by value: whoever has it has the guest's memory of it, nobody else.

use std::collections::VecDeque;
use std::fmt::{self, Debug};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::Duration;

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::blocking;
use super::bounce::Bounce;
use super::work::Work;

/// Most threads of a disk.
const MOST: usize = 16;
/// Bytes that a thread copies at a time, where it must copy.
const CHUNK: usize = 1 << 20;
/// When a thread without work ends.
const IDLE: Duration = Duration::from_secs(10);
/// Bytes of a thread's name that the kernel keeps.
const NAME: usize = 15;

/// The threads of one disk.
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    name: String,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
    closed: bool,
}

struct Job {
    work: Work,
    back: Arc<Returned>,
}

impl Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("name", &self.shared.name).finish_non_exhaustive()
    }
}

impl Pool {
    /// No thread yet.
    pub(crate) fn new(disk: &str) -> Self {
        let mut name = format!("disk-{disk}").replace('\0', "");
        while name.len() > NAME {
            name.pop();
        }
        Pool { shared: Arc::new(Shared { name, state: Mutex::default(), changed: Condvar::new() }) }
    }

    /// Has a thread carry it out and give it back. Fails, and gives it back at once, if there is no thread.
    pub(super) fn submit(&self, work: Work, back: &Arc<Returned>) -> Result<(), (Box<Work>, io::Error)> {
        let mut state = self.shared.lock();
        if state.idle <= state.jobs.len() && state.threads < MOST {
            let shared = Arc::clone(&self.shared);
            match Builder::new().name(self.shared.name.clone()).spawn(move || shared.serve()) {
                Ok(_) => state.threads += 1,
                Err(error) if state.threads == 0 => return Err((Box::new(work), error)),
                // Those that are there will come to it.
                Err(_) => {}
            }
        }
        state.jobs.push_back(Job { work, back: Arc::clone(back) });
        drop(state);
        self.shared.changed.notify_one();
        Ok(())
    }

    /// Takes back what no thread has begun with.
    pub(super) fn take_back(&self, back: &Arc<Returned>, mut taken: impl FnMut(Work)) {
        let mut state = self.shared.lock();
        for _ in 0..state.jobs.len() {
            match state.jobs.pop_front() {
                Some(job) if Arc::ptr_eq(&job.back, back) => taken(job.work),
                Some(job) => state.jobs.push_back(job),
                None => break,
            }
        }
    }
}

impl Drop for Pool {
    /// Nothing is under way: work keeps its disk, and with it this pool. The threads end by themselves.
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread's life.
    fn serve(&self) {
        let mut bounce = Bounce::default();
        while let Some(Job { mut work, back }) = self.next() {
            let run = catch_unwind(AssertUnwindSafe(|| blocking::run(&mut work, &mut bounce, CHUNK)));
            if run.is_err() {
                work.fail(io::Error::other("The image format panicked").into());
            }
            back.give(work);
        }
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            if state.closed {
                state.threads -= 1;
                return None;
            }
            state.idle += 1;
            let waited = self.changed.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
            state = waited.0;
            state.idle -= 1;
            if waited.1.timed_out() && state.jobs.is_empty() {
                state.threads -= 1;
                return None;
            }
        }
    }
}

/// Where a queue gets its work back from threads.
#[derive(Debug)]
pub(super) struct Returned {
    work: Mutex<Vec<Work>>,
    /// There is some: spares the lock when there is none.
    some: AtomicBool,
    changed: Condvar,
    /// Written with the first; read when all is taken.
    event: EventFd,
}

impl Returned {
    pub(super) fn new() -> io::Result<Self> {
        let event = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
        Ok(Returned { work: Mutex::default(), some: AtomicBool::new(false), changed: Condvar::new(), event })
    }

    /// Readable when there is work to be taken.
    pub(super) fn event(&self) -> &EventFd {
        &self.event
    }

    fn give(&self, work: Work) {
        let mut list = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        if list.is_empty() {
            self.some.store(true, Ordering::Release);
            // Fails only when the counter is at its end, and then it is readable.
            let _ = self.event.write(1);
        }
        list.push(work);
        drop(list);
        self.changed.notify_one();
    }

    /// Swaps an empty list with that of the work that came back.
    pub(super) fn take(&self, into: &mut Vec<Work>) {
        if self.some.load(Ordering::Acquire) {
            let mut list = self.work.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut *list, into);
            self.some.store(false, Ordering::Release);
            // Cleared by every read; it was written with the first of the list.
            let _ = self.event.read();
        }
    }

    /// Waits until there is some.
    pub(super) fn wait(&self) {
        let list = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = self.changed.wait_while(list, |list| list.is_empty());
        drop(wait.unwrap_or_else(PoisonError::into_inner));
    }
}
