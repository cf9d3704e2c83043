//! The way of a command to the control loop, and of its outcome back.
//!
//! Any thread may hold a [`CommandSender`]. The control loop never waits for those who ask: it takes a command
//! when it has time, and an outcome that nobody waits for any more is dropped. Those who ask wait for [`PATIENCE`],
//! and for the guest as long as the command says.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use vmm_sys_util::eventfd::EventFd;

use super::{Answer, Command, Refusal};

/// How long an outcome is waited for.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// Commands that wait for the control loop at most.
pub(crate) const QUEUE: usize = 16;

/// What came of a command.
pub type Outcome = Result<Answer, Refusal>;

/// Takes the outcome of one command to whoever asked.
pub struct Reply(Box<dyn FnOnce(Outcome) + Send>);

impl Reply {
    /// A reply that is passed to `show`, which must not wait for anything.
    pub fn new(show: impl FnOnce(Outcome) + Send + 'static) -> Self {
        Reply(Box::new(show))
    }

    /// Tells the outcome.
    pub fn send(self, outcome: Outcome) {
        (self.0)(outcome);
    }
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reply").finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Request {
    command: Command,
    reply: Reply,
    /// Nobody waits for it after this.
    deadline: Instant,
}

/// Sends commands to the control loop.
#[derive(Debug)]
pub struct CommandSender {
    requests: SyncSender<Request>,
    wake: EventFd,
    patience: Duration,
}

/// The control loop's end; it outlives the machine, so that commands given during a reset are for the next one.
#[derive(Debug)]
pub struct CommandReceiver {
    requests: Receiver<Request>,
    /// Readable when there are commands; a semaphore, so that one is read for each.
    pub wake: EventFd,
}

/// Makes a connected pair.
///
/// # Errors
/// When this process may have no more descriptors.
pub fn command_channel() -> io::Result<(CommandSender, CommandReceiver)> {
    let wake = EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC | libc::EFD_SEMAPHORE)?;
    let (sender, receiver) = sync_channel(QUEUE);
    let sender = CommandSender { requests: sender, wake: wake.try_clone()?, patience: PATIENCE };
    Ok((sender, CommandReceiver { requests: receiver, wake }))
}

impl CommandSender {
    /// Has a command carried out and waits for its outcome.
    ///
    /// # Errors
    /// The control loop's, or that it is gone, busy or late.
    pub fn execute(&self, command: Command) -> Outcome {
        let (outcome, receiver) = sync_channel(1);
        // There is room for one: it does not wait, and fails only when nobody listens any more.
        let reply = Reply::new(move |result| drop(outcome.try_send(result)));
        let patience = self.patience + command.guests_time();
        let request = Request { command, reply, deadline: Instant::now() + patience };
        self.requests.try_send(request).map_err(|error| match error {
            TrySendError::Full(_) => Refusal::Busy,
            TrySendError::Disconnected(_) => Refusal::Ended,
        })?;
        // Fails only when the counter is at its end, and then the control loop is awake already.
        let _ = self.wake.write(1);
        receiver.recv_timeout(patience).map_err(|error| match error {
            RecvTimeoutError::Timeout => Refusal::Late(patience.as_secs()),
            RecvTimeoutError::Disconnected => Refusal::Ended,
        })?
    }
}

impl CommandReceiver {
    /// Takes the next command that somebody still waits for.
    #[must_use]
    pub fn next(&self) -> Option<(Command, Reply)> {
        let now = Instant::now();
        let request = self.requests.try_iter().find(|request| request.deadline > now)?;
        Some((request.command, request.reply))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn pair(patience: Duration) -> (CommandSender, CommandReceiver) {
        let (sender, receiver) = command_channel().unwrap();
        (CommandSender { patience, ..sender }, receiver)
    }

    #[test]
    fn a_command_comes_with_a_way_back() {
        let (sender, receiver) = pair(PATIENCE);
        let asking = thread::spawn(move || sender.execute(Command::Pause));
        // The command is there before it is told of.
        while receiver.wake.read().is_err() {
            thread::yield_now();
        }
        let (command, reply) = receiver.next().unwrap();
        assert_eq!(command, Command::Pause);
        reply.send(Ok(Answer::Done));
        assert!(matches!(asking.join().unwrap(), Ok(Answer::Done)));
    }

    #[test]
    fn a_control_loop_that_does_not_answer_is_given_up_and_its_queue_is_bounded() {
        let (sender, receiver) = pair(Duration::ZERO);
        for _ in 0..QUEUE {
            assert!(matches!(sender.execute(Command::Stop), Err(Refusal::Late(_))));
        }
        assert!(matches!(sender.execute(Command::Stop), Err(Refusal::Busy)));
        assert!(receiver.next().is_none(), "what nobody waits for is not carried out");
        drop(receiver);
        assert!(matches!(sender.execute(Command::Stop), Err(Refusal::Ended)));
    }

    #[test]
    fn a_control_loop_that_ends_says_so_to_those_who_wait() {
        let (sender, receiver) = pair(PATIENCE);
        let asking = thread::spawn(move || sender.execute(Command::State));
        while receiver.wake.read().is_err() {
            thread::yield_now();
        }
        drop(receiver);
        assert!(matches!(asking.join().unwrap(), Err(Refusal::Ended)));
    }
}
