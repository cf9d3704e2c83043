//! The writer's side of a ring.
//!
//! In the host that is the host→guest ring. Its channel's worker writes packets in batches: `write` for each,
//! `commit` once. When there is no room: `commit`, `wait_for_room`, then sleep until the reader signals. The
//! write index lives here and is only ever written to the control page; the reader's index is read when the
//! room known so far is used up.

use std::sync::atomic::Ordering;

use thiserror::Error;
use zerocopy::IntoBytes;

use super::layout::Area;
use super::packet::{PacketOut, padding};
use super::protocol::{ControlWord, FEATURE_PENDING_SEND_SIZE, PacketTrailer, UNIT};
use super::{RingCounters, RingError, RingMemory};

/// Why a packet was not written; nothing of it is in the ring then.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum WriteError {
    /// No room now.
    #[error("No room for {need} bytes in the ring, {room} bytes are free")]
    Full {
        /// Bytes that the packet takes with its trailer.
        need: u32,
        /// Bytes that are free.
        room: u32,
    },
    /// There never will be room.
    #[error("A packet of {need} bytes can never be in a ring that carries {most} bytes")]
    TooLarge {
        /// Bytes that the packet takes with its trailer.
        need: usize,
        /// The most that a packet in this ring can take.
        most: u32,
    },
    /// The ring is broken.
    #[error("The ring is broken")]
    Ring(#[from] RingError),
}

/// Writes packets to a ring.
#[derive(Debug)]
pub struct Outgoing<M> {
    memory: M,
    area: Area,
    /// Where the next packet goes.
    write: u32,
    /// The write index that the reader sees.
    published: u32,
    /// The read index as last read: there is room up to there.
    read: u32,
    /// The control page says that room is waited for.
    waiting: bool,
    counters: RingCounters,
}

impl<M: RingMemory> Outgoing<M> {
    /// Takes over the writer's side at the indices that the control page holds, and says there that it will
    /// use the pending send size.
    ///
    /// # Errors
    /// [`RingError::Index`] if one of them is none.
    pub fn open(memory: M) -> Result<Self, RingError> {
        let area = Area::of(&memory);
        let write = area.load_index(&memory, ControlWord::WriteIndex)?;
        let read = area.load_index(&memory, ControlWord::ReadIndex)?;
        let waiting = memory.load(ControlWord::PendingSendSize, Ordering::Relaxed)? != 0;
        memory.set_bits(ControlWord::FeatureBits, FEATURE_PENDING_SEND_SIZE)?;
        Ok(Self { memory, area, write, published: write, read, waiting, counters: RingCounters::default() })
    }

    /// Puts a packet behind those written before. The reader sees it after [`commit`](Self::commit).
    ///
    /// # Errors
    /// [`WriteError`]; the ring is as it was.
    pub fn write(&mut self, packet: &PacketOut<'_>) -> Result<(), WriteError> {
        let most = self.largest_packet();
        let (descriptor, need) = packet
            .descriptor()
            .filter(|&(_, need)| need <= most)
            .ok_or_else(|| WriteError::TooLarge { need: packet.ring_bytes(), most })?;
        self.make_room(need)?;
        let start = self.write;
        let mut at = self.put(start, descriptor.as_bytes())?;
        at = self.put(at, packet.extension)?;
        at = self.put(at, padding(packet.extension.len()))?;
        for piece in packet.payload {
            at = self.put(at, piece)?;
        }
        at = self.put(at, padding(packet.payload_len()))?;
        self.put(at, PacketTrailer { reserved: 0.into(), start: start.into() }.as_bytes())?;
        self.stop_waiting()?;
        self.write = self.area.advance(start, need);
        self.counters.packets += 1;
        self.counters.bytes += u64::from(need - UNIT);
        Ok(())
    }

