//! A peer that breaks every rule at any moment: errors are fine, panics and accesses out of bounds are not.

use std::sync::Mutex;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::mem::MemError;

#[derive(Clone, Debug)]
enum Step {
    Next,
    CommitReads,
    Unmask,
    Write(usize),
    CommitWrites,
    WaitForRoom(u32),
    Look,
    SetWord(ControlWord, u32),
    SetBytes(u32, Vec<u8>),
}

/// Plays a step on both sides of one ring; what a side says is wrong is its right to say.
fn play<M: RingMemory>(
    step: &Step,
    reader: &mut Incoming<M>,
    writer: &mut Outgoing<M>,
    buffer: &mut PacketBuffer,
) {
    match step {
        Step::Next => {
            if let Ok(Some(packet)) = reader.next(buffer) {
                assert!(packet.extension.len() + packet.payload.len() + 24 <= reader.capacity() as usize);
                look_into(&packet);
            }
        }
        Step::CommitReads => drop(reader.commit()),
        Step::Unmask => {
            if reader.commit().is_ok() {
                let _ = (reader.unmask(), reader.mask());
            }
        }
        Step::Write(len) => drop(writer.write(&PacketOut::in_band(0, &[&vec![0x11; *len]]))),
        Step::CommitWrites => drop(writer.commit()),
        Step::WaitForRoom(bytes) => {
            if writer.commit().is_ok() {
                let _ = writer.wait_for_room(*bytes);
            }
        }
        Step::Look => {
            let _ = (
                writer.room(),
                writer.reader_is_stuck(),
                reader.writer_is_stuck(),
                reader.writer_tells_need(),
            );
        }
        Step::SetWord(..) | Step::SetBytes(..) => {}
    }
}

/// Does with a packet what devices do.
fn look_into(packet: &Packet<'_>) {
    if let Ok(ranges) = packet.gpa_ranges() {
        assert!(ranges.len() * 8 <= packet.extension.len());
        assert_eq!(ranges.len(), ranges.clone().count());
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

fn control_word() -> impl Strategy<Value = ControlWord> {
    use ControlWord::*;
    prop_oneof![
        Just(WriteIndex),
        Just(ReadIndex),
        Just(InterruptMask),
        Just(PendingSendSize),
        Just(FeatureBits)
    ]
}

/// Numbers that pass some checks, and numbers that pass none.
fn number() -> impl Strategy<Value = u32> {
    prop_oneof![6 => (0_u32..2048).prop_map(|units| units * 8), 1 => 0_u32..20_000, 1 => any::<u32>()]
}

/// Bytes that look like the start of a packet, and bytes that look like nothing.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![Just(7_u16), Just(9), any::<u16>()];
    let looks_right =
        (kind, 0_u16..8, 0_u16..64, 0_u32..4, 0_u32..5000).prop_map(|(kind, header, len, count, bytes)| {
            let start = [kind, header, len, 1, 0, 0, 0, 0, 0, 0].map(u16::to_le_bytes).concat();
            [start, count.to_le_bytes().to_vec(), bytes.to_le_bytes().to_vec(), vec![0; 4]].concat()
        });
    prop_oneof![3 => looks_right, 1 => vec(any::<u8>(), 1..32)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Next),
        2 => Just(Step::CommitReads),
        1 => Just(Step::Unmask),
        4 => (0_usize..5000).prop_map(Step::Write),
        2 => Just(Step::CommitWrites),
        1 => number().prop_map(Step::WaitForRoom),
        1 => Just(Step::Look),
        4 => (control_word(), number()).prop_map(|(word, value)| Step::SetWord(word, value)),
        4 => (number(), bytes()).prop_map(|(at, bytes)| Step::SetBytes(at, bytes)),
    ]
}

/// Memory that never says the same twice: each load and each read is the script's next.
#[derive(Debug)]
struct Scripted<'a> {
    size: u32,
    script: &'a Mutex<Script>,
}

#[derive(Debug)]
struct Script {
    words: Vec<u32>,
    bytes: Vec<Vec<u8>>,
    turn: usize,
}

impl Script {
    fn turn(&mut self) -> usize {
        self.turn += 1;
        self.turn
    }
}

impl Scripted<'_> {
    fn check(&self, offset: u32, len: usize) {
        assert!(offset < self.size && len <= self.size as usize, "{len} bytes at {offset}");
    }
}

impl RingMemory for Scripted<'_> {
    fn data_size(&self) -> u32 {
        self.size
    }

    fn load(&self, _: ControlWord, _: Ordering) -> Result<u32, MemError> {
        let mut script = self.script.lock().unwrap();
        let turn = script.turn() % script.words.len();
        Ok(script.words[turn])
    }

    fn store(&self, word: ControlWord, value: u32, _: Ordering) -> Result<(), MemError> {
        if matches!(word, ControlWord::WriteIndex | ControlWord::ReadIndex) {
            assert!(value < self.size && value.is_multiple_of(8), "published {value}");
        }
        Ok(())
    }

    fn set_bits(&self, _: ControlWord, _: u32) -> Result<(), MemError> {
        Ok(())
    }

    fn read(&self, offset: u32, bytes: &mut [u8]) -> Result<(), MemError> {
        self.check(offset, bytes.len());
        let mut script = self.script.lock().unwrap();
        let turn = script.turn() % script.bytes.len();
        for (to, from) in bytes.iter_mut().zip(script.bytes[turn].iter().cycle()) {
            *to = *from;
        }
        Ok(())
    }

    fn write(&self, offset: u32, bytes: &[u8]) -> Result<(), MemError> {
        self.check(offset, bytes.len());
        Ok(())
    }
}

proptest! {
    #[test]
    fn a_peer_that_rewrites_the_ring_between_steps_causes_errors_only(
        // Any page may be listed twice, the control page too.
        pfns in vec(0_u64..8, 2..6),
        steps in vec(step(), 1..200),
    ) {
        let memory = RingPages::new(pages_of(8, &pfns)).unwrap();
        let mut reader = Incoming::open(memory.clone()).unwrap();
        let mut writer = Outgoing::open(memory.clone()).unwrap();
        let mut buffer = PacketBuffer::new();
        for step in steps {
            match step {
                Step::SetWord(word, value) => set(&memory, word, value),
                Step::SetBytes(at, bytes) => memory.write(at % memory.data_size(), &bytes).unwrap(),
                step => play(&step, &mut reader, &mut writer, &mut buffer),
            }
        }
    }

    #[test]
    fn a_peer_that_rewrites_the_ring_within_a_step_causes_errors_only(
        size in (1_u32..10).prop_map(|pages| pages * 4096),
        words in vec(number(), 1..50),
        bytes in vec(bytes(), 1..50),
        steps in vec(step(), 1..200),
    ) {
        let script = Mutex::new(Script { words, bytes, turn: 0 });
        let memory = || Scripted { size, script: &script };
        let (Ok(mut reader), Ok(mut writer)) = (Incoming::open(memory()), Outgoing::open(memory())) else {
            return Ok(());
        };
        let mut buffer = PacketBuffer::new();
        for step in &steps {
            play(step, &mut reader, &mut writer, &mut buffer);
        }
    }
}
