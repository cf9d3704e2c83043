//! [`TestTpm`]: a TPM that answers when it is told to.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::tpm::{Answer, Tpm};

/// Keeps commands, and the places for their responses.
#[derive(Debug, Default)]
pub struct TestTpm(Mutex<State>);

/// What a test looks at.
#[derive(Debug, Default)]
pub struct State {
    /// Commands so far.
    pub commands: Vec<Vec<u8>>,
    /// The one that waits.
    pub answer: Option<Answer>,
    /// How often the guest wanted an end.
    pub cancelled: usize,
}

impl TestTpm {
    /// What there is now.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tpm for TestTpm {
    fn execute(&self, command: Vec<u8>, answer: Answer) {
        let mut state = self.state();
        state.commands.push(command);
        let waits = state.answer.replace(answer);
        assert!(waits.is_none(), "a second command before the answer to the first");
    }

    fn cancel(&self) {
        self.state().cancelled += 1;
    }
}
