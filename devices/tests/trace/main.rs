//! What Wireshark makes of a trace, with the dissector in resources/.
//!
//! Needs tshark, and therefore runs only when asked for: `cargo test -p devices --features testing --test trace --
//! --ignored`. `cargo lab test` asks for it, and installs tshark.

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use devices::ic::heartbeat::Heartbeat;
use devices::ic::shutdown::{Shutdown, ShutdownKind};
use devices::ic::timesync::TimeSync;
use devices::loopback::{Loopback, protocol as loopback};
use devices::vmbus::channel::OfferFlags;
use devices::vmbus::protocol::{self, ChannelName, FeatureFlags, Version, message_type};
use devices::vmbus::ring::protocol::{PacketType, PipeHeader, TransferPageRange};
use devices::vmbus::ring::{PacketOut, gpa_direct_extension, transfer_page_extension};
use devices::vmbus::trace::TracedPackets;
use zerocopy::{FromZeros, IntoBytes};

use support::{Clock, ECHO, Echo, Garbage, HEARTBEAT, SHUTDOWN, Traced, assert_has, negotiate};

#[test]
#[ignore = "needs tshark: apt-get install tshark"]
fn the_life_of_a_channel_reads_like_a_story() {
    let traced = Traced::new(TracedPackets::All, |guest, _| {
        guest.bus.add(Heartbeat::device().0).unwrap();
        guest.connect(Version::V5_3);
        let offer = guest.offers()[0];
        let mut channel = guest.open(&offer, 4, 4);
        negotiate(&mut channel);
        channel.receive(|_| ());
        guest.close(channel);
        guest.send(message_type::UNLOAD, &[]);
    });
    let messages = [
        "INITIATE_CONTACT version 5.3, answers to VP 0 SINT 2",
        "VERSION_RESPONSE yes, post to connection id 4",
        "REQUEST_OFFERS",
        "OFFER_CHANNEL channel 1 heartbeat, doorbell 0x2001",
        "ALL_OFFERS_DELIVERED",
        "GPADL_HEADER channel 1 (heartbeat) gpadl 0xe1e10 8 pages",
        "GPADL_CREATED channel 1 (heartbeat) gpadl 0xe1e10 success",
        "OPEN_CHANNEL channel 1 (heartbeat) gpadl 0xe1e10, incoming ring from page 4, VP 0",
        "OPEN_CHANNEL_RESULT channel 1 (heartbeat) success",
        "CLOSE_CHANNEL channel 1 (heartbeat)",
        "GPADL_TEARDOWN channel 1 (heartbeat) gpadl 0xe1e10",
        "GPADL_TORNDOWN gpadl 0xe1e10",
        "UNLOAD",
        "UNLOAD_COMPLETE",
    ];
    let packets = [
        "Channel 1 (heartbeat): NEGOTIATE request: framework 1.0, 3.0; message 1.0, 3.0",
        "Channel 1 (heartbeat): NEGOTIATE response: framework 3.0; message 3.0",
        "Channel 1 (heartbeat): HEARTBEAT request: sequence 1, applications unknown",
    ];
    // The channel's thread may be faster than the answer to OPEN_CHANNEL.
    assert_eq!(traced.info("vmbus.kind == 0"), messages);
    assert_eq!(traced.info("vmbus.kind == 1"), packets);
}

/// The names of all control messages, from number 1 on, and of one that is none.
const NAMES: [&str; 30] = [
    "OFFER_CHANNEL",
    "RESCIND_CHANNEL_OFFER",
    "REQUEST_OFFERS",
    "ALL_OFFERS_DELIVERED",
    "OPEN_CHANNEL",
    "OPEN_CHANNEL_RESULT",
    "CLOSE_CHANNEL",
    "GPADL_HEADER",
    "GPADL_BODY",
    "GPADL_CREATED",
    "GPADL_TEARDOWN",
    "GPADL_TORNDOWN",
    "RELID_RELEASED",
    "INITIATE_CONTACT",
    "VERSION_RESPONSE",
    "UNLOAD",
    "UNLOAD_COMPLETE",
    "OPEN_RESERVED_CHANNEL",
    "CLOSE_RESERVED_CHANNEL",
    "CLOSE_RESERVED_RESPONSE",
    "TL_CONNECT_REQUEST",
    "MODIFY_CHANNEL",
    "TL_CONNECT_RESULT",
    "MODIFY_CHANNEL_RESPONSE",
    "MODIFY_CONNECTION",
    "MODIFY_CONNECTION_RESPONSE",
    "PAUSE",
    "PAUSE_RESPONSE",
    "RESUME",
    "Message of unknown type 30",
];

