//! How a copy goes: written by the service's thread, read by whoever asks.

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::ic::requests::GuestError;

/// What became of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CopyState {
    /// It is on its way.
    Copying,
    /// The guest has the file.
    Done,
    /// The guest has no file, or half of one that it could not remove; there is an error.
    Failed,
    /// The same, because somebody wanted it so.
    Cancelled,
}

/// A copy, as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyStatus {
    /// The file in the guest.
    pub to: String,
    /// What became of it.
    pub state: CopyState,
    /// Bytes that the guest has.
    pub copied: u64,
    /// Bytes of the file.
    pub size: u64,
    /// Why it failed.
    pub error: Option<String>,
}

/// A copy's status, shared. Its end is its end: what comes later changes nothing.
#[derive(Debug)]
pub(super) struct Progress(Mutex<CopyStatus>);

impl Progress {
    pub(super) fn new(to: &str, size: u64) -> Self {
        let (to, state) = (to.to_owned(), CopyState::Copying);
        Progress(Mutex::new(CopyStatus { to, state, copied: 0, size, error: None }))
    }

    /// Changes what is still on its way.
    fn change(&self, change: impl FnOnce(&mut CopyStatus)) {
        let mut status = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if status.state == CopyState::Copying {
            change(&mut status);
        }
    }

    pub(super) fn status(&self) -> CopyStatus {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn is_running(&self) -> bool {
        self.status().state == CopyState::Copying
    }

    pub(super) fn copied(&self, copied: u64) {
        self.change(|status| status.copied = copied);
    }

    pub(super) fn end(&self, state: CopyState) {
        self.change(|status| status.state = state);
    }

    pub(super) fn fail(&self, error: &GuestError) {
        self.change(|status| {
            status.state = CopyState::Failed;
            status.error = Some(error.to_string());
        });
    }
}

/// The latest copy.
#[derive(Clone, Debug, Default)]
pub(super) struct Latest(Arc<Mutex<Option<Arc<Progress>>>>);

impl Latest {
    /// Begins a new one, if no other is on its way.
    pub(super) fn begin(&self, progress: &Arc<Progress>) -> Result<(), GuestError> {
        let mut latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.as_ref().is_some_and(|progress| progress.is_running()) {
            return Err(GuestError::NotNow("A file is being copied already; wait for its end, or cancel it"));
        }
        *latest = Some(Arc::clone(progress));
        Ok(())
    }

    pub(super) fn get(&self) -> Option<Arc<Progress>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
