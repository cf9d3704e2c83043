//! The guest's side of a ring, by the rules of guests and with nothing of the host's code.
//!
//! Packets have no payload: a descriptor of two words, the second of which is the packet's number, and a trailer.

use std::sync::Arc;

use devices::vmbus::ring::protocol::{ControlWord, FEATURE_PENDING_SEND_SIZE, PacketType};
use loom::sync::atomic::{Ordering, fence};

use crate::memory::{Doorbell, Ring};

const PACKET: u32 = 24;

/// Type, header and whole length in units, no flags.
const DESCRIPTOR: u64 = PacketType::IN_BAND.0 as u64 | 2 << 16 | 2 << 32;

/// When a guest that writes names the room that it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    /// When it finds no room; it takes the request back with the next packet.
    WhenFull,
    /// Before its first packet, for good.
    Always,
}

fn used(ring: &Ring, read: u32, write: u32) -> u32 {
    (write + ring.size() - read) % ring.size()
}

#[derive(Debug)]
pub struct GuestWriter {
    ring: Arc<Ring>,
    write: u32,
    waits: Waits,
}

impl GuestWriter {
    pub fn new(ring: &Arc<Ring>, waits: Waits) -> Self {
        ring.word(ControlWord::FeatureBits).store(FEATURE_PENDING_SEND_SIZE, Ordering::Relaxed);
        if waits == Waits::Always {
            ring.word(ControlWord::PendingSendSize).store(PACKET, Ordering::Relaxed);
        }
        Self { ring: ring.clone(), write: 0, waits }
    }

    pub fn write_all(&mut self, packets: u64, doorbell: &Doorbell, host: &Doorbell) {
        for id in 0..packets {
            while !self.has_room() && !self.asks_for_room() {
                doorbell.sleep();
            }
            if self.write(id) {
                host.ring();
            }
        }
    }

    fn has_room(&self) -> bool {
        let read = self.ring.word(ControlWord::ReadIndex).load(Ordering::Acquire);
        // Equal indices are an empty ring, so the last 8 bytes stay free.
        self.ring.size() - used(&self.ring, read, self.write) > PACKET
    }

    /// Whether there is room after all.
    fn asks_for_room(&self) -> bool {
        if self.waits == Waits::Always {
            return false;
        }
        self.ring.word(ControlWord::PendingSendSize).store(PACKET, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.has_room()
    }

    /// Whether to signal the host.
    fn write(&mut self, id: u64) -> bool {
        let before = self.write;
        for (value, word) in [DESCRIPTOR, id, u64::from(before) << 32].into_iter().zip(self.ring.data(before))
        {
            word.store(value, Ordering::Relaxed);
        }
        if self.waits == Waits::WhenFull {
            self.ring.word(ControlWord::PendingSendSize).store(0, Ordering::Relaxed);
        }
        self.write = (before + PACKET) % self.ring.size();
        self.ring.word(ControlWord::WriteIndex).store(self.write, Ordering::Release);
        fence(Ordering::SeqCst);
        self.ring.word(ControlWord::InterruptMask).load(Ordering::Relaxed) == 0
            && self.ring.word(ControlWord::ReadIndex).load(Ordering::Acquire) == before
    }
}

#[derive(Debug)]
pub struct GuestReader {
    ring: Arc<Ring>,
    read: u32,
    published: u32,
}

impl GuestReader {
    pub fn new(ring: &Arc<Ring>) -> Self {
        Self { ring: ring.clone(), read: 0, published: 0 }
    }

    pub fn read_all(&mut self, packets: u64, batch: u64, doorbell: &Doorbell, host: &Doorbell) {
        let mut read = 0;
        loop {
            self.ring.word(ControlWord::InterruptMask).store(1, Ordering::Relaxed);
            while !self.is_empty() {
                self.take(read);
                read += 1;
                if read.is_multiple_of(batch) && self.give_back() {
                    host.ring();
                }
            }
            if self.give_back() {
                host.ring();
            }
            self.ring.word(ControlWord::InterruptMask).store(0, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if !self.is_empty() {
                continue;
            }
            if read == packets {
                return;
            }
            doorbell.sleep();
        }
    }

    fn is_empty(&self) -> bool {
        self.ring.word(ControlWord::WriteIndex).load(Ordering::Acquire) == self.read
    }

    fn take(&mut self, expected: u64) {
        let [descriptor, id] = {
            let mut words = self.ring.data(self.read).map(|word| word.load(Ordering::Relaxed));
            [words.next(), words.next()]
        };
        assert_eq!(
            (descriptor, id),
            (Some(DESCRIPTOR), Some(expected)),
            "the packet after {expected} others"
        );
        self.read = (self.read + PACKET) % self.ring.size();
    }

    /// Whether to signal the host: the bytes given back made the room that it waits for.
    fn give_back(&mut self) -> bool {
        let freed = used(&self.ring, self.published, self.read);
        if freed == 0 {
            return false;
        }
        self.ring.word(ControlWord::ReadIndex).store(self.read, Ordering::Release);
        self.published = self.read;
        fence(Ordering::SeqCst);
        let pending = self.ring.word(ControlWord::PendingSendSize).load(Ordering::Relaxed);
        let write = self.ring.word(ControlWord::WriteIndex).load(Ordering::Acquire);
        let free = self.ring.size() - used(&self.ring, self.read, write);
        pending != 0 && free > pending && free.saturating_sub(freed) <= pending
    }
}
