//! `busman ctl`, the control socket's command line; `busman guest` ([`Guest`]), which asks the guest through it, and
//! `busman screenshot`.
//!
//! Knows the machine only by what the socket says: it can run against another version of busman, shows fields that
//! it has never heard of, and prints nothing that a terminal would take for a command.

mod client;
mod command;
mod guest;
mod screenshot;
mod top;

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use devices::vmbus::table::{ChannelRow, ChannelTable};
use serde::de::DeserializeOwned;
use serde_json::Value;
use thiserror::Error;

use self::client::{Answer, Client};
use self::command::{Command, Request, VM, absolute, segment};
pub use self::guest::Guest;
pub use self::screenshot::Screenshot;
use crate::control::text;

/// Arguments of `busman ctl`.
#[derive(Args, Debug)]
pub struct Ctl {
    /// The machine's control socket
    #[arg(long, value_name = "PATH", env = "BUSMAN_SOCKET", global = true)]
    socket: Option<PathBuf>,
    /// Print the answer as the machine gives it, in JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

/// Why a machine was not asked, or did not do it.
#[derive(Debug, Error)]
pub enum CtlError {
    /// Which machine?
    #[error("No machine given: name its control socket with --socket PATH or in BUSMAN_SOCKET")]
    NoSocket,
    /// No machine there.
    #[error("Nothing answers at {}; is a machine running with --api-socket?", path.display())]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// What the host said.
        #[source]
        source: io::Error,
    },
    /// The machine is not busman, or a very different one.
    #[error("This is no answer of busman's: {0}")]
    Protocol(String),
    /// The machine says no.
    #[error("{0}")]
    Refused(String),
    /// The connection broke.
    #[error("The machine's answer was lost")]
    Lost(#[source] io::Error),
    /// Somebody did not want it any more.
    #[error("The copy was cancelled")]
    Cancelled,
    /// A list of names in one place.
    #[error("top has no JSON; for instance: watch the output of busman ctl --json channels")]
    TopJson,
    /// The file for a screenshot.
    #[error("Cannot write {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the host said.
        #[source]
        source: io::Error,
    },
    /// Standard output, or the terminal.
    #[error("The terminal fails")]
    Output(#[from] io::Error),
}

impl Ctl {
    /// Asks the machine, and prints what it answers.
    ///
    /// # Errors
    /// A sentence for the user.
    pub fn execute(&self) -> Result<(), CtlError> {
        let client = Client::new(self.socket.clone().ok_or(CtlError::NoSocket)?);
        let done = match &self.command {
            Command::Top(_) if self.json => Err(CtlError::TopJson),
            Command::Top(options) => top::run(client, options),
            _ => self.ask(client, &mut io::stdout()),
        };
        match done {
            // Who reads no further has seen enough.
            Err(CtlError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }

    fn ask(&self, mut client: Client, out: &mut dyn Write) -> Result<(), CtlError> {
        let (method, path, body) = self.command.request();
        let answer = client.call(method, &path, body.as_deref())?;
        if self.command == Command::Channels && !self.json {
            let rows: Vec<ChannelRow> = understand(&answer.body)?;
            return Ok(write!(out, "{}", ChannelTable(&rows))?);
        }
        print(&answer, self.json, out)
    }
}

/// Prints an answer, for people or as it came.
fn print(answer: &Answer, json: bool, out: &mut dyn Write) -> Result<(), CtlError> {
    if answer.body.is_empty() {
        if answer.status == 202 {
            writeln!(out, "The guest is asked; it does so in its own time")?;
        }
    } else if json {
        out.write_all(&answer.body)?;
        writeln!(out)?;
    } else {
        let value: Value = understand(&answer.body)?;
        let mut lines = String::new();
        // A String takes all.
        let _ = text::write_value(&mut lines, &value);
        write!(out, "{lines}")?;
    }
    Ok(())
}

fn understand<T: DeserializeOwned>(body: &[u8]) -> Result<T, CtlError> {
    serde_json::from_slice(body).map_err(|error| CtlError::Protocol(error.to_string()))
}

#[cfg(test)]
mod tests;
