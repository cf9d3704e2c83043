//! The client's side of the control socket: one connection, one request at a time, each within its time.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::{CtlError, understand};
use crate::control::text;

/// How long an answer may take; busman's own patience with the machine is shorter.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest answer, bytes: 2047 channels have about 1 MiB, a screenshot of noise in 4K 25 MB.
const ANSWER_MAX: usize = 64 << 20;

/// A connection that is made when it is needed.
pub(super) struct Client {
    path: PathBuf,
    patience: Duration,
    stream: Option<UnixStream>,
}

/// What the machine said.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

/// The body of every error.
#[derive(Deserialize)]
struct ErrorBody {
    error: String,
}

impl Client {
    pub(super) fn new(path: PathBuf) -> Self {
        Client { path, patience: PATIENCE, stream: None }
    }

    /// The same with more patience.
    pub(super) fn patient(self, patience: Duration) -> Self {
        Client { patience, ..self }
    }

    /// Asks and waits for the answer; one that is an error is a [`CtlError::Refused`].
    pub(super) fn call(&mut self, method: &str, path: &str, body: Option<&str>) -> Result<Answer, CtlError> {
        let body = body.unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let stream = match self.stream.take() {
            Some(stream) => stream,
            None => UnixStream::connect(&self.path)
                .map_err(|source| CtlError::Unreachable { path: self.path.clone(), source })?,
        };
        stream.set_write_timeout(Some(self.patience)).map_err(CtlError::Lost)?;
        // A server that turns us away says why before it hangs up.
        let sent = (&stream).write_all(request.as_bytes());
        let answer = receive(&stream, Instant::now() + self.patience);
        sent.or_else(|error| answer.as_ref().map(drop).map_err(|_| CtlError::Lost(error)))?;
        let (answer, keep_alive) = answer?;
        self.stream = keep_alive.then_some(stream);
        if answer.status < 400 {
            return Ok(answer);
        }
        let ErrorBody { error } = understand(&answer.body)?;
        Err(CtlError::Refused(text::printable(&error)))
    }
}

/// Reads one answer; also whether the server keeps the connection.
fn receive(mut stream: &UnixStream, deadline: Instant) -> Result<(Answer, bool), CtlError> {
    let mut received = Vec::new();
    let mut bytes = [0; 16 << 10];
    loop {
        if let Some(parsed) = parse(&received)? {
            return Ok(parsed);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || received.len() > ANSWER_MAX {
            let kind = if left.is_zero() { io::ErrorKind::TimedOut } else { io::ErrorKind::FileTooLarge };
            return Err(CtlError::Lost(kind.into()));
        }
        stream.set_read_timeout(Some(left)).map_err(CtlError::Lost)?;
        match stream.read(&mut bytes) {
            Ok(0) => return Err(CtlError::Lost(io::ErrorKind::UnexpectedEof.into())),
            Ok(read) => received.extend(bytes.iter().take(read)),
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
            Err(error) => return Err(CtlError::Lost(error)),
        }
    }
}

/// An answer, once it is complete.
fn parse(bytes: &[u8]) -> Result<Option<(Answer, bool)>, CtlError> {
    let protocol = |what: &dyn std::fmt::Display| CtlError::Protocol(what.to_string());
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = response.parse(bytes).map_err(|error| protocol(&error))? else {
        return Ok(None);
    };
    let status = response.code.unwrap_or_default();
    let header = |name: &str| {
        let header = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        header.map(|header| String::from_utf8_lossy(header.value))
    };
    let length = match header("content-length") {
        Some(length) => length.parse::<usize>().map_err(|error| protocol(&error))?,
        None if status == 204 => 0,
        None => return Err(protocol(&"it has no Content-Length")),
    };
    let body = bytes.get(head..).and_then(|rest| rest.get(..length));
    let keep_alive = !header("connection").is_some_and(|words| words.eq_ignore_ascii_case("close"));
    Ok(body.map(|body| (Answer { status, body: body.to_vec() }, keep_alive)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::thread;
    use vmm_sys_util::tempdir::TempDir;

    /// What a client makes of a server that says just this.
    fn answer(bytes: &'static [u8]) -> Result<Answer, CtlError> {
        let directory = TempDir::new_with_prefix("/tmp/busman-ctl").unwrap();
        let path = directory.as_path().join("api");
        let listener = UnixListener::bind(&path).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                let _ = stream.read(&mut [0; 1024]);
                stream.write_all(bytes).unwrap();
            });
            Client::new(path).call("GET", "/", None)
        })
    }

    #[test]
    fn answers_have_a_length_or_none_at_all() {
        let ok = answer(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").unwrap();
        assert_eq!((ok.status, ok.body.as_slice()), (200, b"{}".as_slice()));
        assert!(answer(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap().body.is_empty());
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for bytes in [
            b"SSH-2.0-OpenSSH\r\n\r\n".as_slice(),
            b"HTTP/1.1 200 OK\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno",
        ] {
            assert!(matches!(answer(bytes), Err(CtlError::Protocol(_))), "{bytes:?}");
        }
        for bytes in [b"".as_slice(), b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}"] {
            assert!(matches!(answer(bytes), Err(CtlError::Lost(_))), "{bytes:?}");
        }
    }

    #[test]
    fn an_errors_sentence_reaches_the_terminal_as_text() {
        let refused =
            answer(b"HTTP/1.1 409 Conflict\r\nContent-Length: 22\r\n\r\n{\"error\":\"a\\u001b[2J\"}");
        assert_eq!(refused.unwrap_err().to_string(), "a[2J");
    }
}
