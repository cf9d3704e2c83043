//! The TPM 2.0 as a guest sees it: registers, ports, and two buffers in its RAM.
//!
//! [`TpmRegisters`] is the register file. The TPM behind it is another's ([`Tpm`]): it may take seconds for a command,
//! so a command is handed over with the place for its response ([`Answer`]), and the guest polls. What a user's OS asks
//! of the next start outlives the machine ([`Presence`]). No command is looked into here, beyond its size.

pub mod presence;
pub mod protocol;
mod registers;

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use zerocopy::{FromBytes, IntoBytes};

pub use presence::Presence;
pub use registers::TpmRegisters;

use crate::guest_warn;
use crate::mem::Pages;
use protocol::{BUFFER_SIZE, RC_FAILURE, ResponseHeader, refusal};

/// A TPM, which carries out one command at a time.
pub trait Tpm: Debug + Send + Sync {
    /// Begins a command, which has a header and the size that it says. Called on a vCPU's thread: the answer comes
    /// from another one, or at once if it takes no time. There is no second command before the answer to the first.
    fn execute(&self, command: Vec<u8>, answer: Answer);

    /// The command that runs should come to an end soon; its answer is given as ever. Called on a vCPU's thread, as
    /// often as a guest likes.
    fn cancel(&self);
}

/// What the registers and an answer share.
#[derive(Debug, Default)]
struct Progress {
    /// A command runs.
    busy: AtomicBool,
}

/// The guest waits for a response, and this is where it goes. Whoever drops it tells the guest that the TPM failed.
#[derive(Debug)]
pub struct Answer {
    buffers: Pages,
    progress: Arc<Progress>,
    given: bool,
}

impl Answer {
    /// A command begins; its response goes behind it in `buffers`.
    fn new(buffers: Pages, progress: Arc<Progress>) -> Self {
        progress.busy.store(true, Ordering::Relaxed);
        Answer { buffers, progress, given: false }
    }

    /// Puts the response into the guest's buffer and tells it. What is no response becomes a failure.
    pub fn give(mut self, response: &[u8]) {
        let header = ResponseHeader::read_from_prefix(response);
        let whole = header.is_ok_and(|(header, _)| header.size.get() as usize == response.len());
        if whole && response.len() <= BUFFER_SIZE {
            self.finish(response);
        } else {
            guest_warn!("The TPM gave {} bytes that are no response", response.len());
        }
    }

    fn finish(&mut self, response: &[u8]) {
        self.given = true;
        if let Err(error) = self.buffers.write(BUFFER_SIZE, response) {
            guest_warn!("The TPM's response is lost: {error}");
        }
        // After the response: the guest takes it as soon as it sees this, and may start the next command.
        self.progress.busy.store(false, Ordering::Release);
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if !self.given {
            self.finish(refusal(RC_FAILURE).as_bytes());
        }
    }
}

#[cfg(test)]
mod tests;
