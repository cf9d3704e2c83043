//! KVP with a guest in memory.

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::protocol::{IpBinaryMessage, IpTextMessage, address_family};
use super::*;
use crate::ic::protocol::IcHeader;
use crate::ic::tests::{answer, negotiate, next, open, soon, v};
use crate::testing::{TestChannel, TestGuest};

type Outcome = Receiver<Result<KvpAnswer, GuestError>>;

const LONG: Duration = Duration::from_secs(3600);

fn ask_for(handle: &KvpHandle, request: KvpRequest, patience: Duration) -> Outcome {
    let (told, outcome) = channel();
    // Nobody may wait for it any more.
    handle.send(request, patience, move |result| drop(told.send(result)));
    outcome
}

fn ask(handle: &KvpHandle, request: KvpRequest) -> Outcome {
    ask_for(handle, request, LONG)
}

/// Waits until the guest's choice of versions has arrived.
fn listening(handle: &KvpHandle) {
    let refused = |outcome: Outcome| outcome.try_recv().is_ok();
    soon(|| !refused(ask_for(handle, KvpRequest::Get(Pool::Guest, "x".repeat(256)), Duration::ZERO)));
}

/// A guest that has chosen a version.
fn ready(version: IcVersion) -> (TestGuest, TestChannel, KvpHandle) {
    let (device, handle) = Kvp::device().unwrap();
    let (guest, mut channel) = open::<Kvp>(device);
    let refused = ask(&handle, KvpRequest::Enumerate(Pool::Auto)).recv().unwrap();
    assert_eq!(refused, Err(GuestError::NotListening("hv_kvp_daemon")));
    negotiate(&mut channel, v(3, 0), version);
    listening(&handle);
    (guest, channel, handle)
}

/// The host's next message of an operation.
fn expect(channel: &mut TestChannel, operation: u8, pool: u8) -> (IcHeader, Vec<u8>) {
    let (header, body) = next(channel);
    assert_eq!(header.message_type.get(), message_type::KVP);
    assert_eq!((body[0], body[1]), (operation, pool));
    (header, body)
}

fn pair(key: &str, value: &str) -> Pair {
    Pair { key: key.into(), value: value.into() }
}

/// Answers an enumeration with a pair, as Linux does.
fn tell(channel: &mut TestChannel, index: u32, key: &str, value: &str) {
    let (header, body) = expect(channel, operation::ENUMERATE, 2);
    assert_eq!(body.len(), 2580);
    let mut message = EnumerateMessage::read_from_bytes(&body).unwrap();
    assert_eq!(message.index.get(), index);
    let filled = record(message.header, key, value).unwrap();
    message.record = RecordMessage::read_from_bytes(&filled).unwrap().record;
    answer(channel, header, 0, message.as_bytes());
}

#[test]
fn a_pool_is_told_pair_by_pair() {
    for version in [v(3, 0), v(4, 0), v(5, 0)] {
        let (_guest, mut channel, handle) = ready(version);
        let outcome = ask(&handle, KvpRequest::Enumerate(Pool::Auto));
        tell(&mut channel, 0, "OSName", "Debian GNU/Linux");
        tell(&mut channel, 1, "größe", "");
        let (header, body) = expect(&mut channel, operation::ENUMERATE, 2);
        answer(&mut channel, header, status::NO_MORE_ITEMS, &body);
        let pairs = vec![pair("OSName", "Debian GNU/Linux"), pair("größe", "")];
        assert_eq!(outcome.recv().unwrap(), Ok(KvpAnswer::Pairs(pairs)));
    }
}

#[test]
fn a_guest_that_never_ends_its_list_is_cut_short() {
    let (_guest, mut channel, handle) = ready(v(4, 0));
    let outcome = ask(&handle, KvpRequest::Enumerate(Pool::Auto));
    for index in 0..1024 {
        tell(&mut channel, index, "again", "and again");
    }
    let Ok(KvpAnswer::Pairs(pairs)) = outcome.recv().unwrap() else { panic!("no pairs") };
    assert_eq!(pairs.len(), PAIRS_MAX);
}

