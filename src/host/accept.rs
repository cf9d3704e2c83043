//! The thread of a server that accepts connections as they come: the control socket's and VNC's.
//!
//! Ends when the other end of a pipe is closed. What becomes of a connection is the server's business.

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::AsFd;
use std::thread::{self, Builder, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

/// How long the host is left alone when it has no descriptor for a connection.
const BREATH: Duration = Duration::from_millis(100);

/// Where connections come in; it must not block.
pub trait Listen: AsFd + Send + 'static {
    /// A connection.
    type Client;

    /// Takes the next one.
    ///
    /// # Errors
    /// What the host says; `WouldBlock` while there is none.
    fn accept(&self) -> io::Result<Self::Client>;
}

/// A thread that accepts connections, until it is dropped.
#[derive(Debug)]
pub struct Acceptor {
    /// Closed to end the thread.
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Acceptor {
    /// Starts the thread, with a name for it; `admit` gets each connection with its number, or why it cannot be
    /// accepted.
    ///
    /// # Errors
    /// When the host has no thread or no pipe for it.
    pub fn start<L: Listen>(
        name: &str,
        stack_size: usize,
        listener: L,
        admit: impl Fn(u64, io::Result<L::Client>) + Send + 'static,
    ) -> io::Result<Acceptor> {
        let (stopped, stop) = io::pipe()?;
        let thread = Builder::new().name(name.to_owned()).stack_size(stack_size).spawn(move || {
            for number in 0.. {
                match next(&listener, &stopped).transpose() {
                    Some(Ok(client)) => admit(number, Ok(client)),
                    Some(Err(error)) => {
                        admit(number, Err(error));
                        thread::sleep(BREATH);
                    }
                    None => return,
                }
            }
        })?;
        Ok(Acceptor { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The next connection; `None` when the server ends.
fn next<L: Listen>(listener: &L, stopped: &PipeReader) -> io::Result<Option<L::Client>> {
    loop {
        let mut sources = [PollFd::new(listener, PollFlags::IN), PollFd::new(stopped, PollFlags::IN)];
        match poll(&mut sources, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if !sources[1].revents().is_empty() {
            return Ok(None);
        }
        match listener.accept() {
            Ok(connection) => return Ok(Some(connection)),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
}
