//! Where things are in a ring, and the arithmetic of its indices.
//!
//! [`RingMemory`] is what the reader and the writer need of the memory under them; [`RingPages`] is the guest's
//! pages, and a model checker can bring its own. All arithmetic of indices is [`Area`]'s, which takes checked
//! indices only: nothing else in this folder adds or subtracts an offset.

use std::fmt::Debug;
use std::sync::atomic::{Ordering, fence};

use super::RingError;
use super::protocol::{ControlWord, UNIT};
use crate::mem::{MemError, PAGE_SIZE, Pages};

/// The memory of one ring, shared with the other side of it.
pub trait RingMemory: Debug + Send {
    /// Bytes of the data area: a multiple of 8, above 0, always the same.
    fn data_size(&self) -> u32;

    /// Reads a control word.
    ///
    /// # Errors
    /// The memory's.
    fn load(&self, word: ControlWord, order: Ordering) -> Result<u32, MemError>;

    /// Writes a control word.
    ///
    /// # Errors
    /// The memory's.
    fn store(&self, word: ControlWord, value: u32, order: Ordering) -> Result<(), MemError>;

    /// Sets bits of a control word.
    ///
    /// # Errors
    /// The memory's.
    fn set_bits(&self, word: ControlWord, bits: u32) -> Result<(), MemError>;

    /// Copies data out; it goes on at the start when it reaches the end of the data area.
    ///
    /// # Errors
    /// The memory's, for instance of an offset past the end, or more bytes than the area has.
    fn read(&self, offset: u32, bytes: &mut [u8]) -> Result<(), MemError>;

    /// Copies data in; it goes on at the start when it reaches the end of the data area.
    ///
    /// # Errors
    /// The memory's, for instance of an offset past the end, or more bytes than the area has.
    fn write(&self, offset: u32, bytes: &[u8]) -> Result<(), MemError>;

    /// Orders every access before it against every access after it, a store against a later load too.
    fn full_barrier(&self) {
        fence(Ordering::SeqCst);
    }
}

/// A ring in guest pages: the first is the control page, the rest is data.
#[derive(Clone, Debug)]
pub struct RingPages {
    pages: Pages,
    data_size: u32,
}

impl RingPages {
    /// Takes the pages of one ring.
    ///
    /// # Errors
    /// [`RingError::Size`] of less than two pages, or of more than indices can name.
    pub fn new(pages: Pages) -> Result<Self, RingError> {
        let bytes = pages.size();
        match bytes.checked_sub(PAGE_SIZE).map(u32::try_from) {
            Some(Ok(data_size)) if data_size > 0 => Ok(Self { pages, data_size }),
            _ => Err(RingError::Size { bytes }),
        }
    }

    /// Bytes between the indices, for those who watch: what is in the ring now, and 0 if the guest's index is none.
    #[must_use]
    pub fn used(&self) -> u32 {
        let area = Area::of(self);
        let read = area.load_index(self, ControlWord::ReadIndex);
        let write = area.load_index(self, ControlWord::WriteIndex);
        read.ok().zip(write.ok()).map_or(0, |(read, write)| area.distance(read, write))
    }

    /// Most bytes that one packet can take with its trailer.
    #[must_use]
    pub fn largest_packet(&self) -> u32 {
        Area::of(self).largest_packet()
    }

    /// Bytes until the end of the data area.
    fn to_end(&self, offset: u32) -> usize {
        self.data_size.saturating_sub(offset) as usize
    }
}

impl RingMemory for RingPages {
    fn data_size(&self) -> u32 {
        self.data_size
    }

    fn load(&self, word: ControlWord, order: Ordering) -> Result<u32, MemError> {
        self.pages.load(word as usize, order)
    }

    fn store(&self, word: ControlWord, value: u32, order: Ordering) -> Result<(), MemError> {
        self.pages.store(word as usize, value, order)
    }

    fn set_bits(&self, word: ControlWord, bits: u32) -> Result<(), MemError> {
        self.pages.fetch_or(word as usize, bits, Ordering::Relaxed).map(drop)
    }

    fn read(&self, offset: u32, bytes: &mut [u8]) -> Result<(), MemError> {
        let (first, wrapped) = bytes.split_at_mut(bytes.len().min(self.to_end(offset)));
        self.pages.read(PAGE_SIZE + offset as usize, first)?;
        if wrapped.is_empty() { Ok(()) } else { self.pages.read(PAGE_SIZE, wrapped) }
    }

    fn write(&self, offset: u32, bytes: &[u8]) -> Result<(), MemError> {
        let (first, wrapped) = bytes.split_at(bytes.len().min(self.to_end(offset)));
        self.pages.write(PAGE_SIZE + offset as usize, first)?;
        if wrapped.is_empty() { Ok(()) } else { self.pages.write(PAGE_SIZE, wrapped) }
    }
}

/// The arithmetic of checked indices: each is a multiple of 8 below `size`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Area {
    size: u32,
}

impl Area {
    pub(super) fn of(memory: &impl RingMemory) -> Self {
        Self { size: memory.data_size() }
    }

    /// Reads an index once and checks it. Acquire: the packets (or the room) that it announces are seen with it.
    pub(super) fn load_index(self, memory: &impl RingMemory, word: ControlWord) -> Result<u32, RingError> {
        let value = memory.load(word, Ordering::Acquire)?;
        if value < self.size && value.is_multiple_of(UNIT) {
            Ok(value)
        } else {
            Err(RingError::Index { word, value, size: self.size })
        }
    }

    /// Most bytes that can be in the ring: a full ring must not look empty.
    pub(super) fn capacity(self) -> u32 {
        self.size - UNIT
    }

    /// Most bytes that one packet can take with its trailer: all of the ring, or what 16 bits of units can tell.
    pub(super) fn largest_packet(self) -> u32 {
        self.capacity().min((u32::from(u16::MAX) + 1) * UNIT)
    }

    /// Bytes from one index forward to another.
    pub(super) fn distance(self, from: u32, to: u32) -> u32 {
        if to >= from { to - from } else { self.size - from + to }
    }

    /// Bytes that may still be written.
    pub(super) fn free(self, read: u32, write: u32) -> u32 {
        self.capacity() - self.distance(read, write)
    }

    /// The index `bytes` behind `index`; at most `size` bytes.
    pub(super) fn advance(self, index: u32, bytes: u32) -> u32 {
        let to_end = self.size - index;
        if bytes < to_end { index + bytes } else { bytes - to_end }
    }
}
