//! Log lines that a guest can trigger, limited so that no guest fills the host's disk.
//!
//! Use [`guest_warn!`](crate::guest_warn) and [`guest_debug!`](crate::guest_debug) wherever a guest's message,
//! packet or register write leads to a log line. Each call site has its own budget: [`BURST`] lines, one more
//! every [`REFILL`]; the first line after a silence says how many were left out.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Lines that one call site may print at once.
pub const BURST: u32 = 10;
/// Time after which a call site may print one more line.
pub const REFILL: Duration = Duration::from_secs(1);

/// The budget of one call site.
#[derive(Debug)]
pub struct Limiter {
    burst: u32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    tokens: u32,
    refilled: Option<Instant>,
    left_out: u64,
}

impl Limiter {
    /// A full budget.
    #[must_use]
    pub const fn new() -> Self {
        Self::with_burst(BURST)
    }

    /// A full budget of so many lines at once.
    #[must_use]
    pub const fn with_burst(burst: u32) -> Self {
        Limiter { burst, state: Mutex::new(State { tokens: burst, refilled: None, left_out: 0 }) }
    }

    /// Takes one line from the budget: `None` when it is spent, else how many lines were left out before.
    pub fn take(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let refilled = *state.refilled.get_or_insert(now);
        let earned = now.saturating_duration_since(refilled).as_secs() / REFILL.as_secs();
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(self.burst);
            state.tokens = state.tokens.saturating_add(earned).min(self.burst);
            state.refilled = Some(now);
        }
        if state.tokens == 0 {
            state.left_out += 1;
            return None;
        }
        state.tokens -= 1;
        Some(std::mem::take(&mut state.left_out))
    }
}

impl Default for Limiter {
    fn default() -> Self {
        Self::new()
    }
}

/// Logs at the given level within the call site's budget.
#[macro_export]
macro_rules! guest_log {
    ($level:expr, $($arg:tt)+) => {{
        static LIMITER: $crate::ratelimit::Limiter = $crate::ratelimit::Limiter::new();
        if log::log_enabled!($level) {
            match LIMITER.take(std::time::Instant::now()) {
                Some(0) => log::log!($level, $($arg)+),
                Some(left_out) => log::log!($level, "{} ({left_out} more like it left out)", format_args!($($arg)+)),
                None => {}
            }
        }
    }};
}

/// A warning that a guest can trigger.
#[macro_export]
macro_rules! guest_warn {
    ($($arg:tt)+) => { $crate::guest_log!(log::Level::Warn, $($arg)+) };
}

/// A line for people that a guest can trigger.
#[macro_export]
macro_rules! guest_info {
    ($($arg:tt)+) => { $crate::guest_log!(log::Level::Info, $($arg)+) };
}

/// A debug line that a guest can trigger.
#[macro_export]
macro_rules! guest_debug {
    ($($arg:tt)+) => { $crate::guest_log!(log::Level::Debug, $($arg)+) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_prints_a_burst_and_then_one_line_a_second() {
        let limiter = Limiter::new();
        let start = Instant::now();
        let printed = (0..1000).filter(|_| limiter.take(start).is_some()).count();
        assert_eq!(printed, 10);
        assert_eq!(limiter.take(start + Duration::from_millis(999)), None);
        assert_eq!(limiter.take(start + Duration::from_secs(1)), Some(991));
        assert_eq!(limiter.take(start + Duration::from_secs(1)), None);
    }

    #[test]
    fn a_budget_of_one_is_one_line_a_second() {
        let limiter = Limiter::with_burst(1);
        let start = Instant::now();
        let taken = |at: Duration| limiter.take(start + at);
        assert_eq!(taken(Duration::ZERO), Some(0));
        assert_eq!(taken(Duration::from_millis(900)), None);
        assert_eq!(taken(Duration::from_secs(1)), Some(1));
        assert_eq!(taken(Duration::from_secs(60)), Some(0));
        assert_eq!(taken(Duration::from_secs(60)), None);
    }

    #[test]
    fn a_long_silence_earns_no_more_than_a_burst() {
        let limiter = Limiter::new();
        let start = Instant::now();
        assert_eq!(limiter.take(start), Some(0));
        let later = start + Duration::from_secs(3600);
        assert_eq!((0..100).filter(|_| limiter.take(later).is_some()).count(), 10);
    }
}
