//! A guest that attacks the bus, with honest channels open beside: they go on wherever the protocol allows it, and the
//! next contact always finds a bus that works.
//!
//! The loopback device's channel is the honest one; the services' are the attacker's. What the control plane alone
//! can tell is tested there (`vmbus/server/tests`), with the same budgets.

mod floods;

use std::time::SystemTime;

use devices::ic::heartbeat::Heartbeat;
use devices::ic::timesync::{Moment, ReferenceClock, TimeSync};
use devices::loopback::Loopback;
use devices::loopback::protocol::{Header, INTERFACE, MAX_SOURCE_COUNT, operation};
use devices::testing::{OfferSeen, TestChannel, TestGuest};
use devices::vmbus::protocol::{
    ChannelName, FeatureFlags, GpadlTeardown, GpadlTorndown, InitiateContact, ModifyChannel,
    ModifyChannelResponse, OpenChannel, OpenChannel2, OpenChannelResult, Version, VersionResponse,
    VersionResponse2, message_type,
};
use devices::vmbus::ring::PacketOut;
use devices::vmbus::server::{MULTI_CLIENT_PORT, Refusal};
use vm_memory::{Bytes, GuestAddress};
use zerocopy::little_endian::U32;
use zerocopy::{FromZeros, IntoBytes};

/// Virtual processors of the guest.
const VPS: u32 = 4;

#[derive(Debug)]
struct Clock;

impl ReferenceClock for Clock {
    fn now(&self) -> Moment {
        Moment { wall: SystemTime::UNIX_EPOCH, reference: 0 }
    }
}

/// A guest with three devices, of which the loopback device's channel is open.
struct Hostile {
    guest: TestGuest,
    honest: TestChannel,
    /// The offer of the honest channel.
    offer: OfferSeen,
    /// Devices to attack with.
    offers: [OfferSeen; 2],
    echoes: u64,
}

impl Hostile {
    fn new() -> Self {
        let mut guest = TestGuest::new(VPS);
        guest.bus.add(Loopback::device().0).unwrap();
        guest.bus.add(Heartbeat::device().0).unwrap();
        guest.bus.add(TimeSync::device(std::sync::Arc::new(Clock))).unwrap();
        guest.connect(Version::V5_3);
        Self::over(guest)
    }

    fn over(mut guest: TestGuest) -> Self {
        let mut offers = guest.offers();
        let honest = offers.iter().position(|seen| seen.offer.interface == INTERFACE).unwrap();
        let offer = offers.remove(honest);
        let honest = guest.open(&offer, 4, 4);
        Hostile { guest, honest, offer, offers: offers.try_into().unwrap(), echoes: 0 }
    }

    /// The honest channel still works.
    fn goes_on(&mut self) {
        self.echoes += 1;
        assert!(echoes(&mut self.honest, self.echoes));
    }

    fn refused(&self, refusal: Refusal) -> u64 {
        self.guest.bus.server().counters().refused(refusal)
    }

    /// The guest starts over, and everything works.
    fn starts_over(mut self) {
        self.guest.connect(Version::V5_3);
        let mut again = Hostile::over(self.guest);
        again.goes_on();
        for offer in again.offers {
            let channel = again.guest.open(&offer, 4, 4);
            again.guest.close(channel);
        }
        again.goes_on();
    }
}

fn echoes(channel: &mut TestChannel, id: u64) -> bool {
    let mut header = Header::new_zeroed();
    header.operation = operation::ECHO.into();
    header.argument = id.into();
    let [byte, ..] = id.to_le_bytes();
    let data = [byte; 500];
    channel.send(&PacketOut::in_band(id, &[header.as_bytes(), &data]));
    channel.receive(|packet| packet.transaction_id == id && packet.payload[24..524] == data)
}

/// Has the host send as long as the test lasts, into a ring that nobody reads.
fn start_source(channel: &mut TestChannel) {
    let mut header = Header::new_zeroed();
    header.operation = operation::SOURCE.into();
    header.count = MAX_SOURCE_COUNT.into();
    header.length = 1000.into();
    channel.send(&PacketOut::in_band(1, &[header.as_bytes()]));
    channel.receive(|packet| assert_eq!(packet.transaction_id, 1));
}

fn contact(vp: u32, sint: u8) -> InitiateContact {
    let mut contact = InitiateContact::new_zeroed();
    contact.version = Version::V5_3.0.into();
    contact.target_vp = vp.into();
    contact.sint = sint;
    contact
}

