//! Reads of 4 KiB through a controller's channel, on one thread, from a RAM disk: what the path from packet to
//! completion costs when neither disk nor guest costs anything.
//!
//! The guest keeps its ring filled to a depth: it sends that many requests, rings once, and takes their completions.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use devices::storage::protocol::{VstorPacket, srb_status};
use devices::testing::storage::{Buffer, gpa_direct, ram_disk, transfer};
use devices::vmbus::ring::protocol::PacketType;
use devices::vmbus::ring::{Packet, PacketOut};
use zerocopy::{FromBytes, IntoBytes};

const DEPTHS: [u32; 3] = [1, 16, 256];
/// Blocks of the disk.
const BLOCKS: u32 = 1 << 17;

fn reads(c: &mut Criterion) {
    let mut group = c.benchmark_group("storvsp");
    for depth in DEPTHS {
        group.throughput(Throughput::Elements(depth.into()));
        let mut port = ram_disk(BLOCKS as usize).port;
        // Scattered over disk and memory.
        let requests: Vec<(VstorPacket, Vec<u8>)> = (0..depth)
            .map(|n| {
                let packet = transfer(0, false, n * 7919 * 8 % BLOCKS, 4096);
                (packet, gpa_direct(&[&Buffer::pages(&[1000 + u64::from(n) * 31 % 8000])]))
            })
            .collect();
        group.bench_function(BenchmarkId::new("read 4 KiB", depth), |b| {
            b.iter(|| {
                for (id, (packet, extension)) in requests.iter().enumerate() {
                    assert!(port.send(&PacketOut {
                        kind: PacketType::GPA_DIRECT,
                        transaction_id: id as u64,
                        completion_requested: true,
                        extension,
                        payload: &[packet.as_bytes()],
                    }));
                }
                port.ring().expect("a worker that goes on");
                let mut done = 0;
                let mut take = |packet: &Packet<'_>| {
                    let answer = VstorPacket::ref_from_bytes(packet.payload).expect("a packet");
                    assert_eq!(answer.srb.short.srb_status, srb_status::SUCCESS);
                    done += 1;
                };
                while port.receive(&mut take).is_some() {}
                assert_eq!(black_box(done), depth);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, reads);
criterion_main!(benches);
