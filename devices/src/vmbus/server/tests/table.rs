//! Every message in every state of a channel.

use super::*;

const A: OfferId = OfferId(0);

/// States of channel 1, with the GPADL of its ring (6) and another one (7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Closed,
    Opening,
    Open,
    Closing,
    Reopening,
    Released,
    Revoked,
    Unknown,
}

use At::*;

const ALL: [At; 8] = [Closed, Opening, Open, Closing, Reopening, Released, Revoked, Unknown];

/// Brings channel 1 there; for an unknown id, the messages name channel 99.
fn at(state: At, version: Version) -> (Host, u32) {
    let mut host = Host::open(version);
    match state {
        Open => {}
        Unknown => return (host, 99),
        Revoked => {
            host.rescind(0);
            host.closed();
            host.unmapped(6);
            host.unmapped(7);
        }
        _ => {
            host.post(&named(message_type::CLOSE_CHANNEL, 1));
            if matches!(state, Closed | Opening | Released) {
                host.closed();
            }
        }
    }
    match state {
        Opening | Reopening => drop(host.post(&message(message_type::OPEN_CHANNEL, &open(1, 12, 7)))),
        Released => drop(host.post(&named(message_type::RELID_RELEASED, 1))),
        _ => {}
    }
    (host, 1)
}

/// Posts one message in every state and compares what comes out and which state follows.
fn check(version: Version, post: impl Fn(u32) -> Vec<u8>, expected: [(Vec<Out>, At); 8]) {
    for (state, (outs, then)) in ALL.into_iter().zip(expected) {
        let (mut host, channel) = at(state, version);
        assert_eq!(host.post(&post(channel)), outs, "{state:?}");
        let name = match then {
            Closed => Some("closed"),
            Opening => Some("opening"),
            Open | Unknown => Some("open"),
            Closing => Some("closing"),
            Reopening => Some("reopening"),
            Released => Some("released"),
            Revoked => Some("revoked"),
        };
        let name = name.filter(|_| !(state == Revoked && then == Unknown));
        assert_eq!(host.state(0).map(ChannelState::name), name, "{state:?}");
    }
}

#[test]
fn open_channel() {
    let post = |channel| message(message_type::OPEN_CHANNEL, &open(channel, 13, 7));
    check(
        Version::V5_3,
        post,
        [
            (vec![Out::Open(A)], Opening),
            (vec![], Opening),
            (vec![], Open),
            (vec![], Reopening),
            (vec![], Reopening),
            (vec![opened(1, 13, INVALID)], Released),
            (vec![], Revoked),
            (vec![opened(99, 13, INVALID)], Unknown),
        ],
    );
}

#[test]
fn close_channel() {
    check(
        Version::V5_3,
        |channel| named(message_type::CLOSE_CHANNEL, channel),
        [
            (vec![], Closed),
            (vec![], Opening),
            (vec![Out::Close(A)], Closing),
            (vec![], Closing),
            (vec![], Reopening),
            (vec![], Released),
            (vec![], Revoked),
            (vec![], Unknown),
        ],
    );
}

#[test]
fn gpadl_header_message() {
    let lent = |channel| vec![Out::Map(A, 8), created(channel, 8, OK)];
    check(
        Version::V5_3,
        |channel| gpadl_header(channel, 8, 4),
        [
            (lent(1), Closed),
            (lent(1), Opening),
            (lent(1), Open),
            (lent(1), Closing),
            (lent(1), Reopening),
            (vec![created(1, 8, INVALID)], Released),
            (vec![created(1, 8, OK)], Revoked),
            (vec![created(99, 8, INVALID)], Unknown),
        ],
    );
}

#[test]
fn gpadl_teardown_of_the_ring() {
    check(
        Version::V5_3,
        |channel| teardown(channel, 6),
        [
            (vec![Out::Unmap(A, 6)], Closed),
            (vec![Out::Unmap(A, 6)], Opening),
            (vec![], Open),
            (vec![], Closing),
            (vec![], Reopening),
            (vec![Out::Unmap(A, 6)], Released),
            (vec![torn_down(6)], Revoked),
            (vec![torn_down(6)], Unknown),
        ],
    );
}

#[test]
fn gpadl_teardown_of_another() {
    check(
        Version::V5_3,
        |channel| teardown(channel, 7),
        [
            (vec![Out::Unmap(A, 7)], Closed),
            (vec![], Opening),
            (vec![Out::Unmap(A, 7)], Open),
            (vec![Out::Unmap(A, 7)], Closing),
            (vec![Out::Unmap(A, 7)], Reopening),
            (vec![Out::Unmap(A, 7)], Released),
            (vec![torn_down(7)], Revoked),
            (vec![torn_down(7)], Unknown),
        ],
    );
}

#[test]
fn relid_released() {
    check(
        Version::V5_3,
        |channel| named(message_type::RELID_RELEASED, channel),
        [
            (vec![], Released),
            (vec![], Opening),
            (vec![], Open),
            (vec![], Closing),
            (vec![], Reopening),
            (vec![], Released),
            (vec![], Unknown),
            (vec![], Unknown),
        ],
    );
}

