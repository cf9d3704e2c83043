//! The connections that a server has, each served by a thread of its own: the control socket's and VNC's.
//!
//! Counts them, and ends them with the server. What is said on a connection is the server's business.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Connections by number.
type Open<C> = BTreeMap<u64, Arc<C>>;

/// A server's connections.
pub struct Clients<C> {
    open: Mutex<Open<C>>,
    /// One of them has gone.
    gone: Condvar,
}

impl<C> Default for Clients<C> {
    fn default() -> Self {
        Clients { open: Mutex::default(), gone: Condvar::new() }
    }
}

impl<C> fmt::Debug for Clients<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients").field("open", &self.count()).finish_non_exhaustive()
    }
}

impl<C> Clients<C> {
    fn open(&self) -> MutexGuard<'_, Open<C>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.open().len()
    }

    /// Gives a connection a place, unless there are `limit` already.
    #[must_use]
    pub fn admit(self: &Arc<Self>, number: u64, client: &Arc<C>, limit: usize) -> Option<Place<C>> {
        let mut open = self.open();
        if open.len() >= limit {
            return None;
        }
        open.insert(number, Arc::clone(client));
        Some(Place { clients: Arc::clone(self), number })
    }

    /// Hangs up on all of them, and waits for their threads, so long and no longer.
    pub fn end(&self, patience: Duration, hang_up: impl Fn(&C)) {
        let open = self.open();
        open.values().for_each(|client| hang_up(client));
        drop(self.gone.wait_timeout_while(open, patience, |open| !open.is_empty()));
    }
}

/// A connection's place among the others, given up however its thread ends.
#[derive(Debug)]
pub struct Place<C> {
    clients: Arc<Clients<C>>,
    number: u64,
}

impl<C> Drop for Place<C> {
    fn drop(&mut self) {
        self.clients.open().remove(&self.number);
        self.clients.gone.notify_all();
    }
}
