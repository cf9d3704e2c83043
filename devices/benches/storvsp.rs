//! Reads of 4 KiB through a controller's channel, on one thread, from a RAM disk: what the path from packet to
//! completion costs when neither disk nor guest costs anything.
//!
//! The guest keeps its ring filled to a depth: it sends that many requests, rings once, and takes their completions.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use devices::disk::{Disk, DiskOptions, MemoryImage};
use devices::storage::protocol::{Version, VstorPacket, srb_status};
use devices::storage::scsi::{Identity, Initiator, ScsiDisk};
use devices::storage::{Controller, MAX_TRANSFER, StorageDevice, StorageOptions, StorageWorker, instance};
use devices::testing::storage::{Buffer, StorageDriver, gpa_direct, srb, transfer};
use devices::testing::{TestGuest, TestWorker};
use devices::vmbus::ring::protocol::PacketType;
use devices::vmbus::ring::{Packet, PacketOut};
use zerocopy::{FromBytes, IntoBytes};

const DEPTHS: [usize; 3] = [1, 16, 256];
const DISK: usize = 64 << 20;

fn channel() -> TestWorker<StorageWorker> {
    let disk = Disk::new("ram".into(), Box::new(MemoryImage::new(DISK, 512)), &DiskOptions::default());
    let identity = Identity::new(None, None, instance(0), 0);
    let unit = ScsiDisk::new(Arc::new(disk.expect("a disk")), identity, MAX_TRANSFER);
    let controller = Controller::new(Initiator::new(0).expect("a number"));
    controller.add(0, Arc::new(unit)).expect("a free place");
    let mut device = StorageDevice::new(controller, StorageOptions::default());
    let mut guest = TestGuest::default();
    let (to_host, from_host) = (guest.allocate(33), guest.allocate(33));
    let port = TestWorker::open(&mut device, guest.ram(), (&to_host, &from_host), [0; 120]);
    let mut driver = StorageDriver::new(port.expect("a channel"));
    driver.initialise(Version::V6_2);
    driver.call(&srb(0, &[0; 6], 2, 0), &[]);
    driver.port
}

fn reads(c: &mut Criterion) {
    let mut group = c.benchmark_group("storvsp");
    for depth in DEPTHS {
        group.throughput(Throughput::Elements(depth as u64));
        let mut port = channel();
        // Scattered over disk and memory.
        let requests: Vec<(VstorPacket, Vec<u8>)> = (0..depth as u32)
            .map(|n| {
                let packet = transfer(0, false, n * 7919 * 8 % (DISK / 512) as u32, 4096);
                (packet, gpa_direct(&[Buffer::pages(&[1000 + u64::from(n) * 31 % 8000])]))
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
