//! What the lab and its agent say to each other over one byte stream.
//!
//! The agent (agent.rs) starts programs next to the KVM that runs the guests: on this machine, or inside L1.
//! A frame is one kind byte, a little-endian length and that many bytes. Console and log bytes travel as they
//! are; everything else is one JSON value.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A frame longer than this is a broken stream, not a message.
const MAX_FRAME: u32 = 1 << 24;

const KIND_JSON: u8 = b'J';
const KIND_CONSOLE: u8 = b'C';
const KIND_LOG: u8 = b'L';

/// One frame, in either direction.
#[derive(Debug)]
pub enum Frame<T> {
    /// A request (to the agent) or an event (from it).
    Message(T),
    /// Bytes of the guest's console: the program's standard input or output.
    Console(Vec<u8>),
    /// Bytes of the program's standard error.
    Log(Vec<u8>),
}

/// What the lab asks of the agent.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Run a program; only one runs at a time.
    Start(Program),
    /// Ask it to end (SIGTERM).
    Terminate,
    /// End it at once (SIGKILL).
    Kill,
    /// Look at its memory, threads and KVM counters.
    Sample,
    /// Run another program beside it, to its end; the number comes back with what it says.
    Beside(u32, Program),
}

/// A program to run, with paths as they are on the lab's machine: L1 sees the same file tree.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Program {
    /// The executable.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its working directory.
    pub dir: PathBuf,
}

/// What the agent tells the lab.
#[derive(Debug, Serialize, Deserialize)]
pub enum Event {
    /// The agent is up.
    Ready,
    /// The program ended: its exit code, or 128 + signal number as a shell says it.
    Ended(i32),
    /// The program could not be started.
    NotStarted(String),
    /// The answer to [`Request::Sample`].
    Sample(Sample),
    /// What the program beside, with the number that it was given, came to.
    Beside(u32, Said),
}

/// What a program said from its start to its end.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Said {
    /// Its exit code, or 128 + signal number; -1 if it did not start.
    pub code: i32,
    /// Its standard output.
    pub output: String,
    /// Its standard error, or why it did not start.
    pub errors: String,
}

/// A look at a running program.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Sample {
    /// Resident memory that is not guest RAM (which is a memfd mapping), in KiB.
    pub overhead_kib: u64,
    /// Resident guest RAM, in KiB.
    pub guest_kib: u64,
    /// Threads.
    pub threads: u64,
    /// CPU time of the process outside the guest, in µs, to a hundredth of a second.
    pub host_cpu_us: u64,
    /// CPU time of the threads that are no vCPUs, in µs.
    pub service_us: u64,
    /// How often those threads have waited for something, and so were woken.
    pub service_waits: u64,
    /// How often vCPUs' threads have.
    pub vcpu_waits: u64,
    /// KVM's own counters for the VM (debugfs); empty where debugfs is not mounted.
    pub kvm: BTreeMap<String, u64>,
}

impl Sample {
    /// This look, with its counters as they have grown since another; memory and threads are as they are.
    pub fn since(&self, before: &Sample) -> Sample {
        Sample {
            host_cpu_us: self.host_cpu_us.saturating_sub(before.host_cpu_us),
            service_us: self.service_us.saturating_sub(before.service_us),
            service_waits: self.service_waits.saturating_sub(before.service_waits),
            vcpu_waits: self.vcpu_waits.saturating_sub(before.vcpu_waits),
            kvm: growth(self.kvm.clone(), &before.kvm),
            ..self.clone()
        }
    }
}

/// By how much counters have grown; those that are new from 0.
pub fn growth(mut after: BTreeMap<String, u64>, before: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    for (name, count) in &mut after {
        *count = count.saturating_sub(before.get(name).copied().unwrap_or_default());
    }
    after
}

/// Writes one frame and flushes.
pub fn write<T: Serialize>(to: &mut impl Write, frame: &Frame<T>) -> io::Result<()> {
    let json;
    let (kind, body) = match frame {
        Frame::Message(message) => {
            json = serde_json::to_vec(message)?;
            (KIND_JSON, json.as_slice())
        }
        Frame::Console(bytes) => (KIND_CONSOLE, bytes.as_slice()),
        Frame::Log(bytes) => (KIND_LOG, bytes.as_slice()),
    };
    let length = u32::try_from(body.len()).map_err(|_| invalid("frame too long"))?;
    let mut whole = Vec::with_capacity(body.len() + 5);
    whole.push(kind);
    whole.extend_from_slice(&length.to_le_bytes());
    whole.extend_from_slice(body);
    to.write_all(&whole)?;
    to.flush()
}

/// Reads one frame; `None` at the end of the stream.
pub fn read<T: for<'de> Deserialize<'de>>(from: &mut impl Read) -> io::Result<Option<Frame<T>>> {
    let mut kind = [0];
    if from.read(&mut kind)? == 0 {
        return Ok(None);
    }
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > MAX_FRAME {
        return Err(invalid("frame too long"));
    }
    let mut body = vec![0; length as usize];
    from.read_exact(&mut body)?;
    match kind {
        [KIND_JSON] => Ok(Some(Frame::Message(serde_json::from_slice(&body)?))),
        [KIND_CONSOLE] => Ok(Some(Frame::Console(body))),
        [KIND_LOG] => Ok(Some(Frame::Log(body))),
        _ => Err(invalid("unknown kind of frame")),
    }
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_as_they_went() {
        let mut stream = Vec::new();
        write(&mut stream, &Frame::Message(Event::Ended(7))).unwrap();
        write::<Event>(&mut stream, &Frame::Console(vec![0, 1, 0xff])).unwrap();
        let mut from = stream.as_slice();
        assert!(matches!(read::<Event>(&mut from).unwrap(), Some(Frame::Message(Event::Ended(7)))));
        assert!(matches!(read::<Event>(&mut from).unwrap(), Some(Frame::Console(b)) if b == [0, 1, 0xff]));
        assert!(read::<Event>(&mut from).unwrap().is_none());
    }

    #[test]
    fn a_stream_of_noise_is_an_error() {
        let mut from: &[u8] = &[KIND_LOG, 0xff, 0xff, 0xff, 0xff];
        assert!(read::<Event>(&mut from).is_err());
        let mut from: &[u8] = &[b'?', 0, 0, 0, 0];
        assert!(read::<Event>(&mut from).is_err());
    }
}
