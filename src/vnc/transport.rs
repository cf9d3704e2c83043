//! A viewer's connection: a socket that never waits, with TLS over it once both sides want that.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection};

/// Bytes that are read at a time.
const PIECE: usize = 16 << 10;

/// A connected socket.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// A connection as it was accepted: it does not wait, and small messages leave at once.
    pub(super) fn tcp(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        // A viewer whose machine is gone has a place for two hours at most.
        rustix::net::sockopt::set_socket_keepalive(&stream, true)?;
        Ok(Socket::Tcp(stream))
    }

    /// The same for a Unix socket.
    pub(super) fn unix(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Socket::Unix(stream))
    }

    /// Who it is, for the log.
    pub(super) fn peer(&self) -> String {
        match self {
            Socket::Tcp(stream) => {
                stream.peer_addr().map_or_else(|_| "somebody".to_owned(), |address| address.to_string())
            }
            Socket::Unix(_) => "the Unix socket".to_owned(),
        }
    }

    pub(super) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.shutdown(how),
            Socket::Unix(stream) => stream.shutdown(how),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Tcp(stream) => stream.as_fd(),
            Socket::Unix(stream) => stream.as_fd(),
        }
    }
}

impl Read for &Socket {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => (&mut &*stream).read(bytes),
            Socket::Unix(stream) => (&mut &*stream).read(bytes),
        }
    }
}

impl Write for &Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => (&mut &*stream).write(bytes),
            Socket::Unix(stream) => (&mut &*stream).write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What became of reading.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Incoming {
    /// These bytes; none of them, if there was nothing or only TLS's own.
    Bytes(Vec<u8>),
    /// There will be no more.
    End,
}

/// The way to a viewer and back.
#[derive(Debug)]
pub(super) struct Transport {
    socket: Arc<Socket>,
    tls: Option<Box<ServerConnection>>,
}

impl Transport {
    pub(super) fn new(socket: Arc<Socket>) -> Self {
        Transport { socket, tls: None }
    }

    pub(super) fn socket(&self) -> &Arc<Socket> {
        &self.socket
    }

    /// From now on all is TLS; what was to be written before must be.
    pub(super) fn start_tls(&mut self, config: Arc<ServerConfig>) -> io::Result<()> {
        let connection = ServerConnection::new(config).map_err(io::Error::other)?;
        self.tls = Some(Box::new(connection));
        Ok(())
    }

    /// Reads once.
    pub(super) fn read(&mut self) -> io::Result<Incoming> {
        let mut bytes = vec![0; PIECE];
        let mut socket = &*self.socket;
        let Some(tls) = &mut self.tls else {
            return Ok(match ready(socket.read(&mut bytes))? {
                Some(0) => Incoming::End,
                read => {
                    bytes.truncate(read.unwrap_or(0));
                    Incoming::Bytes(bytes)
                }
            });
        };
        match ready(tls.read_tls(&mut socket))? {
            Some(0) => return Ok(Incoming::End),
            None => return Ok(Incoming::Bytes(Vec::new())),
            Some(_) => {}
        }
        if let Err(error) = tls.process_new_packets() {
            // It says why, if it can without waiting.
            let _ = tls.write_tls(&mut socket);
            return Err(io::Error::new(ErrorKind::InvalidData, error));
        }
        bytes.clear();
        // As much as one read of the socket has brought.
        match tls.reader().read_to_end(&mut bytes) {
            Ok(_) if bytes.is_empty() => Ok(Incoming::End),
            Ok(_) => Ok(Incoming::Bytes(bytes)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Incoming::Bytes(bytes)),
            Err(error) => Err(error),
        }
    }

    /// Writes what can be written at once, takes it off the front, and says how many bytes left.
    pub(super) fn write(&mut self, out: &mut Vec<u8>) -> io::Result<usize> {
        let mut socket = &*self.socket;
        let mut left = 0;
        loop {
            let written = match &mut self.tls {
                None if out.is_empty() => return Ok(left),
                None => match ready(socket.write(out))? {
                    Some(written) => {
                        out.drain(..written);
                        Some(written)
                    }
                    None => None,
                },
                Some(tls) => {
                    // As much as TLS keeps; it has a bound of its own.
                    let taken = tls.writer().write(out)?;
                    out.drain(..taken);
                    if !tls.wants_write() {
                        return Ok(left);
                    }
                    ready(tls.write_tls(&mut socket))?
                }
            };
            match written {
                Some(0) => return Err(ErrorKind::WriteZero.into()),
                Some(written) => left += written,
                None => return Ok(left),
            }
        }
    }

    /// Whether something waits to be written besides `out`.
    pub(super) fn wants_write(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }
}

/// What was done, or `None` if it would have had to wait.
fn ready(done: io::Result<usize>) -> io::Result<Option<usize>> {
    match done {
        Ok(count) => Ok(Some(count)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(error),
    }
}
