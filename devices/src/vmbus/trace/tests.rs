//! The file of a trace, block by block, and what becomes of it when the disk is slow, full or gone.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use zerocopy::FromBytes;

use super::queue::{CONTROL, Queue};
use super::*;
use crate::guid::Guid;
use crate::testing::TestGuest;
use crate::vmbus::channel::{Channel, ChannelError, ChannelWorker, Flow, Opening, Sent, VmbusDevice};
use crate::vmbus::protocol::message_type;
use crate::vmbus::ring::gpa_direct_extension;
use crate::vmbus::ring::protocol::PacketType;

const INTERFACE: Guid = Guid::parse("6e9ee4a4-1bb1-4d2f-9d1e-0d0f0c0b0a09");
const INSTANCE: Guid = Guid::parse("6e9ee4a4-1bb1-4d2f-9d1e-000000000001");
const PLENTY: u64 = 1 << 30;

/// A file in memory that the test can look at later.
#[derive(Clone, Debug, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A disk that says when it is written to, and hangs until it is told to go on.
struct Slow {
    file: Memory,
    writing: Sender<()>,
    go_on: Receiver<()>,
}

impl Write for Slow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.writing.send(());
        // Fails when the test lets everything go on.
        let _ = self.go_on.recv();
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// The blocks of a file: type and body. Panics where a reader would stumble.
fn blocks(memory: &Memory) -> Vec<(u32, Vec<u8>)> {
    let file = memory.0.lock().unwrap().clone();
    let (mut at, mut blocks) = (0, Vec::new());
    while at < file.len() {
        let (kind, length) = (word(&file, at), word(&file, at + 4) as usize);
        assert_eq!(length % 4, 0, "block at {at}");
        assert_eq!(word(&file, at + length - 4) as usize, length, "block at {at}");
        blocks.push((kind, file[at + 8..at + length - 4].to_vec()));
        at += length;
    }
    blocks
}

/// Options from an offset of a block's body on: number and value.
fn options(body: &[u8], mut at: usize) -> Vec<(u16, Vec<u8>)> {
    let mut options = Vec::new();
    loop {
        let (code, len) = (word(body, at) as u16, (word(body, at) >> 16) as usize);
        if code == 0 {
            assert_eq!(at + 4, body.len(), "the end of options is the end of the block");
            return options;
        }
        options.push((code, body[at + 4..at + 4 + len].to_vec()));
        at += 4 + len.next_multiple_of(4);
    }
}

/// A record of a file.
#[derive(Debug)]
struct Record {
    interface: u32,
    time: u64,
    original: usize,
    header: TraceHeader,
    bytes: Vec<u8>,
    options: Vec<(u16, Vec<u8>)>,
}

impl Record {
    fn drops(&self) -> u64 {
        let drops = self.options.iter().find(|(code, _)| *code == 4);
        drops.map_or(0, |(_, value)| u64::from_le_bytes(value[..].try_into().unwrap()))
    }
}

fn records(memory: &Memory) -> Vec<Record> {
    let packet = |(kind, body): (u32, Vec<u8>)| {
        if kind != 6 {
            return None;
        }
        let captured = word(&body, 12) as usize;
        let (header, bytes) = TraceHeader::read_from_prefix(&body[20..20 + captured]).unwrap();
        assert_eq!((header.version, header.length), (1, 36));
        Some(Record {
            interface: word(&body, 0),
            time: u64::from(word(&body, 4)) << 32 | u64::from(word(&body, 8)),
            original: word(&body, 16) as usize,
            header,
            bytes: bytes.to_vec(),
            options: options(&body, 20 + captured.next_multiple_of(4)),
        })
    };
    blocks(memory).into_iter().filter_map(packet).collect()
}

/// Received and dropped of each interface, as the statistics say.
fn statistics(memory: &Memory) -> Vec<(u64, u64)> {
    let value = |option: &(u16, Vec<u8>)| u64::from_le_bytes(option.1[..].try_into().unwrap());
    let of = |(kind, body): (u32, Vec<u8>)| {
        let options = (kind == 5).then(|| options(&body, 12))?;
        assert_eq!((options[0].0, options[1].0), (4, 5));
        Some((value(&options[0]), value(&options[1])))
    };
    blocks(memory).into_iter().filter_map(of).collect()
}

fn start(packets: TracedPackets, limit: u64) -> (TraceFile, Memory) {
    let memory = Memory::default();
    (TraceFile::start(memory.clone(), packets, limit).unwrap(), memory)
}