fn open(offer: &OfferSeen, gpadl: u32) -> OpenChannel {
    let mut open = OpenChannel::new_zeroed();
    open.channel = offer.offer.channel;
    open.ring_gpadl = gpadl.into();
    open.downstream_page_offset = 4.into();
    open
}

#[test]
fn contacts_that_name_no_sint_or_vp_are_refused() {
    let sints = (16..=u8::MAX).map(|sint| (0, sint));
    let vps = [VPS, VPS + 1, 0x8000_0000, u32::MAX].map(|vp| (vp, 2));
    let mut hostile = Hostile::new();
    let mut contacts = 0;
    for (vp, sint) in sints.chain(vps) {
        let contact = contact(vp, sint);
        hostile.guest.send_to(MULTI_CLIENT_PORT, message_type::INITIATE_CONTACT, contact.as_bytes());
        let response: VersionResponse = hostile.guest.receive(message_type::VERSION_RESPONSE);
        assert_eq!(response.supported, 0, "VP {vp}, SINT {sint}");
        contacts += 1;
    }
    assert_eq!(hostile.refused(Refusal::Contact), contacts);
    hostile.starts_over();
}

#[test]
fn vps_that_are_absent_are_refused_and_the_channel_stays_where_it_is() {
    let mut hostile = Hostile::new();
    let [offer, _] = hostile.offers;
    let pfns = hostile.guest.allocate(8);
    let gpadl = hostile.guest.lend(offer.channel(), &pfns);
    for vp in [VPS, VPS + 1, 0x7fff_ffff, 0xffff_fffe] {
        let message = OpenChannel { target_vp: vp.into(), ..open(&offer, gpadl) };
        hostile.guest.send(message_type::OPEN_CHANNEL, message.as_bytes());
        let result: OpenChannelResult = hostile.guest.receive(message_type::OPEN_CHANNEL_RESULT);
        assert_ne!(result.status, 0);
        let honest = hostile.honest.channel();
        let modify = ModifyChannel { channel: honest.into(), target_vp: vp.into() };
        hostile.guest.send(message_type::MODIFY_CHANNEL, modify.as_bytes());
        let result: ModifyChannelResponse = hostile.guest.receive(message_type::MODIFY_CHANNEL_RESPONSE);
        assert_ne!(result.status, 0);
        hostile.goes_on();
    }
    assert_eq!(hostile.refused(Refusal::BadTarget), 8);
    hostile.starts_over();
}

#[test]
fn event_flags_past_2047_and_those_of_others_are_refused() {
    let mut hostile = Hostile::new();
    // With version 6.0 guests may choose their flags.
    let mut contact = contact(0, 2);
    contact.version = Version::V6_0.0.into();
    contact.features = FeatureFlags::GUEST_SPECIFIED_SIGNAL_PARAMETERS.bits().into();
    hostile.guest.send(message_type::INITIATE_CONTACT, contact.as_bytes());
    let response: VersionResponse2 = hostile.guest.receive(message_type::VERSION_RESPONSE);
    assert_eq!(response.response.supported, 1);
    let mut hostile = Hostile::over(hostile.guest);
    let [offer, _] = hostile.offers;
    let pfns = hostile.guest.allocate(8);
    let gpadl = hostile.guest.lend(offer.channel(), &pfns);
    let honest = u16::try_from(hostile.honest.channel()).unwrap();
    let own = offer.offer.connection_id;
    let doorbell = hostile.honest.connection_id();
    let wrong = [0, 2048, 4095, 0x8000, u16::MAX, honest].map(|flag| (own, flag));
    for (connection_id, flag) in wrong.into_iter().chain([(doorbell.into(), 99), (U32::new(u32::MAX), 99)]) {
        let open = OpenChannel2 {
            open: open(&offer, gpadl),
            connection_id,
            event_flag: flag.into(),
            flags: 0.into(),
        };
        hostile.guest.send(message_type::OPEN_CHANNEL, open.as_bytes());
        let result: OpenChannelResult = hostile.guest.receive(message_type::OPEN_CHANNEL_RESULT);
        assert_ne!(result.status, 0, "flag {flag}, connection id {connection_id}");
        hostile.goes_on();
    }
    assert_eq!(hostile.refused(Refusal::BadSignal), 8);
    hostile.starts_over();
}

