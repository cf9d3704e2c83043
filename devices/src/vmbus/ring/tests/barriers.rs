//! The barriers: that each is where the rules need it, and two threads that sleep unless signalled.
//!
//! What a missing barrier does shows only now and then, and mostly in optimised builds; so the order of the
//! accesses is checked by itself.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use super::*;
use crate::mem::MemError;

/// What a side did to the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Load(ControlWord),
    Store(ControlWord),
    Data,
    Barrier,
}

/// Ring memory that remembers the order of accesses.
#[derive(Debug)]
struct Traced {
    pages: RingPages,
    trace: Mutex<Vec<Access>>,
}

impl Traced {
    fn new(pages: &RingPages) -> Self {
        Self { pages: pages.clone(), trace: Mutex::default() }
    }

    fn add(&self, access: Access) {
        self.trace.lock().unwrap().push(access);
    }

    fn taken(&self) -> Vec<Access> {
        std::mem::take(&mut *self.trace.lock().unwrap())
    }
}

impl RingMemory for &Traced {
    fn data_size(&self) -> u32 {
        self.pages.data_size()
    }

    fn load(&self, word: ControlWord, order: Ordering) -> Result<u32, MemError> {
        self.add(Access::Load(word));
        self.pages.load(word, order)
    }

    fn store(&self, word: ControlWord, value: u32, order: Ordering) -> Result<(), MemError> {
        let index = matches!(word, ControlWord::WriteIndex | ControlWord::ReadIndex);
        assert_eq!(order, if index { Ordering::Release } else { Ordering::Relaxed });
        self.add(Access::Store(word));
        self.pages.store(word, value, order)
    }

    fn set_bits(&self, word: ControlWord, bits: u32) -> Result<(), MemError> {
        self.pages.set_bits(word, bits)
    }

    fn read(&self, offset: u32, bytes: &mut [u8]) -> Result<(), MemError> {
        self.add(Access::Data);
        self.pages.read(offset, bytes)
    }

    fn write(&self, offset: u32, bytes: &[u8]) -> Result<(), MemError> {
        self.add(Access::Data);
        self.pages.write(offset, bytes)
    }

    fn full_barrier(&self) {
        self.add(Access::Barrier);
        self.pages.full_barrier();
    }
}

#[test]
fn what_a_side_announces_is_out_before_it_looks_at_the_other_side() {
    use Access::{Barrier, Load, Store};
    use ControlWord::{FeatureBits, InterruptMask, PendingSendSize, ReadIndex, WriteIndex};
    let pages = ring(2);
    let (writer_memory, reader_memory) = (Traced::new(&pages), Traced::new(&pages));
    let mut writer = Outgoing::open(&writer_memory).unwrap();
    let mut reader = Incoming::open(&reader_memory).unwrap();
    let _ = (writer_memory.taken(), reader_memory.taken());

    writer.write(&PacketOut::in_band(0, &[&[0; 64]])).unwrap();
    assert!(writer_memory.taken().iter().all(|&access| access == Access::Data));
    writer.commit().unwrap();
    assert_eq!(writer_memory.taken(), [Store(WriteIndex), Barrier, Load(InterruptMask), Load(ReadIndex)]);
    writer.wait_for_room(4000).unwrap();
    assert_eq!(writer_memory.taken(), [Store(PendingSendSize), Barrier, Load(ReadIndex)]);

    reader.next(&mut PacketBuffer::new()).unwrap();
    assert_eq!(reader_memory.taken(), [Load(WriteIndex), Access::Data, Access::Data]);
    reader.commit().unwrap();
    let commit = [Store(ReadIndex), Barrier, Load(PendingSendSize), Load(FeatureBits), Load(WriteIndex)];
    assert_eq!(reader_memory.taken(), commit);
    reader.unmask().unwrap();
    assert_eq!(reader_memory.taken(), [Store(InterruptMask), Barrier, Load(WriteIndex)]);
}

const PACKETS: u64 = 300_000;

/// Sleeps until signalled. Both asleep for so long is a lost wake-up, not a slow machine.
fn sleep(doorbell: &Receiver<()>, who: &str) {
    doorbell
        .recv_timeout(Duration::from_secs(60))
        .unwrap_or_else(|_| unreachable!("the {who} was never woken"));
}

fn payload_of(packet: u64) -> Vec<u8> {
    vec![packet.to_le_bytes()[0]; ((packet * 37) % 100) as usize]
}

fn write_all(mut writer: Outgoing<RingPages>, reader: &Sender<()>, doorbell: &Receiver<()>) {
    for id in 0..PACKETS {
        let payload = payload_of(id);
        let pieces = [payload.as_slice()];
        let packet = PacketOut::in_band(id, &pieces);
        while let Err(error) = writer.write(&packet) {
            let WriteError::Full { need, .. } = error else { unreachable!("{error}") };
            if writer.commit().unwrap() {
                reader.send(()).unwrap();
            }
            if !writer.wait_for_room(need).unwrap() {
                sleep(doorbell, "writer");
            }
        }
        // Batches of different lengths.
        if id % 3 == 0 && writer.commit().unwrap() {
            reader.send(()).unwrap();
        }
    }
    if writer.commit().unwrap() {
        reader.send(()).unwrap();
    }
}

fn read_all(mut reader: Incoming<RingPages>, writer: &Sender<()>, doorbell: &Receiver<()>) {
    let mut buffer = PacketBuffer::new();
    let mut expected = 0;
    while expected < PACKETS {
        reader.mask().unwrap();
        while let Some(packet) = reader.next(&mut buffer).unwrap() {
            assert_eq!(packet.transaction_id, expected);
            let payload = payload_of(expected);
            assert_eq!(packet.payload.split_at(payload.len()).0, payload);
            expected += 1;
        }
        if reader.commit().unwrap() {
            // The writer may be done and gone.
            let _ = writer.send(());
        }
        if !reader.unmask().unwrap() && expected < PACKETS {
            sleep(doorbell, "reader");
        }
    }
}

#[test]
fn two_threads_that_wait_for_each_other_are_always_woken() {
    let (writer, reader, _) = sides(2);
    let (wake_reader, reader_doorbell) = channel();
    let (wake_writer, writer_doorbell) = channel();
    std::thread::scope(|scope| {
        scope.spawn(move || write_all(writer, &wake_reader, &writer_doorbell));
        read_all(reader, &wake_writer, &reader_doorbell);
    });
}
