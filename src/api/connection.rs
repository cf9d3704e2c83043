//! One client: its requests in, their responses out, each within its time.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::http::{self, HttpError, REQUEST_MAX, Request, Response};
use super::server::Limits;
use super::{Vm, routes};

/// What a client may still send after an error, bytes: it sees the error only when it has finished writing.
const DRAIN_MAX: usize = 1 << 20;

pub(super) struct Connection<'a> {
    stream: &'a UnixStream,
    limits: &'a Limits,
    /// What has come and was not used yet.
    received: Vec<u8>,
}

/// What became of waiting for a request.
enum Incoming {
    Request(Request),
    /// The client is gone, or has been silent for long: nobody waits for an answer.
    End,
    Broken(HttpError),
}

impl<'a> Connection<'a> {
    pub(super) fn new(stream: &'a UnixStream, limits: &'a Limits) -> Self {
        Connection { stream, limits, received: Vec::new() }
    }

    /// Answers requests until the client ends, breaks the rules or is too slow.
    pub(super) fn serve(mut self, vm: &dyn Vm) -> io::Result<()> {
        loop {
            match self.receive()? {
                Incoming::Request(request) => {
                    self.send(&routes::respond(vm, &request).bytes(request.keep_alive))?;
                    if !request.keep_alive {
                        return Ok(());
                    }
                }
                Incoming::End => return Ok(()),
                Incoming::Broken(error) => {
                    self.send(&Response::error(error.status(), &error.to_string()).bytes(false))?;
                    return self.drain();
                }
            }
        }
    }

    fn receive(&mut self) -> io::Result<Incoming> {
        let mut deadline = if self.received.is_empty() { self.limits.idle } else { self.limits.request };
        let mut start = Instant::now();
        loop {
            match http::parse(&self.received) {
                Ok(Some((request, used))) => {
                    self.received.drain(..used);
                    return Ok(Incoming::Request(request));
                }
                Ok(None) => {}
                Err(error) => return Ok(Incoming::Broken(error)),
            }
            let was_idle = self.received.is_empty();
            match self.read(start + deadline) {
                Ok(0) => return Ok(Incoming::End),
                Ok(_) if was_idle => (start, deadline) = (Instant::now(), self.limits.request),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut && was_idle => {
                    return Ok(Incoming::End);
                }
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    return Ok(Incoming::Broken(HttpError::Slow));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads once; what was received never grows beyond a request.
    fn read(&mut self, deadline: Instant) -> io::Result<usize> {
        let mut bytes = [0; 4096];
        let room = bytes.len().min(REQUEST_MAX.saturating_sub(self.received.len()));
        let read = in_time(deadline, |left| {
            self.stream.set_read_timeout(Some(left))?;
            (&mut &*self.stream).read(bytes.get_mut(..room).unwrap_or_default())
        })?;
        self.received.extend(bytes.iter().take(read));
        Ok(read)
    }

    fn send(&self, mut bytes: &[u8]) -> io::Result<()> {
        let deadline = Instant::now() + self.limits.response;
        while !bytes.is_empty() {
            let written = in_time(deadline, |left| {
                self.stream.set_write_timeout(Some(left))?;
                (&mut &*self.stream).write(bytes)
            })?;
            bytes = bytes.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    /// Takes what the client is still writing, so that it comes to read the error.
    fn drain(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)?;
        let deadline = Instant::now() + self.limits.request;
        let mut bytes = [0; 4096];
        let mut drained = 0;
        while drained < DRAIN_MAX {
            match in_time(deadline, |left| {
                self.stream.set_read_timeout(Some(left))?;
                (&mut &*self.stream).read(&mut bytes)
            })? {
                0 => break,
                read => drained += read,
            }
        }
        Ok(())
    }
}

/// Reads or writes once, with the time that is left; interruptions do not count.
fn in_time(deadline: Instant, mut once: impl FnMut(Duration) -> io::Result<usize>) -> io::Result<usize> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match once(left) {
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
            other => return other,
        }
    }
}
