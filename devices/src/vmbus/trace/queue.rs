//! Between those who record and the thread that writes: a bounded buffer of encoded blocks.
//!
//! Two buffers change places, one filled under the lock and one written without it, so a record costs its author
//! a copy of at most [`SNAP_LEN`] bytes under a lock that is never held during a system call. Time stamps
//! are taken under the lock: the order in the file is that of time.
//!
//! The file's size is counted here too, as blocks are queued, with room put aside for the statistics of each
//! interface. The first record that would exceed the limit ends the recording.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use zerocopy::IntoBytes;

use super::SNAP_LEN;
use super::pcapng::{self, PACKET_OVERHEAD, PacketInfo, STATISTICS_SIZE, Way};
use super::protocol::{Direction, HEADER_SIZE, Kind, LINK_TYPE, TraceHeader};
use crate::guest_warn;

/// Bytes that wait for the file at most; as many may be on their way into it.
pub const QUEUE_SIZE: usize = 4 << 20;
/// The end of the queue, for control messages only.
const CONTROL_RESERVE: usize = 256 << 10;
/// Most bytes of an interface's description, and of the last note.
const SMALL_BLOCK: usize = 512;

/// The interface of the control plane, the first in the file.
pub const CONTROL: u32 = 0;

#[derive(Debug)]
pub struct Queue {
    state: Mutex<State>,
    /// There is something to write.
    news: Condvar,
    /// Cleared for good when the file is full or cannot be written.
    recording: AtomicBool,
    clock: Clock,
    limit: u64,
}

#[derive(Debug)]
struct State {
    blocks: Vec<u8>,
    /// Bytes that the file may still take, beside what is put aside.
    left: u64,
    interfaces: Vec<Interface>,
    /// Nothing more will come.
    ended: bool,
}

/// The bytes of a record, in the pieces in which its author has them.
pub trait Pieces<'a>: Iterator<Item = &'a [u8]> + Clone {}

impl<'a, I: Iterator<Item = &'a [u8]> + Clone> Pieces<'a> for I {}

#[derive(Debug, Default)]
struct Interface {
    name: String,
    about: String,
    received: u64,
    dropped: u64,
    /// Dropped since the last packet that was not.
    dropped_lately: u64,
}

/// One clock for all records: the time of day when the trace started, and what has passed since.
#[derive(Debug)]
struct Clock {
    epoch: u64,
    start: Instant,
}

impl Clock {
    fn new() -> Self {
        let epoch = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Clock { epoch: u64::try_from(epoch.as_nanos()).unwrap_or(0), start: Instant::now() }
    }

