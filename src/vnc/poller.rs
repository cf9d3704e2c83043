//! The one place in which a viewer's thread waits.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::Duration;

use devices::display::Watch;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use super::transport::Socket;

const SOCKET: u64 = 0;
const DESK: u64 = 1;
const SCREEN: u64 = 2;

/// A viewer's descriptors.
pub(super) struct Poller {
    epoll: Epoll,
    socket: Arc<Socket>,
}

/// What there is something to do with.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Woken {
    pub socket: bool,
    pub desk: bool,
    pub screen: bool,
}

impl Poller {
    pub(super) fn new(socket: Arc<Socket>, desk: &Watch) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let event = |token| EpollEvent::new(EventSet::IN, token);
        epoll.ctl(ControlOperation::Add, socket.as_fd().as_raw_fd(), event(SOCKET))?;
        epoll.ctl(ControlOperation::Add, desk.fd(), event(DESK))?;
        Ok(Poller { epoll, socket })
    }

    /// Another screen; the one before goes when its watch does.
    pub(super) fn add(&self, screen: &Watch) -> io::Result<()> {
        self.epoll.ctl(ControlOperation::Add, screen.fd(), EpollEvent::new(EventSet::empty(), SCREEN))
    }

    /// Waits until the socket can be read (or written, if there is something to write), another machine comes, or
    /// the screen changes, if anybody wants to know; no longer than `limit`.
    pub(super) fn wait(
        &self,
        writes: bool,
        screen: Option<&Watch>,
        limit: Option<Duration>,
    ) -> io::Result<Woken> {
        let interest = if writes { EventSet::IN | EventSet::OUT } else { EventSet::IN };
        let socket = EpollEvent::new(interest, SOCKET);
        self.epoll.ctl(ControlOperation::Modify, self.socket.as_fd().as_raw_fd(), socket)?;
        if let Some(screen) = screen {
            // For one event: it must not wake those that do not look.
            let once = EpollEvent::new(EventSet::IN | EventSet::ONE_SHOT, SCREEN);
            self.epoll.ctl(ControlOperation::Modify, screen.fd(), once)?;
        }
        // Rounded up, so that what is due then is.
        let limit = limit.map_or(-1, |limit| i32::try_from(limit.as_millis() + 1).unwrap_or(i32::MAX));
        let mut events = [EpollEvent::default(); 3];
        let count = match self.epoll.wait(limit, &mut events) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            other => other?,
        };
        let mut woken = Woken::default();
        for event in events.iter().take(count) {
            match event.data() {
                SOCKET => woken.socket = true,
                DESK => woken.desk = true,
                _ => woken.screen = true,
            }
        }
        Ok(woken)
    }
}
