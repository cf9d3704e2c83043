//! Standard input as the guest's keyboard: raw if it is a terminal, and restored on every way out.
//!
//! Ways out are: [`Terminal`] is dropped (also by a panic that unwinds), and signals that kill the process,
//! whose handler restores first. Only SIGKILL leaves a raw terminal behind. Output processing stays on, so that
//! log lines on the same terminal do not walk to the right.
//!
//! The descriptor is never made non-blocking: standard output usually is the same open file, and the guest's
//! output would be lost then. One read per readiness does not block.

#![expect(unsafe_code, reason = "termios and sigaction have no safe wrapper among our libraries")]

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;
use std::thread;

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use super::escape::Escape;
use crate::control::{Command, CommandError};

/// Signals that end the process without unwinding.
const FATAL: [libc::c_int; 7] =
    [libc::SIGQUIT, libc::SIGILL, libc::SIGABRT, libc::SIGBUS, libc::SIGFPE, libc::SIGSEGV, libc::SIGSYS];
/// Bytes of one read at most.
const CHUNK: usize = 4096;

/// The terminal's settings before it went raw; set once, so that a signal handler may read it.
static COOKED: OnceLock<libc::termios> = OnceLock::new();
/// Handlers that were there before ours, in the order of [`FATAL`].
static PREVIOUS: OnceLock<[libc::sigaction; FATAL.len()]> = OnceLock::new();

/// What one read brought.
#[derive(Debug, Default)]
pub struct Input {
    /// For the guest.
    pub guest: Vec<u8>,
    /// For busman, in order.
    pub commands: Vec<Result<Command, CommandError>>,
    /// Nothing will come any more; the machine runs on.
    pub end: bool,
}

/// Standard input; one per process.
#[derive(Debug)]
pub struct Terminal {
    input: File,
    is_terminal: bool,
    escape: Escape,
}

impl Terminal {
    /// Takes standard input and, if it is a terminal, makes it raw. Have [`Signals`](super::Signals) before.
    ///
    /// # Errors
    /// When the host refuses a descriptor or the terminal's settings.
    pub fn open() -> io::Result<Self> {
        let stdin = io::stdin();
        let is_terminal = stdin.is_terminal();
        let input = pollable(File::from(stdin.as_fd().try_clone_to_owned()?))?;
        if is_terminal {
            restore_on_fatal_signals()?;
            make_raw()?;
        }
        Ok(Terminal { input, is_terminal, escape: Escape::default() })
    }

    /// Reads once, at most `room` bytes; blocks unless the descriptor is readable. Interruptions read nothing.
    ///
    /// # Errors
    /// When the host fails to read; a terminal that went away is an end instead.
    pub fn read(&mut self, room: usize) -> io::Result<Input> {
        let mut bytes = vec![0; room.min(CHUNK)];
        let len = match self.input.read(&mut bytes) {
            Ok(0) => return Ok(Input { end: room > 0, ..Input::default() }),
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(Input::default()),
            // The other side of the terminal was closed.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => {
                return Ok(Input { end: true, ..Input::default() });
            }
            Err(error) => return Err(error),
        };
        bytes.truncate(len);
        let parsed = self.escape.parse(&bytes);
        if self.is_terminal && !parsed.echo.is_empty() {
            // The echo is a convenience: typing works without it.
            let _ = io::stderr().write_all(&parsed.echo);
        }
        Ok(Input { guest: parsed.guest, commands: parsed.commands, end: false })
    }
}

impl AsRawFd for Terminal {
    fn as_raw_fd(&self) -> RawFd {
        self.input.as_raw_fd()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        restore();
    }
}

/// Gives the terminal its old settings back; harmless when it never was raw. Call it before `process::exit`.
pub fn restore() {
    if let Some(cooked) = COOKED.get() {
        // SAFETY: tcsetattr only reads the settings. It is async-signal-safe, and so is OnceLock::get.
        unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSANOW, cooked) };
    }
}

/// Epoll refuses files and /dev/null: a thread carries those through a pipe, which also keeps the pace.
fn pollable(mut input: File) -> io::Result<File> {
    let epoll = Epoll::new()?;
    let event = EpollEvent::new(EventSet::IN, 0);
    match epoll.ctl(ControlOperation::Add, input.as_raw_fd(), event) {
        Ok(()) => Ok(input),
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
            let (reader, mut writer) = io::pipe()?;
            // Either side may end first; then the thread does.
            thread::Builder::new().name("stdin".into()).spawn(move || io::copy(&mut input, &mut writer))?;
            Ok(File::from(OwnedFd::from(reader)))
        }
        Err(error) => Err(error),
    }
}

fn make_raw() -> io::Result<()> {
    let mut settings = MaybeUninit::<libc::termios>::zeroed();
    // SAFETY: the kernel fills `settings`, which is large enough by its type.
    check(unsafe { libc::tcgetattr(libc::STDIN_FILENO, settings.as_mut_ptr()) })?;
    // SAFETY: filled above, and all zeros would be valid too.
    let cooked = *COOKED.get_or_init(|| unsafe { settings.assume_init() });
    let raw = raw(cooked);
    // SAFETY: tcsetattr only reads the settings.
    check(unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSANOW, &raw const raw) })
}

