//! A storage request costs no allocation: an allocator counts while reads and writes of a RAM disk pass through a
//! channel.
//!
//! A binary of its own, because a program has one allocator. It counts each thread's allocations apart: the test
//! harness makes some meanwhile.

#![expect(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use devices::disk::{Disk, DiskOptions, MemoryImage};
use devices::storage::protocol::{Version, VstorPacket, srb_status};
use devices::storage::scsi::{Identity, Initiator, ScsiDisk};
use devices::storage::{Controller, MAX_TRANSFER, StorageDevice, StorageOptions, StorageWorker, instance};
use devices::testing::storage::{Buffer, StorageDriver, gpa_direct, srb, transfer};
use devices::testing::{TestGuest, TestWorker};
use devices::vmbus::ring::PacketOut;
use devices::vmbus::ring::protocol::PacketType;
use zerocopy::{FromBytes, IntoBytes};

/// Counts what the system's allocator is asked for.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: all is handed to `System` as it comes.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn channel() -> StorageDriver<TestWorker<StorageWorker>> {
    let disk = Disk::new("ram".into(), Box::new(MemoryImage::new(8 << 20, 512)), &DiskOptions::default());
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
    driver
}

#[test]
fn reads_and_writes_cost_no_allocation() {
    let mut port = channel().port;
    let requests =
        [(4096, false), (4096, true), (512, false), (1 << 20, true), (1 << 20, false)].map(|(len, write)| {
            let pages = u64::from(len).div_ceil(4096);
            let buffer = Buffer { offset: 0, len, pfns: (100..100 + pages).collect() };
            (transfer(0, write, 8, len), gpa_direct(&[buffer]))
        });
    // Buffers grow to what they need at first. After that nothing may.
    let mut counted = 0;
    for round in 0..100 {
        if round == 5 {
            counted = ALLOCATIONS.get();
        }
        for id in 0..40 {
            let (packet, extension) = &requests[id % requests.len()];
            let sent = port.send(&PacketOut {
                kind: PacketType::GPA_DIRECT,
                transaction_id: id as u64,
                completion_requested: true,
                extension,
                payload: &[packet.as_bytes()],
            });
            assert!(sent, "there is room");
        }
        port.ring().expect("a worker that goes on");
        let mut completions = 0;
        let mut take = |packet: &devices::vmbus::ring::Packet<'_>| {
            let answer = VstorPacket::ref_from_bytes(packet.payload).expect("a packet");
            assert_eq!(answer.srb.short.srb_status, srb_status::SUCCESS);
            completions += 1;
        };
        while port.receive(&mut take).is_some() {}
        assert_eq!(completions, 40);
    }
    assert!(counted > 0, "nothing counts");
    assert_eq!(ALLOCATIONS.get(), counted, "allocations in the steady state");
}
