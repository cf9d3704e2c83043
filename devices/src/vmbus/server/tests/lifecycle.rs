//! The connection as a whole: contact over contact, unload, reset, pause, and what a bus without room does.

use super::*;

const A: OfferId = OfferId(0);

fn connect(version: Version) -> Vec<u8> {
    message(message_type::INITIATE_CONTACT, &contact(version))
}

fn accepted(version: Version) -> Out {
    Out::Sent(message_type::VERSION_RESPONSE, vec![1, if version >= Version::V5_0 { 4 } else { version.0 }])
}

#[test]
fn firmware_then_linux_then_a_crash_kernel() {
    let mut host = Host::open(Version::V3_0);
    for version in [Version::V5_3, Version::V4_1] {
        assert_eq!(host.post(&connect(version)), [Out::DropMessages, Out::Close(A), Out::Unmap(A, 7)]);
        assert!(!host.server.ready(), "the old connection is not down");
        assert_eq!(host.closed(), [Out::Unmap(A, 6)]);
        assert_eq!(host.unmapped(7), []);
        assert_eq!(host.unmapped(6), [accepted(version)]);
        assert!(host.server.ready());
        host.post(&bare(message_type::REQUEST_OFFERS));
        host.lend(1, 6, 8);
        host.lend(1, 7, 8);
        assert_eq!(host.post(&message(message_type::OPEN_CHANNEL, &open(1, 1, 6))), [Out::Open(A)]);
        assert_eq!(host.opened(Ok(())), [opened(1, 1, OK)]);
    }
    assert_eq!(host.server.counters().contacts, 3);
}

#[test]
fn of_two_contacts_the_latest_is_answered() {
    let mut host = Host::open(Version::V5_3);
    host.post(&connect(Version::V5_3));
    assert_eq!(host.post(&connect(Version(0x0009_0000))), [Out::DropMessages]);
    assert_eq!(host.post(&connect(Version::V4_0)), [Out::DropMessages]);
    host.closed();
    host.unmapped(7);
    assert_eq!(host.unmapped(6), [accepted(Version::V4_0)]);
}

#[test]
fn of_unload_and_contact_the_latest_is_answered() {
    for unload_last in [false, true] {
        let mut host = Host::open(Version::V5_3);
        if unload_last {
            host.post(&connect(Version::V4_0));
            assert_eq!(host.post(&bare(message_type::UNLOAD)), []);
        } else {
            host.post(&bare(message_type::UNLOAD));
            assert_eq!(host.post(&connect(Version::V4_0)), [Out::DropMessages]);
        }
        host.closed();
        host.unmapped(7);
        let answer = if unload_last { unloaded() } else { accepted(Version::V4_0) };
        assert_eq!(host.unmapped(6), [answer]);
        assert_eq!(host.server.is_idle(), unload_last);
    }
}

#[test]
fn what_a_guest_says_meanwhile_is_not_heard() {
    let mut host = Host::open(Version::V5_3);
    host.post(&connect(Version::V5_3));
    for post in [bare(message_type::REQUEST_OFFERS), gpadl_header(1, 9, 2), teardown(1, 6)] {
        assert_eq!(host.post(&post), []);
    }
    assert_eq!(host.refused(Refusal::NotConnected), 3);
}

#[test]
fn unload_waits_for_the_devices() {
    let mut host = Host::open(Version::V5_3);
    assert_eq!(host.post(&bare(message_type::UNLOAD)), [Out::Close(A), Out::Unmap(A, 7)]);
    assert_eq!(host.unmapped(7), []);
    assert_eq!(host.closed(), [Out::Unmap(A, 6)]);
    assert_eq!(host.unmapped(6), [unloaded()]);
    assert_eq!((host.messages[0].vp, host.messages[0].sint), (1, 2), "where the connection listened");
    assert_eq!(host.messages[0].payload().len(), 8);
}

#[test]
fn unload_without_a_connection_is_answered() {
    let mut host = Host::new();
    assert_eq!(host.post(&bare(message_type::UNLOAD)), [unloaded()]);
    assert_eq!(host.messages[0].vp, 0);
}

#[test]
fn a_device_that_is_ready_too_late_is_stopped() {
    let mut host = Host::connected(Version::V5_3, 1);
    host.lend(1, 6, 8);
    host.post(&message(message_type::OPEN_CHANNEL, &open(1, 1, 6)));
    assert_eq!(host.post(&bare(message_type::UNLOAD)), []);
    assert_eq!(host.opened(Ok(())), [Out::Close(A)]);
    assert_eq!(host.closed(), [Out::Unmap(A, 6)]);
    assert_eq!(host.unmapped(6), [unloaded()]);
    assert_eq!(host.server.channel(A).unwrap().opens, 0);
}

#[test]
fn a_reset_of_the_machine_is_silent() {
    let mut host = Host::open(Version::V5_3);
    host.server.reset();
    assert_eq!(host.outs(), [Out::DropMessages, Out::Close(A), Out::Unmap(A, 7)]);
    assert!(!host.server.is_idle());
    host.closed();
    host.unmapped(6);
    assert_eq!(host.unmapped(7), []);
    assert!(host.server.is_idle());
    assert_eq!(host.server.connection(), None);
    assert_eq!(host.state(0), Some(ChannelState::Hidden));
}

