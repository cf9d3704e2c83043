//! The hand-shakes of a ring, in every order that the memory model allows (loom).
//!
//! The host's side is the real one, over memory that loom watches; the guest's side is written down once more in
//! `guest`, as guests have it. Both sleep unless signalled, so that a lost wake-up is a deadlock, and every packet
//! carries its number, so that one lost, repeated or read too early shows. The rules of who signals whom, the four
//! full barriers and the orders of the indices are each taken away in turn: then the checker must find what breaks.
//!
//! Schedules are cut at two preemptions, which is enough to find each of those. `LOOM_MAX_PREEMPTIONS=4 cargo
//! test --release -p devices --test ring_loom` looks further.

mod guest;
mod memory;

use std::sync::Arc;

use devices::vmbus::ring::protocol::ControlWord;
use devices::vmbus::ring::{Incoming, Outgoing, PacketBuffer, PacketOut, WriteError};

use guest::{GuestReader, GuestWriter, Waits};
use memory::{Doorbell, LoomMemory, Ring, Weakness};

/// Bytes of a ring's data that hold so many packets without payload.
const fn room_for(packets: u32) -> u32 {
    packets * 24 + 8
}

/// What is tried: how many packets, through a ring that holds how many, and so on.
#[derive(Clone, Copy, Debug)]
struct Case {
    packets: u64,
    room: u32,
    /// How many packets a writer shows, or a reader gives back, at a time.
    batch: u64,
    waits: Waits,
    /// What the host leaves out.
    weakness: Weakness,
}

impl Case {
    const fn new(packets: u64, room: u32, batch: u64) -> Self {
        Self { packets, room, batch, waits: Waits::WhenFull, weakness: Weakness::None }
    }

    const fn but(self, weakness: Weakness) -> Self {
        Self { weakness, ..self }
    }
}

/// Each packet has to wait for the one before.
const TIGHT: Case = Case::new(2, 1, 1);
/// No packet has to wait, so that nobody looks at an index without need.
const ROOMY: Case = Case::new(2, 2, 1);
const BATCHED: Case = Case::new(3, 2, 2);

fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(2);
    builder.max_branches = 10_000;
    builder.check(model);
}

/// The host reads what a guest writes.
fn incoming(case: Case) {
    check(move || {
        let ring = Ring::new(room_for(case.room));
        let mut writer = GuestWriter::new(&ring, case.waits);
        let reader = Incoming::open(LoomMemory::new(&ring, case.weakness)).expect("an empty ring");
        let (host, guest) = (Arc::new(Doorbell::default()), Arc::new(Doorbell::default()));
        let (to_host, to_guest) = (host.clone(), guest.clone());
        let host = loom::thread::spawn(move || host_reads(reader, case, &host, &to_guest));
        writer.write_all(case.packets, &guest, &to_host);
        host.join().expect("the host");
    });
}

/// The guest reads what the host writes.
fn outgoing(case: Case) {
    check(move || {
        let ring = Ring::new(room_for(case.room));
        let writer = Outgoing::open(LoomMemory::new(&ring, case.weakness)).expect("an empty ring");
        let mut reader = GuestReader::new(&ring);
        let (host, guest) = (Arc::new(Doorbell::default()), Arc::new(Doorbell::default()));
        let (to_host, to_guest) = (host.clone(), guest.clone());
        let host = loom::thread::spawn(move || host_writes(writer, case, &host, &to_guest));
        reader.read_all(case.packets, case.batch, &guest, &to_host);
        host.join().expect("the host");
    });
}

/// Reads as a channel's worker does.
fn host_reads(mut reader: Incoming<LoomMemory>, case: Case, doorbell: &Doorbell, guest: &Doorbell) {
    let mut buffer = PacketBuffer::new();
    let mut read = 0;
    loop {
        reader.mask().expect("memory");
        while let Some(packet) = reader.next(&mut buffer).expect("a packet") {
            assert_eq!(packet.transaction_id, read, "the packet after {read} others");
            read += 1;
            if read.is_multiple_of(case.batch) && reader.commit().expect("indices") {
                guest.ring();
            }
        }
        if reader.commit().expect("indices") {
            guest.ring();
        }
        if reader.unmask().expect("indices") {
            continue;
        }
        if read == case.packets {
            return;
        }
        doorbell.sleep();
    }
}

/// Writes as a channel's worker does.
fn host_writes(mut writer: Outgoing<LoomMemory>, case: Case, doorbell: &Doorbell, guest: &Doorbell) {
    for id in 0..case.packets {
        while let Err(error) = writer.write(&PacketOut::in_band(id, &[])) {
            let WriteError::Full { need, .. } = error else { unreachable!("{error}") };
            if writer.commit().expect("indices") {
                guest.ring();
            }
            if !writer.wait_for_room(need).expect("indices") {
                doorbell.sleep();
            }
        }
        let last = id + 1 == case.packets;
        if (last || (id + 1).is_multiple_of(case.batch)) && writer.commit().expect("indices") {
            guest.ring();
        }
    }
}

#[test]
fn a_guest_that_says_when_it_waits_is_always_woken() {
    incoming(TIGHT);
    incoming(ROOMY);
    incoming(BATCHED);
}

#[test]
fn a_guest_that_names_its_largest_packet_once_is_always_woken() {
    let waits = Waits::Always;
    incoming(Case { waits, ..TIGHT });
    incoming(Case { waits, ..ROOMY });
    incoming(Case { waits, ..BATCHED });
}

#[test]
fn a_guest_that_reads_is_always_woken_and_wakes_the_host() {
    outgoing(TIGHT);
    outgoing(ROOMY);
    outgoing(BATCHED);
}

/// A barrier less, and somebody sleeps for ever.
mod barriers {
    use super::*;

    #[test]
    #[should_panic = "deadlock"]
    fn without_the_one_before_the_mask_is_looked_at_the_guest_sleeps_over_a_packet() {
        outgoing(TIGHT.but(Weakness::NoBarrierAfter(ControlWord::WriteIndex)));
    }

    #[test]
    #[should_panic = "deadlock"]
    fn without_the_one_before_the_pending_size_is_looked_at_the_guest_waits_for_room_for_ever() {
        incoming(TIGHT.but(Weakness::NoBarrierAfter(ControlWord::ReadIndex)));
    }

    #[test]
    #[should_panic = "deadlock"]
    fn without_the_one_after_unmasking_the_host_sleeps_over_a_packet() {
        incoming(TIGHT.but(Weakness::NoBarrierAfter(ControlWord::InterruptMask)));
    }

    #[test]
    #[should_panic = "deadlock"]
    fn without_the_one_after_asking_for_room_the_host_waits_for_ever() {
        outgoing(TIGHT.but(Weakness::NoBarrierAfter(ControlWord::PendingSendSize)));
    }
}

/// An order less, and a packet is read before it is written, or overwritten before it is read.
mod orders {
    use super::*;

    #[test]
    #[should_panic = "the packet after"]
    fn a_write_index_that_does_not_release_shows_the_guest_stale_packets() {
        outgoing(BATCHED.but(Weakness::RelaxedStores));
    }

    #[test]
    #[should_panic]
    fn a_write_index_that_is_not_acquired_shows_the_host_stale_packets() {
        incoming(BATCHED.but(Weakness::RelaxedLoads));
    }
}
