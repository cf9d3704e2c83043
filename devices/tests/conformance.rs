//! What every device on the bus must survive: being opened, closed and reopened with any rings, being rescinded,
//! a guest that starts over, and garbage.

use std::time::{Duration, Instant, SystemTime};

use devices::guid::Guid;
use devices::ic::heartbeat::Heartbeat;
use devices::ic::shutdown::Shutdown;
use devices::ic::timesync::{Moment, ReferenceClock, TimeSync};
use devices::loopback::Loopback;
use devices::loopback::protocol::{Header, INTERFACE, operation};
use devices::testing::{TestChannel, TestGuest};
use devices::vmbus::bus::Bus;
use devices::vmbus::channel::VmbusDevice;
use devices::vmbus::protocol::{ChannelName, RescindChannelOffer, Version, message_type};
use devices::vmbus::ring::protocol::PacketType;
use devices::vmbus::ring::{PacketOut, gpa_direct_extension};
use devices::vmbus::server::OfferId;
use zerocopy::{FromZeros, IntoBytes};

#[derive(Debug)]
struct Clock;

impl ReferenceClock for Clock {
    fn now(&self) -> Moment {
        Moment { wall: SystemTime::UNIX_EPOCH, reference: 0 }
    }
}

/// A device of the crate, put on a guest's bus.
struct Subject {
    guest: TestGuest,
    id: OfferId,
    interface: Guid,
    /// Puts the device on the bus again.
    add: Box<dyn Fn(&mut Bus) -> OfferId>,
}

fn subject<D: VmbusDevice + 'static>(device: impl Fn() -> D + 'static) -> Subject {
    let mut guest = TestGuest::default();
    let interface = device().offer().interface;
    let add = Box::new(move |bus: &mut Bus| bus.add(device()).unwrap());
    let id = add(&mut guest.bus);
    Subject { guest, id, interface, add }
}

/// Runs a test with every device.
fn each(test: impl Fn(Subject)) {
    test(subject(|| Shutdown::device().unwrap().0));
    test(subject(|| Heartbeat::device().0));
    test(subject(|| TimeSync::device(std::sync::Arc::new(Clock))));
    test(subject(|| Loopback::device().0));
}

/// Something comes from the device within a while: services speak first, the loopback device answers an echo.
fn speaks(channel: &mut TestChannel) -> bool {
    let mut echo = Header::new_zeroed();
    echo.operation = operation::ECHO.into();
    if channel.interface() == INTERFACE {
        channel.send(&PacketOut::in_band(1, &[echo.as_bytes()]));
    }
    channel.try_receive(Instant::now() + Duration::from_secs(20), |_| ()).is_some()
}

#[test]
fn rings_of_any_size_are_taken_as_the_guest_donates_them() {
    each(|Subject { mut guest, interface, .. }| {
        let offer = guest.connect_to(interface);
        for (outgoing, incoming) in [(2, 2), (2, 9), (9, 2), (3, 5), (17, 128), (512, 2), (2, 512)] {
            let mut channel = guest.open(&offer, outgoing, incoming);
            let row = guest.bus.channels().remove(0);
            assert_eq!(row.gpadl_pages as usize, outgoing + incoming);
            assert_eq!((row.outgoing_pages as usize, row.incoming_pages as usize), (outgoing, incoming));
            assert_eq!(row.incoming_bytes, (incoming as u64 - 1) * 4096);
            assert!(speaks(&mut channel));
            guest.close(channel);
            assert!(guest.synic.bound().is_empty());
        }
        assert_eq!(guest.bus.channels()[0].opens, 7);
    });
}

#[test]
fn both_rings_on_the_same_page_break_the_channel_and_nothing_else() {
    each(|Subject { mut guest, interface, .. }| {
        let offer = guest.connect_to(interface);
        let page = guest.allocate(1)[0];
        if let Ok(channel) = guest.open_on(&offer, &[page; 4], 2) {
            guest.close(channel);
        }
        let mut channel = guest.open(&offer, 4, 4);
        assert!(speaks(&mut channel));
    });
}

#[test]
fn a_guest_that_makes_contact_again_finds_every_device() {
    each(|Subject { mut guest, interface, .. }| {
        for version in [Version::V5_3, Version::V2_4, Version::V4_1, Version::V3_0] {
            guest.connect(version);
            let offers = guest.offers();
            assert_eq!(offers.len(), 1);
            assert_eq!(offers[0].offer.interface, interface);
            let mut channel = guest.open(&offers[0], 4, 4);
            assert!(speaks(&mut channel));
            // Left open: the next contact closes it.
        }
    });
}

#[test]
fn a_device_that_is_removed_while_open_comes_back_when_it_is_added_again() {
    each(|Subject { mut guest, id, interface, add }| {
        let offer = guest.connect_to(interface);
        let channel = guest.open(&offer, 4, 4);
        guest.bus.remove(id);
        let rescind: RescindChannelOffer = guest.receive(message_type::RESCIND_CHANNEL_OFFER);
        assert_eq!(rescind.channel.get(), offer.channel());
        guest.close(channel);
        guest.send(message_type::RELID_RELEASED, ChannelName { channel: rescind.channel }.as_bytes());
        assert!(guest.bus.channels().is_empty());
        add(&mut guest.bus);
        let again = guest.next_offer();
        let mut channel = guest.open(&again, 4, 4);
        assert!(speaks(&mut channel));
    });
}

#[test]
fn garbage_in_the_ring_ends_the_service_of_that_opening_only() {
    each(|Subject { mut guest, interface, .. }| {
        let offer = guest.connect_to(interface);
        for garbage in garbage() {
            let mut channel = guest.open(&offer, 4, 4);
            channel.send(&PacketOut {
                kind: garbage.kind,
                transaction_id: u64::MAX,
                completion_requested: true,
                extension: &garbage.extension,
                payload: &[&garbage.payload],
            });
            guest.close(channel);
        }
        let mut channel = guest.open(&offer, 4, 4);
        assert!(speaks(&mut channel));
    });
}

struct Garbage {
    kind: PacketType,
    extension: Vec<u8>,
    payload: Vec<u8>,
}

fn garbage() -> Vec<Garbage> {
    let mut gpa = Vec::new();
    gpa_direct_extension(&[(4095, u32::MAX, &[u64::MAX]), (0, 0, &[])], &mut gpa);
    let kinds = [0, 1, 6, 7, 8, 9, 0xA, 0xB, 0xFFFF].map(PacketType);
    let payloads = [vec![], vec![0xFF; 8], vec![0xFF; 28], vec![0; 4096], vec![0xA5; 8000]];
    let mut all = Vec::new();
    for kind in kinds {
        for payload in &payloads {
            for extension in [vec![], gpa.clone(), vec![0xFF; 64]] {
                all.push(Garbage { kind, extension, payload: payload.clone() });
            }
        }
    }
    all
}
