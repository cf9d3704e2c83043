//! Triple faults: each resets the guest, but not one that cannot start.

use std::time::Duration;

use crate::report::End;

/// So many in a row, each soon after a start, are enough.
const LIMIT: u32 = 5;
/// A guest that lived longer had started.
const SOON: Duration = Duration::from_secs(10);

/// What a run has seen of them.
#[derive(Debug, Default)]
pub(super) struct Faults {
    in_a_row: u32,
}

impl Faults {
    /// Takes down how a life ended and how long it was. Whether another one is of no use.
    pub fn hopeless(&mut self, end: End, lived: Duration) -> bool {
        self.in_a_row = if end == End::TripleFault && lived < SOON { self.in_a_row + 1 } else { 0 };
        self.in_a_row >= LIMIT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_faulted_at_each_start_was_reset_for_ever() {
        let mut faults = Faults::default();
        let (soon, late) = (Duration::from_millis(300), Duration::from_secs(60));
        for _ in 1..LIMIT {
            assert!(!faults.hopeless(End::TripleFault, soon));
        }
        assert!(faults.hopeless(End::TripleFault, soon));
        for (end, lived) in [(End::TripleFault, late), (End::Reset, soon)] {
            assert!(!faults.hopeless(end, lived), "it had started, or it asked for the reset");
            assert!(!faults.hopeless(End::TripleFault, soon), "counted anew");
        }
    }
}
