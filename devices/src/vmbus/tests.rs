//! The bus as a whole, with devices that misbehave and guests that do.

use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use vm_memory::GuestAddress;
use vmm_sys_util::eventfd::EventFd;
use zerocopy::{FromZeros, IntoBytes};

use super::bus::{Bus, INBOX_LEN, MessagePort};
use super::channel::{Channel, ChannelError, ChannelWorker, Flow, Offer, Opening, Sent, VmbusDevice};
use super::contacts::CONTACTS_KEPT;
use super::protocol::{
    ChannelName, Header, InitiateContact, ModifyChannel, ModifyChannelResponse, RescindChannelOffer, Version,
    message_type,
};
use super::ring::PacketOut;
use super::synic::{MESSAGE_QUEUE_LEN, PostError, SignalError, Synic};
use crate::guid::Guid;
use crate::hvdef::HvStatus;
use crate::mem::GuestRam;
use crate::testing::{TestGuest, TestSynic, TestWorker};

const INTERFACE: Guid = Guid::parse("7e0f1c2d-3b4a-4958-8776-655443322110");

/// What the test's device does with a packet, by the packet's first byte.
mod order {
    pub const ECHO: u8 = 0;
    pub const FAIL: u8 = 1;
    pub const PANIC: u8 = 2;
}

/// Echoes packets, or misbehaves when it is told to.
#[derive(Debug, Default)]
struct Moody {
    /// Workers that came back, and openings that panicked.
    returned: Arc<AtomicU64>,
    lost: Arc<AtomicU64>,
    refuse: bool,
    /// Sub-channels that each opening of the first channel asks for.
    sub_channels: u16,
}

#[derive(Debug, Default)]
struct MoodyWorker {
    /// An echo for which there was no room.
    unsent: Option<(u64, Vec<u8>)>,
}

impl VmbusDevice for Moody {
    type Worker = MoodyWorker;

    fn offer(&self) -> Offer {
        Offer::new("moody", INTERFACE, INTERFACE)
    }

    fn open(&mut self, opening: &Opening) -> Result<MoodyWorker, ChannelError> {
        opening.sub_channels.offer(self.sub_channels);
        if self.refuse {
            return Err(ChannelError::Protocol("refused by the test".to_owned()));
        }
        Ok(MoodyWorker::default())
    }

    fn closed(&mut self, worker: Option<MoodyWorker>) {
        let counter = if worker.is_some() { &self.returned } else { &self.lost };
        counter.fetch_add(1, Ordering::SeqCst);
    }
}

impl ChannelWorker for MoodyWorker {
    fn doorbell(&mut self, channel: &mut Channel) -> Result<(), ChannelError> {
        if let Some((id, payload)) = &self.unsent {
            if channel.send(&PacketOut::in_band(*id, &[payload]))? == Sent::Later {
                return Ok(());
            }
            self.unsent = None;
        }
        channel.receive(|packet, replies| match packet.payload.first() {
            Some(&order::FAIL) => Err(ChannelError::Protocol("failed by the test".to_owned())),
            Some(&order::PANIC) => panic!("panicked by the test"),
            _ => {
                assert_eq!(packet.payload.first(), Some(&order::ECHO));
                if replies.send(&PacketOut::in_band(packet.transaction_id, &[packet.payload]))? == Sent::Yes {
                    return Ok(Flow::Continue);
                }
                self.unsent = Some((packet.transaction_id, packet.payload.to_vec()));
                Ok(Flow::Pause)
            }
        })
    }
}

fn contact(version: Version) -> Vec<u8> {
    let header = Header { message_type: message_type::INITIATE_CONTACT.into(), padding: 0.into() };
    let mut contact = InitiateContact::new_zeroed();
    contact.version = version.0.into();
    [header.as_bytes(), contact.as_bytes()].concat()
}

fn bare(message_type: u32) -> Vec<u8> {
    Header { message_type: message_type.into(), padding: 0.into() }.as_bytes().to_vec()
}