#[test]
#[ignore = "needs tshark: apt-get install tshark"]
fn every_control_message_has_its_name_and_fields() {
    let traced = Traced::new(TracedPackets::None, |_, tracer| {
        for message_type in 1..=30 {
            // A body of bytes 1, 2, 3 …: as long as any message's, and no two fields alike.
            let header = protocol::Header { message_type: message_type.into(), padding: 0.into() };
            let body: Vec<u8> = (1..=200).collect();
            let message = [header.as_bytes(), &body].concat();
            tracer.from_guest(4, &message);
            tracer.to_guest(1, 2, &message[..8]);
        }
    });
    let info = traced.info("vmbus");
    let (whole, short): (Vec<_>, Vec<_>) =
        info.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).unzip();
    for ((name, whole), short) in NAMES.iter().zip(&whole).zip(&short) {
        assert_eq!(whole.split(' ').next(), name.split(' ').next(), "{whole}");
        assert!(short.starts_with(name), "{short}");
    }
    assert_has(
        &traced.details("vmbus.type == 5 && vmbus.direction == 0"),
        &[
            "Posted to connection id: 0x00000004",
            "Channel: 67305985",
            "Open id: 0x08070605",
            "GPADL: 0x0c0b0a09",
            "Target VP: 269422093",
            "Incoming ring starts at page: 336794129",
            "Event flag: 37521",
        ],
    );
    assert_has(
        &traced.details("vmbus.type == 20 && vmbus.direction == 1"),
        &["Ends before all of its fields"],
    );
    assert_has(
        &traced.details("vmbus.type == 21"),
        &["Guest's endpoint: 04030201-0605-0807-090a-0b0c0d0e0f10"],
    );
}

#[test]
#[ignore = "needs tshark: apt-get install tshark"]
fn refusals_and_the_newest_version_stand_out() {
    let traced = Traced::new(TracedPackets::None, |guest, _| {
        guest.bus.add(Heartbeat::device().0).unwrap();
        let mut contact = protocol::InitiateContact2::new_zeroed();
        contact.contact.version = Version::V6_0.0.into();
        contact.contact.sint = 2;
        contact.contact.features = FeatureFlags::CLIENT_ID.bits().into();
        contact.client_id = ECHO;
        guest.send(message_type::INITIATE_CONTACT, contact.as_bytes());
        let _: protocol::VersionResponse2 = guest.receive(message_type::VERSION_RESPONSE);
        let offer = guest.offers()[0];
        // No such GPADL.
        assert!(guest.open_lent(&offer, 0x77, 2).is_err());
        let rescinded = ChannelName { channel: 9.into() };
        guest.send(message_type::RELID_RELEASED, rescinded.as_bytes());
    });
    let info = traced.info("vmbus").join("\n");
    assert_has(
        &info,
        &["version 6.0", "OPEN_CHANNEL_RESULT channel 1 (heartbeat) FAILED: ", "RELID_RELEASED channel 9"],
    );
    assert_has(&traced.details("vmbus.failed"), &["The host refused"]);
    let contact = traced.details("vmbus.type == 14");
    assert_has(&contact, &["Client id: True", "Pause and resume: False", "Client id: 6e9ee4a4-1bb1"]);
    assert_has(&traced.details("vmbus.type == 15"), &["Feature flags: 0x00000008"]);
}

