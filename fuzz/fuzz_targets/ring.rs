//! A ring under any schedule: first with a peer that may rewrite all of it before every access, then with an
//! honest one.
//!
//! The first byte chooses. A hostile peer may make a side read nonsense or fail; it must not make it panic, hang,
//! read or publish past the ring, or hold on to more memory than the ring has. Between honest sides every packet
//! arrives once and unchanged, and nobody sleeps for ever.
//!
//! Run it with `cargo fuzz run ring` (nightly, or `RUSTC_BOOTSTRAP=1`).

#![no_main]

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};

use devices::mem::{GuestRam, MemError, PAGE_SIZE, Pages};
use devices::vmbus::ring::protocol::{ControlWord, PacketType};
use devices::vmbus::ring::{
    Incoming, Outgoing, Packet, PacketBuffer, PacketOut, RingError, RingMemory, RingPages, WriteError,
    pipe_message,
};
use libfuzzer_sys::fuzz_target;
use vm_memory::GuestAddress;

const RAM_PAGES: usize = 8;

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input { bytes: bytes.iter().copied().collect() };
    let honest = input.byte() & 1 == 0;
    let pages = input.pages(!honest);
    if honest {
        Honest::new(RingPages::new(pages).expect("two pages"), input).run();
    } else {
        hostile(RingPages::new(pages).expect("two pages"), input);
    }
});

/// What is left of the fuzzer's bytes; zeros come after them.
#[derive(Debug)]
struct Input {
    bytes: VecDeque<u8>,
}

impl Input {
    fn byte(&mut self) -> u8 {
        self.bytes.pop_front().unwrap_or(0)
    }

    fn is_over(&self) -> bool {
        self.bytes.is_empty()
    }

    /// A ring of a few pages that are no neighbours, or of pages that are all there `twice`.
    fn pages(&mut self, twice: bool) -> Pages {
        let ram = GuestRam::from_ranges(&[(GuestAddress(0), RAM_PAGES * PAGE_SIZE)]).expect("RAM");
        let count = 2 + usize::from(self.byte() % 4);
        let first = self.byte();
        let twice = twice && first & 0x80 != 0;
        let pfn = |i: usize| if twice { i / 2 } else { i * 3 + usize::from(first) } % RAM_PAGES;
        let pfns: Vec<u64> = (0..count).map(|i| pfn(i) as u64).collect();
        Pages::resolve(&ram, &pfns).expect("pages in RAM")
    }

    /// Numbers that pass some checks, and numbers that pass none.
    fn number(&mut self) -> u32 {
        let unit = 8 * u32::from(self.byte());
        match self.byte() {
            0xff => u32::MAX - unit,
            0xfe => unit + 4,
            high => unit + 2048 * u32::from(high % 10),
        }
    }

    fn len(&mut self) -> usize {
        let len = self.byte();
        usize::from(len) * if len.is_multiple_of(16) { 33 } else { 1 }
    }
}

/// A ring that its peer may change before every access.
#[derive(Clone, Debug)]
struct Meddled {
    pages: RingPages,
    input: Arc<Mutex<Input>>,
}

impl Meddled {
    fn input(&self) -> MutexGuard<'_, Input> {
        self.input.lock().expect("no thread panics")
    }

    fn meddle(&self) {
        let mut input = self.input();
        match input.byte() {
            1..=40 => {
                let (word, value) = (control_word(input.byte()), input.number());
                self.pages.store(word, value, Ordering::Relaxed).expect("a word");
            }
            41..=80 => {
                let at = input.number() % self.pages.data_size();
                let mut start = [0; 24];
                let kind = [6, 7, 9, 11][usize::from(input.byte() % 4)];
                start[0] = kind;
                start[2] = input.byte() % 16;
                start[4..6].copy_from_slice(&input.number().to_le_bytes()[..2]);
                start[20] = input.byte();
                self.pages.write(at, &start).expect("bytes in the ring");
            }
            _ => {}
        }
    }

    fn check(&self, offset: u32, len: usize) {
        assert!(offset < self.data_size() && len <= self.data_size() as usize, "{len} bytes at {offset}");
    }
}

