//! A ring in memory that loom watches, and the doorbells of the two sides.

use std::cell::Cell;
use std::sync::Arc;

use devices::mem::MemError;
use devices::vmbus::ring::RingMemory;
use devices::vmbus::ring::protocol::ControlWord;
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use loom::sync::{Condvar, Mutex};

/// The memory that both sides share. Data is read and written a word at a time, relaxed, as in guest memory.
#[derive(Debug)]
pub struct Ring {
    words: [AtomicU32; 5],
    data: Vec<AtomicU64>,
}

impl Ring {
    /// An empty ring with so many bytes of data.
    pub fn new(size: u32) -> Arc<Self> {
        let data = (0..size / 8).map(|_| AtomicU64::new(u64::MAX)).collect();
        Arc::new(Self { words: std::array::from_fn(|_| AtomicU32::new(0)), data })
    }

    pub fn size(&self) -> u32 {
        u32::try_from(self.data.len() * 8).expect("a small ring")
    }

    pub fn word(&self, word: ControlWord) -> &AtomicU32 {
        match word {
            ControlWord::WriteIndex => &self.words[0],
            ControlWord::ReadIndex => &self.words[1],
            ControlWord::InterruptMask => &self.words[2],
            ControlWord::PendingSendSize => &self.words[3],
            ControlWord::FeatureBits => &self.words[4],
        }
    }

    /// The words of data from an offset on, and on from the start behind the last.
    pub fn data(&self, offset: u32) -> impl Iterator<Item = &AtomicU64> {
        self.data.iter().cycle().skip(offset as usize / 8).take(self.data.len())
    }
}

/// What is left out of the host's accesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weakness {
    None,
    /// The full barrier that follows a store to this word.
    NoBarrierAfter(ControlWord),
    RelaxedStores,
    RelaxedLoads,
}

/// The host's view of a ring.
#[derive(Debug)]
pub struct LoomMemory {
    ring: Arc<Ring>,
    weakness: Weakness,
    stored: Cell<Option<ControlWord>>,
}

impl LoomMemory {
    pub fn new(ring: &Arc<Ring>, weakness: Weakness) -> Self {
        Self { ring: ring.clone(), weakness, stored: Cell::new(None) }
    }
}

impl RingMemory for LoomMemory {
    fn data_size(&self) -> u32 {
        self.ring.size()
    }

    fn load(&self, word: ControlWord, order: Ordering) -> Result<u32, MemError> {
        let order = if self.weakness == Weakness::RelaxedLoads { Ordering::Relaxed } else { order };
        Ok(self.ring.word(word).load(order))
    }

    fn store(&self, word: ControlWord, value: u32, order: Ordering) -> Result<(), MemError> {
        let order = if self.weakness == Weakness::RelaxedStores { Ordering::Relaxed } else { order };
        self.stored.set(Some(word));
        self.ring.word(word).store(value, order);
        Ok(())
    }

    fn set_bits(&self, word: ControlWord, bits: u32) -> Result<(), MemError> {
        self.ring.word(word).fetch_or(bits, Ordering::Relaxed);
        Ok(())
    }

    fn read(&self, offset: u32, bytes: &mut [u8]) -> Result<(), MemError> {
        for (bytes, word) in bytes.chunks_exact_mut(8).zip(self.ring.data(offset)) {
            bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
        }
        Ok(())
    }

    fn write(&self, offset: u32, bytes: &[u8]) -> Result<(), MemError> {
        for (bytes, word) in bytes.chunks_exact(8).zip(self.ring.data(offset)) {
            word.store(u64::from_le_bytes(bytes.try_into().expect("8 bytes")), Ordering::Relaxed);
        }
        Ok(())
    }

    fn full_barrier(&self) {
        if self.stored.get().map(Weakness::NoBarrierAfter) != Some(self.weakness) {
            fence(Ordering::SeqCst);
        }
    }
}

/// Wakes one sleeper, at once or when it goes to sleep.
#[derive(Debug, Default)]
pub struct Doorbell {
    rung: Mutex<bool>,
    bell: Condvar,
}

impl Doorbell {
    pub fn ring(&self) {
        *self.rung.lock().expect("no panic") = true;
        self.bell.notify_one();
    }

    pub fn sleep(&self) {
        let mut rung = self.rung.lock().expect("no panic");
        while !*rung {
            rung = self.bell.wait(rung).expect("no panic");
        }
        *rung = false;
    }
}
