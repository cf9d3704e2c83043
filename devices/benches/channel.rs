//! An open channel at work: a guest's packets are received and each is answered, on one thread.
//!
//! The device's part of the data path, that is, without the hypervisor: rings, checks, counters, and the branch
//! that asks whether the channel is traced.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use devices::mem::{GuestRam, PAGE_SIZE, Pages};
use devices::testing::TestSynic;
use devices::vmbus::channel::{Channel, Flow, Interrupt};
use devices::vmbus::ring::{Incoming, Outgoing, PacketBuffer, PacketOut, RingPages};
use devices::vmbus::synic::Synic;
use vm_memory::GuestAddress;

const RING_PAGES: usize = 65;
const BATCH: usize = 8;
const PAYLOADS: [usize; 3] = [64, 512, 4096];

/// The host's end of a channel, and the guest's rings.
struct Sides {
    channel: Channel,
    outgoing: Outgoing<RingPages>,
    incoming: Incoming<RingPages>,
}

fn sides() -> Sides {
    let ram = GuestRam::from_ranges(&[(GuestAddress(0), 2 * RING_PAGES * PAGE_SIZE)]).expect("RAM");
    let ring = |first: usize| {
        let pfns: Vec<u64> = (first..first + RING_PAGES).map(|pfn| pfn as u64).collect();
        RingPages::new(Pages::resolve(&ram, &pfns).expect("pages")).expect("ring")
    };
    let (from_guest, to_guest) = (ring(0), ring(RING_PAGES));
    let outgoing = Outgoing::open(from_guest.clone()).expect("writer");
    let incoming = Incoming::open(to_guest.clone()).expect("reader");
    let synic: Arc<dyn Synic> = Arc::new(TestSynic::new(1));
    let interrupt = Arc::new(Interrupt::new(synic, 1, None));
    let channel = Channel::open(from_guest, to_guest, interrupt, Arc::default()).expect("channel");
    Sides { channel, outgoing, incoming }
}

fn round(sides: &mut Sides, payload: &[u8], buffer: &mut PacketBuffer) {
    for id in 0..BATCH {
        sides.outgoing.write(&PacketOut::in_band(id as u64, &[payload])).expect("room");
    }
    black_box(sides.outgoing.commit().expect("commit"));
    let answered = sides.channel.receive(|packet, replies| {
        let sent = replies.send(&PacketOut::completion(packet.transaction_id, &[packet.payload]));
        let _ = black_box(sent?);
        Ok(Flow::Continue)
    });
    answered.expect("a sound ring");
    while let Some(packet) = sides.incoming.next(buffer).expect("packet") {
        black_box(packet.payload);
    }
    black_box(sides.incoming.commit().expect("commit"));
}

fn answers(c: &mut Criterion) {
    let mut group = c.benchmark_group("channel");
    for len in PAYLOADS {
        group.throughput(Throughput::Elements(BATCH as u64));
        let payload = vec![0x5a; len];
        let mut buffer = PacketBuffer::new();
        let mut sides = sides();
        group.bench_function(BenchmarkId::new("echo", len), |b| {
            b.iter(|| round(&mut sides, &payload, &mut buffer));
        });
    }
    group.finish();
}

criterion_group!(benches, answers);
criterion_main!(benches);