#[test]
fn a_value_is_kept_told_and_forgotten() {
    let (_guest, mut channel, handle) = ready(v(4, 0));
    let outcome = ask(&handle, KvpRequest::Set(Pool::External, pair("color", "red")));
    let (header, body) = expect(&mut channel, operation::SET, 0);
    let message = RecordMessage::read_from_bytes(&body).unwrap();
    let sizes =
        (message.record.value_type.get(), message.record.key_size.get(), message.record.value_size.get());
    assert_eq!(sizes, (1, 12, 8));
    assert_eq!(text::until_zero(&message.record.key), "color");
    answer(&mut channel, header, 0, &body);
    assert_eq!(outcome.recv().unwrap(), Ok(KvpAnswer::Done));

    let outcome = ask(&handle, KvpRequest::Get(Pool::External, "color".into()));
    let (header, _) = expect(&mut channel, operation::GET, 0);
    answer(&mut channel, header, 0, &body);
    assert_eq!(outcome.recv().unwrap(), Ok(KvpAnswer::Value(pair("color", "red"))));

    let outcome = ask(&handle, KvpRequest::Delete(Pool::External, "color".into()));
    let (header, body) = expect(&mut channel, operation::DELETE, 0);
    let message = DeleteMessage::read_from_bytes(&body).unwrap();
    assert_eq!((message.key_size.get(), text::until_zero(&message.key).as_str()), (12, "color"));
    answer(&mut channel, header, status::NO_MORE_ITEMS, &body);
    assert_eq!(outcome.recv().unwrap(), Err(GuestError::Refused(status::NO_MORE_ITEMS)));
}

#[test]
fn what_is_too_long_is_refused_and_the_next_request_goes_on() {
    let (_guest, mut channel, handle) = ready(v(4, 0));
    let too_long = ask(&handle, KvpRequest::Set(Pool::Guest, pair("k", &"v".repeat(1024))));
    let next_one = ask(&handle, KvpRequest::Set(Pool::Guest, pair(&"k".repeat(255), &"v".repeat(1023))));
    let error = too_long.recv().unwrap().unwrap_err();
    assert_eq!(error.to_string(), "The value is too long: it may have 1023 UTF-16 code units");
    let (header, body) = expect(&mut channel, operation::SET, 1);
    answer(&mut channel, header, 0, &body);
    assert_eq!(next_one.recv().unwrap(), Ok(KvpAnswer::Done));
}

#[test]
fn hostile_records_are_refused() {
    let (_guest, mut channel, handle) = ready(v(4, 0));
    let hostile: [fn(&mut Record); 6] = [
        |record| record.key_size = 514.into(),
        |record| record.key_size = 3.into(),
        |record| record.value_size = 0xFFFF_FFFE.into(),
        |record| record.value_size = 2050.into(),
        |record| record.value_type = 3.into(),
        |record| (record.value_type, record.value_size) = (4.into(), 8.into()),
    ];
    for spoil in hostile {
        let outcome = ask(&handle, KvpRequest::Enumerate(Pool::Auto));
        let (header, body) = expect(&mut channel, operation::ENUMERATE, 2);
        let mut message = EnumerateMessage::read_from_bytes(&body).unwrap();
        message.record.value_type = 1.into();
        spoil(&mut message.record);
        answer(&mut channel, header, 0, message.as_bytes());
        assert!(matches!(outcome.recv().unwrap(), Err(GuestError::Nonsense(_))));
    }
    let outcome = ask(&handle, KvpRequest::Enumerate(Pool::Auto));
    let (header, body) = expect(&mut channel, operation::ENUMERATE, 2);
    answer(&mut channel, header, 0, &body[..40]);
    assert_eq!(outcome.recv().unwrap(), Err(GuestError::Nonsense("it has 40 bytes".into())));
}

#[test]
fn numbers_are_decimal() {
    for (kind, size, wanted) in
        [(4, 4, "4294967295"), (8, 8, "18446744073709551615"), (11, 8, "18446744073709551615")]
    {
        let mut record = Record::new_zeroed();
        (record.value_type, record.value_size) = (kind.into(), size.into());
        record.value.fill(0xFF);
        assert_eq!(value(&record).unwrap(), wanted);
    }
}

