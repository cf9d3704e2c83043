//! Far too much of everything.

use std::time::{Duration, Instant};

use devices::vmbus::protocol::{GpadlCreated, Status};
use devices::vmbus::server::limits::MAX_PARTIAL_GPADLS;

use super::*;

#[test]
fn gpadls_that_are_never_finished_are_bounded_and_in_nobodys_way() {
    let mut hostile = Hostile::new();
    let [offer, other] = hostile.offers;
    let flood = 5000;
    for gpadl in 0..flood {
        // Two pages promised, none named.
        let mut header = [offer.channel().to_le_bytes(), u32::to_le_bytes(gpadl)].concat();
        header.extend([24, 0, 1, 0]);
        header.extend(8192u64.to_le_bytes());
        hostile.guest.send(message_type::GPADL_HEADER, &header);
        if gpadl as usize >= MAX_PARTIAL_GPADLS {
            let created: GpadlCreated = hostile.guest.receive(message_type::GPADL_CREATED);
            assert_eq!(created.status.get(), Status::INSUFFICIENT_RESOURCES.0);
        }
    }
    assert_eq!(hostile.refused(Refusal::TooManyPartial), u64::from(flood) - MAX_PARTIAL_GPADLS as u64);
    hostile.goes_on();
    let channel = hostile.guest.open(&other, 4, 4);
    hostile.guest.close(channel);
    hostile.goes_on();
    hostile.starts_over();
}

/// Numbers that look like chance and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as u32
    }

    fn of(&mut self, choice: &[u32]) -> u32 {
        choice[self.next() as usize % choice.len()]
    }
}

#[test]
fn floods_of_nonsense_in_every_state_leave_the_honest_channel_alone() {
    let mut numbers = Numbers(0x1234_5678_9abc_def1);
    let mut hostile = Hostile::new();
    let own = hostile.offers.map(|offer| offer.channel());
    let channels = [0, own[0], own[1], 2047, 2048, u32::MAX];
    for round in 0..100 {
        for _ in 0..200 {
            // Everything but the messages that end or pause the connection for all.
            let message = match numbers.next() % 40 {
                message_type::INITIATE_CONTACT | message_type::UNLOAD | message_type::PAUSE => u32::MAX,
                message => message,
            };
            let words: Vec<u32> = (0..1 + numbers.next() % 56)
                .map(|i| match i {
                    0 => numbers.of(&channels),
                    1 => numbers.of(&[0, 1, 2, 3, 0xE1E11, VPS, u32::MAX]),
                    2 => numbers.of(&[0x0001_0018, 0x0001_0010, 0, 1, u32::MAX]),
                    _ => numbers.of(&[0, 1, 2, 3, 4, 8, 4096, 8192, 0x8000_0000, u32::MAX]),
                })
                .collect();
            hostile.guest.send(message, words.as_bytes());
            while hostile.guest.try_receive().is_some() {}
        }
        hostile.goes_on();
        // The attacker's channels move through their states.
        let device = ["heartbeat", "timesync"][round % 2];
        if let (0, Some(id)) = (round % 10, hostile.guest.bus.find(device)) {
            hostile.guest.bus.remove(id);
            hostile.guest.bus.process();
        }
    }
    let counters = hostile.guest.bus.server().counters();
    assert!(counters.refusals().count() > 8, "{counters:?}");
    while hostile.guest.try_receive().is_some() {}
    hostile.goes_on();
}

#[test]
fn a_guest_that_never_reads_its_messages_has_channels_that_go_on() {
    let mut hostile = Hostile::new();
    let teardown = GpadlTeardown { channel: 0.into(), gpadl: 0.into() };
    let message = [&[11, 0, 0, 0, 0, 0, 0, 0], teardown.as_bytes()].concat();
    for n in 0..1_000_000 {
        let _ = hostile.guest.post(4, &message);
        if n % 100_000 == 0 {
            hostile.goes_on();
        }
    }
    hostile.goes_on();
    hostile.starts_over();
}

#[test]
fn a_guest_that_never_stops_sending_can_still_be_closed() {
    let Hostile { mut guest, honest, offer, .. } = Hostile::new();
    guest.close(honest);
    let mut sink = Header::new_zeroed();
    sink.operation = operation::SINK.into();
    for _ in 0..20 {
        let mut channel = guest.open(&offer, 4, 4);
        let (stop, stopped) = std::sync::mpsc::channel();
        let flood = std::thread::spawn(move || {
            let mut sent = 0u64;
            while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                sent +=
                    u64::from(channel.outgoing.write(&PacketOut::in_band(sent, &[sink.as_bytes()])).is_ok());
                // Rings no doorbell: the host finds the packets while it reads.
                let _ = channel.outgoing.commit();
            }
            (channel, sent)
        });
        let patience = Instant::now() + Duration::from_secs(20);
        while guest.bus.channels()[0].packets_in == 0 {
            guest.synic.ring(offer.offer.connection_id.get());
            assert!(Instant::now() < patience);
        }
        guest.send(message_type::CLOSE_CHANNEL, ChannelName { channel: offer.offer.channel }.as_bytes());
        while guest.bus.channels()[0].state != "closed" {
            guest.bus.process();
            assert!(Instant::now() < patience, "the channel does not close");
        }
        stop.send(()).unwrap();
        let (_, sent) = flood.join().unwrap();
        assert!(sent > 0);
    }
}