fn control_word(byte: u8) -> ControlWord {
    use ControlWord::*;
    [WriteIndex, ReadIndex, InterruptMask, PendingSendSize, FeatureBits][usize::from(byte % 5)]
}

impl RingMemory for Meddled {
    fn data_size(&self) -> u32 {
        self.pages.data_size()
    }

    fn load(&self, word: ControlWord, order: Ordering) -> Result<u32, MemError> {
        self.meddle();
        self.pages.load(word, order)
    }

    fn store(&self, word: ControlWord, value: u32, order: Ordering) -> Result<(), MemError> {
        if matches!(word, ControlWord::WriteIndex | ControlWord::ReadIndex) {
            assert!(value < self.data_size() && value.is_multiple_of(8), "published {value}");
        }
        self.pages.store(word, value, order)
    }

    fn set_bits(&self, word: ControlWord, bits: u32) -> Result<(), MemError> {
        self.pages.set_bits(word, bits)
    }

    fn read(&self, offset: u32, bytes: &mut [u8]) -> Result<(), MemError> {
        self.check(offset, bytes.len());
        self.meddle();
        self.pages.read(offset, bytes)
    }

    fn write(&self, offset: u32, bytes: &[u8]) -> Result<(), MemError> {
        self.check(offset, bytes.len());
        self.meddle();
        self.pages.write(offset, bytes)
    }
}

/// Plays host on both ends of a ring whose peer breaks every rule: errors are fine.
fn hostile(pages: RingPages, input: Input) {
    let memory = Meddled { pages, input: Arc::new(Mutex::new(input)) };
    let (Ok(mut reader), Ok(mut writer)) = (Incoming::open(memory.clone()), Outgoing::open(memory.clone()))
    else {
        return;
    };
    let mut buffer = PacketBuffer::new();
    while !memory.input().is_over() {
        let step = memory.input().byte();
        // Of a step that failed, a channel does no more; here it goes on, which is harder.
        match step % 9 {
            0..=2 => {
                if let Ok(Some(packet)) = reader.next(&mut buffer) {
                    look_into(&packet, reader.capacity());
                }
            }
            3 => drop(reader.commit()),
            4 => {
                if reader.commit().is_ok() {
                    let _ = (reader.unmask(), reader.mask());
                }
            }
            5 => {
                let extension = vec![1; memory.input().len()];
                let payload = vec![2; memory.input().len()];
                let kind = PacketType::TRANSFER_PAGES;
                let _ = writer.write(&packet(kind, 7, &extension, &[&payload]));
            }
            6 => drop(writer.commit()),
            7 => {
                let bytes = memory.input().number();
                if writer.commit().is_ok() {
                    let _ = writer.wait_for_room(bytes);
                }
            }
            _ => {
                let _ = (writer.room(), writer.reader_is_stuck(), reader.writer_is_stuck());
            }
        }
    }
}

/// Does with a packet what devices do.
fn look_into(packet: &Packet<'_>, capacity: u32) {
    assert!(packet.extension.len() + packet.payload.len() + 24 <= capacity as usize);
    if let Ok(ranges) = packet.gpa_ranges() {
        assert!(ranges.len() * 8 <= packet.extension.len());
        for range in ranges {
            let pages = (u64::from(range.offset) + u64::from(range.len)).div_ceil(PAGE_SIZE as u64);
            assert_eq!(range.pfns().len() as u64, pages);
        }
    }
    if let Ok(pages) = packet.transfer_ranges() {
        assert!(pages.ranges.len() * 8 <= packet.extension.len());
    }
    if let Ok((_, data)) = pipe_message(packet.payload) {
        assert!(data.len() + 8 <= packet.payload.len());
    }
}

