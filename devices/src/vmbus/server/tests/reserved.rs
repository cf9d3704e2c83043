//! Reserved channels.

use super::*;

const A: OfferId = OfferId(0);

fn open_reserved(channel: u32, target_vp: u32, target_sint: u32, gpadl: u32) -> Vec<u8> {
    let body = OpenReservedChannel {
        channel: channel.into(),
        target_vp: target_vp.into(),
        target_sint: target_sint.into(),
        ring_gpadl: gpadl.into(),
        downstream_page_offset: 4.into(),
    };
    message(message_type::OPEN_RESERVED_CHANNEL, &body)
}

fn close_reserved(channel: u32, target_vp: u32, target_sint: u32) -> Vec<u8> {
    let body = CloseReservedChannel {
        channel: channel.into(),
        target_vp: target_vp.into(),
        target_sint: target_sint.into(),
    };
    message(message_type::CLOSE_RESERVED_CHANNEL, &body)
}

fn closed_response(channel: u32) -> Out {
    Out::Sent(message_type::CLOSE_RESERVED_RESPONSE, vec![channel])
}

/// Channel 1 is open as a reserved channel on GPADL 6; GPADL 7 is lent too.
fn reserved() -> Host {
    let mut host = Host::connected(Version::V5_3, 1);
    host.lend(1, 6, 8);
    host.lend(1, 7, 8);
    assert_eq!(host.post(&open_reserved(1, 2, 5, 6)), [Out::Open(A)]);
    assert_eq!(host.request.as_ref().unwrap().target_vp, None, "no interrupts");
    assert_eq!(host.opened(Ok(())), [opened(1, 0, OK)]);
    assert_eq!((host.messages[0].vp, host.messages[0].sint), (2, 5), "where the guest asked for");
    host
}

#[test]
fn a_reserved_channel_outlives_unload_and_closes_without_a_connection() {
    let mut host = reserved();
    assert_eq!(host.post(&bare(message_type::UNLOAD)), [Out::Unmap(A, 7)]);
    assert_eq!(host.unmapped(7), [unloaded()]);
    assert!(host.server.is_idle());
    assert_eq!(host.state(0), Some(ChannelState::Open));
    assert_eq!(host.post(&close_reserved(1, 3, 6)), [Out::Close(A)]);
    assert_eq!(host.closed(), [Out::Unmap(A, 6), closed_response(1)]);
    assert_eq!((host.messages[0].vp, host.messages[0].sint), (3, 6));
    assert_eq!(host.unmapped(6), []);
    assert!(host.server.gpadls.is_empty());
    assert_eq!(host.state(0), Some(ChannelState::Hidden));
}

#[test]
fn a_reserved_channel_closes_while_connected() {
    let mut host = reserved();
    assert_eq!(host.post(&close_reserved(1, 3, 6)), [Out::Close(A)]);
    assert_eq!(host.post(&close_reserved(1, 3, 6)), [], "asked twice");
    assert_eq!(host.closed(), [closed_response(1)]);
    assert_eq!(host.post(&teardown(1, 6)), [Out::Unmap(A, 6)]);
    assert_eq!(host.unmapped(6), [torn_down(6)]);
}

#[test]
fn a_new_contact_closes_reserved_channels_too() {
    for unload_first in [false, true] {
        let mut host = reserved();
        if unload_first {
            host.post(&bare(message_type::UNLOAD));
        }
        let outs = host.post(&message(message_type::INITIATE_CONTACT, &contact(Version::V5_3)));
        assert_eq!(outs[..2], [Out::DropMessages, Out::Close(A)]);
        host.unmapped(7);
        assert_eq!(host.closed(), [Out::Unmap(A, 6)]);
        assert_eq!(host.unmapped(6), [Out::Sent(message_type::VERSION_RESPONSE, vec![1, 4])]);
    }
}

