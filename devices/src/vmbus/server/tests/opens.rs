//! Opening, closing and moving a channel.

use super::*;

const A: OfferId = OfferId(0);

fn post_open(host: &mut Host, open: &OpenChannel) -> Vec<Out> {
    host.post(&message(message_type::OPEN_CHANNEL, open))
}

/// Channel 1 closed, GPADL 6 of 8 pages lent to it.
fn lent(version: Version) -> Host {
    let mut host = Host::connected(version, 2);
    host.lend(1, 6, 8);
    host
}

#[test]
fn the_bus_is_told_all_that_the_guest_said() {
    let mut host = lent(Version::V5_2);
    assert_eq!(post_open(&mut host, &open(1, 0xabcd, 6)), [Out::Open(A)]);
    let request = host.request.take().unwrap();
    assert_eq!(request.ring.whole_pages(), Some(&[0, 1, 2, 3, 4, 5, 6, 7][..]));
    let expected = OpenRequest {
        opening: 1,
        channel: ChannelId(1),
        version: Version::V5_2,
        ring: request.ring.clone(),
        ring_gpadl: GpadlId(6),
        downstream_page_offset: 3,
        target_vp: Some(3),
        connection_id: 0x2001,
        event_flag: 1,
        user_data: [9; 120],
    };
    assert_eq!(*request, expected);
    assert_eq!(host.opened(Ok(())), [opened(1, 0xabcd, OK)]);
    let info = host.server.channel(A).unwrap();
    assert_eq!(info.ring, Some(RingPages { gpadl: GpadlId(6), outgoing: 3, incoming: 5 }));
    assert_eq!((info.opens, info.target_vp, info.channel), (1, Some(3), Some(ChannelId(1))));
    host.post(&named(message_type::CLOSE_CHANNEL, 1));
    host.closed();
    let info = host.server.channel(A).unwrap();
    assert_eq!(
        (info.ring.map(|ring| ring.outgoing), info.target_vp),
        (Some(3), None),
        "those of the latest opening"
    );
}

#[test]
fn each_ring_has_two_pages_at_least() {
    for (offset, fits) in [
        (0, false),
        (1, false),
        (2, true),
        (5, true),
        (6, true),
        (7, false),
        (8, false),
        (9, false),
        (0x8000_0000, false),
        (u32::MAX, false),
    ] {
        let mut host = lent(Version::V5_3);
        let open = OpenChannel { downstream_page_offset: offset.into(), ..open(1, 4, 6) };
        let expected = if fits { Out::Open(A) } else { opened(1, 4, INVALID) };
        assert_eq!(post_open(&mut host, &open), [expected], "offset {offset}");
        assert_eq!(host.refused(Refusal::BadRing), u64::from(!fits));
    }
}

#[test]
fn a_ring_is_whole_pages() {
    for (byte_offset, byte_count, pages) in
        [(8u32, 8 * 4096 - 8u32, 8u64), (0, 8 * 4096 - 1, 8), (4095, 2, 2)]
    {
        let mut host = Host::connected(Version::V5_3, 1);
        let header = GpadlHeader {
            channel: 1.into(),
            gpadl: 6.into(),
            range_buflen: (8 + 8 * u16::try_from(pages).unwrap()).into(),
            range_count: 1.into(),
        };
        let mut post = message(message_type::GPADL_HEADER, &header);
        post.extend(byte_count.to_le_bytes());
        post.extend(byte_offset.to_le_bytes());
        post.extend((0..pages).flat_map(u64::to_le_bytes));
        assert_eq!(host.post(&post), [Out::Map(A, 6), created(1, 6, OK)]);
        assert_eq!(post_open(&mut host, &open(1, 4, 6)), [opened(1, 4, INVALID)]);
        assert_eq!(host.refused(Refusal::BadRing), 1);
    }
}

