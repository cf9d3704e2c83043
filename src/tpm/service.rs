//! The thread `tpm`: carries out the guest's commands, so that no processor of the guest waits for them.
//!
//! It outlives the machines. There is one command at most, and one request for power: whatever a guest does, nothing
//! piles up. A swtpm that is lost answers with failures until the machine is reset, when it is started or sought anew.

use std::error::Error;
use std::fmt;
use std::iter;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use devices::tpm::presence::Operation;
use devices::tpm::protocol::PLATFORM_FAILURE;
use devices::tpm::{Answer, Presence, Tpm};

use super::commands;
use super::control::Control;
use super::link::Link;
use super::{TpmError, TpmSource};

/// The TPM of one machine after the other.
#[derive(Debug)]
pub struct Service {
    queue: Arc<Queue>,
    presence: Arc<Mutex<Presence>>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread is to do.
#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    end: bool,
    power_on: bool,
    /// What the OS of a machine that is gone has asked to be done when the power comes back.
    operation: Option<Operation>,
    command: Option<(Vec<u8>, Answer)>,
    running: Option<Running>,
}

impl fmt::Debug for State {
    /// A command may have a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("running", &self.running.is_some()).finish_non_exhaustive()
    }
}

/// What others may do to the command that runs.
struct Running {
    control: Control,
    data: Arc<UnixStream>,
    cancelled: bool,
}

enum Job {
    PowerOn,
    Command(Vec<u8>, Answer),
    End,
}

impl Service {
    /// Starts swtpm or connects to one.
    ///
    /// # Errors
    /// A sentence for the user: what is missing, or what swtpm said.
    pub fn start(source: &TpmSource) -> Result<Self, TpmError> {
        let link = Link::open(source)?;
        let (queue, presence) = (Arc::<Queue>::default(), Arc::<Mutex<Presence>>::default());
        let mut worker = Worker {
            queue: Arc::clone(&queue),
            presence: Arc::clone(&presence),
            source: source.clone(),
            link: Some(link),
        };
        let thread = thread::Builder::new().name("tpm".to_owned()).spawn(move || worker.run());
        Ok(Service { queue, presence, thread: Some(thread.map_err(TpmError::Start)?) })
    }

    /// A new machine: its TPM has just been switched on, once its guest asks for it. Gives the machine's halves of it.
    #[must_use]
    pub fn power_on(&self) -> (Arc<dyn Tpm>, Arc<Mutex<Presence>>) {
        // Here and not on the thread, which may still be busy when the new machine's guest asks for something.
        let operation = self.presence.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut state = self.queue.lock();
        state.power_on = true;
        state.operation = operation.or_else(|| state.operation.take());
        // Of a machine that is gone.
        state.command = None;
        state.cancel();
        drop(state);
        self.queue.wake.notify_one();
        (Arc::clone(&self.queue) as _, Arc::clone(&self.presence))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        state.end = true;
        if let Some(running) = &state.running {
            // The guest is gone; nobody waits for what this may still bring.
            let _ = running.data.shutdown(Shutdown::Both);
        }
        drop(state);
        self.queue.wake.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("The TPM's thread failed");
        }
    }
}

impl Tpm for Queue {
    fn execute(&self, command: Vec<u8>, answer: Answer) {
        self.lock().command = Some((command, answer));
        self.wake.notify_one();
    }

    fn cancel(&self) {
        self.lock().cancel();
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Job {
        let mut state = self.lock();
        loop {
            if state.end {
                return Job::End;
            }
            if std::mem::take(&mut state.power_on) {
                return Job::PowerOn;
            }
            if let Some((command, answer)) = state.command.take() {
                return Job::Command(command, answer);
            }
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Others see that a command runs on `link`, from here to [`Self::finished`].
    fn runs(&self, link: &Link) {
        let (control, data) = (link.control.clone(), Arc::clone(&link.data));
        self.lock().running = Some(Running { control, data, cancelled: false });
    }

    /// The command has ended; whether its end was asked for. Who asked did not wait for the answer.
    fn finished(&self) -> bool {
        self.lock().running.take().is_some_and(|running| running.cancelled)
    }
}

impl State {
    /// swtpm is asked once for each command, however often a guest asks: nothing piles up in its socket.
    fn cancel(&mut self) {
        if let Some(running) = self.running.as_mut().filter(|running| !running.cancelled) {
            running.cancelled = running.control.cancel().is_ok();
        }
    }
}

/// What the thread has.
struct Worker {
    queue: Arc<Queue>,
    presence: Arc<Mutex<Presence>>,
    source: TpmSource,
    link: Option<Link>,
}

impl Worker {
    fn run(&mut self) {
        loop {
            match self.queue.next() {
                Job::PowerOn => self.power_on(),
                Job::Command(command, answer) => self.execute(&command, answer),
                Job::End => return,
            }
        }
    }

    /// Takes the power and gives it back; what the OS has asked for is done in between.
    fn power_on(&mut self) {
        // One that was lost while nobody asked it anything shows that only now.
        let alive = self.link.take().filter(|link| link.power_on().is_ok());
        let done = alive.map_or_else(|| self.found(), Ok).and_then(|mut link| {
            let operation = self.queue.lock().operation.take();
            let Some(operation) = operation else { return Ok(link) };
            log::info!("The guest has asked for this change of its TPM: {operation:?}");
            let result = carry_out(&mut link, &commands::of(operation))?;
            self.presence.lock().unwrap_or_else(PoisonError::into_inner).done(result);
            link.power_on()?;
            Ok(link)
        });
        match done {
            Ok(link) => self.link = Some(link),
            Err(error) => lost(&error),
        }
    }

    /// Another swtpm than the one that is lost.
    fn found(&self) -> Result<Link, TpmError> {
        let link = Link::open(&self.source)?;
        // It was started to see what it is; the guest's firmware is to start it.
        link.power_on()?;
        Ok(link)
    }

    fn execute(&mut self, command: &[u8], answer: Answer) {
        let Some(link) = &mut self.link else { return };
        self.queue.runs(link);
        let mut response = link.execute(command);
        if self.queue.finished() && response.is_ok() {
            let answered = link.control.cancelled().map_err(TpmError::Lost);
            response = response.and_then(|response| answered.map(|()| response));
        }
        match response {
            Ok(response) => answer.give(&response),
            Err(error) => {
                let ends = self.queue.lock().end;
                if !ends {
                    lost(&error);
                }
                self.link = None;
            }
        }
    }
}

/// Until one fails; gives its response code.
fn carry_out(link: &mut Link, commands: &[Vec<u8>]) -> Result<u32, TpmError> {
    link.execute(&commands::startup())?;
    let mut result = PLATFORM_FAILURE;
    for command in commands {
        let response = link.execute(command)?;
        result = commands::response_code(&response).unwrap_or(PLATFORM_FAILURE);
        if result != 0 {
            break;
        }
    }
    link.execute(&commands::shutdown())?;
    Ok(result)
}

fn lost(error: &TpmError) {
    let causes = iter::successors(Some(error as &dyn Error), |error| (*error).source());
    let causes = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
    log::error!("{causes}; until a reset the guest's TPM answers with failures");
}