/// Every key reaches us as it is: no echo, no lines, no signals, no flow control, no translation.
fn raw(cooked: libc::termios) -> libc::termios {
    let mut raw = cooked;
    raw.c_lflag &= !(libc::ICANON | libc::ECHO | libc::ECHONL | libc::ISIG | libc::IEXTEN);
    raw.c_iflag &= !(libc::IGNBRK | libc::BRKINT | libc::PARMRK | libc::ISTRIP);
    raw.c_iflag &= !(libc::INLCR | libc::IGNCR | libc::ICRNL | libc::IXON);
    raw.c_cc[libc::VMIN] = 1;
    raw.c_cc[libc::VTIME] = 0;
    raw
}

fn restore_on_fatal_signals() -> io::Result<()> {
    let mut previous = [empty_action(); FATAL.len()];
    for (signal, old) in FATAL.iter().zip(&mut previous) {
        // SAFETY: a null action changes nothing; the kernel fills `old`.
        check(unsafe { libc::sigaction(*signal, std::ptr::null(), old) })?;
    }
    if PREVIOUS.set(previous).is_err() {
        return Ok(()); // installed by an earlier terminal
    }
    let mut action = empty_action();
    let handler: extern "C" fn(libc::c_int, *const libc::siginfo_t, *const libc::c_void) = on_fatal_signal;
    action.sa_sigaction = handler as usize;
    // Rust's threads have a signal stack of their own: a stack overflow can be handled.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    for signal in FATAL {
        // SAFETY: the handler calls async-signal-safe functions only.
        check(unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) })?;
    }
    Ok(())
}

/// Restores the terminal, then lets the signal do what it would have done without us.
///
/// A faulting instruction runs again on return, and its signal comes with all its details. A signal that
/// somebody sent has to be sent again; it waits until this returns.
extern "C" fn on_fatal_signal(
    signal: libc::c_int,
    info: *const libc::siginfo_t,
    _context: *const libc::c_void,
) {
    restore();
    let previous = FATAL.iter().position(|&fatal| fatal == signal).zip(PREVIOUS.get());
    let action = previous.map_or_else(empty_action, |(i, previous)| previous[i]);
    // SAFETY: sigaction and raise are async-signal-safe; the action was this signal's own, or is the default.
    // With SA_SIGINFO the kernel passes a valid siginfo_t.
    unsafe {
        libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        if (*info).si_code <= libc::SI_USER {
            libc::raise(signal);
        }
    }
}

/// The default action.
fn empty_action() -> libc::sigaction {
    // SAFETY: all zeros is a valid sigaction: default handler (SIG_DFL is 0), empty mask, no flags.
    unsafe { MaybeUninit::zeroed().assume_init() }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, SeekFrom};
    use vmm_sys_util::tempfile::TempFile;

    fn terminal(input: File) -> Terminal {
        Terminal { input, is_terminal: false, escape: Escape::default() }
    }

    #[test]
    fn a_pipe_is_read_as_far_as_there_is_room() {
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"abc\x01sdef").unwrap();
        drop(writer);
        let mut terminal = terminal(File::from(OwnedFd::from(reader)));
        let first = terminal.read(4).unwrap();
        assert_eq!((first.guest.as_slice(), first.commands.len(), first.end), (b"abc".as_slice(), 0, false));
        assert!(!terminal.read(0).unwrap().end, "no room is no end");
        let second = terminal.read(100).unwrap();
        assert_eq!(
            (second.guest.as_slice(), second.commands),
            (b"def".as_slice(), vec![Ok(Command::Shutdown)])
        );
        assert!(terminal.read(100).unwrap().end);
    }

    #[test]
    fn files_and_dev_null_become_pollable() {
        let file = TempFile::new().unwrap();
        let mut file = file.into_file();
        file.write_all(b"root\n").unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        let mut piped = terminal(pollable(file).unwrap());
        assert_eq!(piped.read(100).unwrap().guest, b"root\n");
        assert!(piped.read(100).unwrap().end);
        let mut null = terminal(pollable(File::open("/dev/null").unwrap()).unwrap());
        assert!(null.read(100).unwrap().end);
    }

    #[test]
    fn raw_mode_leaves_output_processing_on() {
        // SAFETY: all zeros is a valid termios.
        let mut cooked: libc::termios = unsafe { MaybeUninit::zeroed().assume_init() };
        cooked.c_lflag = libc::ICANON | libc::ECHO | libc::ISIG | libc::IEXTEN | libc::TOSTOP;
        cooked.c_iflag = libc::ICRNL | libc::IXON | libc::IUTF8;
        cooked.c_oflag = libc::OPOST | libc::ONLCR;
        let raw = raw(cooked);
        assert_eq!((raw.c_lflag, raw.c_iflag), (libc::TOSTOP, libc::IUTF8));
        assert_eq!((raw.c_oflag, raw.c_cc[libc::VMIN]), (libc::OPOST | libc::ONLCR, 1));
    }
}