#[test]
fn a_ring_is_a_gpadl_of_this_channel_that_is_complete_and_lent() {
    let mut host = lent(Version::V5_3);
    assert_eq!(post_open(&mut host, &open(1, 1, 99)), [opened(1, 1, INVALID)]);
    assert_eq!(post_open(&mut host, &open(2, 2, 6)), [opened(2, 2, INVALID)]);
    host.post(&gpadl_header(1, 8, 50));
    assert_eq!(post_open(&mut host, &open(1, 3, 8)), [opened(1, 3, INVALID)]);
    host.post(&teardown(1, 6));
    assert_eq!(post_open(&mut host, &open(1, 4, 6)), [opened(1, 4, INVALID)]);
    assert_eq!(host.refused(Refusal::NoGpadl), 4);
}

#[test]
fn a_target_vp_exists_or_is_none() {
    for (vp, target) in
        [(0, Some(Some(0))), (3, Some(Some(3))), (VP_NONE, Some(None)), (4, None), (VP_NONE - 1, None)]
    {
        let mut host = lent(Version::V5_3);
        let outs = post_open(&mut host, &OpenChannel { target_vp: vp.into(), ..open(1, 4, 6) });
        let expected = if target.is_some() { Out::Open(A) } else { opened(1, 4, INVALID) };
        assert_eq!(outs, [expected]);
        assert_eq!(host.request.map(|request| request.target_vp), target);
    }
}

#[test]
fn the_guest_learns_why_the_device_refused_and_may_try_again() {
    let mut host = lent(Version::V5_3);
    post_open(&mut host, &open(1, 4, 6));
    assert_eq!(host.opened(Err(Status::INSUFFICIENT_RESOURCES)), [opened(1, 4, 0xC000_009A)]);
    assert_eq!(host.refused(Refusal::Device), 1);
    assert_eq!(post_open(&mut host, &open(1, 5, 6)), [Out::Open(A)]);
    assert_eq!(host.opened(Err(Status::SUCCESS)), [opened(1, 5, UNSUCCESSFUL)], "a refusal is no success");
    assert_eq!(host.server.channel(A).unwrap().opens, 0);
}

#[test]
fn an_open_while_the_channel_closes_is_served_after_it() {
    let mut host = Host::open(Version::V5_3);
    host.post(&named(message_type::CLOSE_CHANNEL, 1));
    assert_eq!(post_open(&mut host, &open(1, 12, 7)), []);
    assert_eq!(host.post(&teardown(1, 6)), []);
    assert_eq!(host.closed(), [Out::Unmap(A, 6), Out::Open(A)]);
    assert_eq!(host.request.as_ref().unwrap().ring_gpadl, GpadlId(7));
    assert_eq!(host.unmapped(6), [torn_down(6)]);
    assert_eq!(host.opened(Ok(())), [opened(1, 12, OK)]);
}

#[test]
fn an_open_on_a_ring_that_is_torn_down_meanwhile_fails() {
    let mut host = Host::open(Version::V5_3);
    host.post(&named(message_type::CLOSE_CHANNEL, 1));
    post_open(&mut host, &open(1, 12, 6));
    host.post(&teardown(1, 6));
    assert_eq!(host.closed(), [Out::Unmap(A, 6), opened(1, 12, INVALID)]);
    assert_eq!(host.unmapped(6), [torn_down(6)]);
    assert_eq!(host.state(0), Some(ChannelState::Closed));
}

#[test]
fn a_channel_may_open_and_close_for_ever() {
    let mut host = lent(Version::V5_3);
    for id in 0..1000 {
        assert_eq!(post_open(&mut host, &open(1, id, 6)), [Out::Open(A)]);
        assert_eq!(host.opened(Ok(())), [opened(1, id, OK)]);
        assert_eq!(host.post(&named(message_type::CLOSE_CHANNEL, 1)), [Out::Close(A)]);
        assert_eq!(host.closed(), []);
    }
    assert_eq!(host.server.channel(A).unwrap().opens, 1000);
}

/// Opens channel `channel` with a connection id and an event flag of the guest's choice.
fn open_with(host: &mut Host, channel: u32, connection_id: u32, event_flag: u16) -> Vec<Out> {
    let open2 = OpenChannel2 {
        open: open(channel, 4, channel),
        connection_id: connection_id.into(),
        event_flag: event_flag.into(),
        flags: 0.into(),
    };
    host.post(&message(message_type::OPEN_CHANNEL, &open2))
}

