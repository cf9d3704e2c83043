//! The reader's side of a ring.
//!
//! In the host that is the guest→host ring. Its channel's worker reads packets in batches: `mask`, `next` until
//! there is none, `commit`, `unmask`, sleep. The read index lives here and is only ever written to the control
//! page; the writer's index is read when the packets known so far are used up.

use std::sync::atomic::Ordering;

use zerocopy::{FromZeros, IntoBytes};

use super::layout::Area;
use super::packet::{Packet, PacketBuffer, packet_extent};
use super::protocol::{ControlWord, DESCRIPTOR_SIZE, FEATURE_PENDING_SEND_SIZE, PacketDescriptor, UNIT};
use super::{RingCounters, RingError, RingMemory};

/// Reads packets from a ring.
#[derive(Debug)]
pub struct Incoming<M> {
    memory: M,
    area: Area,
    /// Where the next packet starts.
    read: u32,
    /// The read index that the writer sees.
    published: u32,
    /// The write index as last read: packets are complete up to there.
    write: u32,
    counters: RingCounters,
}

impl<M: RingMemory> Incoming<M> {
    /// Takes over the reader's side at the indices that the control page holds.
    ///
    /// # Errors
    /// [`RingError::Index`] if one of them is none.
    pub fn open(memory: M) -> Result<Self, RingError> {
        let area = Area::of(&memory);
        let read = area.load_index(&memory, ControlWord::ReadIndex)?;
        let write = area.load_index(&memory, ControlWord::WriteIndex)?;
        Ok(Self { memory, area, read, published: read, write, counters: RingCounters::default() })
    }

    /// Copies the next packet into the buffer; `None` if there is none now.
    ///
    /// # Errors
    /// Whatever the writer did wrong; the packet stays where it is.
    pub fn next<'a>(&mut self, buffer: &'a mut PacketBuffer) -> Result<Option<Packet<'a>>, RingError> {
        if self.read == self.write {
            self.write = self.area.load_index(&self.memory, ControlWord::WriteIndex)?;
            if self.read == self.write {
                return Ok(None);
            }
        }
        let used = self.area.distance(self.read, self.write);
        let truncated = |need| RingError::Truncated { at: self.read, need, used };
        let smallest = DESCRIPTOR_SIZE + UNIT;
        if used < smallest {
            return Err(truncated(smallest));
        }
        let mut descriptor = PacketDescriptor::new_zeroed();
        self.memory.read(self.read, descriptor.as_mut_bytes())?;
        let (header, len) = packet_extent(&descriptor);
        if header < DESCRIPTOR_SIZE || header > len {
            return Err(RingError::Descriptor { at: self.read, header, len });
        }
        let need = len + UNIT;
        if need > used {
            return Err(truncated(need));
        }
        let body = buffer.take((len - DESCRIPTOR_SIZE) as usize);
        self.memory.read(self.area.advance(self.read, DESCRIPTOR_SIZE), body)?;
        self.read = self.area.advance(self.read, need);
        self.counters.packets += 1;
        self.counters.bytes += u64::from(len);
        Ok(Some(Packet::new(&descriptor, body)))
    }

    /// Gives the room of all packets read so far back to the writer. True: it waits for that room, signal it.
    ///
    /// # Errors
    /// [`RingError::Index`] if the writer spoilt its index.
    pub fn commit(&mut self) -> Result<bool, RingError> {
        let freed = self.kept();
        if freed == 0 {
            return Ok(false);
        }
        // Release: the copies out of the room come before the writer may use it again.
        self.memory.store(ControlWord::ReadIndex, self.read, Ordering::Release)?;
        self.published = self.read;
        // The writer stores its need, then looks for room; we make room, then look for its need. Without the
        // barrier both may look too early, and the writer sleeps for ever.
        self.memory.full_barrier();
        let signal = self.crossed(freed)?;
        self.counters.signals += u64::from(signal);
        Ok(signal)
    }

    /// Whether the bytes just freed made the room that the writer waits for.
    fn crossed(&mut self, freed: u32) -> Result<bool, RingError> {
        let Some(pending) = self.pending()? else { return Ok(false) };
        self.write = self.area.load_index(&self.memory, ControlWord::WriteIndex)?;
        let free = self.area.free(self.read, self.write);
        // The writer may have used some of the new room already, and then had less than nothing before.
        let before = free.saturating_sub(freed);
        Ok(before < pending && pending <= free)
    }

    /// Bytes that the writer waits for.
    fn pending(&self) -> Result<Option<u32>, RingError> {
        let pending = self.memory.load(ControlWord::PendingSendSize, Ordering::Relaxed)?;
        // Some guests store the size less one byte to wait for an empty ring: whole units count.
        let pending = pending - pending % UNIT;
        Ok((pending != 0 && self.writer_tells_need()?).then_some(pending))
    }

    /// Whether the writer's feature bit is set: it says how much room it needs when it has none, and it honours
    /// that word in the channel's other ring. Of a writer that does not, room there is to be polled for.
    ///
    /// # Errors
    /// The memory's.
    pub fn writer_tells_need(&self) -> Result<bool, RingError> {
        let features = self.memory.load(ControlWord::FeatureBits, Ordering::Relaxed)?;
        Ok(features & FEATURE_PENDING_SEND_SIZE != 0)
    }

    /// Whether a writer waits although there is room: for the look after opening a channel, when a guest may
    /// have missed the first signal.
    ///
    /// # Errors
    /// [`RingError::Index`] if the writer spoilt its index.
    pub fn writer_is_stuck(&mut self) -> Result<bool, RingError> {
        let Some(pending) = self.pending()? else { return Ok(false) };
        self.write = self.area.load_index(&self.memory, ControlWord::WriteIndex)?;
        Ok(pending <= self.area.free(self.published, self.write))
    }

    /// Asks the writer not to interrupt while packets are being read anyway; it may still do.
    ///
    /// # Errors
    /// The memory's.
    pub fn mask(&mut self) -> Result<(), RingError> {
        Ok(self.memory.store(ControlWord::InterruptMask, 1, Ordering::Relaxed)?)
    }

    /// Asks for interrupts again. True: packets came meanwhile without one, go on reading.
    ///
    /// Commit first: to the writer a ring is empty only once the read index says so, and it does not interrupt
    /// for a ring that is not empty.
    ///
    /// # Errors
    /// [`RingError::Index`] if the writer spoilt its index.
    pub fn unmask(&mut self) -> Result<bool, RingError> {
        debug_assert_eq!(self.read, self.published, "unmask before commit");
        self.memory.store(ControlWord::InterruptMask, 0, Ordering::Relaxed)?;
        // The writer stores its index, then looks at the mask; we clear the mask, then look at the index.
        // Without the barrier both may look too early, and we sleep over a packet.
        self.memory.full_barrier();
        self.write = self.area.load_index(&self.memory, ControlWord::WriteIndex)?;
        Ok(self.read != self.write)
    }

    /// Bytes of packets that were read and whose room the writer has not been given back.
    #[must_use]
    pub fn kept(&self) -> u32 {
        self.area.distance(self.published, self.read)
    }

    /// Most bytes that the ring can hold at a time, trailers included.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.area.capacity()
    }

    /// What was read so far.
    #[must_use]
    pub fn counters(&self) -> RingCounters {
        self.counters
    }
}
