//! Messages that no honest guest sends.

use super::*;

#[test]
fn messages_that_only_the_host_sends_are_counted_and_ignored() {
    use message_type::*;
    for message_type in [
        OFFER_CHANNEL,
        RESCIND_CHANNEL_OFFER,
        ALL_OFFERS_DELIVERED,
        OPEN_CHANNEL_RESULT,
        GPADL_CREATED,
        GPADL_TORNDOWN,
        VERSION_RESPONSE,
        UNLOAD_COMPLETE,
        CLOSE_RESERVED_RESPONSE,
        TL_CONNECT_RESULT,
        MODIFY_CHANNEL_RESPONSE,
        MODIFY_CONNECTION_RESPONSE,
        PAUSE_RESPONSE,
    ] {
        for mut host in [Host::new(), Host::open(Version::V6_0)] {
            assert_eq!(host.post(&message(message_type, &[1u8; 232])), []);
            assert_eq!(host.post(&bare(message_type)), []);
            assert_eq!(host.refused(Refusal::HostOnly), 2);
        }
    }
}

#[test]
fn unknown_messages_are_counted_and_ignored() {
    let mut host = Host::open(Version::V6_0);
    for message_type in [0, 30, 31, 255, 256, 0x8000_0000, u32::MAX] {
        assert_eq!(host.post(&message(message_type, &[1u8; 232])), []);
    }
    assert_eq!(host.refused(Refusal::Unknown), 7);
}

#[test]
fn short_messages_are_counted_and_change_nothing() {
    let full = [
        message(message_type::INITIATE_CONTACT, &contact(Version::V5_3)),
        message(message_type::OPEN_CHANNEL, &open(1, 1, 7)),
        named(message_type::CLOSE_CHANNEL, 1),
        named(message_type::RELID_RELEASED, 2),
        gpadl_header(1, 8, 4)[..20].to_vec(),
        gpadl_body(8, 4)[..16].to_vec(),
        teardown(1, 7),
        modify(1, 2),
        message(message_type::OPEN_RESERVED_CHANNEL, &[0u8; 20]),
        message(message_type::CLOSE_RESERVED_CHANNEL, &[0u8; 12]),
        message(message_type::TL_CONNECT_REQUEST, &[0u8; 32]),
    ];
    let mut host = Host::open(Version::V5_3);
    let mut short = 0;
    for message in full {
        for len in 0..message.len() {
            assert_eq!(host.post(&message[..len]), [], "{len} of {message:?}");
            short += 1;
        }
    }
    assert_eq!(host.refused(Refusal::Short), short);
    assert_eq!(host.state(0), Some(ChannelState::Open));
}

#[test]
fn every_message_type_with_every_byte_in_every_state() {
    for open in [false, true] {
        for byte in [0, 1, 2, 3, 6, 7, 16, 0x7f, 0x80, 0xff] {
            let mut host = if open { Host::open(Version::V6_0) } else { Host::new() };
            for message_type in 0..40 {
                for len in [0, 4, 12, 40, 232] {
                    host.server.handle(1, &message(message_type, &[byte; 232][..len]));
                    run_bus(&mut host.server);
                }
            }
            host.server.handle(4, &message(message_type::INITIATE_CONTACT, &contact(Version::V5_3)));
            let answers = run_bus(&mut host.server);
            assert_eq!(answers.last().map(|message| message.payload()[8]), Some(1));
            assert!(host.server.ready() && host.server.connection().is_some());
        }
    }
}

#[test]
fn answers_from_the_bus_that_nobody_asked_for_change_nothing() {
    let mut host = Host::open(Version::V5_3);
    for offer in [0, 1, 2, u64::MAX] {
        host.server.opened(OfferId(offer), Ok(()));
        host.server.opened(OfferId(offer), Err(Status::UNSUCCESSFUL));
        host.server.closed(OfferId(offer));
        host.server.unmapped(OfferId(offer), GpadlId(6));
    }
    assert_eq!(host.outs(), []);
    assert_eq!(host.state(0), Some(ChannelState::Open));
}
