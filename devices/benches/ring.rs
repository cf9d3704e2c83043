//! Packets between two threads through a ring, beside plain copies of the same bytes.
//!
//! * `host_reads`, `host_writes`: the host's side and a guest's side of a ring whose pages are scattered, by all
//!   rules of masks, pending sizes and signals. A signal is a flag on which the other thread spins: what is measured
//!   is the ring, not the kernel. A quarter of the ring is shown, or given back, at a time.
//! * `memcpy`: one thread copies the payloads out of a buffer of the ring's size.
//! * `memcpy_between`: one thread copies the payloads into quarters of such a buffer, another copies them out: what
//!   the machine takes to move bytes from one processor to another.
//!
//! Ids are `ring/WHAT_PAGES/PAYLOAD`; the estimates lie under `target/criterion`. The iterations of one estimate are
//! packets. Both threads should have a processor for themselves.

use std::hint::black_box;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use devices::mem::{GuestRam, PAGE_SIZE, Pages};
use devices::vmbus::ring::{Incoming, Outgoing, PacketBuffer, PacketOut, RingPages, WriteError};
use vm_memory::GuestAddress;

const RINGS: [usize; 2] = [16, 512];
const PAYLOADS: [usize; 4] = [64, 512, 4096, 16384];

/// What a packet takes in the ring.
fn ring_bytes(payload: usize) -> usize {
    payload + 24
}

/// Waits without the kernel's help, but lets others run if that takes long.
fn spin_until(mut done: impl FnMut() -> bool) {
    let mut turns = 0_u32;
    while !done() {
        turns += 1;
        if turns.is_multiple_of(1 << 12) {
            thread::yield_now();
        }
        std::hint::spin_loop();
    }
}

/// A doorbell on which its owner spins.
#[derive(Default)]
struct Doorbell(AtomicBool);

impl Doorbell {
    fn ring(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn sleep(&self) {
        spin_until(|| self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Acquire));
    }
}

/// A ring of scattered pages and what wakes its sides.
struct Ring {
    memory: RingPages,
    quarter: usize,
    to_reader: Doorbell,
    to_writer: Doorbell,
}

impl Ring {
    fn new(pages: usize) -> Self {
        let ram = GuestRam::from_ranges(&[(GuestAddress(0), pages * PAGE_SIZE)]).expect("RAM");
        let pfns: Vec<u64> = (0..pages as u64).rev().collect();
        let memory = RingPages::new(Pages::resolve(&ram, &pfns).expect("pages")).expect("a ring");
        let quarter = (pages - 1) * PAGE_SIZE / 4;
        Ring { memory, quarter, to_reader: Doorbell::default(), to_writer: Doorbell::default() }
    }

    fn write(&self, packets: u64, payload: &[u8]) {
        let mut writer = Outgoing::open(self.memory.clone()).expect("a ring");
        let room = u32::try_from(self.quarter.max(ring_bytes(payload.len()))).expect("a ring's bytes");
        let batch = (self.quarter / ring_bytes(payload.len())).max(1) as u64;
        let mut batch_ends = batch;
        for id in 0..packets {
            while let Err(error) = writer.write(&PacketOut::in_band(id, &[payload])) {
                assert!(matches!(error, WriteError::Full { .. }), "{error}");
                self.show(&mut writer);
                if !writer.wait_for_room(room).expect("indices") {
                    self.to_writer.sleep();
                }
            }
            if id == batch_ends {
                self.show(&mut writer);
                batch_ends += batch;
            }
        }
        self.show(&mut writer);
    }

    fn show(&self, writer: &mut Outgoing<RingPages>) {
        if writer.commit().expect("indices") {
            self.to_reader.ring();
        }
    }

    fn read(&self, packets: u64) {
        let mut reader = Incoming::open(self.memory.clone()).expect("a ring");
        let mut buffer = PacketBuffer::new();
        let (mut read, mut kept) = (0, 0);
        while read < packets {
            reader.mask().expect("memory");
            while let Some(packet) = reader.next(&mut buffer).expect("a packet") {
                read += 1;
                kept += ring_bytes(black_box(packet.payload).len());
                if kept >= self.quarter {
                    self.give_back(&mut reader);
                    kept = 0;
                }
            }
            self.give_back(&mut reader);
            if !reader.unmask().expect("indices") && read < packets {
                self.to_reader.sleep();
            }
        }
    }

