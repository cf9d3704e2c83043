//! Standard output as the guest's screen, or a file as what its second serial port leads to.
//!
//! Virtual processors leave bytes in a buffer, and a thread writes them: who reads them slowly, or not at all, keeps neither a virtual processor nor the control loop waiting. The guest waits instead, as for a slow
//! terminal on a wire: its UART is busy while the buffer is full (see `devices::legacy::Serial`). Nothing is lost
//! unless the guest sends all the same.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::Duration;

use devices::legacy::SerialOutput;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// Bytes that wait for the reader at most.
const BUFFER: usize = 64 << 10;
/// Bytes that are written at a time.
const PIECE: usize = 4 << 10;
/// Room that a virtual processor must find: it may fill the buffer of its UART after one look.
const ROOM: usize = 64;
/// How long the reader has for what is left when busman ends.
const PATIENCE: Duration = Duration::from_secs(2);

/// Standard output, until it is dropped; then what is left is written, if somebody reads it soon.
#[derive(Debug)]
pub struct Console {
    shared: Arc<Shared>,
    patience: Duration,
}

/// The guest's end: takes bytes at once, or not at all.
#[derive(Clone, Debug)]
pub struct ConsoleWriter(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// There is something to write, or it is written, or the console ends.
    changed: Condvar,
    /// There is room again.
    drained: EventFd,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    /// Bytes that are being written.
    leaving: usize,
    /// A guest found no room.
    full: bool,
    /// Nobody can read: what comes is thrown away.
    closed: bool,
    ended: bool,
}

impl State {
    fn room(&self) -> usize {
        BUFFER.saturating_sub(self.waiting.len() + self.leaving)
    }
}

impl Console {
    /// Takes standard output.
    ///
    /// # Errors
    /// When the host gives no descriptor or no thread.
    pub fn open() -> io::Result<Self> {
        // Not Rust's own: it has a buffer and a lock, which a stalled reader would hold for ever.
        Console::new(File::from(io::stdout().as_fd().try_clone_to_owned()?), PATIENCE)
    }

    /// Opens a file, whose end the guest's output goes to; it is made if there is none.
    ///
    /// # Errors
    /// When the host does not let it be written.
    pub fn to_file(path: &Path) -> io::Result<Self> {
        // A pipe without a reader is an error and no wait.
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let file = File::options().append(true).create(true).mode(0o600).custom_flags(flags).open(path)?;
        Console::new(file, PATIENCE)
    }

    fn new(output: File, patience: Duration) -> io::Result<Self> {
        let (state, changed, drained) = (Mutex::default(), Condvar::new(), EventFd::new(EFD_NONBLOCK)?);
        let shared = Arc::new(Shared { state, changed, drained });
        Builder::new().name("console".into()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.write_out(output)
        })?;
        Ok(Console { shared, patience })
    }

    /// An end for a machine.
    #[must_use]
    pub fn writer(&self) -> ConsoleWriter {
        ConsoleWriter(Arc::clone(&self.shared))
    }

    /// Signalled when there is room again after [`SerialOutput::has_room`] said no.
    #[must_use]
    pub fn drained(&self) -> &EventFd {
        &self.shared.drained
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.ended = true;
        self.shared.changed.notify_all();
        let unwritten = |state: &mut State| !state.waiting.is_empty() || state.leaving > 0;
        // A thread that is left behind waits for the reader, and ends with the process.
        drop(self.shared.changed.wait_timeout_while(state, self.patience, unwritten));
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread: writes piece after piece until the console ends.
    fn write_out(&self, mut output: File) {
        while let Some(piece) = self.take_piece() {
            let written = write_all(&mut output, &piece);
            let mut state = self.state();
            state.leaving = 0;
            if let Err(error) = written {
                log::warn!("The guest's console is shown no more: {error}");
                state.closed = true;
                state.waiting.clear();
            }
            if state.full && state.room() >= BUFFER / 2 {
                state.full = false;
                if let Err(error) = self.drained.write(1) {
                    log::error!("The guest is not told that its console goes on: {error}");
                }
            }
            self.changed.notify_all();
        }
    }

    /// The next bytes to write; `None` at the end.
    fn take_piece(&self) -> Option<Vec<u8>> {
        let idle = |state: &mut State| state.waiting.is_empty() && !state.ended;
        let mut state = self.changed.wait_while(self.state(), idle).unwrap_or_else(PoisonError::into_inner);
        let len = state.waiting.len().min(PIECE);
        state.leaving = len;
        (len > 0).then(|| state.waiting.drain(..len).collect())
    }
}