fn with_signal_parameters(features: u32) -> Host {
    let mut host = Host::connected(Version::V6_0, 3);
    host.connect(&InitiateContact { features: features.into(), ..contact(Version::V6_0) });
    for channel in 1..=3 {
        host.lend(channel, channel, 8);
    }
    host
}

#[test]
fn a_guest_may_choose_its_signal_parameters() {
    let mut host = with_signal_parameters(1);
    assert_eq!(open_with(&mut host, 1, 0x2345, 2047), [Out::Open(A)]);
    let request = host.request.take().unwrap();
    assert_eq!((request.connection_id, request.event_flag), (0x2345, 2047));
}

#[test]
fn signal_parameters_mean_nothing_unless_negotiated() {
    let mut host = with_signal_parameters(0);
    assert_eq!(open_with(&mut host, 1, 0, 0xffff), [Out::Open(A)]);
    let request = host.request.take().unwrap();
    assert_eq!((request.connection_id, request.event_flag), (0x2001, 1));
}

#[test]
fn an_open_without_signal_parameters_uses_the_offered_ones() {
    let mut host = with_signal_parameters(1);
    assert_eq!(post_open(&mut host, &open(1, 4, 1)), [Out::Open(A)]);
    assert_eq!(host.request.take().unwrap().connection_id, 0x2001);
}

#[test]
fn signal_parameters_are_in_range_and_free() {
    for (connection_id, event_flag) in [
        (0x3000, 0),
        (0x3000, 2048),
        (0x3000, 0xffff),
        (0, 5),
        (1, 5),
        (4, 5),
        (0x0100_0000, 5),
        (u32::MAX, 5),
        (0x2001, 5),
        (0x3000, 1),
    ] {
        let mut host = with_signal_parameters(1);
        open_with(&mut host, 1, 0x2001, 1);
        let outs = open_with(&mut host, 2, connection_id, event_flag);
        assert_eq!(outs, [opened(2, 4, INVALID)], "{connection_id:#x} {event_flag}");
        assert_eq!(host.refused(Refusal::BadSignal), 1);
        assert_eq!(open_with(&mut host, 2, 0x2002, 2), [Out::Open(OfferId(1))]);
    }
}

#[test]
fn signal_parameters_are_free_again_after_the_close() {
    let mut host = with_signal_parameters(1);
    open_with(&mut host, 1, 0x3000, 5);
    host.opened(Ok(()));
    host.post(&named(message_type::CLOSE_CHANNEL, 1));
    assert_eq!(open_with(&mut host, 2, 0x3000, 5), [opened(2, 4, INVALID)], "the doorbell is still bound");
    host.closed();
    assert_eq!(open_with(&mut host, 2, 0x3000, 5), [Out::Open(OfferId(1))]);
}

#[test]
fn one_flag_may_be_used_on_two_processors_until_they_meet() {
    let mut host = with_signal_parameters(1);
    open_with(&mut host, 1, 0x3000, 5);
    host.opened(Ok(()));
    host.post(&modify(1, 2));
    assert_eq!(open_with(&mut host, 2, 0x3001, 5), [Out::Open(OfferId(1))]);
    assert_eq!(host.post(&modify(1, 3)), [modified(1, INVALID)]);
    assert_eq!(host.post(&modify(1, 2)), [Out::Retarget(A, Some(2)), modified(1, OK)], "where it is");
}

#[test]
fn a_channel_cannot_move_to_a_vp_that_there_is_not() {
    for vp in [VPS, VP_NONE] {
        let mut host = Host::open(Version::V5_3);
        assert_eq!(host.post(&modify(1, vp)), [modified(1, INVALID)]);
        assert_eq!(host.refused(Refusal::BadTarget), 1);
        assert_eq!(host.server.channel(A).unwrap().target_vp, Some(3));
    }
}