#[test]
fn one_gpadl_id_on_two_channels_is_two_gpadls() {
    let mut hostile = Hostile::new();
    let taken = hostile.honest.ring_gpadl();
    let channels = hostile.offers.map(|offer| {
        let pfns = hostile.guest.allocate(8);
        hostile.guest.lend_as(offer.channel(), taken, &pfns);
        hostile.guest.open_rings(&offer, taken, &pfns, 4).unwrap()
    });
    hostile.goes_on();
    for channel in channels {
        hostile.guest.close(channel);
        hostile.goes_on();
    }
    hostile.starts_over();
}

#[test]
fn rings_on_the_pages_of_other_rings_hurt_only_their_own_channels() {
    let mut hostile = Hostile::new();
    let [first, second] = hostile.offers;
    let pfns = hostile.guest.allocate(8);
    let crossed: Vec<u64> = pfns.iter().rev().copied().collect();
    for _ in 0..20 {
        let one = hostile.guest.open_on(&first, &pfns, 4).unwrap();
        let two = hostile.guest.open_on(&second, &crossed, 4).unwrap();
        hostile.goes_on();
        hostile.guest.close(two);
        hostile.guest.close(one);
    }
    hostile.goes_on();
    hostile.starts_over();
}

#[test]
fn rings_on_the_pages_of_other_lists_are_no_way_to_keep_them() {
    let mut hostile = Hostile::new();
    let [first, second] = hostile.offers;
    let pfns = hostile.guest.allocate(8);
    let channel = hostile.guest.open_on(&first, &pfns, 4).unwrap();
    // The same pages in a list of another channel: to be torn down at any time, as they are not that list's ring.
    let list = hostile.guest.lend(second.channel(), &pfns);
    let teardown = GpadlTeardown { channel: second.offer.channel, gpadl: list.into() };
    hostile.guest.send(message_type::GPADL_TEARDOWN, teardown.as_bytes());
    let torndown: GpadlTorndown = hostile.guest.receive(message_type::GPADL_TORNDOWN);
    assert_eq!(torndown.gpadl.get(), list);
    hostile.guest.close(channel);
    hostile.goes_on();
}

/// Fills the pages of a channel's rings, and says whether they are still as they were filled.
fn fill(guest: &TestGuest, pfns: &[u64]) -> impl Fn(&TestGuest) -> bool + use<> {
    let pages: Vec<GuestAddress> = pfns.iter().map(|pfn| GuestAddress(pfn * 4096)).collect();
    for &page in &pages {
        guest.ram().write_slice(&[0xA5; 4096], page).unwrap();
    }
    move |guest| {
        pages.iter().all(|&page| {
            let mut bytes = [0; 4096];
            guest.ram().read_slice(&mut bytes, page).unwrap();
            bytes == [0xA5; 4096]
        })
    }
}

#[test]
fn a_teardown_in_mid_transfer_waits_for_the_close() {
    let Hostile { mut guest, honest, offer, .. } = Hostile::new();
    guest.close(honest);
    let pfns = guest.allocate(8);
    for _ in 0..20 {
        let mut channel = guest.open_on(&offer, &pfns, 4).unwrap();
        start_source(&mut channel);
        let gpadl = channel.ring_gpadl();
        let teardown = GpadlTeardown { channel: offer.offer.channel, gpadl: gpadl.into() };
        guest.send(message_type::GPADL_TEARDOWN, teardown.as_bytes());
        for _ in 0..10 {
            channel.receive(|packet| assert_eq!(packet.transaction_id, 1));
            assert!(guest.try_receive().is_none(), "the ring is in use");
        }
        guest.send(message_type::CLOSE_CHANNEL, ChannelName { channel: offer.offer.channel }.as_bytes());
        let torndown: GpadlTorndown = guest.receive(message_type::GPADL_TORNDOWN);
        assert_eq!(torndown.gpadl.get(), gpadl);
        // The pages are the guest's again.
        let untouched = fill(&guest, &pfns);
        guest.bus.process();
        assert!(untouched(&guest));
    }
}

#[test]
fn a_contact_in_mid_transfer_is_answered_when_the_rings_are_the_guests_again() {
    let mut guest = TestGuest::new(VPS);
    guest.bus.add(Loopback::device().0).unwrap();
    let pfns = guest.allocate(8);
    for _ in 0..20 {
        let offer = guest.connect_to(INTERFACE);
        let mut channel = guest.open_on(&offer, &pfns, 4).unwrap();
        start_source(&mut channel);
        guest.connect(Version::V4_1);
        let untouched = fill(&guest, &pfns);
        guest.bus.process();
        assert!(untouched(&guest));
        assert!(guest.synic.bound().is_empty());
    }
}