    /// Shows all packets written so far to the reader. True: it may sleep, interrupt it.
    ///
    /// # Errors
    /// [`RingError::Index`] if the reader spoilt its index.
    pub fn commit(&mut self) -> Result<bool, RingError> {
        let before = self.published;
        if self.write == before {
            return Ok(false);
        }
        // Release: the packets come before the index that announces them.
        self.memory.store(ControlWord::WriteIndex, self.write, Ordering::Release)?;
        self.published = self.write;
        // The reader clears its mask (or moves its index), then looks for packets; we show packets, then look at
        // both. Without the barrier both may look too early, and the reader sleeps over a packet.
        self.memory.full_barrier();
        let signal = if self.masked()? {
            false
        } else {
            self.read = self.area.load_index(&self.memory, ControlWord::ReadIndex)?;
            // Otherwise the reader had not come to the end yet, and will see these packets when it does.
            self.read == before
        };
        self.counters.signals += u64::from(signal);
        Ok(signal)
    }

    /// Asks the reader for a signal when `bytes` are free: a [`WriteError::Full`]'s `need`, or more to be woken
    /// less often. True: they are free already, do not wait. The next packet written takes the request back.
    ///
    /// Commit first: a reader that sees no packets frees no room.
    ///
    /// # Errors
    /// [`RingError::Index`] if the reader spoilt its index.
    pub fn wait_for_room(&mut self, bytes: u32) -> Result<bool, RingError> {
        debug_assert_eq!(self.write, self.published, "wait before commit");
        let capacity = self.area.capacity();
        let bytes = bytes.checked_next_multiple_of(UNIT).map_or(capacity, |bytes| bytes.min(capacity));
        self.waiting = true;
        self.memory.store(ControlWord::PendingSendSize, bytes, Ordering::Relaxed)?;
        // The reader makes room, then looks for our need; we store our need, then look for room. Without the
        // barrier both may look too early, and we sleep for ever.
        self.memory.full_barrier();
        Ok(self.room()? >= bytes)
    }

    /// Bytes that are free now, for packets with their trailers.
    ///
    /// # Errors
    /// [`RingError::Index`] if the reader spoilt its index.
    pub fn room(&mut self) -> Result<u32, RingError> {
        self.read = self.area.load_index(&self.memory, ControlWord::ReadIndex)?;
        Ok(self.area.free(self.read, self.write))
    }

    /// Whether packets lie unread although interrupts are not masked: for the look after opening a channel,
    /// when a guest may have missed the first interrupt.
    ///
    /// # Errors
    /// [`RingError::Index`] if the reader spoilt its index.
    pub fn reader_is_stuck(&mut self) -> Result<bool, RingError> {
        self.read = self.area.load_index(&self.memory, ControlWord::ReadIndex)?;
        Ok(self.read != self.published && !self.masked()?)
    }

    /// Most bytes that one packet can take with its trailer.
    #[must_use]
    pub fn largest_packet(&self) -> u32 {
        self.area.largest_packet()
    }

    /// What was written so far.
    #[must_use]
    pub fn counters(&self) -> RingCounters {
        self.counters
    }

    fn masked(&self) -> Result<bool, RingError> {
        Ok(self.memory.load(ControlWord::InterruptMask, Ordering::Relaxed)? != 0)
    }

    /// Looks at the read index only if the room known so far is too small.
    fn make_room(&mut self, need: u32) -> Result<(), WriteError> {
        if self.area.free(self.read, self.write) >= need {
            return Ok(());
        }
        let room = self.room()?;
        if room >= need {
            return Ok(());
        }
        self.counters.full += 1;
        Err(WriteError::Full { need, room })
    }

    /// Writes a piece of a packet for which there is room, and returns where the next one goes.
    fn put(&self, at: u32, bytes: &[u8]) -> Result<u32, RingError> {
        if bytes.is_empty() {
            return Ok(at);
        }
        self.memory.write(at, bytes)?;
        #[expect(clippy::cast_possible_truncation, reason = "a piece of a packet, which is below 512 KiB")]
        Ok(self.area.advance(at, bytes.len() as u32))
    }

    fn stop_waiting(&mut self) -> Result<(), RingError> {
        if self.waiting {
            self.memory.store(ControlWord::PendingSendSize, 0, Ordering::Relaxed)?;
            self.waiting = false;
        }
        Ok(())
    }
}
