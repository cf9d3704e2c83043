//! Where viewers sit: the screen, keyboard and pointer of the machine that there is now.
//!
//! A reset makes a new machine with new devices, and viewers stay: they are told, and look anew.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use devices::display::{Viewers, Watch};

use crate::display::Display;

/// The devices, for the control loop to put there and for viewers to use.
#[derive(Debug, Default)]
pub struct Desk {
    display: Mutex<Display>,
    viewers: Viewers,
}

impl Desk {
    /// Puts the devices there that the machine has now. Viewers look anew if they are others.
    pub fn put(&self, display: Display) {
        let mut now = self.lock();
        let same = is_same(&now.screen, &display.screen)
            && is_same(&now.keys, &display.keys)
            && is_same(&now.pointer, &display.pointer);
        *now = display;
        drop(now);
        if !same {
            self.viewers.mode();
        }
    }

    /// The devices that there are.
    #[must_use]
    pub fn display(&self) -> Display {
        self.lock().clone()
    }

    /// Is told of new devices, as of a new mode.
    pub(super) fn watch(&self) -> io::Result<Watch> {
        self.viewers.watch()
    }

    fn lock(&self) -> MutexGuard<'_, Display> {
        self.display.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_same<T: ?Sized>(one: &Option<Arc<T>>, other: &Option<Arc<T>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        _ => false,
    }
}
