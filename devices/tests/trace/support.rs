//! Traces to look at, and what talks in them.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime};

use devices::guid::Guid;
use devices::ic::protocol::{FLAG_RESPONSE, FLAG_TRANSACTION, IcHeader, IcVersion, Negotiate};
use devices::ic::timesync::{Moment, ReferenceClock};
use devices::testing::{TestChannel, TestGuest};
use devices::vmbus::channel::{
    Channel, ChannelError, ChannelWorker, Flow, Offer, OfferFlags, Opening, VmbusDevice,
};
use devices::vmbus::ring::PacketOut;
use devices::vmbus::ring::protocol::PipeHeader;
use devices::vmbus::trace::{TraceFile, TracedPackets, Tracer};
use vmm_sys_util::tempdir::TempDir;
use zerocopy::{FromBytes, IntoBytes};

pub const HEARTBEAT: Guid = Guid::parse("57164f39-9115-4e78-ab55-382f3bd5422d");
pub const SHUTDOWN: Guid = Guid::parse("0e0b6031-5213-4934-818b-38d90ced39db");
pub const ECHO: Guid = Guid::parse("6e9ee4a4-1bb1-4d2f-9d1e-0d0f0c0b0a09");
const DISSECTOR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../resources/wireshark/busman-vmbus.lua");

/// A trace that was made by `talk`.
pub struct Traced {
    directory: TempDir,
}

impl Traced {
    pub fn new(packets: TracedPackets, talk: impl FnOnce(&mut TestGuest, &Tracer)) -> Self {
        let directory = TempDir::new_with_prefix("/tmp/busman-trace").unwrap();
        let traced = Traced { directory };
        let trace = TraceFile::start(File::create(traced.file()).unwrap(), packets, 1 << 20).unwrap();
        let mut guest = TestGuest::default();
        guest.bus.trace(trace.tracer());
        talk(&mut guest, &trace.tracer());
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
        let text = String::from_utf8(output.stdout).unwrap();
        let errors: Vec<&str> = text.lines().filter(|line| line.contains("Lua Error")).collect();
        assert!(errors.is_empty(), "{errors:#?}");
        text
    }

    /// The info column of the records that a filter selects.
    pub fn info(&self, filter: &str) -> Vec<String> {
        let text = self.tshark(&["-Y", filter, "-T", "fields", "-e", "_ws.col.Info"]);
        text.lines().map(str::to_owned).collect()
    }

    /// Everything about the records that a filter selects.
    pub fn details(&self, filter: &str) -> String {
        self.tshark(&["-V", "-Y", filter])
    }
}

#[track_caller]
pub fn assert_has(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.contains(line), "{line:?} is not in:\n{text}");
    }
}

/// Answers a service's negotiation with the newest framework and the second of its versions.
pub fn negotiate(channel: &mut TestChannel) {
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

/// Completes every packet with its payload.
#[derive(Clone, Copy, Debug)]
pub struct Echo(pub Guid, pub OfferFlags);

impl VmbusDevice for Echo {
    type Worker = Echo;

    fn offer(&self) -> Offer {
        Offer {
            name: "echo".into(),
            interface: self.0,
            instance: ECHO,
            sub_channel: 0,
            flags: self.1,
            mmio_megabytes: 0,
            user_data: [0; 120],
        }
    }

    fn open(&mut self, _: &Opening) -> Result<Echo, ChannelError> {
        Ok(*self)
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

#[derive(Debug)]
pub struct Clock;

impl ReferenceClock for Clock {
    fn now(&self) -> Moment {
        Moment { wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000), reference: 12345 }
    }
}

/// Numbers that look random and are the same in every run.
pub struct Garbage(pub u64);

impl Garbage {
    pub fn number(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 31) % below
    }

    pub fn byte(&mut self, below: u8) -> u8 {
        u8::try_from(self.number(below.into())).unwrap()
    }

    /// Up to `most` bytes, many of them small: those are counts, lengths and types that nearly make sense.
    pub fn bytes(&mut self, most: u8) -> Vec<u8> {
        let len = self.byte(most);
        (0..len).map(|_| if self.number(2) == 0 { self.byte(6) } else { self.byte(255) }).collect()
    }
}
