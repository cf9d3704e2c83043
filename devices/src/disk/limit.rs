//! How many requests and bytes a second a disk may take.
//!
//! The bookkeeping is of time, not of tokens: every request pays for as much time as it may take by the limit, and
//! a request may start when all time up to now is paid for. What is not used is kept for [`BURST`] at most. A
//! request that is larger than the burst starts like any other; those after it wait the longer.

use std::num::NonZeroU64;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Unused time that can be caught up on.
const BURST: Duration = Duration::from_millis(100);

/// The limits of one disk, shared by all its queues.
#[derive(Debug)]
pub(super) struct Limit {
    iops: Option<NonZeroU64>,
    bytes_per_second: Option<NonZeroU64>,
    paid: Mutex<Paid>,
}

/// Up to when requests and bytes are paid for.
#[derive(Debug)]
struct Paid {
    requests: Instant,
    bytes: Instant,
}

impl Limit {
    /// `None` without any limit.
    pub(super) fn new(iops: Option<NonZeroU64>, bytes: Option<NonZeroU64>, now: Instant) -> Option<Self> {
        if iops.is_none() && bytes.is_none() {
            return None;
        }
        let paid = Mutex::new(Paid { requests: now, bytes: now });
        Some(Limit { iops, bytes_per_second: bytes, paid })
    }

    /// Pays for a request of so many bytes, which may then start; else says how long to wait at least.
    pub(super) fn take(&self, bytes: u64, now: Instant) -> Result<(), Duration> {
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        let due = paid.requests.max(paid.bytes).saturating_duration_since(now);
        if !due.is_zero() {
            return Err(due);
        }
        let oldest = now.checked_sub(BURST).unwrap_or(now);
        paid.requests = paid.requests.max(oldest) + time_of(1, self.iops);
        paid.bytes = paid.bytes.max(oldest) + time_of(bytes, self.bytes_per_second);
        Ok(())
    }
}

/// How long `count` may take.
fn time_of(count: u64, per_second: Option<NonZeroU64>) -> Duration {
    let Some(per_second) = per_second else {
        return Duration::ZERO;
    };
    let nanos = u128::from(count) * 1_000_000_000 / u128::from(per_second.get());
    // A limit that makes one request take years is no limit that anybody means.
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).min(Duration::from_secs(365 * 86_400))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    fn limit(iops: u64, bytes: u64) -> (Limit, Instant) {
        let start = Instant::now() + Duration::from_secs(10);
        (Limit::new(NonZeroU64::new(iops), NonZeroU64::new(bytes), start).unwrap(), start)
    }

    #[test]
    fn no_numbers_are_no_limit() {
        assert!(Limit::new(None, None, Instant::now()).is_none());
    }

    #[test]
    fn a_second_takes_as_many_requests_as_the_limit_says() {
        let (limit, start) = limit(500, 0);
        let (mut now, mut taken) = (start, 0);
        while now < start + Duration::from_secs(1) {
            match limit.take(1 << 20, now) {
                Ok(()) => taken += 1,
                Err(wait) => now += wait,
            }
        }
        assert_eq!(taken, 500);
    }

    #[test]
    fn a_rest_earns_a_burst_of_100_ms_and_no_more() {
        let (limit, start) = limit(1000, 0);
        let now = start + Duration::from_secs(3600);
        let taken = (0..10_000).take_while(|_| limit.take(0, now).is_ok()).count();
        assert_eq!(taken, 101);
        assert_eq!(limit.take(0, now), Err(MILLI));
    }

    #[test]
    fn a_large_request_starts_and_those_after_it_wait() {
        let (limit, start) = limit(0, 1_000_000);
        assert_eq!(limit.take(2_000_000, start), Ok(()));
        assert_eq!(limit.take(1, start), Err(2000 * MILLI));
        assert_eq!(limit.take(1, start + 1500 * MILLI), Err(500 * MILLI));
        assert_eq!(limit.take(1, start + 2000 * MILLI), Ok(()));
    }

    #[test]
    fn of_two_limits_the_tighter_one_holds() {
        let (limit, start) = limit(10, 4096);
        assert_eq!(limit.take(4096, start), Ok(()));
        assert_eq!(limit.take(0, start), Err(1000 * MILLI));
        let later = start + 1000 * MILLI;
        assert_eq!(limit.take(0, later), Ok(()));
        assert_eq!(limit.take(0, later), Ok(()), "a burst of one request, 100 ms of 10 a second");
        assert_eq!(limit.take(0, later), Err(100 * MILLI));
    }
}
