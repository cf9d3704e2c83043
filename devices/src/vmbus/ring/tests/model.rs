//! Both rings of a channel, of any sizes, against a queue: what goes in comes out, and who is to be signalled
//! is exactly what the rules say.

use std::collections::VecDeque;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// A packet as the test remembers it.
#[derive(Clone, Debug)]
struct Sent {
    kind: PacketType,
    transaction_id: u64,
    completion_requested: bool,
    extension: Vec<u8>,
    pieces: Vec<Vec<u8>>,
}

#[derive(Clone, Debug)]
enum Step {
    Write(Sent),
    CommitWrites,
    Read(usize),
    CommitReads,
    WaitForRoom(u32),
    Mask,
    Unmask,
}

/// A ring and what must be true of it. The totals count bytes from the start and never wrap.
#[derive(Debug)]
struct Modelled {
    writer: Outgoing<RingPages>,
    reader: Incoming<RingPages>,
    buffer: PacketBuffer,
    capacity: u64,
    queue: VecDeque<Sent>,
    /// Packets in the queue that the reader can see.
    visible: usize,
    written: u64,
    shown: u64,
    read: u64,
    given_back: u64,
    pending: u64,
    masked: bool,
}

impl Modelled {
    fn new(pages: Pages) -> Self {
        let memory = RingPages::new(pages).unwrap();
        Self {
            writer: Outgoing::open(memory.clone()).unwrap(),
            capacity: u64::from(memory.data_size() - 8),
            reader: Incoming::open(memory).unwrap(),
            buffer: PacketBuffer::new(),
            queue: VecDeque::new(),
            visible: 0,
            written: 0,
            shown: 0,
            read: 0,
            given_back: 0,
            pending: 0,
            masked: false,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Write(packet) => self.write(packet),
            Step::CommitWrites => self.commit_writes(),
            Step::Read(packets) => (0..packets).for_each(|_| self.read()),
            Step::CommitReads => self.commit_reads(),
            Step::WaitForRoom(bytes) => {
                self.commit_writes();
                self.pending = u64::from(bytes.next_multiple_of(8)).min(self.capacity);
                let room = self.capacity - (self.written - self.given_back);
                assert_eq!(self.writer.wait_for_room(bytes), Ok(room >= self.pending));
            }
            Step::Mask => {
                self.reader.mask().unwrap();
                self.masked = true;
            }
            Step::Unmask => {
                self.commit_reads();
                self.masked = false;
                assert_eq!(self.reader.unmask(), Ok(self.read != self.shown));
            }
        }
    }

    fn write(&mut self, sent: Sent) {
        let pieces: Vec<&[u8]> = sent.pieces.iter().map(Vec::as_slice).collect();
        let packet = PacketOut {
            kind: sent.kind,
            transaction_id: sent.transaction_id,
            completion_requested: sent.completion_requested,
            extension: &sent.extension,
            payload: &pieces,
        };
        let need = packet.ring_bytes() as u64;
        let room = self.capacity - (self.written - self.given_back);
        match self.writer.write(&packet) {
            Ok(()) => {
                assert!(need <= room);
                self.written += need;
                self.pending = 0;
                self.queue.push_back(sent);
            }
            Err(WriteError::Full { need: told, room: left }) => {
                assert_eq!((u64::from(told), u64::from(left)), (need, room));
                assert!(need > room && need <= self.capacity);
            }
            Err(WriteError::TooLarge { .. }) => assert!(need > self.capacity),
            Err(WriteError::Ring(error)) => unreachable!("{error}"),
        }
    }

    fn commit_writes(&mut self) {
        let was_empty = self.shown == self.given_back;
        let signal = self.written != self.shown && was_empty && !self.masked;
        assert_eq!(self.writer.commit(), Ok(signal));
        self.shown = self.written;
        self.visible = self.queue.len();
    }

    fn read(&mut self) {
        let packet = self.reader.next(&mut self.buffer).unwrap();
        if self.visible == 0 {
            assert_eq!(packet, None);
            return;
        }
        let (packet, sent) = (packet.unwrap(), self.queue.pop_front().unwrap());
        self.visible -= 1;
        assert_eq!(packet.kind, sent.kind);
        assert_eq!(packet.transaction_id, sent.transaction_id);
        assert_eq!(packet.completion_requested, sent.completion_requested);
        assert_padded(packet.extension, &sent.extension);
        assert_padded(packet.payload, &sent.pieces.concat());
        self.read += (16 + packet.extension.len() + packet.payload.len() + 8) as u64;
    }

    fn commit_reads(&mut self) {
        let free = |given_back| self.capacity - (self.shown - given_back);
        let crossed = free(self.given_back) < self.pending && self.pending <= free(self.read);
        assert_eq!(self.reader.commit(), Ok(crossed));
        self.given_back = self.read;
    }
}

fn assert_padded(read: &[u8], sent: &[u8]) {
    let (bytes, padding) = read.split_at(sent.len());
    assert_eq!(bytes, sent);
    assert!(padding.len() < 8 && padding.iter().all(|&byte| byte == 0));
}

fn packet() -> impl Strategy<Value = Sent> {
    let kind = prop_oneof![Just(6), Just(7), Just(9), Just(0xb), any::<u16>()].prop_map(PacketType);
    let extension = prop_oneof![Just(Vec::new()), vec(any::<u8>(), 0..200)];
    let piece = prop_oneof![3 => (any::<u8>(), 0_usize..100), 1 => (any::<u8>(), 0_usize..6000)];
    // Each piece counts up from its own start, so that a byte out of place shows.
    let piece =
        piece.prop_map(|(first, len)| (0..251).map(|i| first.wrapping_add(i)).cycle().take(len).collect());
    (kind, any::<u64>(), any::<bool>(), extension, vec(piece, 0..4)).prop_map(
        |(kind, transaction_id, completion_requested, extension, pieces)| Sent {
            kind,
            transaction_id,
            completion_requested,
            extension,
            pieces,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => packet().prop_map(Step::Write),
        3 => Just(Step::CommitWrites),
        4 => (1_usize..8).prop_map(Step::Read),
        3 => Just(Step::CommitReads),
        2 => (1_u32..200_000).prop_map(Step::WaitForRoom),
        1 => Just(Step::Mask),
        1 => Just(Step::Unmask),
    ]
}

/// The pages of both rings in any order in RAM, and where the second starts.
fn rings() -> impl Strategy<Value = (Vec<u64>, usize)> {
    (2_usize..=40, 2_usize..=40).prop_flat_map(|(first, second)| {
        let pfns: Vec<u64> = (0..(first + second) as u64).collect();
        (Just(pfns).prop_shuffle(), Just(first))
    })
}

proptest! {
    #[test]
    fn both_rings_carry_what_a_queue_would(
        (pfns, downstream) in rings(),
        steps in vec((0_usize..2, step()), 1..200),
    ) {
        let (to_host, to_guest) = pfns.split_at(downstream);
        let mut rings = [to_host, to_guest].map(|pfns| Modelled::new(pages_of(80, pfns)));
        for (ring, step) in steps {
            rings[ring].step(step);
        }
        for ring in &mut rings {
            ring.commit_writes();
            ring.step(Step::Read(ring.visible + 1));
            ring.commit_reads();
            assert!(ring.queue.is_empty());
            assert_eq!(u64::from(ring.writer.room().unwrap()), ring.capacity);
            assert_eq!(ring.writer.counters().packets, ring.reader.counters().packets);
        }
    }
}