fn echo(byte: u8) -> [u8; 16] {
    let mut payload = [byte; 16];
    payload[0] = order::ECHO;
    payload
}

#[test]
fn only_the_message_ports_take_messages() {
    let mut guest = TestGuest::default();
    for port in [1, 4] {
        assert_eq!(guest.post(port, &contact(Version::V5_3)), HvStatus::Success);
    }
    // Linux takes this status as "no version 5 here" and tries an older one.
    for port in [0, 2, 3, 5, 0x80_0074, u32::MAX] {
        assert_eq!(guest.post(port, &contact(Version::V5_3)), HvStatus::InvalidConnectionId);
    }
    assert_eq!(guest.bus.port().post(1, 2, &contact(Version::V5_3)), HvStatus::InvalidParameter);
    assert_eq!(guest.bus.port().post(1, 1, &[0; 241]), HvStatus::InvalidParameter);
}

#[test]
fn a_guest_that_never_reads_its_answers_is_not_listened_to() {
    let mut guest = TestGuest::default();
    guest.connect(Version::V5_3);
    // A teardown of a name that nobody knows is answered, each of these messages then.
    let teardown = [bare(message_type::GPADL_TEARDOWN), vec![0; 8]].concat();
    let mut accepted = 0;
    for _ in 0..1_000_000 {
        match guest.post(4, &teardown) {
            HvStatus::Success => accepted += 1,
            status => assert_eq!(status, HvStatus::InsufficientBuffers),
        }
    }
    // Those whose answers wait, the one whose answer has no room, and the full inbox.
    assert_eq!(accepted, MESSAGE_QUEUE_LEN + 1 + INBOX_LEN);
    assert_eq!(guest.synic.waiting(), MESSAGE_QUEUE_LEN);
    // When it reads again, everything that was accepted is answered.
    let mut answers = 0;
    while guest.try_receive().is_some() {
        answers += 1;
    }
    assert_eq!(answers, accepted);
}

#[test]
fn a_crash_kernel_gets_through_to_a_bus_that_is_full() {
    let mut guest = TestGuest::default();
    guest.connect(Version::V5_3);
    let teardown = [bare(message_type::GPADL_TEARDOWN), vec![0; 8]].concat();
    while guest.post(4, &teardown) == HvStatus::Success {}
    // The new kernel finds a clean message page and never fetches what the old one left.
    guest.connect(Version::V4_1);
    assert_eq!(guest.synic.waiting(), 0);
}

#[test]
fn packets_come_back_and_are_counted() {
    let mut guest = TestGuest::default();
    let device = Moody::default();
    let returned = Arc::clone(&device.returned);
    guest.bus.add(device).unwrap();
    let offer = guest.connect_to(INTERFACE);
    let mut channel = guest.open(&offer, 3, 2);
    // More bytes than either ring has.
    for i in 0..1000u64 {
        let payload = echo(i as u8);
        channel.send(&PacketOut::in_band(i, &[&payload]));
        channel.receive(|packet| {
            assert_eq!((packet.transaction_id, packet.payload), (i, &payload[..]));
        });
    }
    guest.close(channel);
    let row = guest.bus.channels().remove(0);
    assert_eq!((row.packets_in, row.packets_out), (1000, 1000));
    assert_eq!((row.bytes_in, row.bytes_out), (32_000, 32_000));
    assert_eq!((row.outgoing_pages, row.incoming_pages, row.gpadl_pages), (3, 2, 5));
    assert_eq!((row.outgoing_bytes, row.incoming_bytes), (8192, 4096));
    // A side that has not gone back to sleep needs no signal; a channel that was just opened may get one more.
    let signals = [row.signals_in, row.signals_out];
    assert!((1..=1000).contains(&signals[0]) && (1..=1001).contains(&signals[1]), "{signals:?}");
    assert_eq!((row.outgoing_used, row.incoming_used), (0, 0));
    assert_eq!((row.state.as_str(), row.opens), ("closed", 1));
    assert_eq!(returned.load(Ordering::SeqCst), 1);
}