#[test]
fn an_empty_trace_is_a_whole_file() {
    let (trace, memory) = start(TracedPackets::None, PLENTY);
    drop(trace);
    let blocks = blocks(&memory);
    let kinds: Vec<u32> = blocks.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, [0x0A0D_0D0A, 1, 5]);
    assert_eq!((word(&blocks[0].1, 0), word(&blocks[0].1, 4)), (0x1A2B_3C4D, 1));
    let interface = &blocks[1].1;
    assert_eq!((word(interface, 0), word(interface, 4) as usize), (147, HEADER_SIZE + SNAP_LEN));
    let names = options(interface, 8);
    assert_eq!(names[0], (2, b"vmbus".to_vec()));
    assert_eq!(names[2], (9, vec![9]), "time stamps are nanoseconds");
    assert_eq!(statistics(&memory), [(0, 0)]);
}

#[test]
fn records_say_who_spoke_where_and_when() {
    let (trace, memory) = start(TracedPackets::None, PLENTY);
    let before = SystemTimeNanos::now();
    let tracer = trace.tracer();
    tracer.note("hello");
    tracer.from_guest(4, &[14, 0, 0, 0, 0, 0, 0, 0, 9]);
    tracer.to_guest(3, 2, &[15, 0, 0, 0, 0, 0, 0, 0]);
    drop(trace);
    let records = records(&memory);
    let [note, request, answer] = &records[..] else { panic!("{records:?}") };
    assert_eq!((note.header.kind, &note.bytes[..]), (Kind::Note as u8, &b"hello"[..]));
    assert_eq!((request.header.kind, request.header.direction), (0, 0));
    assert_eq!((request.header.connection_id.get(), request.bytes.len(), request.original), (4, 9, 45));
    assert_eq!((answer.header.direction, answer.header.vp.get(), answer.header.sint), (1, 3, 2));
    assert_eq!(request.options, [(2, 1u32.to_le_bytes().to_vec())], "inbound");
    assert_eq!(answer.options, [(2, 2u32.to_le_bytes().to_vec())], "outbound");
    assert!(before.0 <= note.time && note.time <= request.time && request.time <= answer.time);
    assert_eq!(statistics(&memory), [(3, 0)]);
}

/// The host's clock as the trace shows it; a second of grace for a clock that somebody sets meanwhile.
struct SystemTimeNanos(u64);

impl SystemTimeNanos {
    fn now() -> Self {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos();
        SystemTimeNanos(u64::try_from(now).unwrap() - 1_000_000_000)
    }
}

#[test]
fn a_slow_disk_never_holds_up_who_records_and_losses_are_counted() {
    let memory = Memory::default();
    let ((writing, is_writing), (go, go_on)) = (channel(), channel());
    let disk = Slow { file: memory.clone(), writing, go_on };
    let trace = TraceFile::start(disk, TracedPackets::All, PLENTY).unwrap();
    is_writing.recv().unwrap();
    let queue = &trace.tracer.queue;
    let interface = queue.interface("flood", "a test").unwrap();
    let header = header(Kind::Packet, Direction::FromGuest);
    let payload = [0; 2 * SNAP_LEN];
    let sent = 2 * QUEUE_SIZE / SNAP_LEN;
    for _ in 0..sent {
        queue.record(interface, &header, [&payload[..]].into_iter());
    }
    // The flood has not taken the place of control messages.
    trace.tracer().from_guest(1, &[17, 0, 0, 0, 0, 0, 0, 0]);
    go.send(()).unwrap();
    is_writing.recv().unwrap();
    queue.record(interface, &header, [&payload[..]].into_iter());
    drop(go);
    drop(trace);
    let records = records(&memory);
    let kept: Vec<&Record> = records.iter().filter(|record| record.interface == interface).collect();
    let dropped = (sent + 1 - kept.len()) as u64;
    assert!(kept.len() * (SNAP_LEN + HEADER_SIZE) < QUEUE_SIZE && dropped > 0, "{}", kept.len());
    assert!(kept.iter().all(|record| record.bytes.len() == SNAP_LEN));
    assert!(kept.iter().all(|record| record.original == HEADER_SIZE + payload.len()));
    assert_eq!(kept.last().unwrap().drops(), dropped, "said where it happened");
    assert_eq!(records.iter().filter(|record| record.interface == CONTROL).count(), 1);
    assert_eq!(statistics(&memory), [(1, 0), (sent as u64 + 1, dropped)]);
}

#[test]
fn a_full_file_says_so_and_stays_below_its_limit() {
    const LIMIT: u64 = 10_000;
    let (trace, memory) = start(TracedPackets::All, LIMIT);
    let tracer = trace.tracer();
    let interface = tracer.queue.interface("one", "more").unwrap();
    for _ in 0..1000 {
        tracer.from_guest(1, &[0; 240]);
    }
    assert_eq!(tracer.queue.interface("one", "more"), Some(interface));
    assert_eq!(tracer.queue.interface("another", "one"), None);
    drop(trace);
    let size = memory.0.lock().unwrap().len() as u64;
    assert!((LIMIT - 1000..=LIMIT).contains(&size), "{size}");
    let records = records(&memory);
    let last = records.last().unwrap();
    assert_eq!(last.header.kind, Kind::Note as u8);
    assert!(String::from_utf8_lossy(&last.bytes).starts_with("The limit of 10000 bytes is reached"));
    assert_eq!(statistics(&memory)[0], (records.len() as u64, 0));
}