#[test]
#[ignore = "needs tshark: apt-get install tshark"]
fn ranges_of_packets_are_shown_page_by_page() {
    let packets = TracedPackets::Of(["echo".to_owned()].into());
    let traced = Traced::new(packets, |guest, _| {
        guest.bus.add(Echo(ECHO, OfferFlags::empty())).unwrap();
        let offer = guest.connect_to(ECHO);
        let mut channel = guest.open(&offer, 8, 8);
        let (mut gpa, mut transfer) = (Vec::new(), Vec::new());
        gpa_direct_extension(&[(0x10, 5000, &[0x123, 0x456]), (0, 1, &[0x789])], &mut gpa);
        let range = TransferPageRange { byte_count: 512.into(), byte_offset: 1024.into() };
        transfer_page_extension(0xcafe, &[range, range], &mut transfer);
        let shapes = [(PacketType::GPA_DIRECT, &gpa), (PacketType::TRANSFER_PAGES, &transfer)];
        for (kind, extension) in shapes {
            let payload: &[&[u8]] = &[b"question"];
            let (transaction_id, completion_requested) = (0x5150, true);
            channel.send(&PacketOut { kind, transaction_id, completion_requested, extension, payload });
            channel.receive(|_| ());
        }
        channel.send(&PacketOut::in_band(1, &[&[7; 9000]]));
        channel.receive(|_| ());
    });
    let expected = [
        "GPA_DIRECT, transaction 0x5150, 2 ranges, 5001 bytes in 3 pages, 8 bytes",
        "COMPLETION, transaction 0x5150, 8 bytes",
        "TRANSFER_PAGES, transaction 0x5150, page set 51966, 2 ranges, 1024 bytes, 8 bytes",
        "COMPLETION, transaction 0x5150, 8 bytes",
        "IN_BAND, transaction 0x1, 9000 bytes, 4080 of them in the trace",
        "COMPLETION, transaction 0x1, 9000 bytes, 4080 of them in the trace",
    ];
    let expected = expected.map(|text| format!("Channel 1: {text}"));
    assert_eq!(traced.info("vmbus.kind == 1"), expected);
    assert_has(
        &traced.details("vmbus.packet.type == 9"),
        &[
            "Interface id: 1 (echo)",
            "Interface description: interface 6e9ee4a4-1bb1-4d2f-9d1e-0d0f0c0b0a09",
            "Completion requested: True",
            "Range 1: 5000 bytes at offset 16, 2 pages",
            "Page: 0x0000000000000456",
            "Range 2: 1 bytes at offset 0, 1 page",
            "Payload: 7175657374696f6e",
        ],
    );
    assert_has(&traced.details("vmbus.packet.type == 7"), &["Range 2: 512 bytes at offset 1024"]);
}

#[test]
#[ignore = "needs tshark: apt-get install tshark"]
fn services_requests_are_shown_in_words() {
    let traced = Traced::new(TracedPackets::All, |guest, _| {
        let (shutdown, handle) = Shutdown::device().unwrap();
        guest.bus.add(shutdown).unwrap();
        guest.bus.add(TimeSync::device(Arc::new(Clock))).unwrap();
        guest.connect(Version::V5_3);
        for offer in guest.offers() {
            let mut channel = guest.open(&offer, 4, 4);
            negotiate(&mut channel);
            if offer.offer.interface == SHUTDOWN {
                let deadline = Instant::now() + Duration::from_secs(20);
                while handle.request(ShutdownKind::Reboot).is_err() {
                    assert!(Instant::now() < deadline, "the negotiation does not end");
                    std::thread::yield_now();
                }
            }
            channel.receive(|_| ());
        }
    });
    let info = traced.info("vmbus").join("\n");
    assert_has(&info, &["SHUTDOWN request: restart", "TIME_SYNC request: set the clock"]);
    assert_has(&traced.details("vmbus.ic.type == 3"), &["Restart: True", "Time for programs to end (s)"]);
    assert_has(&traced.details("vmbus.ic.type == 4"), &["Host's time: Nov 14, 2023 22:13:20"]);
}

