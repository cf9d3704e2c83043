//! SIGTERM, SIGINT and SIGHUP as something to poll: each asks busman to end.
//!
//! Create this before [`Terminal`](super::Terminal): from then on these signals no longer kill the process, so
//! the terminal is restored on the ordinary way out.

#![expect(unsafe_code, reason = "asking for a signal's disposition has no safe wrapper among our libraries")]

use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;

use signal_hook::SigId;
use signal_hook::low_level::{pipe, unregister};

/// Readable once a signal came.
#[derive(Debug)]
pub struct Signals {
    arrivals: UnixStream,
    registered: Vec<SigId>,
}

impl Signals {
    /// Catches the signals from now on, until drop.
    ///
    /// # Errors
    /// When the host gives no socket or refuses a handler.
    pub fn new() -> io::Result<Self> {
        let (arrivals, sender) = UnixStream::pair()?;
        arrivals.set_nonblocking(true)?;
        let mut signals = Signals { arrivals, registered: Vec::new() };
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            // Under nohup the user wants the machine to outlive the terminal.
            if signal == libc::SIGHUP && is_ignored(signal) {
                continue;
            }
            signals.registered.push(pipe::register(signal, sender.try_clone()?)?);
        }
        Ok(signals)
    }

    /// How many signals came since the last call.
    pub fn take(&mut self) -> usize {
        let mut count = 0;
        let mut bytes = [0; 16];
        while let Ok(read @ 1..) = self.arrivals.read(&mut bytes) {
            count += read;
        }
        count
    }
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> RawFd {
        self.arrivals.as_raw_fd()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.arrivals.as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for id in self.registered.drain(..) {
            unregister(id);
        }
    }
}

fn is_ignored(signal: libc::c_int) -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: a null action changes nothing; the kernel fills `action`, which is large enough by its type.
    let known = unsafe { libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) } == 0;
    // SAFETY: all zeros is a valid sigaction, and the kernel wrote at most over it.
    known && unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN
}

#[cfg(test)]
mod tests {
    use super::*;
    use signal_hook::low_level::raise;

    // One test: signals belong to the process, and tests of one process run side by side.
    #[test]
    fn signals_are_counted_and_do_not_kill() {
        let mut signals = Signals::new().unwrap();
        assert_eq!(signals.take(), 0);
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            if !is_ignored(signal) {
                raise(signal).unwrap();
                assert_eq!(signals.take(), 1, "{signal}");
            }
        }
        raise(libc::SIGTERM).unwrap();
        raise(libc::SIGTERM).unwrap();
        assert_eq!(signals.take(), 2);
        assert_eq!(signals.take(), 0);
    }
}
