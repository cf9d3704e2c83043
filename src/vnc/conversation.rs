//! Everything that is said to one viewer and by it, without a socket: bytes in, bytes out.
//!
//! `viewer` brings the bytes and the changes; the fuzzer brings worse. What a viewer can make this
//! hold is bounded: a message that is not complete, and the output of one band above what already waits.

use std::sync::Arc;

use devices::display::Changes;
use thiserror::Error;

use super::handshake::{Handshake, HandshakeError, Step};
use super::keymap::Keymap;
use super::messages::{self, Message, MessageError};
use super::pixels::FormatError;
use super::security::Security;
use super::session::Session;
use crate::display::Display;

/// Why a viewer's connection ends.
#[derive(Debug, Error)]
pub enum ConversationError {
    /// It is not let in.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// It says what means nothing.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// It wants pixels that cannot be.
    #[error(transparent)]
    Format(#[from] FormatError),
}

#[derive(Debug)]
enum Stage {
    Handshake(Handshake),
    Session(Box<Session>),
}

/// What is to be done besides waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing.
    Go,
    /// What comes and goes from now on is TLS.
    StartTls,
}

/// A viewer, from its first byte on.
#[derive(Debug)]
pub struct Conversation {
    stage: Stage,
    keymap: Arc<Keymap>,
    display: Display,
    /// What has come and is not complete.
    received: Vec<u8>,
    /// Bytes of a text that nobody wants.
    skip: usize,
    /// What the viewer is to get.
    pub out: Vec<u8>,
}

impl Conversation {
    /// Begins.
    #[must_use]
    pub fn new(security: Arc<Security>, keymap: Arc<Keymap>, display: Display) -> Self {
        let mut out = Vec::new();
        let stage = Stage::Handshake(Handshake::new(security, &mut out));
        Conversation { stage, keymap, display, received: Vec::new(), skip: 0, out }
    }

    /// Takes what the viewer has sent.
    ///
    /// # Errors
    /// Why the connection ends; what is in `out` still tells the viewer.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Next, ConversationError> {
        let mut received = std::mem::take(&mut self.received);
        received.extend_from_slice(bytes);
        let mut rest = received.as_slice();
        loop {
            let skipped = self.skip.min(rest.len());
            self.skip -= skipped;
            rest = rest.get(skipped..).unwrap_or_default();
            let (used, next) = self.take(rest)?;
            rest = rest.get(used..).unwrap_or_default();
            if next == Next::StartTls && !rest.is_empty() {
                return Err(HandshakeError::Impatient.into());
            }
            if used == 0 || next == Next::StartTls {
                self.received = rest.to_vec();
                return Ok(next);
            }
        }
    }

    /// Takes one message, and says how long it was; 0 if none is complete.
    fn take(&mut self, bytes: &[u8]) -> Result<(usize, Next), ConversationError> {
        match &mut self.stage {
            Stage::Handshake(handshake) => {
                let Some((used, step)) = handshake.receive(bytes, &mut self.out)? else {
                    return Ok((0, Next::Go));
                };
                if step == Step::Begin {
                    let session =
                        Session::new(self.display.clone(), Arc::clone(&self.keymap), &mut self.out)?;
                    self.stage = Stage::Session(Box::new(session));
                }
                Ok((used, if step == Step::StartTls { Next::StartTls } else { Next::Go }))
            }
            Stage::Session(session) => {
                let Some((message, used)) = messages::parse(bytes)? else { return Ok((0, Next::Go)) };
                if let Message::CutText(length) = message {
                    self.skip = usize::try_from(length).unwrap_or(usize::MAX);
                }
                session.take(message)?;
                Ok((used, Next::Go))
            }
        }
    }

    /// TLS is there.
    ///
    /// # Errors
    /// When the host has no random numbers.
    pub fn tls_started(&mut self) -> Result<(), ConversationError> {
        match &mut self.stage {
            Stage::Handshake(handshake) => Ok(handshake.tls_started(&mut self.out)?),
            Stage::Session(_) => Ok(()),
        }
    }

    /// Whether the viewer is in.
    #[must_use]
    pub fn is_in(&self) -> bool {
        matches!(self.stage, Stage::Session(_))
    }

    /// Whether the viewer waits for something to change.
    #[must_use]
    pub fn waits(&self) -> bool {
        matches!(&self.stage, Stage::Session(session) if session.waits())
    }

    /// The picture has changed.
    pub fn changed(&mut self, changes: &Changes) {
        if let Stage::Session(session) = &mut self.stage {
            session.changed(changes);
        }
    }

    /// Another machine is in the old one's place.
    pub fn put(&mut self, display: Display) {
        self.display = display;
        if let Stage::Session(session) = &mut self.stage {
            session.put(self.display.clone());
        }
    }

    /// Adds to `out` what the viewer waits for, as far as there is room.
    pub fn produce(&mut self) {
        if let Stage::Session(session) = &mut self.stage {
            session.produce(&mut self.out);
        }
    }
}
