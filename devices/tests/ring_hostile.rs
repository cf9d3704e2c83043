//! A guest that rewrites its rings from another thread while the host works on them.
//!
//! Every word and every byte of the ring changes at any moment, mostly to something that nearly makes sense. Wrong
//! packets and errors may come out; no panic, no hang, no access outside of the ring (the pages around it hold a
//! word that must not come out, and must be there in the end) and, under ThreadSanitizer, no data race but the host's
//! copies into the ring, which `devices::mem` explains. It does not see the copies of whole blocks out of the ring,
//! which are not Rust; what it watches is all that is done with them:
//!
//! ```text
//! TSAN_OPTIONS=suppressions=$PWD/devices/tests/tsan-suppressions.txt RUSTC_BOOTSTRAP=1 \
//!     RUSTFLAGS="-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer" \
//!     cargo test -p devices --test ring_hostile --target x86_64-unknown-linux-gnu -- --test-threads=1
//! ```
//!
//! `RING_HOSTILE_STEPS` says how many steps the host takes in each test; a million is worth it there.

#![expect(clippy::cast_possible_truncation, reason = "the numbers are small, or need not be right")]

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use devices::mem::{GuestRam, PAGE_SIZE, Pages};
use devices::vmbus::ring::protocol::PacketType;
use devices::vmbus::ring::{
    Incoming, Outgoing, Packet, PacketBuffer, PacketOut, RingError, RingPages, WriteError, pipe_message,
};
use vm_memory::{Bytes, GuestAddress};

/// In every word of the pages that are not the ring's. The guest never writes it into the ring.
const SECRET: u64 = 0x5ec2_e75e_c2e7_5ec2;

const RAM_PAGES: u64 = 16;

/// No two are neighbours, and one is there twice.
const RING: [u64; 6] = [9, 3, 12, 5, 3, 7];

/// Bytes of the ring's data.
const DATA: u32 = (RING.len() as u32 - 1) * PAGE_SIZE as u32;

/// Most packets start at a multiple of so many bytes, and end there.
const STEP: u32 = 64;

/// How often the guest rewrites something while the host takes its steps, at least.
const REWRITES: u64 = 30_000;

fn steps() -> u64 {
    std::env::var("RING_HOSTILE_STEPS").map_or(100_000, |steps| steps.parse().expect("a number of steps"))
}

/// Numbers that nobody could guess, the same in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u32) -> u32 {
        u32::try_from(self.next() % u64::from(limit)).expect("below 2^32")
    }

    /// Mostly where a packet could start: see [`rewrite`].
    fn number(&mut self) -> u32 {
        match self.below(16) {
            0 => self.below(u32::MAX),
            1 => 8 * self.below(DATA / 8),
            2 => self.below(DATA),
            _ => STEP * self.below(DATA / STEP),
        }
    }
}

/// The RAM of which some pages are a ring.
struct Ram {
    ram: GuestRam,
    outside: Pages,
    ring: RingPages,
}

impl Ram {
    fn new() -> Self {
        let size = PAGE_SIZE * RAM_PAGES as usize;
        let ram = GuestRam::from_ranges(&[(GuestAddress(0), size)]).expect("RAM");
        let outside: Vec<u64> = (0..RAM_PAGES).filter(|pfn| !RING.contains(pfn)).collect();
        let outside = Pages::resolve(&ram, &outside).expect("pages");
        outside.write(0, &SECRET.to_ne_bytes().repeat(outside.size() / 8)).expect("pages");
        let ring = RingPages::new(Pages::resolve(&ram, &RING).expect("pages")).expect("a ring");
        Self { ram, outside, ring }
    }

    /// Takes the host's steps while the guest rewrites the ring.
    fn run(&self, mut step: impl FnMut(&mut Random)) {
        let (over, rewrites) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut random = Random(0x9e37_79b9_7f4a_7c15);
                while !over.load(Ordering::Relaxed) {
                    rewrite(&self.ram, &mut random);
                    rewrites.fetch_add(1, Ordering::Relaxed);
                }
            });
            let mut random = Random(0x2545_f491_4f6c_dd1d);
            let mut taken = 0;
            while taken < steps() || rewrites.load(Ordering::Relaxed) < REWRITES {
                step(&mut random);
                taken += 1;
            }
            over.store(true, Ordering::Relaxed);
        });
        let mut outside = vec![0; self.outside.size()];
        self.outside.read(0, &mut outside).expect("pages");
        assert!(
            outside.chunks_exact(8).all(|word| word == SECRET.to_ne_bytes()),
            "written outside of the ring"
        );
    }
}

