//! What Wireshark makes of a trace, with the dissector in resources/.
//!
//! Needs tshark, and therefore runs only when asked for: `cargo test -p devices --features testing --test trace --
//! --ignored`. `cargo lab test` asks for it, and installs tshark.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use devices::guid::Guid;
use devices::ic::heartbeat::Heartbeat;
use devices::ic::protocol::{FLAG_RESPONSE, FLAG_TRANSACTION, IcHeader, IcVersion, Negotiate};
use devices::ic::shutdown::{Shutdown, ShutdownKind};
use devices::ic::timesync::{Moment, ReferenceClock, TimeSync};
use devices::testing::{TestChannel, TestGuest};
use devices::vmbus::channel::{
    Channel, ChannelError, ChannelWorker, Flow, Offer, OfferFlags, Opening, VmbusDevice,
};
use devices::vmbus::protocol::{self, ChannelName, FeatureFlags, Version, message_type};
use devices::vmbus::ring::protocol::{PacketType, PipeHeader, TransferPageRange};
use devices::vmbus::ring::{PacketOut, gpa_direct_extension, transfer_page_extension};
use devices::vmbus::trace::{TraceFile, TracedPackets};
use vmm_sys_util::tempdir::TempDir;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

const DISSECTOR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../resources/wireshark/busman-vmbus.lua");

/// A trace that was made by `talk`.
struct Traced {
    directory: TempDir,
}

impl Traced {
    fn new(packets: TracedPackets, talk: impl FnOnce(&mut TestGuest)) -> Self {
        let directory = TempDir::new_with_prefix("/tmp/busman-trace").unwrap();
        let traced = Traced { directory };
        let trace = TraceFile::start(File::create(traced.file()).unwrap(), packets, 1 << 20).unwrap();
        let mut guest = TestGuest::default();
        guest.bus.trace(trace.tracer());
        talk(&mut guest);
        drop(guest);
        traced
    }

    fn file(&self) -> PathBuf {
        self.directory.as_path().join("t.pcapng")
    }

    /// What tshark prints.
    fn tshark(&self, arguments: &[&str]) -> String {
        let mut tshark = Command::new("tshark");
        tshark.arg("-X").arg(format!("lua_script:{DISSECTOR}")).arg("-r").arg(self.file()).args(arguments);
        let output = tshark.output().expect("tshark must be installed: apt-get install tshark");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !errors.contains("Lua"), "{errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The info column of the records that a filter selects.
    fn info(&self, filter: &str) -> Vec<String> {
        let text = self.tshark(&["-Y", filter, "-T", "fields", "-e", "_ws.col.Info"]);
        text.lines().map(str::to_owned).collect()
    }

    /// Everything about the records that a filter selects.
    fn details(&self, filter: &str) -> String {
        self.tshark(&["-V", "-Y", filter])
    }
}

#[track_caller]
fn assert_has(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.contains(line), "{line:?} is not in:\n{text}");
    }
}

#[test]
#[ignore = "needs tshark: apt-get install tshark"]
fn the_life_of_a_channel_reads_like_a_story() {
    let traced = Traced::new(TracedPackets::All, |guest| {
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

/// Answers a service's negotiation with the newest framework and the second of its versions.
fn negotiate(channel: &mut TestChannel) {
    let negotiation = channel.receive(|packet| packet.payload.to_vec());
    let (_, rest) = PipeHeader::read_from_prefix(&negotiation[..]).unwrap();
    let (mut header, rest) = IcHeader::read_from_prefix(rest).unwrap();
    let (_, rest) = Negotiate::read_from_prefix(rest).unwrap();
    let (versions, _) = <[IcVersion; 4]>::read_from_prefix(rest).unwrap();
    header.size = 16.into();
    header.flags = FLAG_TRANSACTION | FLAG_RESPONSE;
    let count = Negotiate { framework_count: 1.into(), version_count: 1.into(), reserved: 0.into() };
    let chosen = [versions[1], versions[3]];
    let pipe = PipeHeader::data(36);
    let pieces = [pipe.as_bytes(), header.as_bytes(), count.as_bytes(), chosen.as_bytes()];
    channel.send(&PacketOut::in_band(0, &pieces));
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
    let traced = Traced::new(TracedPackets::None, |_| ());
    let trace = TraceFile::start(File::create(traced.file()).unwrap(), TracedPackets::None, 1 << 20).unwrap();
    let tracer = trace.tracer();
    for message_type in 1..=30 {
        // A body of bytes 1, 2, 3 …: as long as any message's, and no two fields alike.
        let header = protocol::Header { message_type: message_type.into(), padding: 0.into() };
        let body: Vec<u8> = (1..=200).collect();
        let message = [header.as_bytes(), &body].concat();
        tracer.from_guest(4, &message);
        tracer.to_guest(1, 2, &message[..8]);
    }
    drop(trace);
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
    let traced = Traced::new(TracedPackets::None, |guest| {
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

const SHUTDOWN: Guid = Guid::parse("0e0b6031-5213-4934-818b-38d90ced39db");
const ECHO: Guid = Guid::parse("6e9ee4a4-1bb1-4d2f-9d1e-0d0f0c0b0a09");

/// Completes every packet with its payload.
#[derive(Debug)]
struct Echo;

impl VmbusDevice for Echo {
    type Worker = Echo;

    fn offer(&self) -> Offer {
        Offer {
            name: "echo".into(),
            interface: ECHO,
            instance: ECHO,
            sub_channel: 0,
            flags: OfferFlags::empty(),
            mmio_megabytes: 0,
            user_data: [0; 120],
        }
    }

    fn open(&mut self, _: &Opening) -> Result<Echo, ChannelError> {
        Ok(Echo)
    }

    fn closed(&mut self, _: Option<Echo>) {}
}

impl ChannelWorker for Echo {
    fn doorbell(&mut self, channel: &mut Channel) -> Result<(), ChannelError> {
        channel.receive(|packet, replies| {
            let _ = replies.send(&PacketOut::completion(packet.transaction_id, &[packet.payload]))?;
            Ok(Flow::Continue)
        })
    }
}

#[test]
#[ignore = "needs tshark: apt-get install tshark"]
fn ranges_of_packets_are_shown_page_by_page() {
    let packets = TracedPackets::Of(["echo".to_owned()].into());
    let traced = Traced::new(packets, |guest| {
        guest.bus.add(Echo).unwrap();
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
    let traced = Traced::new(TracedPackets::All, |guest| {
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

#[derive(Debug)]
struct Clock;

impl ReferenceClock for Clock {
    fn now(&self) -> Moment {
        Moment { wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000), reference: 12345 }
    }
}
