//! The control plane against any sequence of guest messages and host events.
//!
//! Bytes become steps: a guest's message, a device that comes or goes, or an answer of the bus, which comes late
//! and in any order. What the server asks for is checked as a bus would suffer from it, and in the end an honest
//! guest must still be able to connect.
//!
//! Run it with `cargo fuzz run control` (nightly, or `RUSTC_BOOTSTRAP=1`).

#![no_main]

use std::collections::{BTreeMap, BTreeSet};

use devices::guid::Guid;
use devices::vmbus::channel::{Offer, OfferFlags};
use devices::vmbus::gpadl::GpadlId;
use devices::vmbus::protocol::{Status, Version, message_type};
use devices::vmbus::server::{Action, ChannelState, HostMessage, OfferId, Server};
use libfuzzer_sys::fuzz_target;

const VPS: u32 = 4;

const VERSIONS: [Version; 8] = [
    Version::V2_4,
    Version::V3_0,
    Version::V4_0,
    Version::V4_1,
    Version::V5_0,
    Version::V5_3,
    Version::V6_0,
    Version(0x0007_0000),
];

fuzz_target!(|bytes: &[u8]| {
    let mut bus = Bus {
        server: Server::new(VPS),
        input: bytes,
        owed: Vec::new(),
        open: BTreeMap::new(),
        mapped: BTreeSet::new(),
    };
    bus.offer(0);
    bus.offer(1);
    bus.post(&contact(Version::V6_0, u32::MAX));
    bus.post(&words(message_type::REQUEST_OFFERS, &[]));
    while bus.step().is_some() {}
    bus.end();
});

/// A message of 32-bit words.
fn words(message_type: u32, words: &[u32]) -> Vec<u8> {
    [message_type, 0].iter().chain(words).flat_map(|word| word.to_le_bytes()).collect()
}

fn contact(version: Version, features: u32) -> Vec<u8> {
    words(message_type::INITIATE_CONTACT, &[version.0, 0, 2, features, 0, 0, 0, 0, 1, 2, 3, 4])
}

/// A byte as one of the numbers that mean something to the server.
fn number(byte: u8) -> u32 {
    match byte {
        0xf0..=0xf7 => VERSIONS[usize::from(byte & 7)].0,
        0xe0..=0xef => u32::from(byte & 15) * 4096,
        0xd0..=0xdf => 0x2000 | u32::from(byte & 15),
        0xc0..=0xcf => u32::from(byte & 15) << 16 | 8 * (1 + u32::from(byte & 15)),
        0xff => u32::MAX,
        _ => byte.into(),
    }
}

/// What the bus has yet to answer.
enum Owed {
    Opened(OfferId),
    Closed(OfferId),
    Unmapped(OfferId, GpadlId),
}

struct Bus<'a> {
    server: Server,
    input: &'a [u8],
    owed: Vec<Owed>,
    open: BTreeMap<OfferId, GpadlId>,
    mapped: BTreeSet<(OfferId, GpadlId)>,
}

