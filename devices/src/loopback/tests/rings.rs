//! Rings of every shape, filled in both directions.

use std::collections::VecDeque;

use super::*;

/// Sends `count` echoes of all sizes as fast as the rings take them, reading only when the host takes no more, so that
/// both rings are full again and again; every answer must come once, in order, with its bytes.
fn flood(channel: &mut TestChannel, count: u64, max_data: usize) {
    let header = request(operation::ECHO);
    let data = |id: u64| pattern(id, (id as usize * 37 % (max_data / 8 + 1)) * 8);
    let mut waiting = VecDeque::new();
    for id in 0..count {
        let data = data(id);
        let payload = [header.as_bytes(), &data];
        while !channel.try_send(&PacketOut::in_band(id, &payload)) {
            let got = channel.receive(answer);
            assert_eq!(Some((got.id, got.data)), waiting.pop_front());
        }
        waiting.push_back((id, data));
    }
    while let Some(expected) = waiting.pop_front() {
        let got = channel.receive(answer);
        assert_eq!((got.id, got.data), expected);
    }
}

#[test]
fn full_rings_hold_answers_back_and_lose_none() {
    for (outgoing, incoming) in [(2, 2), (2, 9), (9, 2), (3, 5), (17, 128), (128, 3)] {
        let mut subject = Subject::new();
        let mut channel = subject.open(outgoing, incoming);
        flood(&mut channel, 4000, 1000);
        subject.guest.close(channel);
        let row = subject.guest.bus.channels().remove(0);
        assert_eq!((row.packets_in, row.packets_out), (4000, 4000));
        assert_eq!((row.outgoing_pages as usize, row.incoming_pages as usize), (outgoing, incoming));
    }
}

#[test]
fn a_gpadl_of_8190_scattered_pages_is_two_rings() {
    let mut subject = Subject::wishing(16384);
    let pages = subject.guest.allocate(8190);
    // No two pages that follow each other are neighbours: 4001 has no factor in common with 8190.
    let scattered: Vec<u64> = (0..8190).map(|i| pages[i * 4001 % 8190]).collect();
    assert!(scattered.windows(2).all(|pair| pair[1] != pair[0] + 1));
    for outgoing in [2730, 6, 8184] {
        let mut channel = subject.guest.open_on(&subject.offer, &scattered, outgoing).unwrap();
        let row = subject.guest.bus.channels().remove(0);
        assert_eq!((row.gpadl_pages, row.outgoing_pages as usize), (8190, outgoing));
        assert_eq!(row.incoming_pages as usize, 8190 - outgoing);
        flood(&mut channel, 5000, 16360);
        subject.guest.close(channel);
    }
}

#[test]
fn a_page_that_is_listed_twice_is_used_twice() {
    let mut subject = Subject::new();
    let [a, b, c, d, e] = subject.guest.allocate(5).try_into().unwrap();
    // Both rings have data pages that are the same memory: one packet at a time, and the guest waits for it.
    for (pfns, outgoing) in [(vec![a, b, b, b, c, d, d], 4), (vec![a, b, c, b, d, e, e, c], 4)] {
        let mut channel = subject.guest.open_on(&subject.offer, &pfns, outgoing).unwrap();
        for id in 0..200 {
            let data = pattern(id, 1000);
            assert_eq!(ask(&mut channel, &request(operation::ECHO), &data).data, data, "{id}");
        }
        subject.guest.close(channel);
    }
}

/// Waits until the host has read and written so many packets.
fn until(guest: &TestGuest, packets_in: u64, packets_out: u64) {
    let patience = Instant::now() + Duration::from_secs(20);
    loop {
        let row = guest.bus.channels().remove(0);
        if (row.packets_in, row.packets_out) == (packets_in, packets_out) {
            return;
        }
        assert!(Instant::now() < patience, "{} in, {} out", row.packets_in, row.packets_out);
        std::thread::yield_now();
    }
}

#[test]
fn a_guest_that_reads_nothing_keeps_its_requests_and_the_host_one_answer() {
    let mut subject = Subject::new();
    let mut channel = subject.open(2, 2);
    let header = request(operation::ECHO);
    let payload = [header.as_bytes(), &[7; 1000]];
    // 3 answers fill the incoming ring, 1 is held.
    for id in 0..4 {
        channel.send(&PacketOut::in_band(id, &payload));
    }
    until(&subject.guest, 4, 3);
    for id in 4..7 {
        assert!(channel.try_send(&PacketOut::in_band(id, &payload)));
    }
    assert!(!channel.try_send(&PacketOut::in_band(7, &payload)));
    until(&subject.guest, 4, 3);
    for id in 0..7 {
        assert_eq!(channel.receive(answer).id, id);
    }
}

#[test]
fn a_source_waits_for_room_and_reads_nothing_meanwhile() {
    let mut subject = Subject::new();
    let mut channel = subject.open(2, 2);
    let source = Header { count: 100.into(), length: 1000.into(), ..request(operation::SOURCE) };
    send(&mut channel, 1, &source, &[]);
    until(&subject.guest, 1, 3);
    send(&mut channel, 2, &request(operation::ECHO), &[]);
    for number in 0..96 {
        assert_eq!(channel.receive(answer).header.argument.get(), number);
        until(&subject.guest, 1, number + 4);
    }
    let rest: Vec<u64> = (0..5).map(|_| channel.receive(answer).id).collect();
    assert_eq!(rest, [1, 1, 1, 1, 2]);
}

#[test]
fn a_delayed_answer_waits_for_room() {
    let mut subject = Subject::new();
    let mut channel = subject.open(2, 2);
    let delay = Header { argument: 1000.into(), ..request(operation::DELAY) };
    send(&mut channel, 50, &delay, &[5; 1000]);
    for id in 0..4 {
        send(&mut channel, id, &request(operation::ECHO), &[7; 1000]);
    }
    std::thread::sleep(Duration::from_millis(20));
    let mut ids: Vec<u64> = (0..5).map(|_| channel.receive(answer).id).collect();
    ids.retain(|&id| id != 50);
    assert_eq!(ids, [0, 1, 2, 3]);
}