#[test]
fn a_packet_sent_while_the_machine_ends_is_in_its_table() {
    for _ in 0..20 {
        let mut guest = TestGuest::default();
        guest.bus.add(Moody::default()).unwrap();
        let offer = guest.connect_to(INTERFACE);
        let mut channel = guest.open(&offer, 2, 2);
        channel.send(&PacketOut::in_band(1, &[&echo(1)]));
        guest.bus.shut_down();
        let mut answers = 0;
        while channel.try_receive(Instant::now(), |_| answers += 1).is_some() {}
        let row = guest.bus.channels().remove(0);
        assert_eq!((row.packets_out, row.state.as_str()), (answers, "open"));
    }
}

#[test]
fn a_full_incoming_ring_holds_packets_back_and_loses_none() {
    let mut guest = TestGuest::default();
    guest.bus.add(Moody::default()).unwrap();
    let offer = guest.connect_to(INTERFACE);
    let mut channel = guest.open(&offer, 8, 2);
    let payload = [order::ECHO; 1000];
    // The host has room for 3 answers; the others wait for the guest to read.
    for id in 0..20 {
        channel.send(&PacketOut::in_band(id, &[&payload]));
    }
    for id in 0..20 {
        channel.receive(|packet| assert_eq!(packet.transaction_id, id));
    }
    guest.close(channel);
}

#[test]
fn a_worker_that_fails_or_panics_ends_its_channel_and_not_the_bus() {
    for (order, lost) in [(order::FAIL, 0), (order::PANIC, 1)] {
        let mut guest = TestGuest::default();
        let device = Moody::default();
        let counters = (Arc::clone(&device.returned), Arc::clone(&device.lost));
        guest.bus.add(device).unwrap();
        let offer = guest.connect_to(INTERFACE);
        let mut channel = guest.open(&offer, 2, 2);
        channel.send(&PacketOut::in_band(1, &[&[order; 8]]));
        let patience = Instant::now() + Duration::from_secs(20);
        while counters.0.load(Ordering::SeqCst) + counters.1.load(Ordering::SeqCst) == 0 {
            assert!(Instant::now() < patience);
            guest.bus.process();
        }
        assert_eq!(counters.1.load(Ordering::SeqCst), lost);
        // For the guest the channel is open until it closes it; then it works again.
        assert_eq!(guest.bus.channels()[0].state, "open");
        assert!(guest.synic.bound().is_empty());
        guest.close(channel);
        let mut channel = guest.open(&offer, 2, 2);
        channel.send(&PacketOut::in_band(2, &[&echo(7)]));
        channel.receive(|packet| assert_eq!(packet.payload, echo(7)));
        guest.close(channel);
    }
}

#[test]
fn a_device_that_refuses_makes_the_open_fail() {
    let mut guest = TestGuest::default();
    guest.bus.add(Moody { refuse: true, ..Moody::default() }).unwrap();
    let offer = guest.connect_to(INTERFACE);
    let pfns = guest.allocate(4);
    assert!(guest.open_on(&offer, &pfns, 2).is_err());
    assert!(guest.synic.bound().is_empty());
}

#[test]
fn rings_outside_of_ram_make_the_open_fail() {
    let mut guest = TestGuest::default();
    guest.bus.add(Moody::default()).unwrap();
    let offer = guest.connect_to(INTERFACE);
    let mut pfns = guest.allocate(3);
    pfns.push(1 << 30);
    let gpadl = guest.lend(offer.channel(), &pfns);
    assert!(guest.open_lent(&offer, gpadl, 2).is_err());
    assert_eq!(guest.bus.channels()[0].state, "closed");
}

