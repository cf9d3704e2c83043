//! Requests of users to the guest: from whoever asks, through the thread of a service's channel, and back.
//!
//! Whoever runs the machine holds a [`RequestSender`], the service a [`RequestQueue`]. Nobody waits in here: a request
//! comes with a [`Reply`], which is called exactly once, with the guest's answer or with the reason why there is
//! none: the guest has no driver, is too slow, or its driver goes away. Guests may be slow for ever: what waits is
//! bounded, and each request has a time of its own.

use std::collections::VecDeque;
use std::fmt::{self, Debug};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use thiserror::Error;
use vmm_sys_util::timerfd::TimerFd;

use super::protocol::status;

/// Requests that wait for one service at most.
const WAITING_MAX: usize = 16;
/// As good as now; zero would switch a timer off.
const AT_ONCE: Duration = Duration::from_nanos(1);

/// Why the guest did not do what it was asked. Sentences for users.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum GuestError {
    /// No driver of the guest has the device open, or it has not agreed on versions yet.
    #[error("The guest does not listen: its service is not running (Linux: hv_utils with {0})")]
    NotListening(&'static str),
    /// Other requests come first.
    #[error("Too many requests wait for the guest already; try again")]
    Busy,
    /// The time is over.
    #[error("The guest has not answered within {} s; it may still do what it was asked", .0.as_secs())]
    NoAnswer(Duration),
    /// It says no, with an HRESULT.
    #[error("The guest refuses: {}", status::meaning(*.0))]
    Refused(u32),
    /// Its answer breaks the protocol.
    #[error("The guest's answer makes no sense: {0}")]
    Nonsense(String),
    /// The service's messages have no room for it.
    #[error("{what} is too long: it may have {max} {unit}")]
    TooLong {
        /// What was too long.
        what: &'static str,
        /// The most that it may have.
        max: usize,
        /// Of what.
        unit: &'static str,
    },
    /// The host's own file.
    #[error("The file cannot be read: {0}")]
    Source(String),
    /// What it is asked has no meaning; the sentence says why.
    #[error("{0}")]
    Invalid(&'static str),
    /// It cannot be asked in the present state; the sentence says why.
    #[error("{0}")]
    NotNow(&'static str),
}

/// Takes the outcome of one request to whoever asked. It must not wait for anything.
pub type Reply<A> = Box<dyn FnOnce(Result<A, GuestError>) + Send>;

/// A reply that has not been called, and until when somebody waits for it.
struct Waiter<A> {
    reply: Reply<A>,
    patience: Duration,
    deadline: Instant,
}

impl<A> Waiter<A> {
    fn is_late(&self, now: Instant) -> bool {
        self.deadline <= now
    }

    fn give_up(self) {
        (self.reply)(Err(GuestError::NoAnswer(self.patience)));
    }
}

struct State<Q, A> {
    listening: bool,
    waiting: VecDeque<(Q, Waiter<A>)>,
    /// Whose request the service carries out.
    current: Option<Waiter<A>>,
    /// When the service itself wants to be woken.
    alarm: Option<Instant>,
    /// Wakes the service: at once for a new request, or when somebody's time is over.
    timer: TimerFd,
}

impl<Q, A> State<Q, A> {
    fn wake_in(&mut self, time: Duration) {
        // Fails only for times that no clock has.
        let _ = self.timer.reset(time.max(AT_ONCE), None);
    }

    /// Sets the timer to the next deadline. Setting it takes back what it has already told.
    fn watch(&mut self, now: Instant) {
        let waiting = self.waiting.iter().map(|(_, waiter)| waiter.deadline);
        let current = self.current.as_ref().map(|waiter| waiter.deadline);
        match waiting.chain(current).chain(self.alarm).min() {
            Some(deadline) => self.wake_in(deadline.saturating_duration_since(now)),
            None => drop(self.timer.clear()),
        }
    }
}

struct Shared<Q, A> {
    state: Mutex<State<Q, A>>,
    /// The state's timer.
    wake: RawFd,
    /// What must run in a Linux guest, for errors.
    daemon: &'static str,
}

impl<Q, A> Shared<Q, A> {
    fn lock(&self) -> MutexGuard<'_, State<Q, A>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks one of the guest's services.
pub struct RequestSender<Q, A>(Arc<Shared<Q, A>>);

impl<Q, A> Clone for RequestSender<Q, A> {
    fn clone(&self) -> Self {
        RequestSender(Arc::clone(&self.0))
    }
}

impl<Q, A> Debug for RequestSender<Q, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestSender").field("daemon", &self.0.daemon).finish_non_exhaustive()
    }
}

impl<Q, A> RequestSender<Q, A> {
    /// Asks, and gives the guest so much time for its answer, waiting included.
    pub fn send(
        &self,
        request: Q,
        patience: Duration,
        reply: impl FnOnce(Result<A, GuestError>) + Send + 'static,
    ) {
        let mut state = self.0.lock();
        let refusal = if !state.listening {
            GuestError::NotListening(self.0.daemon)
        } else if state.waiting.len() >= WAITING_MAX {
            GuestError::Busy
        } else {
            let deadline = Instant::now() + patience;
            state.waiting.push_back((request, Waiter { reply: Box::new(reply), patience, deadline }));
            state.wake_in(AT_ONCE);
            return;
        };
        drop(state);
        reply(Err(refusal));
    }
}

/// The service's end. Dropping it answers all that wait.
pub struct RequestQueue<Q, A>(Arc<Shared<Q, A>>);

impl<Q, A> Debug for RequestQueue<Q, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestQueue").field("daemon", &self.0.daemon).finish_non_exhaustive()
    }
}

