//! The socket's file: the owner's alone from its first moment, and gone when busman is.
//!
//! A file that a killed busman left behind is replaced; one that somebody listens on is not. Between the look and
//! the replacement no other busman may act, so both happen under a lock on the directory.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use thiserror::Error;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 16;
/// How long another busman may take to make its socket in the same directory.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// Why there is no control socket.
#[derive(Debug, Error)]
pub enum SocketError {
    /// Longer than the host's addresses are.
    #[error("{} is too long for a socket's path; choose one of at most 107 bytes", .0.display())]
    TooLong(PathBuf),
    /// Another program's.
    #[error("{} is in use: something listens on it; choose another path or end that program", .0.display())]
    InUse(PathBuf),
    /// A file that is not ours to replace.
    #[error("{} exists and is no socket; remove it or choose another path", .0.display())]
    NotASocket(PathBuf),
    /// Somebody holds the lock.
    #[error("The directory of {} stays locked by another program; choose another path", .0.display())]
    Locked(PathBuf),
    /// The host.
    #[error("Cannot listen on {}", path.display())]
    Host {
        /// The socket.
        path: PathBuf,
        /// What the host said.
        #[source]
        source: io::Error,
    },
}

/// The file of a socket that listens; removed on drop.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody may have put another one in its place.
        if fs::symlink_metadata(&self.path).is_ok_and(|file| identity(&file) == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// Makes the socket and listens on it.
pub(crate) fn listen(path: &Path) -> Result<(UnixListener, SocketFile), SocketError> {
    let address = SocketAddrUnix::new(path).map_err(|_| SocketError::TooLong(path.to_owned()))?;
    let host = |source: io::Error| SocketError::Host { path: path.to_owned(), source };
    let _lock = lock_directory(path)?;
    let socket = match bind(&address) {
        Err(Errno::ADDRINUSE) => {
            remove_stale(path, &address)?;
            bind(&address)
        }
        other => other,
    };
    let socket = socket.map_err(|error| host(error.into()))?;
    let file = fs::symlink_metadata(path).map_err(host)?;
    let file = SocketFile { path: path.to_owned(), identity: identity(&file) };
    rustix::net::listen(&socket, BACKLOG).map_err(|error| host(error.into()))?;
    let listener = UnixListener::from(socket);
    listener.set_nonblocking(true).map_err(host)?;
    Ok((listener, file))
}

fn stream_socket(flags: SocketFlags) -> Result<OwnedFd, Errno> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags | SocketFlags::CLOEXEC, None)
}

fn bind(address: &SocketAddrUnix) -> Result<OwnedFd, Errno> {
    let socket = stream_socket(SocketFlags::empty())?;
    // Linux makes the file with the socket's own mode: at no moment it is open to others, and the process' umask,
    // which all threads share, stays as it is.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, address)?;
    Ok(socket)
}

/// Holds other busmans off for as long as the file lives.
fn lock_directory(path: &Path) -> Result<File, SocketError> {
    let host = |source: io::Error| SocketError::Host { path: path.to_owned(), source };
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = File::open(directory.unwrap_or_else(|| Path::new("."))).map_err(host)?;
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(directory),
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => thread::sleep(Duration::from_millis(20)),
            Err(Errno::WOULDBLOCK) => return Err(SocketError::Locked(path.to_owned())),
            Err(error) => return Err(host(error.into())),
        }
    }
}

/// Removes a socket that nobody listens on.
fn remove_stale(path: &Path, address: &SocketAddrUnix) -> Result<(), SocketError> {
    let host = |source: io::Error| SocketError::Host { path: path.to_owned(), source };
    if !fs::symlink_metadata(path).map_err(host)?.file_type().is_socket() {
        return Err(SocketError::NotASocket(path.to_owned()));
    }
    let probe = stream_socket(SocketFlags::NONBLOCK).map_err(|error| host(error.into()))?;
    match rustix::net::connect(&probe, address) {
        Err(Errno::CONNREFUSED) => fs::remove_file(path).map_err(host),
        // A full backlog is somebody's, too.
        Ok(()) | Err(Errno::AGAIN) => Err(SocketError::InUse(path.to_owned())),
        Err(error) => Err(host(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixStream;
    use vmm_sys_util::tempdir::TempDir;

    fn place() -> (TempDir, PathBuf) {
        let directory = TempDir::new_with_prefix("/tmp/busman-socket").unwrap();
        let path = directory.as_path().join("api");
        (directory, path)
    }

    #[test]
    fn the_socket_is_the_owners_alone_and_goes_with_busman() {
        let (_directory, path) = place();
        let (listener, file) = listen(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        UnixStream::connect(&path).unwrap();
        drop((listener, file));
        assert!(!path.exists());
    }

    #[test]
    fn a_live_socket_is_not_replaced() {
        let (_directory, path) = place();
        let (_listener, _file) = listen(&path).unwrap();
        let error = listen(&path).unwrap_err();
        assert!(matches!(error, SocketError::InUse(_)), "{error}");
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_stale_socket_is_replaced() {
        let (_directory, path) = place();
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "as a killed program leaves it");
        let (_listener, _file) = listen(&path).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn other_files_are_left_alone() {
        let (directory, path) = place();
        fs::write(&path, "precious").unwrap();
        assert!(matches!(listen(&path), Err(SocketError::NotASocket(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        let link = directory.as_path().join("link");
        symlink("nowhere", &link).unwrap();
        assert!(matches!(listen(&link), Err(SocketError::NotASocket(_))));
    }

    #[test]
    fn a_socket_that_another_has_replaced_is_not_removed() {
        let (_directory, path) = place();
        let (_listener, file) = listen(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(file);
        assert!(path.exists());
    }

    #[test]
    fn of_many_who_find_a_stale_socket_one_gets_it() {
        let (_directory, path) = place();
        drop(UnixListener::bind(&path).unwrap());
        let results: Vec<_> = thread::scope(|scope| {
            let starters: Vec<_> = (0..8).map(|_| scope.spawn(|| listen(&path))).collect();
            starters.into_iter().map(|starter| starter.join().unwrap()).collect()
        });
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_path_that_is_too_long_is_said_to_be() {
        let (directory, _) = place();
        let error = listen(&directory.as_path().join("x".repeat(120))).unwrap_err();
        assert!(matches!(error, SocketError::TooLong(_)), "{error}");
    }
}
