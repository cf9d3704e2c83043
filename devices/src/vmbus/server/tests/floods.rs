//! Every budget, flooded; and what honest use still works then.

use super::limits::*;
use super::*;

const INSUFFICIENT: u32 = Status::INSUFFICIENT_RESOURCES.0;

#[test]
fn gpadls_have_a_number() {
    let mut host = Host::connected(Version::V5_3, 1);
    for gpadl in 0..u32::try_from(MAX_GPADLS).unwrap() {
        host.lend(1, gpadl, 1);
    }
    for _ in 0..1000 {
        assert_eq!(host.post(&gpadl_header(1, 0x10_0000, 1)), [created(1, 0x10_0000, INSUFFICIENT)]);
    }
    assert_eq!(host.refused(Refusal::TooManyGpadls), 1000);
    host.post(&teardown(1, 0));
    host.unmapped(0);
    host.lend(1, 0x10_0000, 1);
}

#[test]
fn pages_have_a_number() {
    let mut host = Host::connected(Version::V5_3, 1);
    let mut complete = 0;
    for gpadl in 0.. {
        host.post(&gpadl_header(1, gpadl, 8000));
        let outs: Vec<Out> = (0..285).flat_map(|_| host.post(&gpadl_body(gpadl, 28))).collect();
        if host.refused(Refusal::TooManyPages) > 0 {
            break;
        }
        assert_eq!(outs.last(), Some(&created(1, gpadl, OK)));
        complete += 1;
    }
    assert_eq!(complete, MAX_GPADL_UNITS / 8001);
    assert!(host.server.gpadls.units() <= MAX_GPADL_UNITS);
    host.post(&teardown(1, 0));
    host.unmapped(0);
    host.lend(1, 1000, 26);
}

#[test]
fn a_promise_of_pages_is_refused_before_they_arrive() {
    let mut host = Host::connected(Version::V5_3, 1);
    let pages = 0x10_0000 - 1; // 4 GiB less a page
    assert_eq!(host.post(&gpadl_header(1, 1, pages)), [created(1, 1, INSUFFICIENT)]);
    assert_eq!(host.server.gpadls.units(), 0);
    assert_eq!(host.refused(Refusal::TooManyPages), 1);
}

#[test]
fn headers_that_are_never_finished_have_a_number() {
    let mut host = Host::connected(Version::V5_3, 1);
    let partial = u32::try_from(MAX_PARTIAL_GPADLS).unwrap();
    for gpadl in 0..partial {
        assert_eq!(host.post(&gpadl_header(1, gpadl, 27)), []);
    }
    for gpadl in partial..20_000 {
        assert_eq!(host.post(&gpadl_header(1, gpadl, 27)), [created(1, gpadl, INSUFFICIENT)]);
    }
    assert_eq!(host.refused(Refusal::TooManyPartial), 20_000 - u64::from(partial));
    assert_eq!(host.server.gpadls.units(), MAX_PARTIAL_GPADLS * 28);
    host.lend(1, 30_000, 26);
    assert_eq!(host.post(&gpadl_body(0, 1)), [Out::Map(OfferId(0), 0), created(1, 0, OK)]);
}

#[test]
fn the_most_wasteful_lists_stay_in_the_budget() {
    let mut host = Host::connected(Version::V5_3, 1);
    for gpadl in 0..100 {
        let header = GpadlHeader {
            channel: 1.into(),
            gpadl: gpadl.into(),
            range_buflen: 65520.into(),
            range_count: 4095.into(),
        };
        let mut post = message(message_type::GPADL_HEADER, &header);
        let body = GpadlBody { message_number: 0.into(), gpadl: gpadl.into() };
        for _ in 0..=315 {
            post.extend((0..14).flat_map(|_| [1u64, 7]).flat_map(u64::to_le_bytes));
            host.post(&post);
            post = message(message_type::GPADL_BODY, &body);
        }
        assert!(host.server.gpadls.units() <= MAX_GPADL_UNITS);
    }
    assert!(host.refused(Refusal::TooManyPages) > 0);
}

#[test]
fn a_guest_that_fetches_nothing_is_not_heard() {
    let mut host = Host::connected(Version::V5_3, 1);
    for gpadl in 0..1_000_000 {
        host.server.handle(4, &teardown(1, gpadl));
        assert!(!host.server.ready());
    }
    assert_eq!(host.refused(Refusal::Overrun), 1_000_000 - MAX_UNDELIVERED as u64);
    // Except when it starts over, as often as it likes.
    for _ in 0..1000 {
        host.server.handle(4, &message(message_type::INITIATE_CONTACT, &contact(Version::V5_3)));
    }
    assert_eq!(host.outs(), [Out::DropMessages, Out::Sent(message_type::VERSION_RESPONSE, vec![1, 4])]);
}

#[test]
fn a_paused_guest_cannot_pile_up_answers() {
    let mut host = Host::connected(Version::V6_0, 1);
    host.connect(&InitiateContact { features: 0x20.into(), ..contact(Version::V6_0) });
    host.post(&bare(message_type::PAUSE));
    for _ in 0..1000 {
        for message_type in (0..40).filter(|&n| n != message_type::UNLOAD && n != message_type::RESUME) {
            assert_eq!(host.post(&message(message_type, &[0u8; 28])), []);
        }
    }
    assert_eq!(host.server.outbox.held(), 0);
    assert!(host.server.ready());
}

#[test]
fn channels_have_a_number() {
    let mut host = Host::new();
    for instance in 0..MAX_CHANNELS as u64 {
        let mut bytes = [0; 16];
        bytes[8..].copy_from_slice(&instance.to_be_bytes());
        host.server.offer(Offer { instance: Guid::from_bytes(bytes), ..offer(1, 0) }).unwrap();
    }
    assert_eq!(host.server.offer(offer(1, 0)), Err(OfferError::Full));
    host.connect(&contact(Version::V5_3));
    let last = OfferChannel::read_from_bytes(&host.messages[MAX_CHANNELS - 1].payload()[8..]).unwrap();
    assert_eq!((last.channel.get(), last.connection_id.get()), (2047, 0x27ff));
}

#[test]
fn a_device_that_comes_and_goes_unreleased_is_bounded() {
    let mut host = Host::connected(Version::V5_3, 0);
    let mut refused = 0;
    let tries = MAX_CHANNELS + 100;
    for n in 0..tries {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&n.to_le_bytes());
        match host.server.offer(Offer { instance: Guid::from_bytes(bytes), ..offer(1, 0) }) {
            Ok(offer) => host.server.rescind(offer),
            Err(error) => {
                assert_eq!(error, OfferError::Full);
                refused += 1;
            }
        }
        host.outs();
    }
    assert_eq!(refused, 100);
    host.connect(&contact(Version::V5_3));
    assert_eq!(host.server.channels().count(), 0);
}