#[test]
fn an_enumeration_that_nobody_waits_for_ends() {
    let (_guest, mut channel, handle) = ready(v(4, 0));
    let late = ask_for(&handle, KvpRequest::Enumerate(Pool::Auto), Duration::from_millis(200));
    let (header, body) = expect(&mut channel, operation::ENUMERATE, 2);
    assert_eq!(late.recv().unwrap(), Err(GuestError::NoAnswer(Duration::from_millis(200))));
    let outcome = ask(&handle, KvpRequest::Get(Pool::External, "x".into()));
    // The guest has its next request only when it has answered the last one.
    assert!(channel.try_receive(std::time::Instant::now(), |_| ()).is_none());
    answer(&mut channel, header, 0, &body);
    let (header, body) = expect(&mut channel, operation::GET, 0);
    answer(&mut channel, header, status::FAIL, &body);
    assert_eq!(outcome.recv().unwrap(), Err(GuestError::Refused(status::FAIL)));
}

#[test]
fn whoever_waits_is_told_that_the_driver_is_gone_and_the_next_one_is_asked_again() {
    let (mut guest, mut channel, handle) = ready(v(4, 0));
    let outcome = ask(&handle, KvpRequest::Enumerate(Pool::Auto));
    expect(&mut channel, operation::ENUMERATE, 2);
    guest.close(channel);
    assert_eq!(outcome.recv().unwrap(), Err(GuestError::NotListening("hv_kvp_daemon")));
    let offer = *guest.offered();
    let mut channel = guest.open(&offer, 4, 4);
    negotiate(&mut channel, v(3, 0), v(4, 0));
    listening(&handle);
    let outcome = ask(&handle, KvpRequest::Enumerate(Pool::Auto));
    tell(&mut channel, 0, "a", "b");
    let (header, body) = expect(&mut channel, operation::ENUMERATE, 2);
    answer(&mut channel, header, status::NO_MORE_ITEMS, &body);
    assert_eq!(outcome.recv().unwrap(), Ok(KvpAnswer::Pairs(vec![pair("a", "b")])));
}

fn addresses() -> IpInfo {
    IpInfo {
        dhcp: false,
        addresses: vec!["10.0.0.2/24".parse().unwrap(), "fe80::1/64".parse().unwrap()],
        gateways: vec!["10.0.0.1".parse().unwrap(), "fe80::2".parse().unwrap()],
        dns: vec!["9.9.9.9".parse().unwrap()],
    }
}

#[test]
fn addresses_go_and_come_in_the_versions_own_form() {
    for version in [v(3, 0), v(4, 0), v(5, 0)] {
        let (_guest, mut channel, handle) = ready(version);
        let adapter = "00:15:5D:00:00:01";
        let outcome = ask(&handle, KvpRequest::SetIp(adapter.into(), addresses()));
        let (header, filled) = expect(&mut channel, operation::SET_IP_INFO, 1);
        assert_eq!(filled.len(), 7428);
        answer(&mut channel, header, 0, &filled);
        assert_eq!(outcome.recv().unwrap(), Ok(KvpAnswer::Done));

        let outcome = ask(&handle, KvpRequest::GetIp(adapter.into()));
        let (header, body) = expect(&mut channel, operation::GET_IP_INFO, 1);
        let asked = if version == v(5, 0) {
            IpBinaryMessage::ref_from_bytes(&body).unwrap().adapter
        } else {
            IpTextMessage::ref_from_bytes(&body).unwrap().adapter
        };
        assert_eq!(text::until_zero(&asked), adapter);
        answer(&mut channel, header, 0, &filled);
        assert_eq!(outcome.recv().unwrap(), Ok(KvpAnswer::Ip(addresses())));
    }
}

