//! One viewer's thread: its socket, the screen's changes and the desk's, until it goes.
//!
//! Nothing else waits for this thread. It waits in one place, [`Poller`], for whatever comes first.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use devices::display::Watch;
use thiserror::Error;

use super::conversation::{Conversation, ConversationError, Next};
use super::desk::Desk;
use super::handshake::HandshakeError;
use super::keymap::Keymap;
use super::poller::{Poller, Woken};
use super::security::Security;
use super::server::Limits;
use super::transport::{Incoming, Socket, Transport};

/// Why a viewer is gone that did not go by itself.
#[derive(Debug, Error)]
pub(super) enum ViewerError {
    #[error(transparent)]
    Conversation(#[from] ConversationError),
    #[error("it took too long to be let in")]
    Slow,
    #[error("it has read nothing for {} s", .0.as_secs())]
    Stalled(Duration),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A viewer while it is here.
pub(super) struct Viewer<'a> {
    transport: Transport,
    conversation: Conversation,
    security: Arc<Security>,
    desk: &'a Desk,
    limits: &'a Limits,
    began: Instant,
    /// When it last read something, while something waits for it.
    stalled: Option<Instant>,
    /// When it was last looked what has changed.
    looked: Instant,
}

impl<'a> Viewer<'a> {
    pub(super) fn new(
        socket: Arc<Socket>,
        security: Arc<Security>,
        keymap: Arc<Keymap>,
        desk: &'a Desk,
        limits: &'a Limits,
    ) -> Self {
        let now = Instant::now();
        Viewer {
            transport: Transport::new(socket),
            conversation: Conversation::new(Arc::clone(&security), keymap, desk.display()),
            security,
            desk,
            limits,
            began: now,
            stalled: None,
            looked: now.checked_sub(limits.frame).unwrap_or(now),
        }
    }

    /// Serves it until it goes, breaks the rules or is too slow.
    pub(super) fn serve(mut self) -> Result<(), ViewerError> {
        let ended = self.converse();
        if let Err(ViewerError::Conversation(error)) = &ended {
            if matches!(error, ConversationError::Handshake(HandshakeError::Denied)) {
                // Who guesses passwords has few guesses: a place is taken for as long as this.
                thread::sleep(self.limits.denial);
            }
            let _ = self.transport.write(&mut self.conversation.out);
        }
        ended
    }

    fn converse(&mut self) -> Result<(), ViewerError> {
        let desk = self.desk.watch()?;
        let (mut screen, mut watching): (Option<Watch>, bool) = (None, false);
        let poller = Poller::new(Arc::clone(self.transport.socket()), &desk)?;
        loop {
            self.write()?;
            let woken = self.wait(&poller, screen.as_ref())?;
            if woken.desk {
                let _ = desk.take();
                (screen, watching) = (None, false);
                self.conversation.put(self.desk.display());
            }
            if let Some(screen) = screen.as_ref().filter(|_| woken.screen) {
                self.looked = Instant::now();
                self.conversation.changed(&screen.take());
            }
            if woken.socket && !self.read()? {
                return Ok(());
            }
            // Before it is in it may be anybody, for whom a guest does nothing.
            if !watching && self.conversation.is_in() {
                watching = true;
                let display = self.desk.display();
                screen = display.screen.as_ref().map(|screen| screen.watch()).transpose()?;
                if let Some(screen) = &screen {
                    poller.add(screen)?;
                    // That all of it is new is said anyway.
                    let _ = screen.take();
                }
                self.conversation.put(display);
            }
        }
    }

    fn write(&mut self) -> Result<(), ViewerError> {
        loop {
            self.conversation.produce();
            let left = self.transport.write(&mut self.conversation.out)?;
            if left > 0 {
                self.stalled = None;
            }
            if left == 0 || self.writes() {
                break;
            }
        }
        self.stalled = self.writes().then(|| self.stalled.unwrap_or_else(Instant::now));
        Ok(())
    }

    /// Whether something waits to be written.
    fn writes(&self) -> bool {
        !self.conversation.out.is_empty() || self.transport.wants_write()
    }

    /// Waits for the socket, the desk or the screen, or until something is due.
    fn wait(&self, poller: &Poller, screen: Option<&Watch>) -> Result<Woken, ViewerError> {
        let now = Instant::now();
        let mut due = None;
        if !self.conversation.is_in() {
            due = Some(self.began + self.limits.handshake);
            if due <= Some(now) {
                return Err(ViewerError::Slow);
            }
        }
        if let Some(stalled) = self.stalled {
            due = due.into_iter().chain([stalled + self.limits.stall]).min();
            if stalled + self.limits.stall <= now {
                return Err(ViewerError::Stalled(self.limits.stall));
            }
        }
        // Changes that come faster than frames are seen are joined where they are.
        let mut screen = screen.filter(|_| self.conversation.waits());
        let frame = self.looked + self.limits.frame;
        if screen.is_some() && frame > now {
            due = due.into_iter().chain([frame]).min();
            screen = None;
        }
        Ok(poller.wait(self.writes(), screen, due.map(|due| due.duration_since(now)))?)
    }

    /// Reads once; false when there will be no more.
    fn read(&mut self) -> Result<bool, ViewerError> {
        let bytes = match self.transport.read()? {
            Incoming::Bytes(bytes) => bytes,
            Incoming::End => return Ok(false),
        };
        if self.conversation.receive(&bytes)? == Next::StartTls {
            // The byte that allows it goes before; there is room for it unless somebody plays tricks.
            self.transport.write(&mut self.conversation.out)?;
            if !self.conversation.out.is_empty() {
                return Err(ViewerError::Slow);
            }
            if let Some(config) = &self.security.tls {
                self.transport.start_tls(Arc::clone(config))?;
            }
            self.conversation.tls_started()?;
        }
        Ok(true)
    }
}
