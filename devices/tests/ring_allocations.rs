//! Packets cost no allocation: an allocator counts while packets pass through a channel, both ways.
//!
//! A binary of its own, because a program has one allocator. It counts each thread's allocations apart: the test
//! harness makes some meanwhile.

#![expect(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use devices::mem::{GuestRam, PAGE_SIZE, Pages};
use devices::testing::TestSynic;
use devices::vmbus::channel::{Channel, ChannelCounters, Flow, Interrupt, Sent};
use devices::vmbus::ring::{Incoming, Outgoing, PacketBuffer, PacketOut, RingPages};
use vm_memory::GuestAddress;

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

fn rings() -> (Channel, Outgoing<RingPages>, Incoming<RingPages>) {
    let ram = GuestRam::from_ranges(&[(GuestAddress(0), 64 * PAGE_SIZE)]).expect("RAM");
    let ring = |pfns: &[u64]| RingPages::new(Pages::resolve(&ram, pfns).expect("pages")).expect("a ring");
    let from_guest = ring(&(0..32).rev().collect::<Vec<u64>>());
    let to_guest = ring(&(32..64).collect::<Vec<u64>>());
    // A guest that wants no interrupts, because those are not the channel's work.
    let interrupt = Arc::new(Interrupt::new(Arc::new(TestSynic::new(1)), 1, None));
    let writer = Outgoing::open(from_guest.clone()).expect("an empty ring");
    let reader = Incoming::open(to_guest.clone()).expect("an empty ring");
    let channel = Channel::open(from_guest, to_guest, interrupt, Arc::new(ChannelCounters::default()));
    (channel.expect("empty rings"), writer, reader)
}

#[test]
fn packets_cost_no_allocation() {
    let (mut channel, mut writer, mut reader) = rings();
    let mut buffer = PacketBuffer::new();
    let payload = [0x5a; 16384];
    // The buffers grow to the largest packet at first. After that nothing may.
    let mut counted = 0;
    for (round, len) in [16384, 64, 512, 4096, 1, 16384, 0].into_iter().cycle().take(700).enumerate() {
        if round == 7 {
            counted = ALLOCATIONS.get();
        }
        let (head, tail) = payload.split_at(len / 3);
        for id in 0..4 {
            let pieces = [head, tail.split_at(len - head.len()).0];
            writer.write(&PacketOut::in_band(id, &pieces)).expect("room");
        }
        writer.commit().expect("indices");
        let echo = channel.receive(|packet, replies| {
            let sent = replies.send(&PacketOut::completion(packet.transaction_id, &[packet.payload]))?;
            assert_eq!(sent, Sent::Yes);
            Ok(Flow::Continue)
        });
        echo.expect("packets");
        let mut packets = 0;
        while reader.next(&mut buffer).expect("a packet").is_some() {
            packets += 1;
        }
        assert_eq!(packets, 4);
        reader.commit().expect("indices");
    }
    assert!(counted > 0, "nothing counts");
    assert_eq!(ALLOCATIONS.get(), counted, "allocations in the steady state");
}
