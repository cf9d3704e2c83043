//! Offers, ids, hot add and hot remove, sub-channels.

use super::*;

/// Ids of the offers among the messages of the latest look, with the first byte of their instances.
fn offered(host: &Host) -> Vec<(u32, u8)> {
    let offers = host.messages.iter().filter(|message| message.payload().len() == 196);
    let body = offers.map(|message| OfferChannel::read_from_bytes(&message.payload()[8..]).unwrap());
    body.map(|offer| (offer.channel.get(), offer.instance.to_bytes()[0])).collect()
}

fn request_offers(host: &mut Host, version: Version) -> Vec<(u32, u8)> {
    host.connect(&contact(version));
    offered(host)
}

#[test]
fn an_offer_has_every_field_in_its_place() {
    let mut host = Host::new();
    host.server.offer(offer(5, 0)).unwrap();
    host.connect(&contact(Version::V5_3));
    assert_eq!((host.messages[0].vp, host.messages[0].sint), (1, 2));
    let bytes = host.messages[0].payload();
    assert_eq!(bytes.len(), 196);
    assert_eq!(bytes[..8], [1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[8..24], INTERFACE.to_bytes());
    assert_eq!(bytes[24..40], [5; 16]);
    assert_eq!(bytes[40..56], [0; 16], "reserved");
    assert_eq!(bytes[56..60], [0x10, 0, 8, 0], "flags, MMIO");
    assert_eq!(bytes[60..180], [5; 120]);
    assert_eq!(bytes[180..184], [0; 4], "sub-channel, optional MMIO");
    assert_eq!(bytes[184..188], [1, 0, 0, 0], "channel id");
    assert_eq!(bytes[188..192], [0, 0, 1, 0], "no monitor, dedicated interrupt");
    assert_eq!(bytes[192..196], [1, 0x20, 0, 0], "connection id");
}

#[test]
fn ids_follow_the_order_of_interface_and_instance() {
    let mut host = Host::new();
    for instance in [30, 10, 20] {
        host.server.offer(offer(instance, 0)).unwrap();
    }
    assert_eq!(request_offers(&mut host, Version::V5_3), [(1, 10), (2, 20), (3, 30)]);
}

#[test]
fn a_channel_keeps_its_id_over_connections() {
    let mut host = Host::connected(Version::V3_0, 2);
    host.server.offer(offer(0, 0)).unwrap();
    assert_eq!(host.outs().len(), 1, "hot added");
    assert_eq!(offered(&host), [(3, 0)]);
    assert_eq!(request_offers(&mut host, Version::V5_3), [(3, 0), (1, 1), (2, 2)]);
}

#[test]
fn offers_are_delivered_once_per_connection() {
    let mut host = Host::connected(Version::V5_3, 1);
    assert_eq!(host.post(&bare(message_type::REQUEST_OFFERS)), []);
    assert_eq!(host.refused(Refusal::OffersAgain), 1);
}

#[test]
fn nothing_is_offered_before_the_guest_asks() {
    let mut host = Host::new();
    host.server.offer(offer(1, 0)).unwrap();
    assert_eq!(host.outs(), []);
    host.post(&message(message_type::INITIATE_CONTACT, &contact(Version::V5_3)));
    host.server.offer(offer(2, 0)).unwrap();
    assert_eq!(host.outs(), []);
    host.post(&bare(message_type::REQUEST_OFFERS));
    assert_eq!(offered(&host), [(1, 1), (2, 2)]);
}

#[test]
fn an_id_is_not_used_again_before_it_is_released() {
    let mut host = Host::connected(Version::V5_3, 2);
    assert_eq!(host.rescind(0), [Out::Gone(OfferId(0)), rescinded(1)]);
    host.server.offer(offer(3, 0)).unwrap();
    host.outs();
    assert_eq!(offered(&host), [(3, 3)]);
    assert_eq!(host.post(&named(message_type::RELID_RELEASED, 1)), []);
    host.server.offer(offer(4, 0)).unwrap();
    host.outs();
    assert_eq!(offered(&host), [(1, 4)]);
}

#[test]
fn an_id_is_not_used_again_while_its_device_is_stopping() {
    let mut host = Host::open(Version::V5_3);
    host.rescind(0);
    host.post(&named(message_type::RELID_RELEASED, 1));
    host.server.offer(offer(9, 0)).unwrap();
    host.outs();
    assert_eq!(offered(&host), [(3, 9)]);
    assert_eq!(host.closed(), [Out::Unmap(OfferId(0), 6)]);
    assert_eq!(host.unmapped(7), []);
    assert_eq!(host.unmapped(6), [Out::Gone(OfferId(0))]);
    host.server.offer(offer(8, 0)).unwrap();
    host.outs();
    assert_eq!(offered(&host), [(1, 8)]);
}

#[test]
fn a_device_that_comes_back_waits_for_the_release_of_its_predecessor() {
    let mut host = Host::connected(Version::V5_3, 1);
    host.rescind(0);
    let again = host.server.offer(offer(1, 0)).unwrap();
    assert_eq!(host.outs(), []);
    assert_eq!(host.state(again.0), Some(ChannelState::Hidden));
    host.post(&named(message_type::RELID_RELEASED, 1));
    assert_eq!(offered(&host), [(1, 1)]);
    assert_eq!(host.state(again.0), Some(ChannelState::Closed));
    assert_eq!(host.state(0), None);
}

#[test]
fn a_device_that_comes_back_and_goes_again_is_never_offered() {
    let mut host = Host::connected(Version::V5_3, 1);
    host.rescind(0);
    let again = host.server.offer(offer(1, 0)).unwrap();
    assert_eq!(host.rescind(again.0), [Out::Gone(again)]);
    assert_eq!(host.post(&named(message_type::RELID_RELEASED, 1)), []);
    assert_eq!(host.server.channels().count(), 0);
}

#[test]
fn a_new_connection_forgets_what_was_rescinded() {
    let mut host = Host::connected(Version::V5_3, 1);
    host.rescind(0);
    host.server.offer(offer(1, 0)).unwrap();
    assert_eq!(request_offers(&mut host, Version::V5_3), [(1, 1)]);
}

#[test]
fn a_channel_that_the_guest_refused_is_offered_in_the_next_connection() {
    let mut host = Host::connected(Version::V5_3, 1);
    host.post(&named(message_type::RELID_RELEASED, 1));
    assert_eq!(host.state(0), Some(ChannelState::Released));
    assert_eq!(request_offers(&mut host, Version::V5_3), [(1, 1)]);
}

#[test]
fn a_rescind_while_disconnected_is_silent() {
    let mut host = Host::new();
    host.server.offer(offer(1, 0)).unwrap();
    assert_eq!(host.rescind(0), [Out::Gone(OfferId(0))]);
    assert_eq!(host.rescind(0), []);
}

#[test]
fn a_rescind_answers_everybody_who_waits() {
    let mut host = Host::open(Version::V5_3);
    host.post(&gpadl_header(1, 8, 100));
    host.post(&teardown(1, 6));
    let outs = host.rescind(0);
    let a = OfferId(0);
    assert_eq!(outs, [Out::Close(a), Out::Unmap(a, 7), created(1, 8, UNSUCCESSFUL), rescinded(1)]);
    assert_eq!(host.post(&teardown(1, 7)), [], "not while the device still has it");
    assert_eq!(host.unmapped(7), [torn_down(7)]);
    assert_eq!(host.closed(), [Out::Unmap(a, 6)]);
    assert_eq!(host.unmapped(6), [Out::Gone(a), torn_down(6)]);
}

#[test]
fn what_is_offered_twice_is_refused() {
    let mut host = Host::connected(Version::V5_3, 1);
    assert!(matches!(host.server.offer(offer(1, 0)), Err(OfferError::Duplicate { .. })));
    assert_eq!(host.outs(), []);
}

#[test]
fn sub_channels_come_with_an_open_first_channel() {
    let no_primary = |instance| Err(OfferError::NoPrimary(Guid::from_bytes([instance; 16])));
    let mut host = Host::open(Version::V5_3);
    assert_eq!(host.server.offer(offer(9, 1)), no_primary(9));
    assert_eq!(host.server.offer(offer(2, 1)), no_primary(2));
    assert_eq!(host.server.offer(offer(1, 1)), Ok(OfferId(2)));
    host.post(&named(message_type::CLOSE_CHANNEL, 1));
    assert_eq!(host.server.offer(offer(1, 1)), no_primary(1), "asked for before the guest closed it");
}

/// Channel 1 is open and has sub-channels 2 (open) and 3 (closed).
fn with_sub_channels() -> Host {
    let mut host = Host::connected(Version::V5_3, 1);
    for channel in [1, 2] {
        host.lend(channel, channel, 8);
        host.post(&message(message_type::OPEN_CHANNEL, &open(channel, channel, channel)));
        host.server.opened(OfferId(u64::from(channel) - 1), Ok(()));
        assert_eq!(host.outs(), [opened(channel, channel, OK)]);
        host.server.offer(offer(1, u16::try_from(channel).unwrap())).unwrap();
        host.outs();
        assert_eq!(offered(&host), [(channel + 1, 1)]);
    }
    host
}

#[test]
fn sub_channels_are_offered_when_the_device_asks() {
    let ids = |ids: &[u64]| ids.iter().copied().map(OfferId).collect::<Vec<_>>();
    let mut host = Host::open(Version::V5_3);
    assert_eq!(host.server.offer_sub_channels(OfferId(0), 1, 2), ids(&[2, 3]));
    host.outs();
    assert_eq!(offered(&host), [(3, 1), (4, 1)]);
    // Those that are there stay.
    assert_eq!(host.server.offer_sub_channels(OfferId(0), 1, 3), ids(&[4]));
    // The guest closes the first channel and opens it again; what the old opening asked for comes too late.
    host.post(&named(message_type::CLOSE_CHANNEL, 1));
    assert_eq!(host.server.offer_sub_channels(OfferId(0), 1, 1), []);
    host.closed();
    host.post(&message(message_type::OPEN_CHANNEL, &open(1, 12, 6)));
    assert_eq!(host.request.as_ref().unwrap().opening, 2);
    assert_eq!(host.server.offer_sub_channels(OfferId(0), 2, 1), [], "not open yet");
    host.opened(Ok(()));
    assert_eq!(host.server.offer_sub_channels(OfferId(0), 1, 1), []);
    assert_eq!(host.outs(), []);
    // The new ones wait until the guest has released the old ones.
    assert_eq!(host.server.offer_sub_channels(OfferId(0), 2, 1), ids(&[5]));
    assert_eq!(host.outs(), []);
    host.post(&named(message_type::RELID_RELEASED, 3));
    assert_eq!(offered(&host), [(3, 1)]);
    assert_eq!(host.server.offer_sub_channels(OfferId(9), 1, 1), []);
}

#[test]
fn a_device_has_64_sub_channels_and_no_more() {
    let mut host = Host::open(Version::V5_3);
    assert_eq!(host.server.offer_sub_channels(OfferId(0), 1, u16::MAX).len(), 64);
    assert_eq!(host.server.offer_sub_channels(OfferId(0), 1, u16::MAX), []);
    assert_eq!(host.server.offer(offer(1, 65)), Err(OfferError::TooManySubChannels));
    // A guest that opens and closes for ever, and releases nothing, makes the host hold no more.
    for opening in 2..10 {
        host.post(&named(message_type::CLOSE_CHANNEL, 1));
        host.closed();
        host.post(&message(message_type::OPEN_CHANNEL, &open(1, 12, 6)));
        host.opened(Ok(()));
        assert_eq!(host.server.offer_sub_channels(OfferId(0), opening, 64).len(), 64);
        assert_eq!(host.server.channels().count(), 2 + 2 * 64);
    }
}

#[test]
fn closing_the_first_channel_rescinds_the_others() {
    let mut host = with_sub_channels();
    let [a, b, c] = [0, 1, 2].map(OfferId);
    let outs = host.post(&named(message_type::CLOSE_CHANNEL, 1));
    assert_eq!(outs, [Out::Close(b), Out::Gone(c), Out::Close(a), rescinded(2), rescinded(3)]);
    assert_eq!(host.post(&teardown(2, 2)), []);
    host.server.closed(b);
    assert_eq!(host.outs(), [Out::Unmap(b, 2)]);
    host.server.unmapped(b, GpadlId(2));
    assert_eq!(host.outs(), [Out::Gone(b), torn_down(2)]);
    assert_eq!(host.closed(), []);
    assert_eq!(host.state(0), Some(ChannelState::Closed));
    host.post(&named(message_type::RELID_RELEASED, 2));
    host.post(&named(message_type::RELID_RELEASED, 3));
    assert_eq!(host.server.channels().count(), 1);
}

#[test]
fn rescinding_the_first_channel_rescinds_the_others_before_it() {
    let mut host = with_sub_channels();
    let [a, b, c] = [0, 1, 2].map(OfferId);
    assert_eq!(
        host.rescind(0),
        [Out::Close(b), Out::Gone(c), Out::Close(a), rescinded(2), rescinded(3), rescinded(1)]
    );
}

#[test]
fn sub_channels_do_not_outlive_the_connection() {
    let mut host = with_sub_channels();
    let [a, b, c] = [0, 1, 2].map(OfferId);
    let outs = host.post(&bare(message_type::UNLOAD));
    assert_eq!(outs, [Out::Close(b), Out::Close(a), Out::Gone(c)]);
    let answers = run_bus(&mut host.server);
    assert!(answers.is_empty(), "the devices have not answered");
    for (offer, gpadl) in [(a, 1), (b, 2)] {
        host.server.closed(offer);
        host.server.unmapped(offer, GpadlId(gpadl));
    }
    let unmaps = [Out::Unmap(a, 1), Out::Unmap(b, 2), Out::Gone(b), unloaded()];
    assert_eq!(host.outs(), unmaps);
    assert_eq!(host.server.channels().count(), 1);
}
