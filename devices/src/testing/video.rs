//! Video memory that no guest runs on: the test says what was written.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vm_memory::GuestAddress;

use crate::mem::GuestRam;
use crate::video::VideoMemory;

/// Video memory; a clone is the same memory.
#[derive(Clone, Debug)]
pub struct TestVideoMemory {
    bytes: GuestRam,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    address: Option<u64>,
    written: Vec<u64>,
    refuses: bool,
}

impl TestVideoMemory {
    /// So many bytes, whole pages.
    #[must_use]
    pub fn new(size: usize) -> Self {
        let bytes = GuestRam::from_ranges(&[(GuestAddress(0), size)]).expect("memory");
        TestVideoMemory { bytes, state: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the guest sees it.
    #[must_use]
    pub fn address(&self) -> Option<u64> {
        self.state().address
    }

    /// The guest has written these pages: bit n is page n.
    pub fn write(&self, pages: u64) {
        self.state().written = vec![pages];
    }

    /// The host refuses to show it to the guest from now on, or does not.
    pub fn refuse(&self, refuses: bool) {
        self.state().refuses = refuses;
    }
}

impl VideoMemory for TestVideoMemory {
    fn bytes(&self) -> &GuestRam {
        &self.bytes
    }

    fn map(&self, address: u64) -> io::Result<()> {
        let mut state = self.state();
        state.address = (!state.refuses).then_some(address);
        if state.refuses { Err(io::ErrorKind::PermissionDenied.into()) } else { Ok(()) }
    }

    fn unmap(&self) {
        self.state().address = None;
    }

    fn written(&self) -> io::Result<Vec<u64>> {
        Ok(std::mem::take(&mut self.state().written))
    }
}