#[test]
fn a_disk_that_fails_ends_the_trace_and_nothing_else() {
    struct Broken;
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let queue = Queue::new(PLENTY);
    queue.write_out(Broken);
    let trace = TraceFile::start(Broken, TracedPackets::All, PLENTY).unwrap();
    for _ in 0..100_000 {
        trace.tracer().from_guest(1, &[0; 240]);
    }
}

/// Answers every packet with its extension and payload.
#[derive(Debug)]
struct Echo;

impl VmbusDevice for Echo {
    type Worker = Echo;

    fn offer(&self) -> Offer {
        Offer { flags: OfferFlags::NAMED_PIPE_MODE, ..Offer::new("echo", INTERFACE, INSTANCE) }
    }

    fn open(&mut self, _: &Opening) -> Result<Echo, ChannelError> {
        Ok(Echo)
    }

    fn closed(&mut self, _: Option<Echo>) {}
}

impl ChannelWorker for Echo {
    fn doorbell(&mut self, channel: &mut Channel) -> Result<(), ChannelError> {
        channel.receive(|packet, replies| {
            let answer = PacketOut::completion(packet.transaction_id, &[b"answer"]);
            assert_eq!(replies.send(&answer)?, Sent::Yes);
            Ok(Flow::Continue)
        })
    }
}

/// What a guest says to an echo device, and the trace of it.
fn conversation(packets: TracedPackets) -> (Memory, u32) {
    let (trace, memory) = start(packets, PLENTY);
    let mut guest = TestGuest::default();
    guest.bus.trace(trace.tracer());
    guest.bus.add(Echo).unwrap();
    let offer = guest.connect_to(INTERFACE);
    for _ in 0..2 {
        let mut channel = guest.open(&offer, 3, 3);
        let mut extension = Vec::new();
        gpa_direct_extension(&[(16, 100, &[7])], &mut extension);
        channel.send(&PacketOut {
            kind: PacketType::GPA_DIRECT,
            transaction_id: 0x51,
            completion_requested: true,
            extension: &extension,
            payload: &[b"que", b"stion"],
        });
        channel.receive(|_| ());
        guest.close(channel);
    }
    drop(guest);
    drop(trace);
    (memory, offer.channel())
}

#[test]
fn packets_are_recorded_as_they_lie_in_the_ring() {
    for packets in [TracedPackets::All, TracedPackets::Of(["echo".to_owned()].into())] {
        let (memory, channel) = conversation(packets);
        let all = records(&memory);
        let packets: Vec<&Record> = all.iter().filter(|record| record.interface != CONTROL).collect();
        assert_eq!(packets.len(), 4, "two openings share an interface");
        for (record, direction) in packets.iter().zip([0, 1, 0, 1]) {
            let TraceHeader { kind, flags, interface, .. } = record.header;
            assert_eq!(
                (kind, record.header.direction, flags.get()),
                (Kind::Packet as u8, direction, FLAG_PIPE)
            );
            assert_eq!((record.header.channel.get(), interface), (channel, INTERFACE));
        }
        let question = &packets[0].bytes;
        assert_eq!(question[..8], [9, 0, 5, 0, 6, 0, 1, 0], "descriptor: type, offset, length, flags");
        assert_eq!((question[8], &question[40..]), (0x51, &b"question"[..]));
        assert_eq!(
            packets[1].bytes,
            [&[0xb, 0, 2, 0, 3, 0, 0, 0, 0x51, 0, 0, 0, 0, 0, 0, 0], &b"answer\0\0"[..]].concat()
        );
        assert_eq!(statistics(&memory)[1], (4, 0));
    }
}

#[test]
fn a_trace_without_packets_has_every_control_message_in_order() {
    let (memory, _) = conversation(TracedPackets::Of(["other".to_owned()].into()));
    let opening = [
        message_type::GPADL_HEADER,
        message_type::GPADL_CREATED,
        message_type::OPEN_CHANNEL,
        message_type::OPEN_CHANNEL_RESULT,
        message_type::CLOSE_CHANNEL,
        message_type::GPADL_TEARDOWN,
        message_type::GPADL_TORNDOWN,
    ];
    let contact = [
        message_type::INITIATE_CONTACT,
        message_type::VERSION_RESPONSE,
        message_type::REQUEST_OFFERS,
        message_type::OFFER_CHANNEL,
        message_type::ALL_OFFERS_DELIVERED,
    ];
    let expected = [&contact[..], &opening, &opening].concat();
    let said: Vec<u32> = records(&memory).iter().map(|record| word(&record.bytes, 0)).collect();
    assert_eq!(said, expected);
    let times: Vec<u64> = records(&memory).iter().map(|record| record.time).collect();
    assert!(times.is_sorted());
}