fn packet<'a>(kind: PacketType, id: u64, extension: &'a [u8], payload: &'a [&'a [u8]]) -> PacketOut<'a> {
    PacketOut { kind, transaction_id: id, completion_requested: id & 1 == 1, extension, payload }
}

/// Two honest sides, each of which sleeps when it has nothing to do until the other one signals.
struct Honest {
    input: Input,
    writer: Outgoing<RingPages>,
    reader: Incoming<RingPages>,
    buffer: PacketBuffer,
    sent: VecDeque<(u64, Vec<u8>, Vec<u8>)>,
    ids: u64,
    reader_sleeps: bool,
    writer_sleeps: bool,
}

impl Honest {
    fn new(memory: RingPages, input: Input) -> Self {
        Self {
            input,
            writer: Outgoing::open(memory.clone()).expect("an empty ring"),
            reader: Incoming::open(memory).expect("an empty ring"),
            buffer: PacketBuffer::new(),
            sent: VecDeque::new(),
            ids: 0,
            reader_sleeps: false,
            writer_sleeps: false,
        }
    }

    fn run(&mut self) {
        while !self.input.is_over() {
            let step = self.input.byte();
            match step & 1 {
                0 if !self.writer_sleeps => self.write(step),
                1 if !self.reader_sleeps => self.read(step),
                _ => {}
            }
            assert!(!(self.writer_sleeps && self.reader_sleeps), "both sleep");
        }
        self.commit_writes();
        assert!(self.sent.is_empty() || !self.reader_sleeps, "packets that the reader was not told of");
        while self.take() {}
        assert!(self.sent.is_empty(), "lost");
    }

    fn commit_writes(&mut self) {
        let signal = self.writer.commit().expect("an honest reader");
        self.reader_sleeps &= !signal;
    }

    fn write(&mut self, step: u8) {
        let (extension, payload) = (vec![!step; self.input.len() / 8], vec![step; self.input.len()]);
        let (head, tail) = payload.split_at(payload.len() / 3);
        match self.writer.write(&packet(PacketType::GPA_DIRECT, self.ids, &extension, &[head, tail])) {
            Ok(()) => {
                self.sent.push_back((self.ids, extension, payload));
                self.ids += 1;
            }
            Err(WriteError::Full { need, .. }) => {
                self.commit_writes();
                self.writer_sleeps = !self.writer.wait_for_room(need).expect("an honest reader");
            }
            Err(WriteError::TooLarge { need, most }) => assert!(need > most as usize),
            Err(WriteError::Ring(error)) => fail(&error),
        }
        if step & 2 == 0 {
            self.commit_writes();
        }
    }

    fn read(&mut self, step: u8) {
        self.reader.mask().expect("a ring");
        let packets = step >> 4;
        let more = (0..packets).all(|_| self.take());
        if step & 2 == 0 {
            self.commit_reads();
        }
        if !more {
            self.commit_reads();
            self.reader_sleeps = !self.reader.unmask().expect("an honest writer");
        }
    }

    fn commit_reads(&mut self) {
        let signal = self.reader.commit().expect("an honest writer");
        self.writer_sleeps &= !signal;
    }

    fn take(&mut self) -> bool {
        let packet = match self.reader.next(&mut self.buffer) {
            Ok(Some(packet)) => packet,
            Ok(None) => return false,
            Err(error) => fail(&error),
        };
        let (id, extension, payload) = self.sent.pop_front().expect("a packet that nobody sent");
        assert_eq!((packet.transaction_id, packet.completion_requested), (id, id & 1 == 1));
        for (read, sent) in [(packet.extension, extension), (packet.payload, payload)] {
            let (bytes, padding) = read.split_at(sent.len());
            assert_eq!(bytes, sent);
            assert!(padding.len() < 8 && padding.iter().all(|&byte| byte == 0));
        }
        true
    }
}

fn fail(error: &RingError) -> ! {
    panic!("an honest ring broke: {error}")
}
