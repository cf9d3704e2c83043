//! The services against a guest in memory: what Linux answers, and what it never would.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use zerocopy::{FromBytes, IntoBytes};

use super::device::Service;
use super::heartbeat::{Heartbeat, HeartbeatStatus, Pulse};
use super::protocol::{
    FLAG_REQUEST, FLAG_RESPONSE, FLAG_TRANSACTION, Heartbeat as HeartbeatMessage, IcHeader, IcVersion,
    Negotiate, ShutdownMessage, TimeSyncV3, TimeSyncV4, message_type,
};
use super::shutdown::{Shutdown, ShutdownError, ShutdownHandle, ShutdownKind};
use super::timesync::{Moment, ReferenceClock, TimeSync};
use crate::testing::{TestChannel, TestGuest};
use crate::vmbus::channel::{Opening, RingNeeds, VmbusDevice};
use crate::vmbus::protocol::Version;
use crate::vmbus::ring::protocol::PipeHeader;
use crate::vmbus::ring::{PacketOut, pipe_message};

/// Pages of each ring, as Linux has them for every service.
const RING_PAGES: usize = 4;

/// A guest that has opened the device and has not answered yet.
pub(super) fn open<S: Service>(device: impl VmbusDevice + 'static) -> (TestGuest, TestChannel) {
    let mut guest = TestGuest::default();
    guest.bus.add(device).unwrap();
    let offer = guest.connect_to(S::INTERFACE);
    assert_eq!(offer.offer.flags.get(), 0x11);
    let channel = guest.open(&offer, RING_PAGES, RING_PAGES);
    (guest, channel)
}

/// The host's next message, header and body.
pub(super) fn next(channel: &mut TestChannel) -> (IcHeader, Vec<u8>) {
    channel.receive(|packet| {
        let (_, data) = pipe_message(packet.payload).unwrap();
        let (header, body) = IcHeader::read_from_prefix(data).unwrap();
        assert_eq!(usize::from(header.size.get()), body.len());
        (header, body.to_vec())
    })
}

/// Sends a message back as Linux does: the same buffer with the answer's flags.
pub(super) fn answer(channel: &mut TestChannel, mut header: IcHeader, status: u32, body: &[u8]) {
    header.flags = FLAG_TRANSACTION | FLAG_RESPONSE;
    header.status = status.into();
    send(channel, &header, body);
}

pub(super) fn send(channel: &mut TestChannel, header: &IcHeader, body: &[u8]) {
    let pipe = PipeHeader::data((size_of::<IcHeader>() + body.len()) as u32);
    channel.send(&PacketOut::in_band(0, &[pipe.as_bytes(), header.as_bytes(), body]));
}

/// Chooses versions; panics unless the host named them.
pub(super) fn negotiate(channel: &mut TestChannel, framework: IcVersion, version: IcVersion) {
    let (header, body) = next(channel);
    assert_eq!(header.message_type.get(), message_type::NEGOTIATE);
    assert_eq!(header.flags, FLAG_TRANSACTION | FLAG_REQUEST);
    let (head, versions) = Negotiate::read_from_prefix(&body).unwrap();
    let count = usize::from(head.framework_count.get() + head.version_count.get());
    let (versions, _) = <[IcVersion]>::ref_from_prefix_with_elems(versions, count).unwrap();
    let (frameworks, versions) = versions.split_at(head.framework_count.get().into());
    assert!(frameworks.contains(&framework) && versions.contains(&version));
    choose(channel, header, &[framework, version]);
}

fn choose(channel: &mut TestChannel, header: IcHeader, versions: &[IcVersion]) {
    let one = u16::from(!versions.is_empty());
    let head = Negotiate { framework_count: one.into(), version_count: one.into(), reserved: 0.into() };
    answer(channel, header, 0, &[head.as_bytes(), versions.as_bytes()].concat());
}