#[test]
fn a_moved_channel_interrupts_its_new_processor() {
    let mut guest = TestGuest::new(4);
    guest.bus.add(Moody::default()).unwrap();
    let offer = guest.connect_to(INTERFACE);
    let mut channel = guest.open(&offer, 2, 2);
    let modify = ModifyChannel { channel: offer.channel().into(), target_vp: 3.into() };
    guest.send(message_type::MODIFY_CHANNEL, modify.as_bytes());
    let response: ModifyChannelResponse = guest.receive(message_type::MODIFY_CHANNEL_RESPONSE);
    assert_eq!(response.status.get(), 0);
    let flag = offer.channel() as u16;
    let patience = Instant::now() + Duration::from_secs(20);
    assert!(guest.synic.take_flag(3, flag, patience), "once at once: the old interrupt may be lost");
    channel.send(&PacketOut::in_band(2, &[&echo(1)]));
    assert!(guest.synic.take_flag(3, flag, patience));
    assert_eq!(guest.synic.interrupts(0, flag), 0);
    guest.close(channel);
}

/// Counts its calls.
#[derive(Debug, Default)]
struct Patient {
    calls: usize,
}

impl VmbusDevice for Patient {
    type Worker = Patient;

    fn offer(&self) -> Offer {
        Moody::default().offer()
    }

    fn open(&mut self, _: &Opening) -> Result<Patient, ChannelError> {
        Ok(Patient::default())
    }

    fn closed(&mut self, _: Option<Patient>) {}
}

impl ChannelWorker for Patient {
    fn start(&mut self, _: &mut Channel) -> Result<(), ChannelError> {
        Ok(())
    }

    fn doorbell(&mut self, channel: &mut Channel) -> Result<(), ChannelError> {
        self.calls += 1;
        channel.receive(|_, _| Ok(Flow::Continue))
    }
}

#[test]
fn a_busy_ring_gives_other_events_their_turn() {
    let ram = TestGuest::default().ram().clone();
    let pfns: Vec<u64> = (0..40).collect();
    for (packets, calls) in [(0, 1), (1, 1), (1023, 1), (1024, 2), (1025, 2), (4000, 4)] {
        let mut channel =
            TestWorker::open(&mut Patient::default(), &ram, pfns.split_at(38), [0; 120]).unwrap();
        for id in 0..packets {
            assert!(channel.send(&PacketOut::in_band(id, &[])));
        }
        channel.ring().unwrap();
        assert_eq!(channel.close().calls, calls, "{packets} packets");
    }
}

#[test]
fn the_same_device_is_not_offered_twice() {
    let mut guest = TestGuest::default();
    guest.bus.add(Moody::default()).unwrap();
    assert!(guest.bus.add(Moody::default()).is_err());
}

#[test]
fn sub_channels_have_workers_of_their_own_and_go_with_the_first() {
    let mut guest = TestGuest::default();
    let device = Moody { sub_channels: 2, ..Moody::default() };
    let returned = Arc::clone(&device.returned);
    guest.bus.add(device).unwrap();
    guest.bus.add(crate::loopback::Loopback::device().0).unwrap();
    let offer = guest.connect_to(INTERFACE);
    let names = |guest: &TestGuest| {
        let rows = guest.bus.channels().into_iter();
        rows.map(|row| format!("{} {}", row.device, row.state)).collect::<Vec<_>>()
    };
    for opening in 0..3 {
        let first = guest.open(&offer, 2, 2);
        let offers = [guest.next_offer(), guest.next_offer()];
        for (seen, number) in offers.iter().zip(1..) {
            let (interface, instance) = (seen.offer.interface, seen.offer.instance);
            assert_eq!((interface, instance, seen.offer.sub_channel.get()), (INTERFACE, INTERFACE, number));
        }
        let mut second = guest.open(&offers[1], 2, 2);
        second.send(&PacketOut::in_band(5, &[&echo(5)]));
        second.receive(|packet| assert_eq!(packet.payload, echo(5)));
        assert_eq!(names(&guest), ["moody open", "moody.1 closed", "moody.2 open", "loopback closed"]);
        guest.close(first);
        let patience = Instant::now() + Duration::from_secs(20);
        while returned.load(Ordering::SeqCst) < 2 * (opening + 1) {
            assert!(Instant::now() < patience);
            guest.bus.process();
        }
        for seen in offers {
            let rescind: RescindChannelOffer = guest.receive(message_type::RESCIND_CHANNEL_OFFER);
            assert_eq!(rescind.channel, seen.offer.channel);
            guest.send(message_type::RELID_RELEASED, ChannelName { channel: rescind.channel }.as_bytes());
        }
        assert_eq!(names(&guest), ["moody closed", "loopback closed"]);
    }
}

