//! Packets through a channel, both ways.

use std::sync::Arc;

use devices::mem::{GuestRam, PAGE_SIZE, Pages};
use devices::testing::TestSynic;
use devices::vmbus::channel::{Channel, ChannelCounters, Flow, Interrupt, Sent};
use devices::vmbus::ring::{Incoming, Outgoing, PacketBuffer, PacketOut, RingPages};
use vm_memory::GuestAddress;

use super::of_this_thread;

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
            counted = of_this_thread();
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
    assert_eq!(of_this_thread(), counted, "allocations in the steady state");
}