impl Bus<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.input.split_first()?;
        self.input = rest;
        Some(byte)
    }

    fn bytes(&mut self) -> Option<Vec<u8>> {
        let len = usize::from(self.byte()?).min(240).min(self.input.len());
        let (bytes, rest) = self.input.split_at(len);
        self.input = rest;
        Some(bytes.to_vec())
    }

    fn step(&mut self) -> Option<()> {
        match self.byte()? {
            0..=15 => {
                let message = self.bytes()?;
                self.post(&message);
            }
            16..=159 => {
                let message_type = u32::from(self.byte()?) % 32;
                let body: Vec<u32> = self.bytes()?.into_iter().take(58).map(number).collect();
                self.post(&words(message_type, &body));
            }
            160..=167 => {
                let name = self.byte()?;
                self.offer(name);
            }
            168..=175 => {
                let (primary, opening) = (OfferId(self.byte()?.into()), self.byte()?.into());
                let count = self.byte()?.into();
                for offer in self.server.offer_sub_channels(primary, opening, count) {
                    assert!(self.server.channel(offer).is_some(), "offered and not there");
                }
            }
            176..=183 => {
                let offer = self.byte()?;
                self.server.rescind(OfferId(offer.into()));
            }
            // A message that is left undelivered for the moment.
            184..=191 => {
                let action = self.server.next_action();
                match action {
                    Some(Action::Send(message)) => self.server.retry(message),
                    Some(action) => self.carry_out(action),
                    None => {}
                }
                return Some(());
            }
            192 => self.server.reset(),
            choice => {
                let which = usize::from(self.byte()?);
                self.answer(which, choice % 4 != 0);
            }
        }
        self.drain();
        Some(())
    }

    fn offer(&mut self, name: u8) {
        let offer = Offer {
            name: "fuzz".into(),
            interface: Guid::ZERO,
            instance: Guid::from_bytes([name & 3; 16]),
            sub_channel: u16::from(name >> 6),
            flags: OfferFlags::empty(),
            mmio_megabytes: 0,
            user_data: [0; 120],
        };
        // Refused when it is there already.
        let _ = self.server.offer(offer);
    }

    fn post(&mut self, message: &[u8]) {
        self.server.handle(4, message);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(action) = self.server.next_action() {
            self.carry_out(action);
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Send(message) => check_message(&message),
            Action::Open(offer, request) => {
                assert!(self.open.insert(offer, request.ring_gpadl).is_none(), "open twice");
                assert!(self.mapped.contains(&(offer, request.ring_gpadl)), "a ring that is not lent");
                let pages = request.ring.whole_pages().expect("a ring is whole pages").len();
                let outgoing = request.downstream_page_offset as usize;
                assert!(outgoing >= 2 && outgoing + 2 <= pages);
                assert!(request.event_flag < 2048 && (1..2048).contains(&request.channel.0));
                assert!(request.target_vp.is_none_or(|vp| vp < VPS));
                self.owed.push(Owed::Opened(offer));
            }
            Action::Close(offer) => {
                assert!(self.open.contains_key(&offer), "closed what was not open");
                self.owed.push(Owed::Closed(offer));
            }
            Action::Retarget(offer, vp) => {
                assert!(self.open.contains_key(&offer) && vp.is_some_and(|vp| vp < VPS));
            }
            Action::Map(offer, gpadl, list) => {
                assert!(self.mapped.insert((offer, gpadl)), "mapped twice");
                for range in list.ranges.iter() {
                    let end = range.byte_offset as usize + range.byte_count as usize;
                    assert!(range.byte_offset < 4096 && range.byte_count > 0);
                    assert_eq!(range.pfns.len(), end.div_ceil(4096));
                }
            }
            Action::Unmap(offer, gpadl) => {
                assert!(self.mapped.contains(&(offer, gpadl)), "unmapped what was not mapped");
                assert!(self.open.get(&offer) != Some(&gpadl), "unmapped a ring in use");
                self.owed.push(Owed::Unmapped(offer, gpadl));
            }
            Action::DropMessages => {}
            Action::Gone(offer) => {
                assert!(!self.open.contains_key(&offer), "gone while open");
                assert!(self.mapped.iter().all(|&(other, _)| other != offer), "gone while mapped");
            }
        }
    }

    fn answer(&mut self, which: usize, succeed: bool) {
        if self.owed.is_empty() {
            return;
        }
        match self.owed.swap_remove(which % self.owed.len()) {
            Owed::Opened(offer) if succeed => self.server.opened(offer, Ok(())),
            Owed::Opened(offer) => {
                self.open.remove(&offer);
                self.server.opened(offer, Err(Status::UNSUCCESSFUL));
            }
            Owed::Closed(offer) => {
                self.open.remove(&offer);
                self.server.closed(offer);
            }
            Owed::Unmapped(offer, gpadl) => {
                self.mapped.remove(&(offer, gpadl));
                self.server.unmapped(offer, gpadl);
            }
        }
        self.drain();
    }

    fn settle(&mut self) {
        self.drain();
        while !self.owed.is_empty() {
            self.answer(0, true);
        }
        assert!(self.server.ready());
        for (info, _) in self.server.channels() {
            let moving = [ChannelState::Opening, ChannelState::Closing, ChannelState::Reopening];
            assert!(!moving.contains(&info.state), "{info:?}");
        }
    }

    /// An honest guest takes over.
    fn end(&mut self) {
        self.settle();
        self.post(&contact(Version::V5_3, 0));
        self.settle();
        assert_eq!(self.server.connection().map(|connection| connection.version), Some(Version::V5_3));
        assert!(self.open.is_empty() && self.mapped.is_empty());
        self.post(&words(message_type::REQUEST_OFFERS, &[]));
        assert!(self.server.channels().all(|(info, _)| info.state == ChannelState::Closed));
        self.post(&words(message_type::UNLOAD, &[]));
        assert!(self.server.is_idle());
    }
}

fn check_message(message: &HostMessage) {
    assert!(message.vp < VPS && message.sint < 16);
    let payload = message.payload();
    assert!((8..=240).contains(&payload.len()));
    assert_eq!(payload[4..8], [0; 4]);
}