#[test]
fn a_paused_guest_hears_everything_on_resume() {
    let mut host = Host::connected(Version::V6_0, 2);
    host.connect(&InitiateContact { features: 0x20.into(), ..contact(Version::V6_0) });
    host.lend(1, 6, 8);
    host.post(&message(message_type::OPEN_CHANNEL, &open(1, 1, 6)));
    assert_eq!(host.post(&bare(message_type::PAUSE)), [Out::Sent(message_type::PAUSE_RESPONSE, vec![])]);
    assert_eq!(host.opened(Ok(())), []);
    assert_eq!(host.rescind(1), [Out::Gone(OfferId(1))]);
    assert_eq!(host.post(&teardown(1, 99)), []);
    assert_eq!(host.post(&bare(message_type::PAUSE)), []);
    assert_eq!(host.refused(Refusal::Paused), 2);
    assert_eq!(host.post(&bare(message_type::RESUME)), [opened(1, 1, OK), rescinded(2)]);
    assert_eq!(host.post(&teardown(1, 99)), [torn_down(99)]);
}

#[test]
fn unload_and_contact_end_a_pause() {
    let mut host = Host::connected(Version::V6_0, 1);
    let paused = InitiateContact { features: 0x20.into(), ..contact(Version::V6_0) };
    host.connect(&paused);
    host.post(&bare(message_type::PAUSE));
    assert_eq!(host.post(&bare(message_type::UNLOAD)), [unloaded()]);
    host.connect(&paused);
    host.post(&bare(message_type::PAUSE));
    host.rescind(0);
    assert_eq!(host.post(&connect(Version::V5_3)), [Out::DropMessages, accepted(Version::V5_3)]);
}

#[test]
fn monitor_pages_may_change_if_negotiated() {
    let post = message(
        message_type::MODIFY_CONNECTION,
        &ModifyConnection {
            parent_to_child_monitor_page: 0x1000.into(),
            child_to_parent_monitor_page: 0.into(),
        },
    );
    let mut host = Host::connected(Version::V6_0, 1);
    assert_eq!(host.post(&post), []);
    assert_eq!(host.refused(Refusal::NotNegotiated), 1);
    host.connect(&InitiateContact { features: 0x4.into(), ..contact(Version::V6_0) });
    host.post(&post);
    assert_eq!(host.messages[0].payload(), [26, 0, 0, 0, 0, 0, 0, 0, 0], "exactly nine bytes");
}

#[test]
fn sockets_are_refused_as_windows_expects_it() {
    let request =
        TlConnectRequest { endpoint: Guid::from_bytes([1; 16]), service: Guid::from_bytes([2; 16]) };
    let post = message(message_type::TL_CONNECT_REQUEST, &request);
    for (version, answered) in [(Version::V3_0, false), (Version::V4_0, false), (Version::V4_1, true)] {
        let mut host = Host::connected(version, 1);
        host.post(&post);
        assert_eq!(host.messages.len(), usize::from(answered));
        if answered {
            let result = host.only::<TlConnectResult>();
            assert_eq!((result.endpoint, result.service), (request.endpoint, request.service));
            assert_eq!(result.status.get(), 0xC000_0236);
        }
    }
}

#[test]
fn a_message_without_room_is_next_again() {
    let mut host = Host::new();
    host.server.offer(offer(1, 0)).unwrap();
    host.post(&connect(Version::V5_3));
    host.server.handle(4, &bare(message_type::REQUEST_OFFERS));
    assert!(!host.server.ready());
    let Some(Action::Send(message)) = host.server.next_action() else { panic!("no offer") };
    host.server.retry(message.clone());
    assert_eq!(host.server.next_action(), Some(Action::Send(message.clone())));
    host.server.retry(message);
    // A new kernel does not wait for what the old one left unread.
    assert!(Server::starts_over(&connect(Version::V5_3)));
    assert!(!Server::starts_over(&bare(message_type::UNLOAD)));
    assert!(
        !Server::starts_over(&connect(Version::V5_3)[..39]),
        "it will be ignored, and must not cost others"
    );
    assert_eq!(host.post(&connect(Version::V5_3)), [Out::DropMessages, accepted(Version::V5_3)]);
    assert!(host.server.ready());
    assert_eq!(host.server.counters().messages_out, 2);
}

#[test]
fn a_device_goes_although_the_guest_fetches_nothing() {
    let mut host = Host::open(Version::V5_3);
    host.server.handle(4, &teardown(1, 99));
    let Some(Action::Send(message)) = host.server.next_action() else { panic!("no answer") };
    host.server.retry(message.clone());
    host.server.rescind(A);
    assert_eq!(host.server.next_action(), Some(Action::Close(A)));
    assert_eq!(host.server.next_action(), Some(Action::Unmap(A, GpadlId(7))));
    assert_eq!(host.server.next_action(), Some(Action::Send(message)));
}
