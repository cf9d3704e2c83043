//! Host memory that a guest can cost: none per packet, and a bound for the worst guest that there can be.
//!
//! Counts what the allocator is asked for; guest RAM is mapped and not in it.

#![expect(unsafe_code, reason = "an allocator that counts implements an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

use devices::ic::heartbeat::Heartbeat;
use devices::loopback::Loopback;
use devices::loopback::protocol::{
    Header, INTERFACE, MAGIC, MAX_DELAY, MAX_DELAYED, MAX_PAYLOAD, OpenData, operation,
};
use devices::mem::{GuestRam, PAGE_SIZE};
use devices::testing::{TestGuest, TestWorker};
use devices::vmbus::protocol::message_type;
use devices::vmbus::ring::PacketOut;
use devices::vmbus::server::Refusal;
use devices::vmbus::server::limits::{MAX_GPADL_UNITS, MAX_PARTIAL_GPADLS};
use vm_memory::GuestAddress;
use zerocopy::{FromZeros, IntoBytes};

/// What an allocation costs beside its bytes, roughly.
const OVERHEAD: usize = 16;

/// Most that a guest can make the bus hold. README states it.
const WORST_GUEST: usize = 16 << 20;

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size() + OVERHEAD, Ordering::Relaxed);
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size() + OVERHEAD, Ordering::Relaxed);
        // SAFETY: the caller's promises are the same.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of this thread while something runs.
fn allocations(run: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    run();
    ALLOCATIONS.get() - before
}

#[test]
fn echo_and_sink_allocate_nothing_per_packet() {
    let ram = GuestRam::from_ranges(&[(GuestAddress(0), 64 * PAGE_SIZE)]).unwrap();
    let pfns: Vec<u64> = (0..64).collect();
    let mut user_data = [0; 120];
    let wish = OpenData { magic: MAGIC.into(), max_payload: MAX_PAYLOAD.into() };
    user_data[..8].copy_from_slice(wish.as_bytes());
    let mut device = Loopback::device().0;
    let mut channel = TestWorker::open(&mut device, &ram, pfns.split_at(32), user_data).unwrap();
    let mut header = Header::new_zeroed();
    let mut run = |operation: u32, rounds: u64| {
        header.operation = operation.into();
        let data = [7; 16000];
        for round in 0..rounds {
            for len in [0, 8, 64, 512, 4096, 16000] {
                assert!(channel.send(&PacketOut::in_band(round, &[header.as_bytes(), &data[..len]])));
            }
            channel.ring().unwrap();
            let mut answers = 0;
            while channel.receive(|packet| assert_eq!(packet.transaction_id, round)).is_some() {
                answers += 1;
            }
            assert_eq!(answers, if operation == operation::ECHO { 6 } else { 0 });
        }
    };
    for operation in [operation::ECHO, operation::SINK] {
        run(operation, 10);
        assert_eq!(allocations(|| run(operation, 1000)), 0, "operation {operation}");
    }
}

/// Lends lists of single bytes, each on a page of its own, until the budget is spent.
fn lend_all(guest: &mut TestGuest, channel: u32) {
    let full = |guest: &TestGuest| guest.bus.server().counters().refused(Refusal::TooManyPages) > 0;
    for gpadl in 0x10_0000.. {
        let mut message = [channel.to_le_bytes(), u32::to_le_bytes(gpadl)].concat();
        // 4095 ranges in 65520 bytes, the most that a header can announce.
        message.extend([0xf0, 0xff, 0xff, 0x0f]);
        let mut kind = message_type::GPADL_HEADER;
        for _ in 0..=4095 / 13 {
            message.extend((0..13).flat_map(|_| [1u64, 7]).flat_map(u64::to_le_bytes));
            guest.send(kind, &message);
            if full(guest) {
                return;
            }
            kind = message_type::GPADL_BODY;
            message = [0u32.to_le_bytes(), u32::to_le_bytes(gpadl)].concat();
        }
        while guest.try_receive().is_some() {}
        assert!(gpadl < 0x10_0000 + 100, "the budget is never spent");
    }
}

#[test]
fn the_worst_guest_holds_less_than_16_mib_of_host_memory() {
    let mut guest = TestGuest::default();
    guest.bus.add(Loopback::device().0).unwrap();
    guest.bus.add(Heartbeat::device().0).unwrap();
    let wish = OpenData { magic: MAGIC.into(), max_payload: MAX_PAYLOAD.into() };
    guest.user_data[..8].copy_from_slice(wish.as_bytes());
    let before = HELD.load(Ordering::Relaxed);

    // Rings of 8190 pages of which no two are neighbours.
    let offer = guest.connect_to(INTERFACE);
    let pages = guest.allocate(128);
    let pfns: Vec<u64> = (0..8190).map(|i| pages[i * 2 % 128]).collect();
    let mut big: Vec<u64> = guest.allocate(256);
    big.extend(&pfns[256..]);
    let mut channel = guest.open_on(&offer, &big, 200).unwrap();

    // The largest packet that there can be, as many delayed answers as there can be, and one that is held.
    let mut header = Header::new_zeroed();
    header.operation = operation::SINK.into();
    let huge = vec![0; 500 << 10];
    channel.send(&PacketOut {
        completion_requested: true,
        ..PacketOut::in_band(0, &[header.as_bytes(), &huge])
    });
    channel.receive(|packet| assert_eq!(packet.transaction_id, 0));
    header.operation = operation::DELAY.into();
    header.argument = MAX_DELAY.into();
    let data = vec![0; 16360];
    for id in 0..MAX_DELAYED as u64 {
        channel.send(&PacketOut::in_band(id, &[header.as_bytes(), &data]));
    }
    // The device has them when it refuses the next.
    channel.send(&PacketOut::in_band(1000, &[header.as_bytes(), &data]));
    channel.receive(|packet| assert_eq!(packet.transaction_id, 1000));

    // Lists that are never finished, every list that the budget allows, and answers that nobody fetches.
    // One may still be begun: the lists after them have to be.
    for gpadl in (1u32..).take(MAX_PARTIAL_GPADLS - 1) {
        let mut message = [offer.channel().to_le_bytes(), gpadl.to_le_bytes(), [24, 0, 1, 0]].concat();
        message.extend(8192u64.to_le_bytes());
        guest.send(message_type::GPADL_HEADER, &message);
    }
    lend_all(&mut guest, offer.channel());
    for _ in 0..1000 {
        let _ = guest.post(4, &[[11, 0, 0, 0], [0; 4], [0; 4], [0; 4]].concat());
    }

    let held = HELD.load(Ordering::Relaxed) - before;
    eprintln!("the worst guest holds {} KiB", held >> 10);
    assert!(held < WORST_GUEST, "{held} bytes");
    assert!(held > MAX_GPADL_UNITS * 8, "the test does not reach the budgets");
}