#[test]
fn modify_channel_from_5_3_on() {
    let failed = || vec![modified(1, INVALID)];
    check(
        Version::V5_3,
        |channel| modify(channel, 2),
        [
            (failed(), Closed),
            (failed(), Opening),
            (vec![Out::Retarget(A, Some(2)), modified(1, OK)], Open),
            (failed(), Closing),
            (failed(), Reopening),
            (failed(), Released),
            (failed(), Revoked),
            (vec![modified(99, INVALID)], Unknown),
        ],
    );
}

#[test]
fn modify_channel_before_5_3_has_no_answer() {
    for (version, retargets) in [(Version::V5_2, true), (Version::V4_1, true), (Version::V4_0, false)] {
        let retarget = if retargets { vec![Out::Retarget(A, Some(2))] } else { vec![] };
        check(
            version,
            |channel| modify(channel, 2),
            [
                (vec![], Closed),
                (vec![], Opening),
                (retarget, Open),
                (vec![], Closing),
                (vec![], Reopening),
                (vec![], Released),
                (vec![], Revoked),
                (vec![], Unknown),
            ],
        );
    }
}

#[test]
fn rescind_in_every_state() {
    let unmap = || vec![Out::Unmap(A, 6), Out::Unmap(A, 7)];
    let expected: [Vec<Out>; 7] = [
        [unmap(), vec![rescinded(1)]].concat(),
        vec![Out::Unmap(A, 6), opened(1, 12, UNSUCCESSFUL), rescinded(1)],
        vec![Out::Close(A), Out::Unmap(A, 7), rescinded(1)],
        vec![Out::Unmap(A, 7), rescinded(1)],
        vec![Out::Unmap(A, 7), opened(1, 12, UNSUCCESSFUL), rescinded(1)],
        unmap(),
        vec![],
    ];
    for (state, outs) in ALL.into_iter().zip(expected) {
        let (mut host, _) = at(state, Version::V5_3);
        assert_eq!(host.rescind(0), outs, "{state:?}");
        assert_eq!(host.state(0), Some(ChannelState::Revoked), "{state:?}");
    }
}

#[test]
fn contact_in_every_state() {
    for state in ALL {
        let (mut host, _) = at(state, Version::V5_3);
        let outs = host.post(&message(message_type::INITIATE_CONTACT, &contact(Version::V4_0)));
        assert_eq!(outs.first(), Some(&Out::DropMessages), "{state:?}");
        // The bus does what is left to do, in any state the same way, and the guest is answered once.
        if state == Opening {
            assert_eq!(host.opened(Ok(())), [Out::Close(A)]);
        }
        let mut late = host.closed();
        late.extend(host.unmapped(6));
        late.extend(host.unmapped(7));
        let all = [outs, late].concat();
        let answers: Vec<&Out> = all.iter().filter(|out| matches!(out, Out::Sent(..))).collect();
        let answer = Out::Sent(message_type::VERSION_RESPONSE, vec![1, Version::V4_0.0]);
        assert_eq!(answers, [&answer], "{state:?}");
        assert_eq!(all.last(), Some(&answer), "{state:?}");
        let offered = Out::Sent(message_type::ALL_OFFERS_DELIVERED, vec![]);
        assert_eq!(host.post(&bare(message_type::REQUEST_OFFERS)).last(), Some(&offered), "{state:?}");
    }
}

#[test]
fn unload_in_every_state() {
    for state in ALL {
        let (mut host, _) = at(state, Version::V5_3);
        let mut all = host.post(&bare(message_type::UNLOAD));
        if state == Opening {
            assert_eq!(host.opened(Err(Status::UNSUCCESSFUL)), [Out::Unmap(A, 7)]);
        }
        all.extend(host.closed());
        all.extend(host.unmapped(6));
        all.extend(host.unmapped(7));
        let answers: Vec<&Out> = all.iter().filter(|out| matches!(out, Out::Sent(..))).collect();
        assert_eq!(answers, [&unloaded()], "{state:?}");
        assert_eq!(all.last(), Some(&unloaded()), "{state:?}");
        assert!(host.server.is_idle());
        assert!(host.server.gpadls.is_empty());
    }
}

#[test]
fn before_contact_and_before_offers_channels_do_not_exist() {
    let mut host = Host::new();
    host.server.offer(offer(1, 0)).unwrap();
    let posts = [
        message(message_type::OPEN_CHANNEL, &open(1, 1, 1)),
        named(message_type::CLOSE_CHANNEL, 1),
        gpadl_header(1, 1, 4),
        gpadl_body(1, 4),
        teardown(1, 1),
        named(message_type::RELID_RELEASED, 1),
        modify(1, 0),
    ];
    for post in &posts {
        assert_eq!(host.post(post), [], "{post:?}");
    }
    assert_eq!(host.refused(Refusal::NotConnected), posts.len() as u64);
    host.post(&message(message_type::INITIATE_CONTACT, &contact(Version::V5_3)));
    let answers: Vec<Vec<Out>> = posts.iter().map(|post| host.post(post)).collect();
    let expected = [
        vec![opened(1, 1, INVALID)],
        vec![],
        vec![created(1, 1, INVALID)],
        vec![],
        vec![torn_down(1)],
        vec![],
        vec![modified(1, INVALID)],
    ];
    assert_eq!(answers, expected);
}
