//! Reads and writes of a RAM disk through a channel of its controller.

use devices::storage::protocol::{VstorPacket, srb_status};
use devices::testing::storage::{Buffer, gpa_direct, ram_disk, transfer};
use devices::vmbus::ring::PacketOut;
use devices::vmbus::ring::protocol::PacketType;
use zerocopy::{FromBytes, IntoBytes};

use super::of_this_thread;

#[test]
fn reads_and_writes_cost_no_allocation() {
    let mut port = ram_disk(1 << 14).port;
    let requests =
        [(4096, false), (4096, true), (512, false), (1 << 20, true), (1 << 20, false)].map(|(len, write)| {
            let pages = u64::from(len).div_ceil(4096);
            let buffer = Buffer { offset: 0, len, pfns: (100..100 + pages).collect() };
            (transfer(0, write, 8, len), gpa_direct(&[&buffer]))
        });
    // Buffers grow to what they need at first. After that nothing may.
    let mut counted = 0;
    for round in 0..100 {
        if round == 5 {
            counted = of_this_thread();
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
    assert_eq!(of_this_thread(), counted, "allocations in the steady state");
}
