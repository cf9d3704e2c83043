//! Packets through a ring, beside copying the same bytes in and out of one buffer.
//!
//! One thread plays both sides: a batch is written and shown, then read and given back. The pages of the
//! `scattered` rings are in reverse order, so that no two of them are one run of memory.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use devices::mem::{GuestRam, PAGE_SIZE, Pages};
use devices::vmbus::ring::{Incoming, Outgoing, PacketBuffer, PacketOut, RingPages};
use vm_memory::GuestAddress;

const RING_PAGES: u64 = 65;
const BATCH: usize = 8;
const PAYLOADS: [usize; 4] = [64, 512, 4096, 16384];

fn sides(pfns: &[u64]) -> (Outgoing<RingPages>, Incoming<RingPages>) {
    let ram = GuestRam::from_ranges(&[(GuestAddress(0), pfns.len() * PAGE_SIZE)]).expect("RAM");
    let memory = RingPages::new(Pages::resolve(&ram, pfns).expect("pages")).expect("ring");
    (Outgoing::open(memory.clone()).expect("writer"), Incoming::open(memory).expect("reader"))
}

fn packets(c: &mut Criterion) {
    let mut group = c.benchmark_group("ring");
    let in_order: Vec<u64> = (0..RING_PAGES).collect();
    let scattered: Vec<u64> = in_order.iter().rev().copied().collect();
    for len in PAYLOADS {
        group.throughput(Throughput::Bytes((BATCH * len) as u64));
        let payload = vec![0x5a; len];
        for (name, pfns) in [("in_order", &in_order), ("scattered", &scattered)] {
            let (mut writer, mut reader) = sides(pfns);
            let mut buffer = PacketBuffer::new();
            group.bench_function(BenchmarkId::new(name, len), |b| {
                b.iter(|| {
                    for id in 0..BATCH {
                        writer.write(&PacketOut::in_band(id as u64, &[&payload])).expect("room");
                    }
                    black_box(writer.commit().expect("commit"));
                    while let Some(packet) = reader.next(&mut buffer).expect("packet") {
                        black_box(packet.payload);
                    }
                    black_box(reader.commit().expect("commit"));
                });
            });
        }
        let mut ring = vec![0; BATCH * (len + 24)];
        let mut buffer = vec![0; len];
        group.bench_function(BenchmarkId::new("memcpy", len), |b| {
            b.iter(|| {
                for slot in ring.chunks_exact_mut(len + 24) {
                    slot[16..16 + len].copy_from_slice(black_box(&payload));
                }
                for slot in ring.chunks_exact(len + 24) {
                    buffer.copy_from_slice(black_box(&slot[16..16 + len]));
                    black_box(&buffer);
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, packets);
criterion_main!(benches);
