//! The loopback device against any packets, schedules and broken rings.
//!
//! Bytes become steps: a request, any packet at all, a turn of the worker, an answer taken, or a word of a ring
//! overwritten. As long as the guest leaves the rings alone, each request must get the answers that its operation
//! promises and no other; after every end of a channel the next opening must work.
//!
//! Run it with `cargo fuzz run loopback` (nightly, or `RUSTC_BOOTSTRAP=1`).

#![no_main]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use devices::loopback::protocol::{MAGIC, MAX_PAYLOAD, operation, status};
use devices::loopback::{Loopback, LoopbackWorker};
use devices::mem::{GuestRam, PAGE_SIZE};
use devices::testing::TestWorker;
use devices::vmbus::ring::protocol::PacketType;
use devices::vmbus::ring::{PacketOut, gpa_direct_extension};
use libfuzzer_sys::fuzz_target;
use vm_memory::{Bytes, GuestAddress};

/// Pages of the guest; rings are made of the first half, packets name any.
const PAGES: u64 = 64;

fuzz_target!(|bytes: &[u8]| {
    let ram = GuestRam::from_ranges(&[(GuestAddress(0), PAGES as usize * PAGE_SIZE)]).expect("RAM");
    let mut guest = Guest { device: Loopback::device().0, ram, input: bytes };
    while guest.opening().is_some() {}
    guest.input = &[2, 2, 1, 0];
    let mut channel = guest.open().expect("an honest opening");
    assert!(channel.ask(&[0, 8, 0, 0]));
    channel.settle();
});

struct Guest<'a> {
    device: Loopback,
    ram: GuestRam,
    input: &'a [u8],
}

impl<'a> Guest<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.input.split_first()?;
        self.input = rest;
        Some(byte)
    }

    fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (bytes, rest) = self.input.split_at(len.min(self.input.len()));
        self.input = rest;
        bytes
    }

    /// Sizes, order and repetition of pages, and the wish, are the input's.
    fn open(&mut self) -> Option<Channel> {
        let (outgoing, incoming) = (usize::from(self.byte()? % 16), usize::from(self.byte()? % 16));
        let (stride, wish) = (u64::from(self.byte()?), self.byte()?);
        // An even stride lists pages twice, down to control pages that are data as well: such a guest broke its rings
        // by itself.
        let honest = stride % 2 == 1;
        let pfns: Vec<u64> = (0..(outgoing + incoming) as u64).map(|i| i * stride % (PAGES / 2)).collect();
        let max_payload = u32::from(wish) * 67;
        let mut user_data = [0; 120];
        if wish > 0 {
            user_data[..4].copy_from_slice(&MAGIC.to_le_bytes());
            user_data[4..8].copy_from_slice(&max_payload.to_le_bytes());
        }
        let rings = pfns.split_at(outgoing);
        let worker = TestWorker::open(&mut self.device, &self.ram, rings, user_data).ok()?;
        assert!(outgoing >= 2 && incoming >= 2 && max_payload <= MAX_PAYLOAD);
        Some(Channel {
            worker,
            max_payload,
            promised: BTreeMap::new(),
            next_id: 0,
            control_pages: [pfns[0], pfns[outgoing]],
            honest,
            alive: true,
        })
    }

    /// Serves one opening to its end.
    fn opening(&mut self) -> Option<()> {
        let Some(mut channel) = self.open() else { return self.byte().map(drop) };
        while let Some(step) = self.byte() {
            match step {
                0..=99 => {
                    let bytes = self.bytes(4);
                    channel.ask(bytes);
                }
                100..=119 => channel.name_memory(self.bytes(12)),
                120..=139 => {
                    let (kind, head, body) = (self.byte()?, self.byte()?, self.byte()?);
                    let (extension, payload) = (self.bytes(head.into()), self.bytes(body.into()));
                    channel.send_any(kind, extension, payload);
                }
                140..=199 => channel.turn(),
                200..=239 => drop(channel.take()),
                240..=251 => {
                    let bytes = self.bytes(6);
                    channel.spoil(&self.ram, bytes);
                }
                _ => break,
            }
            if !channel.alive {
                break;
            }
        }
        channel.settle();
        Some(())
    }
}

/// What a request may still be answered with.
struct Promise {
    /// Answers that must come; all but the last in band.
    answers: u32,
    /// May be one failure instead.
    refusable: bool,
}

struct Channel {
    worker: TestWorker<LoopbackWorker>,
    max_payload: u32,
    promised: BTreeMap<u64, Promise>,
    next_id: u64,
    control_pages: [u64; 2],
    /// The guest has not touched the rings but through its own side.
    honest: bool,
    alive: bool,
}