    fn give_back(&self, reader: &mut Incoming<RingPages>) {
        if reader.commit().expect("indices") {
            self.to_writer.ring();
        }
    }
}

/// Time that `host` takes while `guest` runs on another thread.
fn time(host: impl FnOnce(), guest: impl FnOnce() + Send) -> Duration {
    let (ready, go) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            ready.store(true, Ordering::Release);
            spin_until(|| go.load(Ordering::Acquire));
            guest();
        });
        spin_until(|| ready.load(Ordering::Acquire));
        let start = Instant::now();
        go.store(true, Ordering::Release);
        host();
        start.elapsed()
    })
}

/// A buffer in quarters, each the writer's or the reader's.
struct Quarters {
    quarters: Vec<Mutex<Vec<u8>>>,
    written: AtomicU64,
    read: AtomicU64,
}

impl Quarters {
    fn new(bytes: usize, payload: usize) -> Self {
        let quarter = (bytes / 4).next_multiple_of(payload);
        let quarters = (0..4).map(|_| Mutex::new(vec![0; quarter])).collect();
        Quarters { quarters, written: AtomicU64::new(0), read: AtomicU64::new(0) }
    }

    /// Does something with quarter after quarter until `packets` payloads are through. The `other` side is ahead
    /// by `lead` quarters at least.
    fn pass(&self, packets: u64, len: usize, side: Side, mut copy: impl FnMut(&mut [u8])) {
        let (own, ready): (_, &dyn Fn(u64) -> bool) = match side {
            Side::Writer => (&self.written, &|n| n < self.read.load(Ordering::Acquire) + 4),
            Side::Reader => (&self.read, &|n| n < self.written.load(Ordering::Acquire)),
        };
        let (mut left, mut quarter) = (packets, own.load(Ordering::Relaxed));
        while left > 0 {
            spin_until(|| ready(quarter));
            let mut bytes = self.quarters[(quarter % 4) as usize].lock().expect("no panic");
            for slot in bytes.chunks_exact_mut(len) {
                copy(slot);
            }
            left = left.saturating_sub((bytes.len() / len) as u64);
            drop(bytes);
            quarter += 1;
            own.store(quarter, Ordering::Release);
        }
    }
}

#[derive(Clone, Copy)]
enum Side {
    Writer,
    Reader,
}

fn memcpy(packets: u64, area: &[u8], buffer: &mut [u8]) -> Duration {
    let start = Instant::now();
    for payload in area.chunks_exact(buffer.len()).cycle().take(usize::try_from(packets).expect("a count")) {
        buffer.copy_from_slice(black_box(payload));
        black_box(&mut *buffer);
    }
    start.elapsed()
}

fn packets(c: &mut Criterion) {
    let mut group = c.benchmark_group("ring");
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1)).sample_size(20);
    for pages in RINGS {
        for len in PAYLOADS {
            let id = |what: &str| BenchmarkId::new(format!("{what}_{pages}"), len);
            let payload = vec![0x5a; len];
            group.throughput(Throughput::Bytes(len as u64));
            let ring = Ring::new(pages);
            group.bench_function(id("host_reads"), |b| {
                b.iter_custom(|packets| time(|| ring.read(packets), || ring.write(packets, &payload)));
            });
            let ring = Ring::new(pages);
            group.bench_function(id("host_writes"), |b| {
                b.iter_custom(|packets| time(|| ring.write(packets, &payload), || ring.read(packets)));
            });
            let bytes = (pages - 1) * PAGE_SIZE;
            let (area, mut buffer) = (vec![0x5a; bytes], vec![0; len]);
            group.bench_function(id("memcpy"), |b| {
                b.iter_custom(|packets| memcpy(packets, &area, &mut buffer));
            });
            let quarters = Quarters::new(bytes, len);
            group.bench_function(id("memcpy_between"), |b| {
                b.iter_custom(|packets| {
                    let write =
                        || quarters.pass(packets, len, Side::Writer, |to| to.copy_from_slice(&payload));
                    let read = || {
                        quarters.pass(packets, len, Side::Reader, |from| {
                            buffer.copy_from_slice(from);
                            black_box(&mut buffer);
                        });
                    };
                    time(read, write)
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, packets);
criterion_main!(benches);