/// The guest's part: it writes where it likes, a word at a time.
fn rewrite(ram: &GuestRam, random: &mut Random) {
    if random.below(3) == 0 {
        // The words of the control page that have a meaning.
        let word = [0, 4, 8, 12, 64][random.below(5) as usize];
        ram.store(random.number(), address(word), Ordering::Relaxed).expect("RAM");
        return;
    }
    let kind = [6, 7, 9, 11][random.below(4) as usize];
    let units = if random.below(16) == 0 { random.below(1 << 16) } else { 8 * random.below(70) + 7 };
    let descriptor = kind | u64::from(random.below(12)) << 16 | u64::from(units) << 32 | 1 << 48;
    let (ranges, pages) = (u64::from(random.below(4)) << 32, u64::from(random.below(256)) | 0x800 << 32);
    let at =
        if random.below(16) == 0 { 8 * random.below(DATA / 8) } else { STEP * random.below(DATA / STEP) };
    for (i, word) in (0..).zip([descriptor, 1, ranges, pages]) {
        let offset = (at + 8 * i) % DATA;
        ram.store(word, address(PAGE_SIZE as u32 + offset), Ordering::Relaxed).expect("RAM");
    }
}

/// Where a byte of the ring is in RAM.
fn address(offset: u32) -> GuestAddress {
    let page = RING[offset as usize / PAGE_SIZE];
    GuestAddress(page * PAGE_SIZE as u64 + u64::from(offset) % PAGE_SIZE as u64)
}

/// Does with a packet what devices do.
fn look_into(packet: &Packet<'_>) {
    for bytes in [packet.extension, packet.payload] {
        assert!(bytes.chunks_exact(8).all(|word| word != SECRET.to_ne_bytes()), "read outside of the ring");
    }
    if let Ok(ranges) = packet.gpa_ranges() {
        for range in ranges {
            black_box(range.pfns().count());
        }
    }
    let _ = black_box((packet.transfer_ranges(), pipe_message(packet.payload)));
}

#[test]
fn the_host_may_read_nonsense_and_nothing_worse() {
    let ram = Ram::new();
    let mut buffer = PacketBuffer::new();
    let mut reader: Option<Incoming<RingPages>> = None;
    let (mut packets, mut errors) = (0_u64, 0_u64);
    ram.run(|_| {
        let Some(incoming) = &mut reader else {
            reader = Incoming::open(ram.ring.clone()).ok();
            return;
        };
        // A channel would end at the first error; opened anew, it goes on until the next.
        if read(incoming, &mut buffer, &mut packets).is_err() {
            errors += 1;
            reader = None;
        }
    });
    assert!(packets > 0 && errors > 0, "{packets} packets, {errors} errors");
}

/// A round of what a channel does, until it is empty or the device pauses.
fn read(
    reader: &mut Incoming<RingPages>,
    buffer: &mut PacketBuffer,
    packets: &mut u64,
) -> Result<(), RingError> {
    reader.mask()?;
    for _ in 0..100 {
        let Some(packet) = reader.next(buffer)? else { break };
        look_into(&packet);
        *packets += 1;
    }
    black_box((reader.commit()?, reader.unmask()?, reader.writer_is_stuck()?));
    Ok(())
}

#[test]
fn the_host_may_write_for_nobody_and_nothing_worse() {
    let ram = Ram::new();
    let mut writer: Option<Outgoing<RingPages>> = None;
    let (mut packets, mut errors) = (0_u64, 0_u64);
    ram.run(|random| {
        let Some(outgoing) = &mut writer else {
            writer = Outgoing::open(ram.ring.clone()).ok();
            return;
        };
        match write(outgoing, random) {
            Ok(()) => packets += 1,
            Err(WriteError::Full { .. } | WriteError::TooLarge { .. }) => {}
            Err(WriteError::Ring(_)) => {
                errors += 1;
                writer = None;
            }
        }
    });
    assert!(packets > 0 && errors > 0, "{packets} packets, {errors} errors");
}

fn write(writer: &mut Outgoing<RingPages>, random: &mut Random) -> Result<(), WriteError> {
    let bytes = [0x77; 6000];
    let payload = bytes.split_at(random.below(6000) as usize).0;
    let pieces = payload.split_at(payload.len() / 3);
    let packet = PacketOut {
        kind: PacketType::TRANSFER_PAGES,
        transaction_id: 1,
        completion_requested: true,
        extension: &[0x66; 21],
        payload: &[pieces.0, pieces.1],
    };
    let written = writer.write(&packet);
    black_box((writer.commit()?, writer.reader_is_stuck()?));
    if let Err(WriteError::Full { need, .. }) = written {
        black_box(writer.wait_for_room(need)?);
    }
    written
}
