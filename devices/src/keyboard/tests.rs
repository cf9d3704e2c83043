//! The keyboard as a driver sees it.

use std::time::{Duration, Instant};

use zerocopy::{FromBytes, IntoBytes};

use super::protocol::{INTERFACE, KeyEvent, ProtocolRequest, ProtocolResponse, VERSION, message_type};
use super::{Keyboard, KeyboardHandle};
use crate::display::{Keys, Prefix, Scancode};
use crate::testing::{TestChannel, TestGuest, TestWorker};
use crate::vmbus::ring::PacketOut;
use crate::vmbus::ring::protocol::PacketType;

const A: Scancode = Scancode { code: 0x1e, prefix: Prefix::None };
const DELETE: Scancode = Scancode { code: 0x53, prefix: Prefix::E0 };
const PAUSE: Scancode = Scancode { code: 0x1d, prefix: Prefix::E1 };

fn open() -> (TestGuest, TestChannel, KeyboardHandle) {
    let (device, handle) = Keyboard::device().unwrap();
    let mut guest = TestGuest::default();
    guest.bus.add(device).unwrap();
    let offer = guest.connect_to(INTERFACE);
    assert_eq!(offer.offer.flags.get(), 0, "no pipe");
    // As the firmware opens it.
    let channel = guest.open(&offer, 2, 2);
    (guest, channel, handle)
}

fn request(version: u32) -> ProtocolRequest {
    ProtocolRequest { message_type: message_type::PROTOCOL_REQUEST.into(), version: version.into() }
}

/// Whether the host accepts.
fn ask(channel: &mut TestChannel, version: u32) -> bool {
    channel.send(&PacketOut::in_band(7, &[request(version).as_bytes()]));
    channel.receive(|packet| {
        assert_eq!(packet.kind, PacketType::IN_BAND);
        let response = ProtocolResponse::read_from_bytes(packet.payload).unwrap();
        assert_eq!(response.message_type.get(), message_type::PROTOCOL_RESPONSE);
        response.accepted.get() == 1
    })
}

/// The next key: code and info.
fn key(payload: &[u8]) -> (u16, u32) {
    let (event, _) = KeyEvent::read_from_prefix(payload).unwrap();
    assert_eq!(event.message_type.get(), message_type::EVENT);
    (event.make_code.get(), event.info.get())
}

fn next(channel: &mut TestChannel) -> (u16, u32) {
    channel.receive(|packet| key(packet.payload))
}

#[test]
fn keys_come_as_scan_codes_with_their_prefix() {
    let (_guest, mut channel, keys) = open();
    assert!(ask(&mut channel, VERSION));
    for (scancode, prefix) in [(A, 0), (DELETE, 4), (PAUSE, 8)] {
        keys.key(scancode, true);
        keys.key(scancode, false);
        assert_eq!(next(&mut channel), (scancode.code, prefix));
        assert_eq!(next(&mut channel), (scancode.code, prefix | 2));
    }
}

#[test]
fn other_versions_are_refused_and_the_right_one_still_works() {
    let (_guest, mut channel, keys) = open();
    for version in [0, 1, VERSION + 1, VERSION << 1, u32::MAX] {
        assert!(!ask(&mut channel, version), "{version:#x}");
        keys.key(A, true);
    }
    assert!(ask(&mut channel, VERSION));
    keys.key(DELETE, true);
    assert_eq!(next(&mut channel).0, DELETE.code, "keys of before are gone");
}

#[test]
fn who_asks_for_a_completion_gets_it_behind_the_answer() {
    let (_guest, mut channel, _keys) = open();
    let request = request(VERSION);
    let payload: &[&[u8]] = &[request.as_bytes()];
    channel.send(&PacketOut { completion_requested: true, ..PacketOut::in_band(99, payload) });
    assert_eq!(channel.receive(|packet| packet.kind), PacketType::IN_BAND);
    let completion = channel.receive(|packet| (packet.kind, packet.transaction_id, packet.payload.len()));
    assert_eq!(completion, (PacketType::COMPLETION, 99, 0));
}

#[test]
fn what_was_typed_before_a_driver_listens_is_nobodys() {
    let (mut guest, mut channel, keys) = open();
    keys.key(A, true);
    assert!(ask(&mut channel, VERSION));
    keys.key(A, false);
    keys.key(DELETE, true);
    assert_eq!(next(&mut channel), (DELETE.code, 4));
    guest.close(channel);
    keys.key(A, true);
    let offer = *guest.offered();
    let mut channel = guest.open(&offer, 3, 2);
    assert!(ask(&mut channel, VERSION));
    keys.key(DELETE, false);
    keys.key(PAUSE, true);
    assert_eq!(next(&mut channel), (PAUSE.code, 8), "its press was the last driver's");
}

#[test]
fn messages_that_mean_nothing_do_no_harm() {
    let (_guest, mut channel, keys) = open();
    let kinds = [0, message_type::PROTOCOL_RESPONSE, message_type::EVENT, message_type::LED_INDICATORS, 77];
    for kind in kinds {
        channel.send(&PacketOut::in_band(0, &[&u32::to_le_bytes(kind)]));
    }
    channel.send(&PacketOut::in_band(0, &[]));
    assert!(ask(&mut channel, VERSION));
    keys.key(A, true);
    assert_eq!(next(&mut channel), (A.code, 0));
    assert!(channel.try_receive(Instant::now() + Duration::from_millis(20), |_| ()).is_none());
}

/// The guest reads nothing while a person hammers at the keyboard: no key stays down.
#[test]
fn a_guest_that_does_not_read_loses_presses_but_no_release() {
    let (mut device, keys) = Keyboard::device().unwrap();
    let mut guest = TestGuest::default();
    let (to_host, from_host) = (guest.allocate(2), guest.allocate(2));
    let mut worker = TestWorker::open(&mut device, guest.ram(), (&to_host, &from_host), [0; 120]).unwrap();
    assert!(worker.send(&PacketOut::in_band(0, &[request(VERSION).as_bytes()])));
    worker.ring().unwrap();
    for code in (1..0x60).cycle().take(1000) {
        keys.key(Scancode { code, prefix: Prefix::None }, true);
        worker.fire(0).unwrap();
    }
    for code in 1..0x60 {
        keys.key(Scancode { code, prefix: Prefix::None }, false);
    }
    worker.receive(|_| ()).expect("the answer");
    let mut down = std::collections::BTreeSet::new();
    let mut pressed = 0;
    loop {
        worker.ring().unwrap();
        let Some((code, info)) = worker.receive(|packet| key(packet.payload)) else { break };
        if info == 0 {
            pressed += 1;
            down.insert(code);
        } else {
            assert!(down.remove(&code));
        }
    }
    assert!((100..1000).contains(&pressed), "{pressed}");
    assert!(down.is_empty(), "{down:?}");
}