#[test]
fn every_contact_is_kept_with_who_the_guest_says_it_is() {
    let mut guest = TestGuest::default();
    guest.bus.port().introduce(7);
    assert_eq!(guest.post(4, &contact(Version(9 << 16))), HvStatus::Success);
    guest.bus.port().introduce(8);
    assert_eq!(guest.post(1, &contact(Version::V4_0)), HvStatus::Success);
    let contacts: Vec<_> =
        guest.bus.contacts().iter().map(|c| (c.guest_os_id, c.version, c.granted)).collect();
    assert_eq!(contacts, [(7, Version(9 << 16), false), (8, Version::V4_0, true)]);
    for _ in 0..2 * CONTACTS_KEPT {
        assert_eq!(guest.post(4, &contact(Version::V5_3)), HvStatus::Success);
    }
    assert_eq!(guest.bus.contacts().iter().count(), CONTACTS_KEPT);
}

/// A guest that makes contact again whenever it is answered: each answer comes with its next message.
#[derive(Debug)]
struct Insistent {
    synic: TestSynic,
    port: OnceLock<MessagePort>,
    answers: AtomicU32,
}

impl Synic for Insistent {
    fn vp_count(&self) -> u32 {
        self.synic.vp_count()
    }

    fn post_message(&self, _: u32, _: u8, _: &[u8]) -> Result<(), PostError> {
        // As many as the test has patience for.
        if self.answers.fetch_add(1, Ordering::Relaxed) < 10_000 {
            let port = self.port.get().unwrap();
            assert_eq!(port.post(4, 1, &contact(Version::V5_3)), HvStatus::Success);
        }
        Ok(())
    }

    fn drop_messages(&self) {}

    fn notify_drained(&self, drained: EventFd) {
        self.synic.notify_drained(drained);
    }

    fn signal_event(&self, vp: u32, sint: u8, flag: u16) -> Result<(), SignalError> {
        self.synic.signal_event(vp, sint, flag)
    }

    fn bind_event(&self, connection_id: u32, doorbell: &EventFd) -> io::Result<()> {
        self.synic.bind_event(connection_id, doorbell)
    }

    fn unbind_event(&self, connection_id: u32) {
        self.synic.unbind_event(connection_id);
    }

    fn event_exits(&self, connection_id: u32) -> u64 {
        self.synic.event_exits(connection_id)
    }
}

#[test]
fn a_guest_that_never_stopped_making_contact_kept_the_control_loop_to_itself() {
    let (port, answers) = (OnceLock::new(), AtomicU32::new(0));
    let synic = Arc::new(Insistent { synic: TestSynic::new(1), port, answers });
    let ram = GuestRam::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
    let mut bus = Bus::new(ram, Arc::clone(&synic) as Arc<dyn Synic>).unwrap();
    synic.port.set(bus.port()).unwrap();
    assert_eq!(bus.port().post(4, 1, &contact(Version::V5_3)), HvStatus::Success);
    bus.process();
    let answers = synic.answers.load(Ordering::Relaxed);
    assert!((1..100).contains(&answers), "{answers} contacts in a row");
    let wake = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", bus.wake_fd())).unwrap();
    let count = wake.lines().find_map(|line| line.strip_prefix("eventfd-count:")).unwrap();
    assert_ne!(count.trim(), "0", "there is more to do");
}