impl<Q, A> RequestQueue<Q, A> {
    /// A queue that takes nothing yet. `daemon` must run in a Linux guest for the service to work.
    ///
    /// # Errors
    /// When the host has no more descriptors.
    pub fn new(daemon: &'static str) -> io::Result<Self> {
        let timer = TimerFd::new()?;
        let wake = timer.as_raw_fd();
        let state = State { listening: false, waiting: VecDeque::new(), current: None, alarm: None, timer };
        Ok(RequestQueue(Arc::new(Shared { state: Mutex::new(state), wake, daemon })))
    }

    /// The other end.
    #[must_use]
    pub fn sender(&self) -> RequestSender<Q, A> {
        RequestSender(Arc::clone(&self.0))
    }

    /// The guest listens from now on.
    pub fn open(&self) {
        self.0.lock().listening = true;
    }

    /// The guest listens no more, and all who wait are told.
    pub fn close(&self) {
        let mut state = self.0.lock();
        state.listening = false;
        let waiting = std::mem::take(&mut state.waiting);
        let current = state.current.take();
        state.alarm = None;
        state.watch(Instant::now());
        drop(state);
        let gone = || Err(GuestError::NotListening(self.0.daemon));
        current.into_iter().for_each(|waiter| (waiter.reply)(gone()));
        waiting.into_iter().for_each(|(_, waiter)| (waiter.reply)(gone()));
    }

    /// Takes the next request; it is the current one until [`RequestQueue::reply`].
    #[must_use]
    pub fn next(&self) -> Option<Q> {
        let mut state = self.0.lock();
        let (request, waiter) = state.waiting.pop_front()?;
        state.current = Some(waiter);
        Some(request)
    }