/// Writes all, also if somebody has made the open file non-blocking.
fn write_all(output: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match output.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // An interruption leads to another attempt, too.
                let _ = poll(&mut [PollFd::new(output, PollFlags::OUT)], None);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl SerialOutput for ConsoleWriter {
    fn has_room(&self) -> bool {
        let mut state = self.0.state();
        let has_room = state.room() >= ROOM;
        // A yes to one processor is no news for another that was told no.
        state.full |= !has_room;
        has_room
    }
}

impl Write for ConsoleWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.state();
        if state.closed {
            return Ok(bytes.len());
        }
        let taken = bytes.get(..state.room().min(bytes.len())).unwrap_or_default();
        if taken.is_empty() && !bytes.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.waiting.extend_from_slice(taken);
        self.0.changed.notify_all();
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::Timespec;
    use std::io::Read;
    use std::os::fd::OwnedFd;

    /// A console, and both ends of the pipe that it writes to.
    fn console(patience: Duration) -> (Console, io::PipeReader, io::PipeWriter) {
        let (reader, writer) = io::pipe().unwrap();
        let output = File::from(OwnedFd::from(writer.try_clone().unwrap()));
        (Console::new(output, patience).unwrap(), reader, writer)
    }

    /// Writes as a guest does that looks before each byte, until pipe and buffer are full; returns what was written.
    fn fill(writer: &mut ConsoleWriter, pipe: &io::PipeWriter) -> Vec<u8> {
        let mut sent = Vec::new();
        let pipe_is_full =
            || poll(&mut [PollFd::new(pipe, PollFlags::OUT)], Some(&Timespec::default())) == Ok(0);
        while writer.has_room() || !pipe_is_full() {
            if writer.has_room() {
                let byte = u8::try_from(sent.len() % 251).unwrap();
                writer.write_all(&[byte]).unwrap();
                sent.push(byte);
            }
        }
        sent
    }

    #[test]
    fn a_stalled_reader_holds_no_processor_up_and_loses_nothing() {
        let (console, mut reader, pipe) = console(Duration::MAX);
        let mut writer = console.writer();
        let sent = fill(&mut writer, &pipe);
        let mut lost = 0;
        while writer.write(b"!").is_ok() {
            lost += 1;
        }
        assert!(lost <= ROOM, "a guest that does not look has its UART's buffer, and then nothing");
        let reading = std::thread::spawn(move || {
            let mut read = Vec::new();
            reader.read_to_end(&mut read).map(|_| read)
        });
        while console.drained().read().is_err() {
            std::thread::yield_now();
        }
        assert!(writer.has_room());
        drop((console, writer, pipe));
        let read = reading.join().unwrap().unwrap();
        assert_eq!(read.len(), sent.len() + lost);
        assert!(read.starts_with(&sent) && read.ends_with(&vec![b'!'; lost]));
    }

    #[test]
    fn the_end_does_not_wait_for_ever_for_a_stalled_reader() {
        let (console, _reader, pipe) = console(Duration::from_millis(1));
        fill(&mut console.writer(), &pipe);
        drop(console);
    }

    #[test]
    fn a_reader_that_went_away_is_no_reason_to_wait() {
        let (console, reader, _pipe) = console(Duration::MAX);
        drop(reader);
        let mut writer = console.writer();
        for _ in 0..2 * BUFFER {
            while !writer.has_room() {
                std::thread::yield_now();
            }
            writer.write_all(b"x").unwrap();
        }
    }
}