#[test]
fn an_adapter_is_set_by_dhcp_or_by_hand() {
    for version in [v(4, 0), v(5, 0)] {
        let (_guest, mut channel, handle) = ready(version);
        let set = |info| ask(&handle, KvpRequest::SetIp("{guid}".into(), info));
        let neither = set(IpInfo::default()).recv().unwrap().unwrap_err();
        assert_eq!(neither.to_string(), "An adapter needs an address, or DHCP");
        let both = set(IpInfo { dhcp: true, ..addresses() }).recv().unwrap();
        assert!(matches!(both, Err(GuestError::Invalid(_))), "{both:?}");
        let outcome = set(IpInfo { dhcp: true, ..IpInfo::default() });
        let (header, body) = expect(&mut channel, operation::SET_IP_INFO, 1);
        let (family, dhcp) = if version == v(5, 0) {
            let message = IpBinaryMessage::ref_from_bytes(&body).unwrap();
            (message.family, message.dhcp)
        } else {
            let message = IpTextMessage::ref_from_bytes(&body).unwrap();
            (message.family, message.dhcp)
        };
        assert_eq!((family, dhcp), (address_family::IPV4, 1));
        answer(&mut channel, header, 0, &body);
        assert_eq!(outcome.recv().unwrap(), Ok(KvpAnswer::Done));
    }
}

#[test]
fn a_guests_words_are_addresses_or_an_error() {
    let mut message = IpTextMessage::new_zeroed();
    let mut tell = |addresses: &str, subnets: &str| {
        text::write("", addresses, &mut message.addresses).unwrap();
        text::write("", subnets, &mut message.subnets).unwrap();
        ip::from_text(message.as_bytes()).map(|info| info.addresses)
    };
    let networks =
        |words: &str| Ok(words.split(' ').map(|word| word.parse().unwrap()).collect::<Vec<Network>>());
    assert_eq!(tell("", ""), Ok(Vec::new()));
    assert_eq!(tell("10.1.2.3;::1", "255.255.0.0;/128"), networks("10.1.2.3/16 ::1/128"));
    assert_eq!(tell("10.1.2.3;10.1.2.4;", ""), networks("10.1.2.3/32 10.1.2.4/32"));
    for (addresses, subnets) in [
        ("10.1.2", ""),
        ("10.1.2.3", "255.0.255.0"),
        ("10.1.2.3", "/33"),
        ("10.1.2.3", "33"),
        ("::1", "/129"),
        ("::1", "/"),
        ("\u{1b}[2J", ""),
    ] {
        assert!(matches!(tell(addresses, subnets), Err(GuestError::Nonsense(_))), "{addresses} {subnets}");
    }
    assert!(ip::from_text(&[0; 7425]).is_err());
}

#[test]
fn hostile_counts_of_addresses_are_refused() {
    let hostile: [fn(&mut IpBinaryMessage); 8] = [
        |message| message.ipv4_count = 65.into(),
        |message| message.ipv6_count = u32::MAX.into(),
        |message| message.ipv4_gateway_count = 6.into(),
        |message| message.ipv6_gateway_count = 6.into(),
        |message| message.ipv4_dns_count = 65.into(),
        |message| message.ipv6_dns_count = 0x8000_0000.into(),
        |message| (message.ipv4_count, message.ipv4_masks[0]) = (1.into(), [255, 0, 255, 0]),
        |message| (message.ipv6_count, message.ipv6_prefixes[0]) = (1.into(), 129.into()),
    ];
    for spoil in hostile {
        let mut message = IpBinaryMessage::new_zeroed();
        spoil(&mut message);
        assert!(matches!(ip::from_binary(message.as_bytes()), Err(GuestError::Nonsense(_))));
    }
    assert!(ip::from_binary(&[0; 3715]).is_err());
    let mut info = addresses();
    info.gateways = vec!["10.0.0.1".parse().unwrap(); 6];
    let header = KvpHeader { operation: 5, pool: 1 };
    assert_eq!(
        ip::to_binary(header, "x", &info).unwrap_err().to_string(),
        "The list of gateways is too long: it may have 5 addresses of a kind"
    );
    assert!(ip::to_text(header, &"x".repeat(128), &info).is_err());
}
