//! GPADLs over several messages, names, teardown.

use super::*;

const A: OfferId = OfferId(0);
const B: OfferId = OfferId(1);

/// A header message of any ranges, without their units.
fn header(channel: u32, gpadl: u32, range_count: u16, range_buflen: u16) -> Vec<u8> {
    let header = GpadlHeader {
        channel: channel.into(),
        gpadl: gpadl.into(),
        range_buflen: range_buflen.into(),
        range_count: range_count.into(),
    };
    message(message_type::GPADL_HEADER, &header)
}

#[test]
fn the_largest_buffer_of_linux_is_assembled() {
    let pages = 7936; // 31 MiB
    let mut host = Host::connected(Version::V5_3, 1);
    assert_eq!(host.post(&gpadl_header(1, 5, pages)), []);
    let mut left = pages - 26;
    while left > 28 {
        assert_eq!(host.post(&gpadl_body(5, 28)), []);
        left -= 28;
    }
    host.server.handle(1, &gpadl_body(5, left));
    let Some(Action::Map(A, GpadlId(5), gpadl)) = host.server.next_action() else { panic!("not mapped") };
    assert_eq!(gpadl.page_count(), 7936);
    assert_eq!(gpadl.whole_pages().unwrap()[..27], [(0..26).collect(), vec![0]].concat());
    assert_eq!(host.outs(), [created(1, 5, OK)]);
    assert_eq!(host.server.gpadls.units(), 7937);
}

#[test]
fn more_pages_than_the_length_field_can_say_are_assembled() {
    let pages = 8500;
    let mut host = Host::connected(Version::V5_3, 1);
    host.post(&gpadl_header(1, 5, pages));
    let mut outs = Vec::new();
    for _ in 0..(pages - 26).div_ceil(28) {
        outs.extend(host.post(&gpadl_body(5, 28)));
    }
    assert_eq!(outs, [Out::Map(A, 5), created(1, 5, OK)]);
}

#[test]
fn messages_of_full_size_say_nothing_by_their_length() {
    // The UEFI guest always posts 240 bytes.
    let mut host = Host::connected(Version::V3_0, 1);
    let mut padded = gpadl_header(1, 5, 4);
    padded.resize(240, 0xff);
    assert_eq!(host.post(&padded), [Out::Map(A, 5), created(1, 5, OK)]);
    assert_eq!(host.post(&gpadl_header(1, 6, 27)), []);
    let mut padded = gpadl_body(6, 1);
    padded.resize(240, 0xff);
    assert_eq!(host.post(&padded), [Out::Map(A, 6), created(1, 6, OK)]);
    assert_eq!(host.post(&gpadl_body(6, 28)), [], "late");
}

#[test]
fn a_header_may_come_without_units() {
    let mut host = Host::connected(Version::V5_3, 1);
    assert_eq!(host.post(&gpadl_header(1, 5, 4)[..20]), []);
    let mut body =
        message(message_type::GPADL_BODY, &GpadlBody { message_number: 0.into(), gpadl: 5.into() });
    body.extend(&gpadl_header(1, 5, 4)[20..]);
    assert_eq!(host.post(&body), [Out::Map(A, 5), created(1, 5, OK)]);
}

#[test]
fn several_ranges_are_taken_but_make_no_ring() {
    let mut host = Host::connected(Version::V5_3, 1);
    let mut post = header(1, 5, 2, 48);
    let (one_page, three_pages) = (4096, 3 * 4096);
    post.extend([one_page, 1, three_pages, 2, 3, 4].into_iter().flat_map(u64::to_le_bytes));
    assert_eq!(host.post(&post), [Out::Map(A, 5), created(1, 5, OK)]);
    let open = message(message_type::OPEN_CHANNEL, &open(1, 1, 5));
    assert_eq!(host.post(&open), [opened(1, 1, INVALID)]);
    assert_eq!(host.refused(Refusal::BadRing), 1);
}

#[test]
fn nonsense_is_answered_with_failure_and_forgotten() {
    let mut host = Host::connected(Version::V5_3, 1);
    let mut empty_range = header(1, 5, 1, 8);
    empty_range.extend([0; 8]);
    let mut bad_offset = header(1, 5, 1, 16);
    bad_offset.extend([0, 1, 0, 0, 0, 0x10, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0]);
    let mut longer = gpadl_header(1, 5, 4);
    longer[16] += 8;
    let mut shorter = gpadl_header(1, 5, 4);
    shorter[16] -= 8;
    for post in [header(1, 5, 0, 0), empty_range, bad_offset, longer, shorter] {
        assert_eq!(host.post(&post), [created(1, 5, INVALID)], "{post:?}");
        assert!(host.server.gpadls.is_empty());
        assert_eq!(host.server.gpadls.units(), 0);
    }
    assert_eq!(host.refused(Refusal::BadGpadl), 5);
    host.lend(1, 5, 4);
}

#[test]
fn nonsense_in_a_body_is_answered_too() {
    let mut host = Host::connected(Version::V5_3, 1);
    host.post(&header(1, 5, 2, 400));
    let mut body =
        message(message_type::GPADL_BODY, &GpadlBody { message_number: 0.into(), gpadl: 5.into() });
    body.extend([0; 8]);
    assert_eq!(host.post(&body), [created(1, 5, INVALID)]);
    assert_eq!(host.post(&body), []);
    assert_eq!(host.refused(Refusal::NoGpadl), 1);
}