#[test]
#[ignore = "needs tshark: apt-get install tshark"]
fn what_a_guest_is_asked_is_shown_in_words() {
    let write =
        [&[1, 0, 0, 0][..], &[0; 36], &[0, 24, 0, 0, 0, 0, 0, 0], &[5, 0, 0, 0, 104, 97, 108, 108, 111]];
    let bodies: [(u8, Vec<u8>); 4] = [
        (2, vec![3, 2, 0, 0, 7, 0, 0, 0]),
        (2, vec![5, 1, 0, 0]),
        (5, vec![6, 0, 0, 0, 0, 0, 0, 0]),
        (7, write.concat()),
    ];
    let traced = Traced::new(TracedPackets::All, |guest, _| {
        guest.bus.add(Echo(HEARTBEAT, OfferFlags::NAMED_PIPE_MODE)).unwrap();
        let offer = guest.connect_to(HEARTBEAT);
        let mut channel = guest.open(&offer, 8, 8);
        for (kind, body) in &bodies {
            let size = u16::try_from(body.len()).unwrap();
            let [low, high] = size.to_le_bytes();
            let header = [3, 0, 0, 0, *kind, 0, 4, 0, 0, 0, low, high, 0, 0, 0, 0, 0, 3, 0, 0];
            let pipe = PipeHeader::data(20 + u32::from(size));
            channel.send(&PacketOut::in_band(0, &[pipe.as_bytes(), &header, body]));
            channel.receive(|_| ());
        }
    });
    let info = traced.info("vmbus.kind == 1 && vmbus.direction == 0").join("\n");
    let words = [
        "KVP request: enumerate 7, pool auto",
        "KVP request: set addresses, pool guest",
        "VSS request: thaw",
        "FILE_COPY request: write 5 bytes at 6144",
    ];
    assert_has(&info, &words);
}

#[test]
#[ignore = "needs tshark: apt-get install tshark"]
fn the_loopback_devices_operations_have_names() {
    let traced = Traced::new(TracedPackets::All, |guest, _| {
        guest.bus.add(Loopback::device().0).unwrap();
        let offer = guest.connect_to(loopback::INTERFACE);
        let mut channel = guest.open(&offer, 8, 8);
        let request = loopback::Header {
            operation: loopback::operation::SOURCE.into(),
            status: 0.into(),
            argument: 0x77.into(),
            count: 1.into(),
            length: 100.into(),
        };
        channel.send(&PacketOut::in_band(5, &[request.as_bytes()]));
        channel.receive(|_| ());
        channel.send(&PacketOut::in_band(6, &[&[9; 24]]));
        channel.receive(|_| ());
    });
    let expected = [
        "SOURCE of 1 packet of 100 bytes, argument 0x77, 0 bytes of data",
        "SOURCE of 1 packet of 100 bytes, argument 0x0, 104 bytes of data",
    ];
    let expected = expected.map(|text| format!("Channel 1 (loopback): IN_BAND, transaction 0x5, {text}"));
    let info = traced.info("vmbus.kind == 1");
    assert_eq!(info[..2], expected);
    assert!(info[3].contains("FAILED: unknown operation"), "{}", info[3]);
}

#[test]
#[ignore = "needs tshark: apt-get install tshark"]
fn garbage_breaks_nothing_in_the_dissector() {
    let traced = Traced::new(TracedPackets::All, |guest, tracer| {
        guest.bus.add(Echo(HEARTBEAT, OfferFlags::NAMED_PIPE_MODE)).unwrap();
        let offer = guest.connect_to(HEARTBEAT);
        let mut channel = guest.open(&offer, 8, 8);
        let mut garbage = Garbage(1);
        for _ in 0..300 {
            let (extension, payload) = (garbage.bytes(64), garbage.bytes(120));
            // A pipe header and the start of a service's message in front of half of them.
            let kind = garbage.byte(8);
            let service = [1, 0, 0, 0, 90, 0, 0, 0, 3, 0, 0, 0, kind, 0, 3, 0, 0, 0, 64, 0];
            let start = if garbage.number(2) == 0 { &service[..] } else { &[] };
            let packet = PacketOut {
                kind: PacketType(5 + u16::from(garbage.byte(8))),
                transaction_id: garbage.number(1 << 32),
                completion_requested: garbage.number(2) == 0,
                extension: &extension,
                payload: &[start, &payload],
            };
            channel.send(&packet);
            channel.receive(|_| ());
        }
        for _ in 0..1000 {
            let header =
                protocol::Header { message_type: u32::from(garbage.byte(31)).into(), padding: 0.into() };
            let message = [header.as_bytes(), &garbage.bytes(232)].concat();
            // Some are cut short, in or behind the header.
            let len = usize::from(garbage.byte(255)).min(message.len());
            tracer.from_guest(4, &message[..len]);
        }
    });
    // tshark() fails on any error of the script.
    assert!(traced.details("vmbus").len() > 1_000_000);
    assert!(traced.info("vmbus").len() > 1600);
}