    /// Whether somebody still waits for the current request.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.0.lock().current.is_some()
    }

    /// Ends the current request. What nobody waits for any more is dropped.
    pub fn reply(&self, outcome: Result<A, GuestError>) {
        // The lock ends here: a reply may do anything but wait.
        let current = self.0.lock().current.take();
        if let Some(waiter) = current {
            (waiter.reply)(outcome);
        }
    }

    /// Has the service woken once more after so much time; `None` forgets that.
    pub fn set_alarm(&self, time: Option<Duration>) {
        let now = Instant::now();
        let mut state = self.0.lock();
        state.alarm = time.map(|time| now + time);
        state.watch(now);
    }

    /// A descriptor that is readable when there is a request, or when somebody's time is over.
    #[must_use]
    pub fn wake(&self) -> RawFd {
        self.0.wake
    }

    /// Ends what nobody waits for any more. Takes what made [`RequestQueue::wake`] readable; tells whether the alarm's
    /// time has come.
    pub fn woken(&self) -> bool {
        let now = Instant::now();
        let mut state = self.0.lock();
        let (late, waiting): (VecDeque<_>, _) =
            std::mem::take(&mut state.waiting).into_iter().partition(|(_, waiter)| waiter.is_late(now));
        state.waiting = waiting;
        let current = state.current.take_if(|waiter| waiter.is_late(now));
        let alarm = state.alarm.take_if(|alarm| *alarm <= now).is_some();
        state.watch(now);
        drop(state);
        current.into_iter().for_each(Waiter::give_up);
        for (_request, waiter) in late {
            waiter.give_up();
        }
        alarm
    }
}

impl<Q, A> Drop for RequestQueue<Q, A> {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    fn queue() -> RequestQueue<u32, u32> {
        let queue = RequestQueue::new("a daemon").unwrap();
        queue.open();
        queue
    }

    fn ask(
        queue: &RequestQueue<u32, u32>,
        request: u32,
        patience: Duration,
    ) -> Receiver<Result<u32, GuestError>> {
        let (told, outcome) = channel();
        queue.sender().send(request, patience, move |result| drop(told.send(result)));
        outcome
    }

    #[test]
    fn requests_are_answered_in_order_and_once() {
        let queue = queue();
        let (first, second) = (ask(&queue, 1, LONG), ask(&queue, 2, LONG));
        for outcome in [first, second] {
            let request = queue.next().unwrap();
            assert!(queue.is_awaited());
            queue.reply(Ok(request * 10));
            assert_eq!(outcome.recv().unwrap(), Ok(request * 10));
            queue.reply(Ok(0));
            assert!(outcome.recv().is_err());
        }
        assert!(queue.next().is_none());
    }

    #[test]
    fn a_guest_that_says_nothing_is_given_up_and_its_late_answer_is_nobodys() {
        let queue = queue();
        let (asked, waiting) = (ask(&queue, 1, Duration::ZERO), ask(&queue, 2, Duration::ZERO));
        let patient = ask(&queue, 3, LONG);
        assert_eq!(queue.next(), Some(1));
        queue.woken();
        for outcome in [asked, waiting] {
            assert_eq!(outcome.recv().unwrap(), Err(GuestError::NoAnswer(Duration::ZERO)));
        }
        assert!(!queue.is_awaited());
        queue.reply(Ok(1));
        assert_eq!(queue.next(), Some(3));
        queue.reply(Ok(3));
        assert_eq!(patient.recv().unwrap(), Ok(3));
    }

    #[test]
    fn whoever_waits_is_told_when_the_driver_goes_or_the_device_is_lost() {
        let gone = Err(GuestError::NotListening("a daemon"));
        let queue = queue();
        let (asked, waiting) = (ask(&queue, 1, LONG), ask(&queue, 2, LONG));
        assert_eq!(queue.next(), Some(1));
        queue.close();
        assert_eq!((asked.recv().unwrap(), waiting.recv().unwrap()), (gone.clone(), gone.clone()));
        assert_eq!(ask(&queue, 3, LONG).recv().unwrap(), gone);
        queue.open();
        let sender = queue.sender();
        let asked = ask(&queue, 4, LONG);
        drop(queue);
        assert_eq!(asked.recv().unwrap(), gone);
        let (told, outcome) = channel();
        sender.send(5, LONG, move |result| told.send(result).unwrap());
        assert_eq!(outcome.recv().unwrap(), gone);
    }

    #[test]
    fn what_waits_is_bounded() {
        let queue = queue();
        let waiting: Vec<_> = (0..16).map(|request| ask(&queue, request, LONG)).collect();
        assert_eq!(ask(&queue, 16, LONG).recv().unwrap(), Err(GuestError::Busy));
        assert!(waiting.iter().all(|outcome| outcome.try_recv().is_err()));
    }
}
