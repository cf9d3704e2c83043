//! Answers that wait for their time: at most [`MAX_DELAYED`] of them, and one timer for the earliest.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use vmm_sys_util::timerfd::TimerFd;

use super::protocol::MAX_DELAYED;
use super::worker::Answer;

#[derive(Debug)]
pub(super) struct Delays {
    /// The earliest last; of equal times the one that came first.
    waiting: Vec<(Instant, Answer)>,
    timer: TimerFd,
}

impl Delays {
    pub fn new() -> io::Result<Self> {
        Ok(Delays { waiting: Vec::new(), timer: TimerFd::new()? })
    }

    pub fn is_full(&self) -> bool {
        self.waiting.len() >= MAX_DELAYED
    }

    /// Takes an answer, unless it is full.
    pub fn push(&mut self, due: Instant, answer: Answer) {
        if !self.is_full() {
            let place = self.waiting.partition_point(|(other, _)| *other > due);
            self.waiting.insert(place, (due, answer));
        }
    }

    /// The next answer whose time has come.
    pub fn pop(&mut self, now: Instant) -> Option<Answer> {
        self.waiting.pop_if(|(due, _)| *due <= now).map(|(_, answer)| answer)
    }

    /// Readable when an answer's time has come, after [`Delays::watch`].
    pub fn timer(&self) -> RawFd {
        self.timer.as_raw_fd()
    }

    /// Sets the timer for the earliest answer. Not to be read: setting it again also takes back that it has fired,
    /// and a read of a timer that was set meanwhile would block.
    pub fn watch(&mut self, now: Instant) -> io::Result<()> {
        match self.waiting.last() {
            // A timer of 0 would be none.
            Some((due, _)) => {
                self.timer.reset(due.saturating_duration_since(now).max(Duration::from_nanos(1)), None)?;
            }
            None => self.ignore()?,
        }
        Ok(())
    }

    /// Stops the timer, while answers could not be sent anyway.
    pub fn ignore(&mut self) -> io::Result<()> {
        Ok(self.timer.clear()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vmbus::ring::PacketOut;

    fn answer(id: u64) -> Answer {
        Answer::new(&PacketOut::in_band(id, &[]))
    }

    #[test]
    fn answers_come_in_the_order_of_their_time_and_of_their_coming() {
        let mut delays = Delays::new().unwrap();
        let start = Instant::now();
        let at = |micros| start + Duration::from_micros(micros);
        for (id, micros) in [(1, 60), (2, 20), (3, 60), (4, 0), (5, 20), (6, 61)] {
            delays.push(at(micros), answer(id));
        }
        let mut come = |micros| -> Vec<u64> {
            std::iter::from_fn(|| delays.pop(at(micros))).map(|answer| answer.transaction_id()).collect()
        };
        assert_eq!(come(19), [4]);
        assert_eq!(come(60), [2, 5, 1, 3]);
        assert_eq!(come(61), [6]);
        assert!(come(1000).is_empty());
    }

    #[test]
    fn a_timer_that_was_set_again_has_not_fired() {
        let mut delays = Delays::new().unwrap();
        let now = Instant::now();
        let soon = now + Duration::from_secs(3600);
        delays.push(now, answer(1));
        delays.push(soon, answer(2));
        delays.watch(now).unwrap();
        while delays.timer.is_armed().unwrap() {}
        assert!(delays.pop(now).is_some());
        delays.watch(now).unwrap();
        assert!(delays.timer.is_armed().unwrap(), "for the second");
        delays.ignore().unwrap();
        assert!(!delays.timer.is_armed().unwrap());
    }
}
