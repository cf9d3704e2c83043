//! Accepts connections, gives each a thread, and ends all of them when busman ends.

use std::collections::BTreeMap;
use std::io::{self, PipeWriter};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use super::Vm;
use super::connection::Connection;
use super::http::Response;
use super::socket::{SocketError, SocketFile, listen};
use crate::host::accept_all;

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
    shared: Arc<Shared>,
    /// Closed to end the thread that accepts.
    stop: Option<PipeWriter>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    vm: Arc<dyn Vm>,
    limits: Limits,
    connections: Mutex<BTreeMap<u64, Arc<UnixStream>>>,
    /// A connection has ended.
    ended: Condvar,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("connections", &self.connections().len()).finish_non_exhaustive()
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
        let (stopped, stop) = io::pipe().map_err(host)?;
        let shared = Arc::new(Shared { vm, limits, connections: Mutex::default(), ended: Condvar::new() });
        let acceptor = Builder::new().name("api".into()).stack_size(STACK_SIZE).spawn({
            let shared = Arc::clone(&shared);
            move || {
                let accept = |listener: &UnixListener| Ok(listener.accept()?.0);
                let admit = |number, stream| shared.admit(number, stream);
                let refused = |error: &io::Error| log::warn!("The control socket cannot accept: {error}");
                accept_all(&listener, &stopped, accept, admit, refused);
            }
        });
        let acceptor = Some(acceptor.map_err(host)?);
        log::info!("The control socket is {}", path.display());
        Ok(Server { file: Some(file), shared, stop: Some(stop), acceptor })
    }
}

impl Drop for Server {
    /// Ends every connection; responses that are on their way have a moment.
    fn drop(&mut self) {
        self.file = None;
        self.stop = None;
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        let connections = self.shared.connections();
        for stream in connections.values() {
            // Who waits for a request sees the end; who answers one goes on and sees it then.
            let _ = stream.shutdown(Shutdown::Read);
        }
        let all_ended = |connections: &mut BTreeMap<_, _>| !connections.is_empty();
        drop(self.shared.ended.wait_timeout_while(connections, self.shared.limits.end, all_ended));
    }
}

impl Shared {
    fn connections(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<UnixStream>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a connection its thread, or turns it away.
    fn admit(self: &Arc<Self>, number: u64, stream: UnixStream) {
        let stream = Arc::new(stream);
        {
            let mut connections = self.connections();
            if connections.len() >= self.limits.connections {
                return turn_away(&stream);
            }
            connections.insert(number, Arc::clone(&stream));
        }
        let entry = Entry { shared: Arc::clone(self), number };
        let spawned = Builder::new().name(format!("api{number}")).stack_size(STACK_SIZE).spawn(move || {
            let shared = &entry.shared;
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

/// A connection's place among the others, given up however its thread ends.
struct Entry {
    shared: Arc<Shared>,
    number: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.shared.connections().remove(&self.number);
        self.shared.ended.notify_all();
    }
}