#[test]
fn a_reset_and_a_rescind_close_reserved_channels() {
    let mut host = reserved();
    assert_eq!(host.rescind(0), [Out::Close(A), Out::Unmap(A, 7), rescinded(1)]);
    assert_eq!(host.post(&close_reserved(1, 0, 2)), []);
    assert_eq!(host.closed(), [Out::Unmap(A, 6), closed_response(1)]);
    let mut host = reserved();
    host.server.reset();
    assert_eq!(host.outs(), [Out::DropMessages, Out::Close(A), Out::Unmap(A, 7)]);
}

#[test]
fn plain_messages_do_not_move_a_reserved_channel() {
    let mut host = reserved();
    assert_eq!(host.post(&named(message_type::CLOSE_CHANNEL, 1)), []);
    assert_eq!(host.post(&modify(1, 2)), [modified(1, INVALID)]);
    assert_eq!(host.post(&message(message_type::OPEN_CHANNEL, &open(1, 1, 7))), []);
    assert_eq!(host.refused(Refusal::WrongState), 3);
    assert_eq!(host.state(0), Some(ChannelState::Open));
}

#[test]
fn reserved_messages_do_not_move_a_plain_channel() {
    let mut host = Host::open(Version::V5_3);
    assert_eq!(host.post(&close_reserved(1, 0, 2)), []);
    assert_eq!(host.post(&open_reserved(1, 0, 2, 7)), []);
    assert_eq!(host.refused(Refusal::WrongState), 2);
    assert_eq!(host.state(0), Some(ChannelState::Open));
}

#[test]
fn an_open_behind_an_answered_close_fails() {
    let mut host = reserved();
    host.post(&close_reserved(1, 3, 6));
    assert_eq!(host.post(&message(message_type::OPEN_CHANNEL, &open(1, 8, 7))), [opened(1, 8, INVALID)]);
}

#[test]
fn a_sint_or_vp_that_there_is_not_is_answered_where_the_connection_listens() {
    for (vp, sint) in [(0, 16), (0, 255), (0, u32::MAX), (VPS, 2), (u32::MAX, 2)] {
        let mut host = Host::connected(Version::V5_3, 1);
        host.lend(1, 6, 8);
        assert_eq!(host.post(&open_reserved(1, vp, sint, 6)), [opened(1, 0, INVALID)]);
        assert_eq!((host.messages[0].vp, host.messages[0].sint), (1, 2));
        assert_eq!(host.post(&close_reserved(1, vp, sint)), []);
        assert_eq!(host.refused(Refusal::BadTarget), 2);
    }
}

#[test]
fn without_a_connection_there_is_no_ring_to_open() {
    let mut host = reserved();
    host.post(&bare(message_type::UNLOAD));
    host.unmapped(7);
    assert_eq!(host.post(&open_reserved(1, 2, 5, 6)), [opened(1, 0, INVALID)]);
    assert_eq!(host.refused(Refusal::NotConnected), 1);
}

#[test]
fn a_ring_that_is_none_is_refused_where_the_guest_asked_for() {
    let mut host = Host::connected(Version::V4_0, 1);
    assert_eq!(host.post(&open_reserved(1, 3, 9, 99)), [opened(1, 0, INVALID)]);
    assert_eq!((host.messages[0].vp, host.messages[0].sint), (3, 9));
    assert_eq!(host.post(&open_reserved(55, 3, 9, 99)), [opened(55, 0, INVALID)]);
}

#[test]
fn a_channel_that_is_closed_already_is_reported_closed() {
    let mut host = Host::connected(Version::V4_0, 1);
    assert_eq!(host.post(&close_reserved(1, 3, 9)), [closed_response(1)]);
    assert_eq!(host.post(&close_reserved(55, 3, 9)), [closed_response(55)]);
}

#[test]
fn reserved_channels_do_not_exist_before_4_0() {
    let mut host = Host::connected(Version::V3_0, 1);
    assert_eq!(host.post(&close_reserved(1, 3, 9)), []);
    host.lend(1, 6, 8);
    host.post(&open_reserved(1, 3, 9, 6));
    assert_eq!(host.refused(Refusal::NotNegotiated), 2);
    assert_eq!(host.state(0), Some(ChannelState::Closed));
}
