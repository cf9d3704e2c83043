//! Accepts connections, gives each a thread, and ends all of them when busman ends.

use std::fmt;
use std::io;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::thread::Builder;
use std::time::Duration;

use super::Vm;
use super::connection::Connection;
use super::http::Response;
use super::socket::{SocketError, SocketFile, listen};
use crate::host::{Acceptor, Clients, Listen};

/// Stack of a connection's thread: requests and answers are on the heap.
const STACK_SIZE: usize = 256 << 10;

/// What clients may use up.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at one time.
    pub connections: usize,
    /// How long a client may be silent between two requests.
    pub idle: Duration,
    /// How long a request may take to arrive.
    pub request: Duration,
    /// How long a client may take to read a response.
    pub response: Duration,
    /// How long responses that are on their way may take when busman ends.
    pub end: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 16,
            idle: Duration::from_secs(60),
            request: Duration::from_secs(5),
            response: Duration::from_secs(5),
            end: Duration::from_secs(1),
        }
    }
}

/// The control socket, until it is dropped.
#[derive(Debug)]
pub struct Server {
    /// Taken first when it ends: nobody finds it any more.
    file: Option<SocketFile>,
    acceptor: Option<Acceptor>,
    shared: Arc<Shared>,
}

struct Shared {
    vm: Arc<dyn Vm>,
    limits: Limits,
    clients: Arc<Clients<UnixStream>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("clients", &self.clients).finish_non_exhaustive()
    }
}

impl Listen for UnixListener {
    type Client = UnixStream;

    fn accept(&self) -> io::Result<UnixStream> {
        Ok(UnixListener::accept(self)?.0)
    }
}

impl Server {
    /// Listens on `path`; what is asked goes to `vm`.
    ///
    /// # Errors
    /// A sentence for the user; see [`SocketError`].
    pub fn start(path: &Path, vm: Arc<dyn Vm>) -> Result<Self, SocketError> {
        Server::with_limits(path, vm, Limits::default())
    }

    /// The same with other limits.
    ///
    /// # Errors
    /// See [`Server::start`].
    pub fn with_limits(path: &Path, vm: Arc<dyn Vm>, limits: Limits) -> Result<Self, SocketError> {
        let (listener, file) = listen(path)?;
        let host = |source| SocketError::Host { path: path.to_owned(), source };
        let shared = Arc::new(Shared { vm, limits, clients: Arc::default() });
        let acceptor = Acceptor::start("api", STACK_SIZE, listener, {
            let shared = Arc::clone(&shared);
            move |number, client| match client {
                Ok(stream) => shared.admit(number, stream),
                Err(error) => log::warn!("The control socket cannot accept: {error}"),
            }
        });
        let acceptor = Some(acceptor.map_err(host)?);
        log::info!("The control socket is {}", path.display());
        Ok(Server { file: Some(file), acceptor, shared })
    }
}

impl Drop for Server {
    /// Ends every connection; responses that are on their way have a moment.
    fn drop(&mut self) {
        self.file = None;
        self.acceptor = None;
        // Who waits for a request sees the end; who answers one goes on and sees it then.
        self.shared.clients.end(self.shared.limits.end, |stream| drop(stream.shutdown(Shutdown::Read)));
    }
}

impl Shared {
    /// Gives a connection its thread, or turns it away.
    fn admit(self: &Arc<Self>, number: u64, stream: UnixStream) {
        let stream = Arc::new(stream);
        let Some(place) = self.clients.admit(number, &stream, self.limits.connections) else {
            return turn_away(&stream);
        };
        let shared = Arc::clone(self);
        let spawned = Builder::new().name(format!("api{number}")).stack_size(STACK_SIZE).spawn(move || {
            let _place = place;
            if let Err(error) = Connection::new(&stream, &shared.limits).serve(&*shared.vm) {
                log::debug!("A client of the control socket is lost: {error}");
            }
        });
        if let Err(error) = spawned {
            log::warn!("A client of the control socket is turned away: {error}");
        }
    }
}

/// Says why, without waiting: a new socket has room for that much.
fn turn_away(stream: &UnixStream) {
    let response = Response::error(503, "Too many connections; close one or try again");
    let _ = stream.set_nonblocking(true);
    let _ = io::Write::write(&mut &*stream, &response.bytes(false));
}