    fn now(&self) -> u64 {
        self.epoch.saturating_add(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

impl Queue {
    pub fn new(limit: u64) -> Self {
        let mut blocks = Vec::with_capacity(QUEUE_SIZE);
        pcapng::section_header(&mut blocks, concat!("busman ", env!("CARGO_PKG_VERSION")));
        let left = limit.saturating_sub((blocks.len() + SMALL_BLOCK) as u64);
        let mut state = State { blocks, left, interfaces: Vec::new(), ended: false };
        state.describe("vmbus", "control messages");
        Queue {
            state: Mutex::new(state),
            news: Condvar::new(),
            recording: AtomicBool::new(true),
            clock: Clock::new(),
            limit,
        }
    }

    /// The number of an interface; a new one is described to the file. `None` when there is no room for it.
    pub fn interface(&self, name: &str, about: &str) -> Option<u32> {
        let mut state = self.state();
        let known = state.interfaces.iter().position(|known| known.name == name && known.about == about);
        if let Some(known) = known {
            return u32::try_from(known).ok();
        }
        let has_room = state.left >= (SMALL_BLOCK + STATISTICS_SIZE) as u64
            && state.blocks.len() + SMALL_BLOCK <= QUEUE_SIZE;
        if !has_room || !self.recording.load(Ordering::Relaxed) {
            guest_warn!("The trace has no room for the packets of {name}");
            return None;
        }
        state.describe(name, about);
        self.news.notify_one();
        u32::try_from(state.interfaces.len() - 1).ok()
    }

    /// Takes a record, or counts it as dropped.
    pub fn record<'a>(&self, interface: u32, header: &'a TraceHeader, pieces: impl Pieces<'a>) {
        if !self.recording.load(Ordering::Relaxed) {
            return;
        }
        let len: usize = pieces.clone().map(<[u8]>::len).sum();
        let size = PACKET_OVERHEAD + HEADER_SIZE + len.min(SNAP_LEN);
        let usable = if interface == CONTROL { QUEUE_SIZE } else { QUEUE_SIZE - CONTROL_RESERVE };
        let mut state = self.state();
        if state.left < size as u64 {
            self.stop_at_limit(&mut state);
        } else if state.blocks.len() + size > usable {
            state.drop_packet(interface);
        } else {
            state.put(self.clock.now(), interface, header, pieces, len);
        }
        self.news.notify_one();
    }

    /// No record comes after this; the statistics do.
    pub fn end(&self) {
        self.recording.store(false, Ordering::Relaxed);
        let mut state = self.state();
        state.put_statistics(self.clock.now());
        state.ended = true;
        self.news.notify_one();
    }

    /// Writes what comes until the end, or until the file cannot be written.
    pub fn write_out(&self, mut out: impl Write) {
        let mut batch = Vec::with_capacity(QUEUE_SIZE);
        loop {
            batch.clear();
            let mut state = self.state();
            while state.blocks.is_empty() && !state.ended {
                state = self.news.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            std::mem::swap(&mut batch, &mut state.blocks);
            let last = state.ended;
            drop(state);
            let written = out.write_all(&batch).and_then(|()| if last { out.flush() } else { Ok(()) });
            if let Err(error) = written {
                self.recording.store(false, Ordering::Relaxed);
                log::error!("The trace cannot be written, and ends here: {error}");
                return;
            }
            if last {
                return;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop_at_limit(&self, state: &mut State) {
        // Another thread may have come here first.
        if self.recording.swap(false, Ordering::Relaxed) {
            let text = format!("The limit of {} bytes is reached: nothing more is recorded", self.limit);
            log::warn!("Trace: {text}");
            let note = super::header(Kind::Note, Direction::ToGuest);
            state.put(self.clock.now(), CONTROL, &note, [text.as_bytes()].into_iter(), text.len());
        }
    }
}

impl State {
    fn describe(&mut self, name: &str, about: &str) {
        let snap_len = u32::try_from(HEADER_SIZE + SNAP_LEN).unwrap_or(u32::MAX);
        let before = self.blocks.len();
        let interface = pcapng::Interface { link_type: LINK_TYPE, snap_len, name, about };
        pcapng::interface_description(&mut self.blocks, &interface);
        self.spend(self.blocks.len() - before + STATISTICS_SIZE);
        let interface = Interface { name: name.to_owned(), about: about.to_owned(), ..Interface::default() };
        self.interfaces.push(interface);
    }

    fn put<'a>(
        &mut self,
        time: u64,
        number: u32,
        header: &'a TraceHeader,
        pieces: impl Pieces<'a>,
        len: usize,
    ) {
        let Some(interface) = self.interfaces.get_mut(number as usize) else { return };
        interface.received += 1;
        let info = PacketInfo {
            interface: number,
            time,
            way: if header.direction == Direction::FromGuest as u8 { Way::In } else { Way::Out },
            drops: std::mem::take(&mut interface.dropped_lately),
            captured: HEADER_SIZE + len.min(SNAP_LEN),
            original: HEADER_SIZE + len,
        };
        let before = self.blocks.len();
        pcapng::packet(&mut self.blocks, &info, std::iter::once(header.as_bytes()).chain(pieces));
        self.spend(self.blocks.len() - before);
    }

    fn drop_packet(&mut self, interface: u32) {
        if let Some(interface) = self.interfaces.get_mut(interface as usize) {
            interface.received += 1;
            interface.dropped += 1;
            interface.dropped_lately += 1;
        }
    }

    fn put_statistics(&mut self, time: u64) {
        for (number, interface) in (0..).zip(&self.interfaces) {
            let Interface { received, dropped, .. } = interface;
            pcapng::interface_statistics(&mut self.blocks, number, time, *received, *dropped);
        }
    }

    fn spend(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes as u64);
    }
}
