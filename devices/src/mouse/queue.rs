//! Motion and clicks on their way to the guest: bounded, and no release is lost.
//!
//! A report has all buttons, so the guest is right about them as soon as it has read the newest. When there is no
//! room the oldest mere motion is left out; if all that waits are clicks, the newest takes in what follows it.

use std::collections::VecDeque;

use crate::display::POINTER_MAX;

/// Reports that wait at most: half a second of a fast mouse.
const MAX: usize = 64;
/// Buttons that a report has.
const BUTTONS: u8 = 0x1f;

/// Where the pointer is, what is held, how the wheel turned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub x: u16,
    pub y: u16,
    pub buttons: u8,
    pub wheel: i16,
}

#[derive(Debug, Default)]
pub(super) struct MotionQueue {
    waiting: VecDeque<State>,
    /// What the guest has been told last.
    told: u8,
}

impl MotionQueue {
    pub fn push(&mut self, state: State) {
        let state = State {
            x: state.x.min(POINTER_MAX),
            y: state.y.min(POINTER_MAX),
            buttons: state.buttons & BUTTONS,
            ..state
        };
        if self.waiting.len() < MAX || self.leave_out_motion() {
            self.waiting.push_back(state);
        } else if let Some(last) = self.waiting.back_mut() {
            *last = State { wheel: last.wheel.saturating_add(state.wheel), ..state };
        }
    }

    fn leave_out_motion(&mut self) -> bool {
        let mut before = self.told;
        let motion = self.waiting.iter().position(|state| {
            let before = std::mem::replace(&mut before, state.buttons);
            before == state.buttons && state.wheel == 0
        });
        motion.and_then(|at| self.waiting.remove(at)).is_some()
    }

    pub fn front(&self) -> Option<State> {
        self.waiting.front().copied()
    }

    /// The first report is in the guest's ring.
    pub fn sent(&mut self) {
        if let Some(state) = self.waiting.pop_front() {
            self.told = state.buttons;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn state(x: u16, buttons: u8, wheel: i16) -> State {
        State { x, y: 0, buttons, wheel }
    }

    fn drain(queue: &mut MotionQueue) -> Vec<State> {
        std::iter::from_fn(|| queue.front().inspect(|_| queue.sent())).collect()
    }

    #[test]
    fn clicks_outlive_motion() {
        let mut queue = MotionQueue::default();
        queue.push(state(1, 0, 0));
        queue.push(state(2, 1, 0));
        queue.push(state(3, 0, 0));
        queue.push(state(4, 0, -1));
        (5..1000).for_each(|x| queue.push(state(x, 0, 0)));
        let seen = drain(&mut queue);
        assert_eq!(seen.len(), MAX);
        assert_eq!(seen[..3], [state(2, 1, 0), state(3, 0, 0), state(4, 0, -1)]);
        assert_eq!(seen[MAX - 1], state(999, 0, 0));
    }

    #[test]
    fn what_is_out_of_range_is_brought_back() {
        let mut queue = MotionQueue::default();
        queue.push(State { x: u16::MAX, y: 32_768, buttons: 0xff, wheel: 0 });
        assert_eq!(drain(&mut queue), [State { x: 32_767, y: 32_767, buttons: 0x1f, wheel: 0 }]);
    }

    proptest! {
        /// Whatever happens while the guest reads or does not: it ends with the newest place and buttons, and has all
        /// turns of the wheel.
        #[test]
        fn the_guest_ends_where_the_person_is(
            steps in prop::collection::vec((0u16..=POINTER_MAX, 0u8..8, -1i16..=1, 0u8..9), 1..1000),
        ) {
            let mut queue = MotionQueue::default();
            let mut seen = Vec::new();
            for &(x, buttons, wheel, reads) in &steps {
                queue.push(state(x, buttons, wheel));
                prop_assert!(queue.waiting.len() <= MAX);
                if reads == 0 {
                    seen.extend(queue.front());
                    queue.sent();
                }
            }
            seen.extend(drain(&mut queue));
            let (x, buttons, ..) = steps[steps.len() - 1];
            let last = seen[seen.len() - 1];
            prop_assert_eq!((last.x, last.buttons), (x, buttons));
            let turned = |wheel: &mut dyn Iterator<Item = i16>| wheel.sum::<i16>();
            prop_assert_eq!(
                turned(&mut seen.iter().map(|state| state.wheel)),
                turned(&mut steps.iter().map(|step| step.2))
            );
        }
    }
}