pub(super) fn soon(what: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !what() {
        assert!(Instant::now() < deadline, "it does not happen");
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub(super) const fn v(major: u16, minor: u16) -> IcVersion {
    IcVersion::new(major, minor)
}

fn listening(handle: &ShutdownHandle, kind: ShutdownKind) {
    soon(|| handle.request(kind).is_ok());
}

#[test]
fn every_shutdown_version_asks_for_what_the_host_wants() {
    for (framework, version) in
        [(v(1, 0), v(1, 0)), (v(3, 0), v(3, 0)), (v(3, 0), v(3, 1)), (v(3, 0), v(3, 2))]
    {
        let (device, handle) = Shutdown::device().unwrap();
        let (_guest, mut channel) = open::<Shutdown>(device);
        assert_eq!(handle.request(ShutdownKind::PowerOff), Err(ShutdownError::NotListening));
        negotiate(&mut channel, framework, version);
        for (kind, flags) in
            [(ShutdownKind::PowerOff, 1), (ShutdownKind::Reboot, 3), (ShutdownKind::Hibernate, 5)]
        {
            listening(&handle, kind);
            let (header, body) = next(&mut channel);
            assert_eq!((header.framework, header.version), (framework, version));
            let message = ShutdownMessage::read_from_bytes(&body).unwrap();
            assert_eq!((message.flags.get(), message.reason.get()), (flags, 0x8000_0000));
            answer(&mut channel, header, 0, &body);
        }
    }
}

#[test]
fn a_guest_that_speaks_no_version_of_ours_is_left_alone() {
    let (device, handle) = Shutdown::device().unwrap();
    let (mut guest, mut channel) = open::<Shutdown>(device);
    let (header, _) = next(&mut channel);
    choose(&mut channel, header, &[]);
    assert!(channel.try_receive(Instant::now() + Duration::from_millis(50), |_| ()).is_none());
    assert_eq!(handle.request(ShutdownKind::PowerOff), Err(ShutdownError::NotListening));
    guest.close(channel);
}

#[test]
fn a_closed_device_listens_again_after_it_is_reopened() {
    let (device, handle) = Shutdown::device().unwrap();
    let (mut guest, mut channel) = open::<Shutdown>(device);
    negotiate(&mut channel, v(3, 0), v(3, 2));
    listening(&handle, ShutdownKind::Reboot);
    guest.close(channel);
    assert_eq!(handle.request(ShutdownKind::PowerOff), Err(ShutdownError::NotListening));
    let offer = *guest.offered();
    let mut channel = guest.open(&offer, 2, 9);
    negotiate(&mut channel, v(3, 0), v(3, 2));
    listening(&handle, ShutdownKind::PowerOff);
    let (_, body) = next(&mut channel);
    assert_eq!(ShutdownMessage::read_from_bytes(&body).unwrap().flags.get(), 1);
}

fn beat(channel: &mut TestChannel) {
    let (header, body) = next(channel);
    let mut message = HeartbeatMessage::read_from_bytes(&body).unwrap();
    message.sequence += 1;
    message.application_state = 1.into();
    answer(channel, header, 0, message.as_bytes());
}

#[test]
fn a_beating_heart_is_seen_and_forgotten_when_the_device_closes() {
    let (device, status) = Heartbeat::device();
    let (mut guest, mut channel) = open::<Heartbeat>(device);
    assert_eq!(status.pulse(), Pulse::None);
    negotiate(&mut channel, v(3, 0), v(3, 0));
    beat(&mut channel);
    soon(|| status.pulse() == Pulse::Alive);
    assert_eq!((status.beats(), status.application_state()), (1, 1));
    guest.close(channel);
    assert_eq!(status.pulse(), Pulse::None);
}

/// The service alone, without its timer.
fn heartbeat() -> (Heartbeat, Arc<HeartbeatStatus>) {
    let status = Arc::new(HeartbeatStatus::default());
    (Heartbeat::new(Arc::clone(&status)), status)
}

#[test]
fn a_heart_that_stops_is_lost_and_one_that_beats_again_is_found() {
    let (mut service, status) = heartbeat();
    service.ready(v(3, 0));
    let reply = |service: &mut Heartbeat| {
        let mut message = HeartbeatMessage::read_from_bytes(&service.request().unwrap()).unwrap();
        message.sequence += 1;
        message
    };
    let first = reply(&mut service);
    service.answer(0, first.as_bytes());
    assert_eq!(status.pulse(), Pulse::Alive);
    service.tick(false);
    let late = reply(&mut service);
    service.tick(true);
    service.tick(true);
    assert_eq!(status.pulse(), Pulse::Alive);
    service.tick(true);
    assert_eq!(status.pulse(), Pulse::Lost);
    service.answer(0, late.as_bytes());
    assert_eq!(status.pulse(), Pulse::Alive);
}

#[test]
fn an_old_sequence_number_is_no_heartbeat() {
    let (mut service, status) = heartbeat();
    service.ready(v(3, 0));
    let stale = service.request().unwrap();
    service.answer(0, &stale);
    service.answer(0, &[]);
    assert_eq!((status.pulse(), status.beats()), (Pulse::None, 0));
}

#[derive(Debug)]
struct FixedClock;

impl ReferenceClock for FixedClock {
    fn now(&self) -> Moment {
        Moment { wall: UNIX_EPOCH + Duration::from_secs(1_609_459_200), reference: 12_345 }
    }
}

/// 2021-01-01 00:00:00 UTC as a FILETIME.
const NEW_YEAR: u64 = 132_539_328_000_000_000;

#[test]
fn time_goes_with_the_reference_time_since_version_4() {
    let (_guest, mut channel) = open::<TimeSync>(TimeSync::device(Arc::new(FixedClock)));
    negotiate(&mut channel, v(3, 0), v(4, 0));
    let (header, body) = next(&mut channel);
    assert_eq!(header.message_type.get(), message_type::TIME_SYNC);
    // Windows ignores time that is not sent as a transaction.
    assert_eq!(header.flags, FLAG_TRANSACTION | FLAG_REQUEST);
    let message = TimeSyncV4::read_from_bytes(&body).unwrap();
    let seen = (message.parent_time.get(), message.vm_reference_time.get(), message.flags);
    assert_eq!(seen, (NEW_YEAR, 12_345, 1));
}

#[test]
fn time_goes_alone_before_version_4() {
    for (framework, version) in [(v(1, 0), v(1, 0)), (v(3, 0), v(3, 0))] {
        let (_guest, mut channel) = open::<TimeSync>(TimeSync::device(Arc::new(FixedClock)));
        negotiate(&mut channel, framework, version);
        let (_, body) = next(&mut channel);
        let message = TimeSyncV3::read_from_bytes(&body).unwrap();
        assert_eq!((message.parent_time.get(), message.flags), (NEW_YEAR, 1));
    }
}

#[test]
fn samples_follow_the_first_time() {
    let mut service = TimeSync::new(Arc::new(FixedClock));
    service.ready(v(4, 0));
    assert!(service.request().is_some());
    assert!(service.request().is_none());
    service.tick(true);
    assert!(service.request().is_none());
    service.tick(false);
    let sample = TimeSyncV4::read_from_bytes(&service.request().unwrap()).unwrap();
    assert_eq!(sample.flags, 2);
    assert!(SystemTime::now() > UNIX_EPOCH);
}

#[test]
fn a_request_from_the_guest_ends_the_channels_service_but_not_the_bus() {
    let (device, handle) = Shutdown::device().unwrap();
    let (mut guest, mut channel) = open::<Shutdown>(device);
    let (header, body) = next(&mut channel);
    send(&mut channel, &header, &body);
    guest.close(channel);
    assert_eq!(handle.request(ShutdownKind::PowerOff), Err(ShutdownError::NotListening));
    let offer = *guest.offered();
    let mut channel = guest.open(&offer, RING_PAGES, RING_PAGES);
    negotiate(&mut channel, v(3, 0), v(3, 2));
    listening(&handle, ShutdownKind::PowerOff);
}

#[test]
fn an_answer_to_no_request_is_ignored() {
    let (device, handle) = Shutdown::device().unwrap();
    let (_guest, mut channel) = open::<Shutdown>(device);
    let (mut header, body) = next(&mut channel);
    let negotiation = header;
    header.message_type = message_type::SHUTDOWN.into();
    answer(&mut channel, header, 0, &body);
    choose(&mut channel, negotiation, &[v(3, 0), v(3, 0)]);
    listening(&handle, ShutdownKind::PowerOff);
}

#[test]
fn services_ask_for_rings_that_carry_their_largest_message() {
    let ram = TestGuest::default().ram().clone();
    let opening = Opening::alone(Version::V5_3, [0; 120], ram);
    let both = |bytes| RingNeeds { from_guest: bytes, to_guest: bytes };
    // Descriptor 16, pipe header 8, header 20, body, padding, trailer 8.
    let shutdown = Shutdown::device().unwrap().0;
    assert_eq!(shutdown.ring_needs(&opening), both(16 + 8 + 20 + 2060 + 8));
    let heartbeat = Heartbeat::device().0;
    assert_eq!(heartbeat.ring_needs(&opening), both(16 + 8 + 20 + 40 + 4 + 8));
}
