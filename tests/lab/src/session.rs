//! The lab's end of the stream to its agent: sends requests, receives events with a deadline.
//!
//! A session outlives many guests. Once the stream has broken, it says so (`is_broken`) and its owner (lab.rs)
//! starts another one, with a new L1 if there is one.

use std::io::{Read, Write};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};

use crate::wire::{self, Event, Frame, Request};

/// A way to send to the agent from any thread.
#[derive(Clone)]
pub struct Sender(Arc<Mutex<Box<dyn Write + Send>>>);

impl Sender {
    /// Sends one frame.
    pub fn send(&self, frame: &Frame<Request>) -> Result<()> {
        let mut writer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        wire::write(&mut *writer, frame).map_err(|error| anyhow!("the agent cannot be reached: {error}"))
    }
}

/// A stream to an agent.
pub struct Session {
    sender: Sender,
    frames: Receiver<Frame<Event>>,
    broken: bool,
}

impl Session {
    /// Takes over a stream on which an agent answers, and waits for its first word.
    pub fn connect(
        mut reader: impl Read + Send + 'static,
        writer: Box<dyn Write + Send>,
        within: Duration,
    ) -> Result<Self> {
        let (push, frames) = mpsc::channel();
        thread::spawn(move || {
            while let Ok(Some(frame)) = wire::read(&mut reader) {
                if push.send(frame).is_err() {
                    break;
                }
            }
        });
        let mut session = Self { sender: Sender(Arc::new(Mutex::new(writer))), frames, broken: false };
        match session.next(Instant::now() + within)? {
            Some(Frame::Message(Event::Ready)) => Ok(session),
            Some(other) => bail!("the agent began with {other:?}"),
            None => bail!("the agent was not up within {} s", within.as_secs()),
        }
    }

    /// Sends one frame.
    pub fn send(&self, frame: &Frame<Request>) -> Result<()> {
        self.sender.send(frame)
    }

    /// A sender for another thread.
    pub fn sender(&self) -> Sender {
        self.sender.clone()
    }

    /// The next frame, or `None` at `deadline`; an error when the stream is gone.
    pub fn next(&mut self, deadline: Instant) -> Result<Option<Frame<Event>>> {
        match self.frames.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(frame) => Ok(Some(frame)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                self.broken = true;
                bail!("the agent's stream ended: the machine that ran the guest is gone")
            }
        }
    }

    /// Gives the session up: something did not answer.
    pub fn abandon(&mut self) {
        self.broken = true;
    }

    /// Whether another session is needed.
    pub fn is_broken(&self) -> bool {
        self.broken
    }
}
