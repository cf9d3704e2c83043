//! Joins this terminal to a program that runs where guests run: keys go there, its output comes here.

use std::io::{self, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rustix::termios::{self, OptionalActions, Termios};

use crate::lab::Lab;
use crate::session::{Sender, Session};
use crate::wire::{Event, Frame, Program, Request};

/// Runs a program in the current folder to its end and gives its exit code.
pub fn run(lab: &mut Lab, path: PathBuf, args: Vec<String>) -> Result<ExitCode> {
    let session = lab.session()?;
    session.send(&Frame::Message(Request::Start(Program { path, args, dir: std::env::current_dir()? })))?;
    let raw = RawMode::enter();
    let sender = session.sender();
    // Still reading when the program ends; it goes with the process.
    thread::spawn(move || forward(&sender));
    let code = follow(session, raw.is_some());
    drop(raw);
    Ok(u8::try_from(code?).map_or(ExitCode::FAILURE, ExitCode::from))
}

fn forward(to: &Sender) {
    let mut buffer = [0; 1024];
    while let Ok(length @ 1..) = io::stdin().read(&mut buffer) {
        if to.send(&Frame::Console(buffer.iter().take(length).copied().collect())).is_err() {
            break;
        }
    }
}

fn follow(session: &mut Session, raw: bool) -> Result<i32> {
    loop {
        match session.next(Instant::now() + Duration::from_secs(3600))? {
            Some(Frame::Console(bytes)) => show(io::stdout(), &bytes)?,
            Some(Frame::Log(bytes)) if raw => {
                show(io::stderr(), String::from_utf8_lossy(&bytes).replace('\n', "\r\n").as_bytes())?;
            }
            Some(Frame::Log(bytes)) => show(io::stderr(), &bytes)?,
            Some(Frame::Message(Event::Ended(code))) => return Ok(code),
            Some(Frame::Message(Event::NotStarted(why))) => bail!("{why}"),
            Some(Frame::Message(_)) | None => {}
        }
    }
}

fn show(mut to: impl Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}

/// Lets every key through, Ctrl-C too, until it is dropped.
struct RawMode(Termios);

impl RawMode {
    fn enter() -> Option<Self> {
        if !io::stdin().is_terminal() {
            return None;
        }
        let before = termios::tcgetattr(io::stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(io::stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}
