//! Requests and openers that the device must refuse.

use super::super::protocol::{MAX_DELAY, MAX_DELAYED, MAX_PAYLOAD, MAX_SOURCE_COUNT};
use super::*;

fn refused(channel: &mut TestChannel, header: Header, data: &[u8], status: u32) {
    let got = ask(channel, &header, data);
    assert_eq!((got.header, got.data), (Header { status: status.into(), ..header }, Vec::new()));
}

#[test]
fn unknown_operations_are_refused() {
    let mut subject = Subject::new();
    let mut channel = subject.open(2, 2);
    for operation in [0, 7, 0x100, u32::MAX] {
        refused(&mut channel, request(operation), &[1; 64], status::UNKNOWN);
    }
    assert_eq!(subject.counters.refused(), 4);
}

#[test]
fn more_than_the_opener_announced_is_refused() {
    let mut subject = Subject::wishing(100);
    let mut channel = subject.open(2, 2);
    // 100 bytes take 104 in a ring.
    assert_eq!(ask(&mut channel, &request(operation::ECHO), &[1; 80]).data, [1; 80]);
    for operation in [operation::ECHO, operation::DELAY] {
        refused(&mut channel, request(operation), &[1; 88], status::BAD_REQUEST);
    }
    let source = |count: u32, length: u32| Header {
        count: count.into(),
        length: length.into(),
        ..request(operation::SOURCE)
    };
    refused(&mut channel, source(1, 77), &[], status::BAD_REQUEST);
    refused(&mut channel, source(1, u32::MAX), &[], status::BAD_REQUEST);
    refused(&mut channel, source(MAX_SOURCE_COUNT + 1, 76), &[], status::BAD_REQUEST);
    assert_eq!(ask(&mut channel, &source(1, 76), &[]).header.status, status::OK);
}

#[test]
fn delays_have_a_length_and_a_number() {
    let mut subject = Subject::new();
    let mut channel = subject.open(8, 8);
    let delay = |micros: u64| Header { argument: micros.into(), ..request(operation::DELAY) };
    refused(&mut channel, delay(MAX_DELAY + 1), &[], status::BAD_REQUEST);
    refused(&mut channel, delay(u64::MAX), &[], status::BAD_REQUEST);
    for id in 0..MAX_DELAYED as u64 {
        send(&mut channel, id, &delay(MAX_DELAY), &[1; 64]);
    }
    for _ in 0..1000 {
        refused(&mut channel, delay(0), &[], status::BAD_REQUEST);
    }
    assert_eq!(subject.counters.refused(), 1002);
    // Closing does not wait for them.
    subject.guest.close(channel);
    let mut channel = subject.open(2, 2);
    assert_eq!(ask(&mut channel, &delay(1), &[2; 8]).data, [2; 8]);
}

#[test]
fn what_is_no_request_is_dropped_and_counted() {
    let mut subject = Subject::new();
    let mut channel = subject.open(2, 2);
    let echo = request(operation::ECHO);
    let dropped: [(PacketType, &[u8]); 4] = [
        (PacketType::IN_BAND, &[]),
        (PacketType::IN_BAND, &echo.as_bytes()[..16]),
        (PacketType::COMPLETION, echo.as_bytes()),
        (PacketType(0xffff), echo.as_bytes()),
    ];
    for (kind, payload) in dropped {
        channel.send(&PacketOut { kind, ..PacketOut::in_band(3, &[payload]) });
    }
    for (kind, payload) in dropped {
        channel.send(&PacketOut { kind, completion_requested: true, ..PacketOut::in_band(3, &[payload]) });
        let got = channel.receive(answer);
        let header = Header { status: status::BAD_REQUEST.into(), ..Header::new_zeroed() };
        assert_eq!(got, Answer { kind: PacketType::COMPLETION, id: 3, header, data: Vec::new() });
    }
    assert_eq!(subject.counters.dropped(), 8);
}

#[test]
fn an_opener_gets_what_it_wishes_for_up_to_a_limit() {
    for (max_payload, outgoing, incoming, opens) in [
        (MAX_PAYLOAD, 6, 6, true),
        (MAX_PAYLOAD, 5, 6, false),
        (MAX_PAYLOAD, 6, 5, false),
        (MAX_PAYLOAD + 1, 20, 20, false),
        (u32::MAX, 20, 20, false),
        (4064, 2, 2, true),
        (4065, 2, 3, false),
        (4065, 3, 2, false),
        (4065, 3, 3, true),
        (0, 2, 2, true),
    ] {
        let mut subject = Subject::wishing(max_payload);
        let pfns = subject.guest.allocate(outgoing + incoming);
        let opened = subject.guest.open_on(&subject.offer, &pfns, outgoing);
        assert_eq!(opened.is_ok(), opens, "{max_payload} {outgoing} {incoming}");
        assert_eq!(subject.guest.synic.bound().len(), usize::from(opens));
        // Whoever was refused can try again, and without a wish two pages do.
        if let Ok(channel) = opened {
            subject.guest.close(channel);
        }
        subject.guest.user_data = [0; 120];
        let mut channel = subject.open(2, 2);
        let data = vec![3; DEFAULT_MAX_PAYLOAD as usize - size_of::<Header>()];
        assert_eq!(ask(&mut channel, &request(operation::ECHO), &data).data, data);
    }
}
