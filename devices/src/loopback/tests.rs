//! The loopback device against a guest in memory: each operation, full rings, and requests that are none.

mod memory;
mod refusals;
mod rings;

use std::sync::Arc;
use std::time::{Duration, Instant};

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::protocol::{
    DEFAULT_MAX_PAYLOAD, Header, INTERFACE, MAGIC, OpenData, operation, source_byte, status,
};
use super::{Loopback, LoopbackCounters};
use crate::testing::{OfferSeen, TestChannel, TestGuest};
use crate::vmbus::ring::protocol::PacketType;
use crate::vmbus::ring::{Packet, PacketOut};

/// A guest with the device, not open yet.
struct Subject {
    guest: TestGuest,
    offer: OfferSeen,
    counters: Arc<LoopbackCounters>,
}

impl Subject {
    fn new() -> Self {
        let mut guest = TestGuest::default();
        let (device, counters) = Loopback::device();
        guest.bus.add(device).unwrap();
        let offer = guest.connect_to(INTERFACE);
        assert_eq!(offer.offer.flags.get(), 0, "no pipe");
        Subject { guest, offer, counters }
    }

    /// A guest that wishes for payloads of this size.
    fn wishing(max_payload: u32) -> Self {
        let mut subject = Subject::new();
        let wish = OpenData { magic: MAGIC.into(), max_payload: max_payload.into() };
        subject.guest.user_data[..size_of::<OpenData>()].copy_from_slice(wish.as_bytes());
        subject
    }

    fn open(&mut self, outgoing: usize, incoming: usize) -> TestChannel {
        self.guest.open(&self.offer, outgoing, incoming)
    }
}

fn request(operation: u32) -> Header {
    let mut header = Header::new_zeroed();
    header.operation = operation.into();
    header
}

/// An answer, out of the ring.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    kind: PacketType,
    id: u64,
    header: Header,
    data: Vec<u8>,
}

fn answer(packet: &Packet<'_>) -> Answer {
    let (header, data) = Header::read_from_prefix(packet.payload).unwrap();
    Answer { kind: packet.kind, id: packet.transaction_id, header, data: data.to_vec() }
}

fn send(channel: &mut TestChannel, id: u64, header: &Header, data: &[u8]) {
    channel.send(&PacketOut::in_band(id, &[header.as_bytes(), data]));
}

fn send_for_completion(channel: &mut TestChannel, id: u64, header: &Header, data: &[u8]) {
    let payload = [header.as_bytes(), data];
    channel.send(&PacketOut { completion_requested: true, ..PacketOut::in_band(id, &payload) });
}

/// Sends a request and waits for its answer.
fn ask(channel: &mut TestChannel, header: &Header, data: &[u8]) -> Answer {
    send(channel, 77, header, data);
    let answer = channel.receive(answer);
    assert_eq!((answer.kind, answer.id), (PacketType::IN_BAND, 77));
    answer
}

/// Bytes that differ from packet to packet.
fn pattern(n: u64, len: usize) -> Vec<u8> {
    (0..len).map(|i| (n as usize * 13 + i * 5) as u8).collect()
}

#[test]
fn echo_sends_header_and_data_back_as_they_came() {
    let mut subject = Subject::new();
    let mut channel = subject.open(2, 2);
    let header = Header { argument: 1.into(), count: 2.into(), length: 3.into(), ..request(operation::ECHO) };
    for len in [0, 8, 104, 1000] {
        let data = pattern(9, len);
        assert_eq!(
            ask(&mut channel, &header, &data),
            Answer { kind: PacketType::IN_BAND, id: 77, header, data }
        );
    }
    send_for_completion(&mut channel, 5, &header, &[1; 16]);
    let expected = Answer { kind: PacketType::COMPLETION, id: 5, header, data: vec![1; 16] };
    assert_eq!(channel.receive(answer), expected);
}

#[test]
fn sink_answers_only_whoever_waits_for_a_completion() {
    let mut subject = Subject::new();
    let mut channel = subject.open(2, 2);
    let header = request(operation::SINK);
    for id in 0..500 {
        send(&mut channel, id, &header, &pattern(id, 400));
    }
    send_for_completion(&mut channel, 500, &header, &[1; 400]);
    let expected = Answer { kind: PacketType::COMPLETION, id: 500, header, data: Vec::new() };
    assert_eq!(channel.receive(answer), expected);
    subject.guest.close(channel);
    let row = subject.guest.bus.channels().remove(0);
    assert_eq!((row.packets_in, row.packets_out), (501, 1));
}

#[test]
fn source_sends_as_many_packets_as_it_was_asked_for() {
    let mut subject = Subject::new();
    let mut channel = subject.open(2, 3);
    // More than a batch, more than the ring holds.
    let header =
        Header { argument: 200.into(), count: 1000.into(), length: 101.into(), ..request(operation::SOURCE) };
    send_for_completion(&mut channel, 8, &header, &[]);
    for number in 0..1000 {
        let got = channel.receive(answer);
        assert_eq!((got.kind, got.id), (PacketType::IN_BAND, 8));
        assert_eq!(got.header, Header { argument: number.into(), ..header });
        let expected: Vec<u8> = (0..101).map(|i| (number * 31 + i * 7 + 200) as u8).collect();
        assert_eq!(got.data[..101], expected);
        assert_eq!(source_byte(200, number, 100), expected[100]);
    }
    assert_eq!(channel.receive(answer), Answer { kind: PacketType::COMPLETION, id: 8, header, data: vec![] });
    // It is over: the next may come. Of no packets, without a completion, nothing is heard.
    send(&mut channel, 9, &Header { count: 0.into(), ..header }, &[]);
    assert_eq!(ask(&mut channel, &request(operation::ECHO), &[]).header.status, 0);
}

#[test]
fn a_second_source_is_refused_while_one_runs() {
    let mut subject = Subject::new();
    let mut channel = subject.open(2, 3);
    let header = Header { count: 5000.into(), length: 8.into(), ..request(operation::SOURCE) };
    send(&mut channel, 1, &header, &[]);
    send(&mut channel, 2, &header, &[]);
    let mut numbers = 0;
    let mut refused = 0;
    while numbers < 5000 || refused == 0 {
        let got = channel.receive(answer);
        if got.id == 1 {
            assert_eq!(got.header.argument, numbers);
            numbers += 1;
        } else {
            assert_eq!(got.header, Header { status: status::BAD_REQUEST.into(), ..header });
            refused += 1;
        }
    }
    assert_eq!((numbers, refused, subject.counters.refused()), (5000, 1, 1));
}

#[test]
fn delayed_answers_come_when_their_time_has_come() {
    let mut subject = Subject::new();
    let mut channel = subject.open(2, 2);
    let start = Instant::now();
    for (id, micros) in [(1, 6000), (2, 2000), (3, 6000), (4, 0), (5, 2000)] {
        let header = Header { argument: micros.into(), ..request(operation::DELAY) };
        send_for_completion(&mut channel, id, &header, &pattern(id, 32));
    }
    let mut came: Vec<u64> = (0..5)
        .map(|_| {
            let Answer { kind, id, header, data } = channel.receive(answer);
            assert_eq!(
                (kind, header.status.get(), data),
                (PacketType::COMPLETION, status::OK, pattern(id, 32))
            );
            assert!(start.elapsed() >= Duration::from_micros(header.argument.get()), "{id}");
            id
        })
        .collect();
    came.sort_unstable();
    assert_eq!(came, [1, 2, 3, 4, 5]);
}
