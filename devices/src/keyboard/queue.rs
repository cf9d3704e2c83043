//! Keys on their way to the guest: bounded, and no release is lost.
//!
//! A press finds room or is dropped. A release is kept if and only if its press was, so that the guest never has a
//! key that stays down; as there are only so many keys, that is bounded too.

use std::collections::{HashSet, VecDeque};

use crate::display::Scancode;

/// Presses that wait at most: a good typist's ten seconds.
const PRESSES_MAX: usize = 128;
/// Codes of set 1 have seven bits; the eighth is a release on a real keyboard's wire.
const CODE_MAX: u16 = 0x7f;

/// A key that goes down or up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stroke {
    pub scancode: Scancode,
    pub pressed: bool,
}

#[derive(Debug, Default)]
pub(super) struct KeyQueue {
    waiting: VecDeque<Stroke>,
    /// Keys whose press was queued and whose release was not.
    down: HashSet<Scancode>,
}

impl KeyQueue {
    /// Adds a stroke; false if it is dropped.
    pub fn push(&mut self, stroke: Stroke) -> bool {
        let Stroke { scancode, pressed } = stroke;
        let room = self.waiting.len() < PRESSES_MAX && (1..=CODE_MAX).contains(&scancode.code);
        let kept = if pressed { room } else { self.down.remove(&scancode) };
        if kept {
            self.waiting.push_back(stroke);
        }
        if kept && pressed {
            self.down.insert(scancode);
        }
        kept
    }

    pub fn front(&self) -> Option<Stroke> {
        self.waiting.front().copied()
    }

    /// The first stroke is in the guest's ring.
    pub fn sent(&mut self) {
        self.waiting.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::display::Prefix;

    fn stroke(code: u16, prefix: Prefix, pressed: bool) -> Stroke {
        Stroke { scancode: Scancode { code, prefix }, pressed }
    }

    #[test]
    fn codes_that_are_no_keys_are_dropped() {
        let mut queue = KeyQueue::default();
        for code in [0, 0x80, 0x9e, u16::MAX] {
            assert!(!queue.push(stroke(code, Prefix::None, true)), "{code:#x}");
        }
        assert!(queue.push(stroke(0x7f, Prefix::E0, true)));
    }

    #[test]
    fn a_release_without_its_press_is_dropped() {
        let mut queue = KeyQueue::default();
        assert!(!queue.push(stroke(0x1e, Prefix::None, false)));
        assert!(queue.push(stroke(0x1e, Prefix::E0, true)));
        assert!(!queue.push(stroke(0x1e, Prefix::None, false)), "another key");
        assert!(queue.push(stroke(0x1e, Prefix::E0, false)));
        assert!(!queue.push(stroke(0x1e, Prefix::E0, false)));
    }

    proptest! {
        /// However a person hammers at it while the guest reads or does not: at the end of all keys nothing is down.
        #[test]
        fn no_key_stays_down(steps in prop::collection::vec((0u16..0x90, 0u8..3, any::<bool>(), 0u8..4), 0..2000)) {
            let mut queue = KeyQueue::default();
            let mut guest = HashSet::new();
            let mut read = |queue: &mut KeyQueue| {
                let stroke = queue.front().unwrap();
                queue.sent();
                if stroke.pressed {
                    guest.insert(stroke.scancode);
                } else {
                    assert!(guest.remove(&stroke.scancode), "{stroke:?}");
                }
                guest.len()
            };
            let prefix = |n| [Prefix::None, Prefix::E0, Prefix::E1][usize::from(n)];
            for (code, p, pressed, reads) in steps {
                queue.push(stroke(code, prefix(p), pressed));
                prop_assert!(queue.waiting.len() <= PRESSES_MAX + 3 * usize::from(CODE_MAX));
                if reads == 0 && queue.front().is_some() {
                    read(&mut queue);
                }
            }
            for code in 0..0x90 {
                (0..3).for_each(|p| { queue.push(stroke(code, prefix(p), false)); });
            }
            let mut down = 0;
            while queue.front().is_some() {
                down = read(&mut queue);
            }
            prop_assert_eq!(down, 0);
        }
    }
}
