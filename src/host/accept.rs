//! Connections as they come, for the thread of a server that accepts them: the control socket's and VNC's.
//!
//! Ends when the other end of a pipe is closed. What becomes of a connection is the server's business.

use std::io::{self, PipeReader};
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

/// How long the host is left alone when it has no descriptor for a connection.
const BREATH: Duration = Duration::from_millis(100);

/// Takes connections until `stopped` is; `admit` gets each with its number. `refused` is told why one cannot be
/// accepted. The listener must not block.
pub fn accept_all<L: AsFd, C>(
    listener: &L,
    stopped: &PipeReader,
    accept: impl Fn(&L) -> io::Result<C>,
    admit: impl Fn(u64, C),
    refused: impl Fn(&io::Error),
) {
    for number in 0.. {
        match next(listener, stopped, &accept) {
            Ok(Some(connection)) => admit(number, connection),
            Ok(None) => return,
            Err(error) => {
                refused(&error);
                thread::sleep(BREATH);
            }
        }
    }
}

/// The next connection; `None` when the server ends.
fn next<L: AsFd, C>(
    listener: &L,
    stopped: &PipeReader,
    accept: impl Fn(&L) -> io::Result<C>,
) -> io::Result<Option<C>> {
    loop {
        let mut sources = [PollFd::new(listener, PollFlags::IN), PollFd::new(stopped, PollFlags::IN)];
        match poll(&mut sources, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if !sources[1].revents().is_empty() {
            return Ok(None);
        }
        match accept(listener) {
            Ok(connection) => return Ok(Some(connection)),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
}
