//! The agent: starts one program at a time where the guests' KVM is, and reports on it.
//!
//! Runs as a thread of the lab when this machine's KVM will do, or as the only program of L1 (the same lab
//! executable, seen through the shared root file system). Each way it speaks wire.rs, so nothing above it
//! knows where a guest runs. It keeps no clock: the lab says when to kill.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::sample;
use crate::wire::{self, Event, Frame, Program, Request, Said};

type Out = Arc<Mutex<Box<dyn Write + Send>>>;

/// Serves over L1's virtio-serial port until the lab closes it.
pub fn serve_port(port: &Path) -> Result<()> {
    let port = File::options()
        .read(true)
        .write(true)
        .open(port)
        .with_context(|| format!("open {}", port.display()))?;
    let reader = port.try_clone()?;
    serve(reader, Box::new(port)).context("the stream to the lab broke")
}

/// Serves requests until the end of `input`; then kills what still runs.
pub fn serve(mut input: impl Read, output: Box<dyn Write + Send>) -> io::Result<()> {
    let out: Out = Arc::new(Mutex::new(output));
    let mut running: Option<Running> = None;
    send(&out, &Frame::Message(Event::Ready))?;
    while let Some(frame) = wire::read::<Request>(&mut input)? {
        match (frame, &mut running) {
            (Frame::Message(Request::Start(program)), _) => match Running::start(&program, &out) {
                Ok(started) => running = Some(started),
                Err(error) => {
                    let why = format!("{}: {error}", program.path.display());
                    send(&out, &Frame::Message(Event::NotStarted(why)))?;
                }
            },
            (Frame::Message(Request::Terminate), Some(program)) => program.signal(Signal::TERM),
            (Frame::Message(Request::Kill), Some(program)) => program.signal(Signal::KILL),
            (Frame::Message(Request::Sample), Some(program)) => {
                send(&out, &Frame::Message(Event::Sample(sample::take(program.id))))?;
            }
            (Frame::Message(Request::Beside(number, program)), _) => {
                let out = Arc::clone(&out);
                thread::spawn(move || send(&out, &Frame::Message(Event::Beside(number, beside(&program)))));
            }
            // A program that has closed its input misses what is typed at it, as on any terminal.
            (Frame::Console(bytes), Some(program)) => drop(program.stdin.write_all(&bytes)),
            _ => {}
        }
    }
    if let Some(program) = running {
        program.signal(Signal::KILL);
    }
    Ok(())
}

/// The program under way. Its exit is reported by a thread of its own.
struct Running {
    id: u32,
    /// Names the process itself, so a signal cannot reach another one that got its number later.
    process: OwnedFd,
    stdin: ChildStdin,
}

impl Running {
    fn start(program: &Program, out: &Out) -> io::Result<Self> {
        let mut child = Command::new(&program.path)
            .args(&program.args)
            .current_dir(&program.dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let process = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(io::Error::other("no pipes"));
        };
        let id = child.id();
        let console = pump(stdout, out, Frame::Console);
        let log = pump(stderr, out, Frame::Log);
        let out = Arc::clone(out);
        thread::spawn(move || {
            // All output comes before the word that the program has ended.
            drop((console.join(), log.join()));
            let _ = send(&out, &Frame::Message(ended(&mut child)));
        });
        Ok(Self { id, process, stdin })
    }

    fn signal(&self, signal: Signal) {
        // It may have ended by itself, which is what the sender wants.
        let _ = pidfd_send_signal(&self.process, signal);
    }
}

fn ended(child: &mut Child) -> Event {
    match child.wait() {
        Ok(status) => Event::Ended(code(status)),
        Err(error) => Event::NotStarted(error.to_string()),
    }
}

fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

/// Runs a program to its end.
fn beside(program: &Program) -> Said {
    let output = Command::new(&program.path)
        .args(&program.args)
        .current_dir(&program.dir)
        .stdin(Stdio::null())
        .output();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output {
        Ok(said) => Said { code: code(said.status), output: text(&said.stdout), errors: text(&said.stderr) },
        Err(error) => Said { code: -1, output: String::new(), errors: error.to_string() },
    }
}

fn pump(
    mut from: impl Read + Send + 'static,
    out: &Out,
    kind: fn(Vec<u8>) -> Frame<Event>,
) -> thread::JoinHandle<()> {
    let out = Arc::clone(out);
    thread::spawn(move || {
        let mut buffer = vec![0; 16384];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            if send(&out, &kind(buffer.iter().take(length).copied().collect())).is_err() {
                break;
            }
        }
    })
}

fn send(out: &Out, frame: &Frame<Event>) -> io::Result<()> {
    wire::write(&mut *out.lock().unwrap_or_else(PoisonError::into_inner), frame)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::session::Session;

    fn session() -> Session {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let input = theirs.try_clone().unwrap();
        thread::spawn(move || serve(input, Box::new(theirs)));
        Session::connect(ours.try_clone().unwrap(), Box::new(ours), Duration::from_secs(30)).unwrap()
    }

    fn start(session: &Session, script: &str) {
        let args = ["-c", script].map(str::to_owned).to_vec();
        let program = Program { path: "/bin/sh".into(), args, dir: "/".into() };
        session.send(&Frame::Message(Request::Start(program))).unwrap();
    }

    /// All that is said on the console until the end, and the exit code.
    fn end(session: &mut Session) -> (String, i32) {
        let mut console = Vec::new();
        loop {
            match session.next(Instant::now() + Duration::from_secs(30)).unwrap() {
                Some(Frame::Console(bytes)) => console.extend(bytes),
                Some(Frame::Message(Event::Ended(code))) => {
                    return (String::from_utf8(console).unwrap(), code);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_program_reads_what_is_typed_and_its_exit_code_comes_last() {
        let mut session = session();
        start(&session, "read line; echo got $line; exit 3");
        session.send(&Frame::Console(b"this\n".to_vec())).unwrap();
        assert_eq!(end(&mut session), ("got this\n".to_owned(), 3));
    }

    #[test]
    fn a_program_that_hangs_is_killed_and_the_next_one_runs() {
        let mut session = session();
        start(&session, "trap '' TERM; echo deaf; while :; do read line; done </dev/zero");
        // Before that, it would still hear the first request.
        match session.next(Instant::now() + Duration::from_secs(30)).unwrap() {
            Some(Frame::Console(said)) => assert_eq!(said, b"deaf\n"),
            other => panic!("{other:?}"),
        }
        session.send(&Frame::Message(Request::Terminate)).unwrap();
        session.send(&Frame::Message(Request::Kill)).unwrap();
        assert_eq!(end(&mut session).1, 128 + 9);
        start(&session, "echo next");
        assert_eq!(end(&mut session), ("next\n".to_owned(), 0));
    }
}