#[test]
fn a_name_that_is_taken_is_refused_and_loses_nothing() {
    let mut host = Host::connected(Version::V5_3, 1);
    host.lend(1, 5, 4);
    assert_eq!(host.post(&gpadl_header(1, 5, 4)), [created(1, 5, INVALID)]);
    host.post(&gpadl_header(1, 6, 27));
    assert_eq!(host.post(&gpadl_header(1, 6, 27)), [created(1, 6, INVALID)]);
    assert_eq!(host.post(&gpadl_body(6, 1)), [Out::Map(A, 6), created(1, 6, OK)]);
    host.post(&teardown(1, 5));
    assert_eq!(host.post(&gpadl_header(1, 5, 4)), [created(1, 5, INVALID)], "the device still has it");
    assert_eq!(host.unmapped(5), [torn_down(5)]);
    host.lend(1, 5, 4);
    assert_eq!(host.refused(Refusal::GpadlExists), 3);
}

#[test]
fn two_channels_may_use_one_name_and_two_teardowns_are_two() {
    let mut host = Host::connected(Version::V5_3, 2);
    host.lend(1, 5, 4);
    host.lend(2, 5, 8);
    assert_eq!(host.post(&message(message_type::OPEN_CHANNEL, &open(2, 1, 5))), [Out::Open(B)]);
    host.server.opened(B, Ok(()));
    assert_eq!(host.outs(), [opened(2, 1, OK)]);
    assert_eq!(host.request.as_ref().unwrap().ring.page_count(), 8);
    assert_eq!(host.post(&teardown(1, 5)), [Out::Unmap(A, 5)], "not the ring of the other");
    assert_eq!(host.post(&teardown(2, 5)), []);
    assert_eq!(host.post(&named(message_type::CLOSE_CHANNEL, 2)), [Out::Close(B)]);
    host.server.closed(B);
    assert_eq!(host.outs(), [Out::Unmap(B, 5)]);
    host.server.unmapped(B, GpadlId(5));
    assert_eq!(host.outs(), [torn_down(5)]);
    assert_eq!(host.unmapped(5), [torn_down(5)]);
    assert!(host.server.gpadls.is_empty());
}

#[test]
fn bodies_say_no_channel_so_one_name_is_assembled_at_a_time() {
    let mut host = Host::connected(Version::V5_3, 2);
    host.post(&gpadl_header(1, 5, 27));
    assert_eq!(host.post(&gpadl_header(2, 5, 27)), [created(2, 5, INVALID)]);
    assert_eq!(host.post(&teardown(2, 5)), [torn_down(5)], "not the one of the other channel");
    assert_eq!(host.post(&gpadl_body(5, 1)), [Out::Map(A, 5), created(1, 5, OK)]);
}

#[test]
fn a_teardown_is_answered_when_the_device_has_let_go() {
    let mut host = Host::open(Version::V5_3);
    assert_eq!(host.post(&teardown(1, 7)), [Out::Unmap(A, 7)]);
    assert_eq!(host.post(&teardown(1, 7)), [], "asked twice");
    assert_eq!(host.refused(Refusal::WrongState), 1);
    assert_eq!(host.unmapped(7), [torn_down(7)]);
    assert_eq!(host.unmapped(7), []);
}

#[test]
fn a_teardown_of_the_open_ring_waits_for_the_close() {
    let mut host = Host::open(Version::V5_3);
    assert_eq!(host.post(&teardown(1, 6)), []);
    assert_eq!(host.unmapped(6), [], "nobody asked the bus");
    assert_eq!(host.post(&named(message_type::CLOSE_CHANNEL, 1)), [Out::Close(A)]);
    assert_eq!(host.closed(), [Out::Unmap(A, 6)]);
    assert_eq!(host.unmapped(6), [torn_down(6)]);
}

#[test]
fn a_teardown_gives_up_what_is_not_complete() {
    let mut host = Host::connected(Version::V5_3, 1);
    host.post(&gpadl_header(1, 5, 1000));
    assert_eq!(host.server.gpadls.units(), 1001);
    assert_eq!(host.post(&teardown(1, 5)), [torn_down(5)]);
    assert_eq!(host.server.gpadls.units(), 0);
    assert_eq!(host.post(&gpadl_body(5, 28)), []);
}

#[test]
fn a_teardown_of_what_nobody_knows_is_answered() {
    let mut host = Host::connected(Version::V5_3, 1);
    assert_eq!(host.post(&teardown(1, 5)), [torn_down(5)]);
    assert_eq!(host.post(&teardown(77, 5)), [torn_down(5)]);
    assert_eq!(host.refused(Refusal::NoGpadl), 2);
}

#[test]
fn a_teardown_behind_the_release_of_the_channel_still_waits_for_the_device() {
    let mut host = Host::open(Version::V5_3);
    host.rescind(0);
    host.post(&named(message_type::RELID_RELEASED, 1));
    assert_eq!(host.post(&teardown(1, 6)), []);
    assert_eq!(host.closed(), [Out::Unmap(A, 6)]);
    assert_eq!(host.unmapped(6), [torn_down(6)]);
}
