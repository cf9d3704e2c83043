//! Where viewers sit: the screen, keyboard and pointer of the machine that there is now.
//!
//! A reset makes a new machine with new devices, and viewers stay: they are told, and look anew.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use devices::display::{Keys, Pointer, Screen, Viewers, Watch};

/// What a machine has for a person.
#[derive(Clone, Debug, Default)]
pub struct Devices {
    /// What the guest shows.
    pub screen: Option<Arc<dyn Screen>>,
    /// Its keyboard.
    pub keys: Option<Arc<dyn Keys>>,
    /// Its mouse.
    pub pointer: Option<Arc<dyn Pointer>>,
}

/// The devices, for the control loop to put there and for viewers to use.
#[derive(Debug, Default)]
pub struct Desk {
    devices: Mutex<Devices>,
    viewers: Viewers,
}

impl Desk {
    /// Puts the devices of another machine there.
    pub fn put(&self, devices: Devices) {
        *self.lock() = devices;
        self.viewers.mode();
    }

    /// The devices that there are.
    #[must_use]
    pub fn devices(&self) -> Devices {
        self.lock().clone()
    }

    /// Is told of new devices, as of a new mode.
    pub(super) fn watch(&self) -> io::Result<Watch> {
        self.viewers.watch()
    }

    fn lock(&self) -> MutexGuard<'_, Devices> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