impl Channel {
    fn send(&mut self, packet: &PacketOut<'_>, promise: Promise) -> bool {
        let sent = self.worker.send(packet);
        if sent {
            self.promised.insert(packet.transaction_id, promise);
        }
        sent
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// A request: operation, size of its data, argument, flags.
    fn ask(&mut self, bytes: &[u8]) -> bool {
        let &[what, size, argument, flags] = bytes else { return false };
        let operation =
            [operation::ECHO, operation::SINK, operation::SOURCE, operation::DELAY, u32::from(what)]
                [usize::from(what % 5)];
        let completion_requested = flags & 1 != 0;
        let micros = if argument == 255 { u64::MAX } else { u64::from(argument) };
        let header = header(operation, micros, u32::from(argument), u32::from(size) * 8);
        let data = vec![size; usize::from(size) * 8];
        let (answers, refusable) = match operation {
            operation::ECHO => (1, false),
            operation::SINK => (u32::from(completion_requested), false),
            operation::SOURCE => (u32::from(argument) + u32::from(completion_requested), true),
            _ => (1, true),
        };
        let payload = [&header[..], &data];
        let packet = PacketOut { completion_requested, ..PacketOut::in_band(self.id(), &payload) };
        self.send(&packet, Promise { answers, refusable })
    }

    /// A request that names memory, some of which may not be there.
    fn name_memory(&mut self, bytes: &[u8]) {
        let [what, offset, len, pfns @ ..] = bytes else { return };
        // The rings' own pages may be read, but not changed by an honest guest.
        let operation = if what % 2 == 0 { operation::GPA_SUM } else { operation::GPA_INVERT };
        let shift = if operation == operation::GPA_INVERT { PAGES / 2 } else { 0 };
        let pfns: Vec<u64> = pfns.iter().map(|&pfn| u64::from(pfn) % PAGES + shift).collect();
        let (offset, len) = (u32::from(*offset) * 17, u32::from(*len) * 150);
        let pages = (offset + len).div_ceil(PAGE_SIZE as u32) as usize;
        let ranges = if what % 3 == 0 { &pfns[..] } else { &pfns[..pages.min(pfns.len())] };
        let mut extension = Vec::new();
        gpa_direct_extension(&[(offset, len, ranges)], &mut extension);
        let packet = PacketOut {
            kind: PacketType::GPA_DIRECT,
            transaction_id: self.id(),
            completion_requested: what & 4 != 0,
            extension: &extension,
            payload: &[&header(operation, 0, 0, 0)],
        };
        self.send(&packet, Promise { answers: 1, refusable: true });
    }

    /// Anything; only how often it is answered can be told.
    fn send_any(&mut self, kind: u8, extension: &[u8], payload: &[u8]) {
        let completion_requested = kind & 0x80 != 0;
        let kind = PacketType(u16::from(kind & 0x0f));
        let operation = payload.first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
        let request = payload.len() > 16 && matches!(kind, PacketType::IN_BAND | PacketType::GPA_DIRECT);
        let answers = match operation {
            Some(operation::SOURCE) if request => return,
            Some(operation::DELAY) if request => return,
            Some(operation::SINK) if request => u32::from(completion_requested),
            // May change the rings.
            Some(operation::GPA_INVERT) if request => return,
            _ if request => 1,
            _ => u32::from(completion_requested),
        };
        let payload = [payload];
        let transaction_id = self.id();
        let packet = PacketOut { kind, transaction_id, completion_requested, extension, payload: &payload };
        self.send(&packet, Promise { answers, refusable: true });
    }

    fn turn(&mut self) {
        if self.worker.ring().is_err() {
            assert!(!self.honest, "an honest guest's channel ended");
            self.alive = false;
        }
    }

    /// Takes an answer; whether there was one.
    fn take(&mut self) -> bool {
        let answer = self.worker.receive(|packet| {
            assert!(matches!(packet.kind, PacketType::IN_BAND | PacketType::COMPLETION) || !self.honest);
            let header = packet.payload.first_chunk::<8>().copied().unwrap_or_default();
            (
                packet.transaction_id,
                u32::from_le_bytes([header[4], header[5], header[6], header[7]]),
                packet.payload.len(),
            )
        });
        let Some((id, status, len)) = answer else { return false };
        if !self.honest {
            return true;
        }
        assert!(status <= status::NO_MEMORY);
        let largest = if self.max_payload == 0 { 1024 } else { self.max_payload.max(24) };
        assert!((24..=largest.next_multiple_of(8) as usize).contains(&len));
        let promise = self.promised.get_mut(&id).expect("an answer to nobody");
        if status != status::OK && promise.refusable {
            promise.answers = 0;
        } else {
            promise.answers = promise.answers.checked_sub(1).expect("an answer too much");
        }
        true
    }

    /// The guest writes into the rings' pages from outside.
    fn spoil(&mut self, ram: &GuestRam, bytes: &[u8]) {
        let &[which, at, a, b, c, d] = bytes else { return };
        let page = match which % 4 {
            side @ (0 | 1) => self.control_pages[usize::from(side)],
            _ => u64::from(which) % (PAGES / 2),
        };
        let offset = u64::from(at) * if which % 4 < 2 { 4 } else { 16 };
        self.honest = false;
        ram.write_slice(&[a, b, c, d], GuestAddress(page * PAGE_SIZE as u64 + offset)).expect("RAM");
    }

    /// Reads all answers; none may be missing.
    fn settle(mut self) {
        let patience = Instant::now() + Duration::from_secs(10);
        while self.alive {
            self.turn();
            let mut taken = false;
            for _ in 0..10_000 {
                if !self.take() {
                    break;
                }
                taken = true;
            }
            if !self.honest || (!taken && self.promised.values().all(|promise| promise.answers == 0)) {
                break;
            }
            // Some answers are delayed, by less than a millisecond.
            self.alive &= self.worker.fire(0).is_ok();
            assert!(self.alive && Instant::now() < patience, "answers are missing");
        }
        self.worker.close();
    }
}

fn header(operation: u32, argument: u64, count: u32, length: u32) -> [u8; 24] {
    let mut header = [0; 24];
    header[..4].copy_from_slice(&operation.to_le_bytes());
    header[8..16].copy_from_slice(&argument.to_le_bytes());
    header[16..20].copy_from_slice(&count.to_le_bytes());
    header[20..].copy_from_slice(&length.to_le_bytes());
    header
}
