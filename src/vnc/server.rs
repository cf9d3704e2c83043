//! Accepts viewers, gives each a thread, and ends all of them when busman ends.

use std::fmt;
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::thread::Builder;
use std::time::Duration;

use devices::guest_warn;
use thiserror::Error;

use super::desk::Desk;
use super::keymap::{Keymap, KeymapError};
use super::options::{Address, VncOptions};
use super::protocol::VERSION;
use super::security::{Password, Security, SecurityError, tls};
use super::transport::Socket;
use super::viewer::Viewer;
use crate::api::{SocketError, SocketFile, listen};
use crate::host::{Acceptor, Clients, Listen};

/// Stack of a viewer's thread: pixels are on the heap.
const STACK_SIZE: usize = 512 << 10;

/// What viewers may use up.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Viewers at one time.
    pub viewers: usize,
    /// How long a viewer may take to be let in; somebody may be typing a password.
    pub handshake: Duration,
    /// How long a viewer may read nothing while something waits for it.
    pub stall: Duration,
    /// How long a viewer with a wrong password waits for the answer.
    pub denial: Duration,
    /// Time from one look at what has changed to the next.
    pub frame: Duration,
    /// How long viewers may take to go when busman ends.
    pub end: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            viewers: 8,
            handshake: Duration::from_secs(60),
            stall: Duration::from_secs(60),
            denial: Duration::from_secs(1),
            frame: Duration::from_millis(16),
            end: Duration::from_secs(1),
        }
    }
}

/// Why nobody can look.
#[derive(Debug, Error)]
pub enum VncError {
    /// Password or certificate.
    #[error(transparent)]
    Security(#[from] SecurityError),
    /// The guest's keyboard.
    #[error(transparent)]
    Keymap(#[from] KeymapError),
    /// The Unix socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The TCP port.
    #[error("Cannot listen for VNC viewers on {address}")]
    Listen {
        /// The port.
        address: SocketAddr,
        /// What the host said.
        #[source]
        source: io::Error,
    },
    /// A thread or a descriptor.
    #[error("The host cannot serve VNC viewers")]
    Host(#[source] io::Error),
}

/// The server, until it is dropped.
#[derive(Debug)]
pub struct Server {
    /// Taken first when it ends: nobody finds it any more.
    file: Option<SocketFile>,
    address: Option<SocketAddr>,
    acceptor: Option<Acceptor>,
    shared: Arc<Shared>,
}

struct Shared {
    desk: Arc<Desk>,
    security: Arc<Security>,
    keymap: Arc<Keymap>,
    limits: Limits,
    viewers: Arc<Clients<Socket>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("viewers", &self.viewers).finish_non_exhaustive()
    }
}

/// Where viewers come in.
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listener::Tcp(listener) => listener.as_fd(),
            Listener::Unix(listener) => listener.as_fd(),
        }
    }
}

impl Listen for Listener {
    type Client = Socket;

    fn accept(&self) -> io::Result<Socket> {
        match self {
            Listener::Tcp(listener) => Socket::tcp(listener.accept()?.0),
            Listener::Unix(listener) => Socket::unix(listener.accept()?.0),
        }
    }
}

impl Server {
    /// Listens as the user wants; viewers see what is on the desk.
    ///
    /// # Errors
    /// A sentence for the user; see [`VncError`].
    pub fn start(options: &VncOptions, desk: Arc<Desk>) -> Result<Self, VncError> {
        Server::with_limits(options, desk, Limits::default())
    }

    /// The same with other limits.
    ///
    /// # Errors
    /// See [`Server::start`].
    pub fn with_limits(options: &VncOptions, desk: Arc<Desk>, limits: Limits) -> Result<Self, VncError> {
        let security = Arc::new(Security {
            password: options.password_file.as_deref().map(Password::read).transpose()?,
            tls: options.tls.as_ref().map(|files| tls(&files.cert, &files.key)).transpose()?,
        });
        let keymap = options.keymap.as_ref().map(Keymap::load).transpose()?.unwrap_or_default();
        let (listener, file) = open(&options.listen)?;
        let address = match &listener {
            Listener::Tcp(listener) => listener.local_addr().ok(),
            Listener::Unix(_) => None,
        };
        let viewers = Arc::default();
        let shared = Arc::new(Shared { desk, security, keymap: Arc::new(keymap), limits, viewers });
        let acceptor = Acceptor::start("vnc", STACK_SIZE, listener, {
            let shared = Arc::clone(&shared);
            move |number, viewer| match viewer {
                Ok(socket) => shared.admit(number, socket),
                Err(error) => log::warn!("A VNC viewer cannot be accepted: {error}"),
            }
        });
        let acceptor = Some(acceptor.map_err(VncError::Host)?);
        log::info!("VNC viewers are served on {}", options.listen);
        Ok(Server { file, address, acceptor, shared })
    }

    /// The TCP port that it listens on, if it does.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// How many viewers there are.
    #[must_use]
    pub fn viewers(&self) -> usize {
        self.shared.viewers.count()
    }
}

impl Drop for Server {
    /// Ends every connection.
    fn drop(&mut self) {
        self.file = None;
        self.acceptor = None;
        self.shared.viewers.end(self.shared.limits.end, |socket| drop(socket.shutdown(Shutdown::Both)));
    }
}

impl Shared {
    /// Gives a viewer its thread, or turns it away.
    fn admit(self: &Arc<Self>, number: u64, socket: Socket) {
        let socket = Arc::new(socket);
        let peer = socket.peer();
        let limit = self.limits.viewers;
        let Some(place) = self.viewers.admit(number, &socket, limit) else {
            guest_warn!("The VNC viewer at {peer} is turned away: there are {limit} already");
            return turn_away(&socket);
        };
        let shared = Arc::clone(self);
        let spawned = Builder::new().name(format!("vnc{number}")).stack_size(STACK_SIZE).spawn(move || {
            let _place = place;
            let Shared { desk, security, keymap, limits, .. } = &*shared;
            log::debug!("A VNC viewer has come from {peer}");
            let (security, keymap) = (Arc::clone(security), Arc::clone(keymap));
            match Viewer::new(socket, security, keymap, desk, limits).serve() {
                Ok(()) => log::debug!("The VNC viewer at {peer} has gone"),
                Err(error) => guest_warn!("The VNC viewer at {peer} is disconnected: {error}"),
            }
        });
        if let Err(error) = spawned {
            log::warn!("A VNC viewer is turned away: {error}");
        }
    }
}

/// Listens; of a Unix socket there is a file, too.
fn open(address: &Address) -> Result<(Listener, Option<SocketFile>), VncError> {
    match address {
        Address::Unix(path) => {
            let (listener, file) = listen(path)?;
            Ok((Listener::Unix(listener), Some(file)))
        }
        &Address::Tcp(address) => {
            let failed = |source| VncError::Listen { address, source };
            let listener = TcpListener::bind(address).map_err(failed)?;
            listener.set_nonblocking(true).map_err(failed)?;
            Ok((Listener::Tcp(listener), None))
        }
    }
}

/// Says why, without waiting: a new socket has room for that much. It is what a server says that offers no security
/// type.
fn turn_away(socket: &Socket) {
    const REASON: &[u8] = b"Too many viewers; close one or try again";
    let length = u32::try_from(REASON.len()).unwrap_or_default().to_be_bytes();
    let _ = (&mut &*socket).write(&[VERSION.as_slice(), &[0], &length, REASON].concat());
}
