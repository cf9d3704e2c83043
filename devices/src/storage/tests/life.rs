//! What is in flight when a channel closes, a unit is reset or removed, or the guest starts over.

use super::protocol::{operation, srb_status, status};
use super::*;
use crate::testing::storage::{srb, storage_packet, transfer};
use crate::vmbus::protocol::Version as BusVersion;
use crate::vmbus::ring::protocol::PacketType;
use std::sync::Weak;
use std::time::Instant;

const TEST_UNIT_READY: [u8; 6] = [0; 6];

/// A controller with a stuck disk at LUN 0 and one that works at LUN 1, two channels, unit attentions taken.
fn two_channels() -> (Host, Stuck, Driver, Driver) {
    let stuck = Stuck::new();
    let mut host = Host::new([(0, unit(Box::new(stuck.clone()))), (1, ram_disk())]);
    let mut first = host.open(Version::V6_2);
    first.create_sub_channels(1);
    let second = host.sub_channel(Version::V6_2);
    for lun in [0, 1] {
        first.call(&srb(lun, &TEST_UNIT_READY, 2, 0), &[]);
    }
    (host, stuck, first, second)
}

#[test]
fn a_reset_is_answered_when_every_channel_has_let_go() {
    for (operation, of_unit) in
        [(operation::RESET_LUN, true), (operation::RESET_BUS, false), (operation::RESET_ADAPTER, false)]
    {
        let (mut host, stuck, mut first, mut second) = two_channels();
        let buffer = host.buffer(1);
        let reads: Vec<u64> =
            (0..20).map(|n| second.post(&transfer(0, false, n, 4096), &[buffer.clone()])).collect();
        stuck.wait_for(1);
        let reset = first.post(&storage_packet(operation), &[]);
        assert!(first.receive(SOON).is_none(), "{operation}");
        // The other unit works on, on the other channel.
        let other = second.call(&transfer(1, false, 0, 4096), &[buffer.clone()]);
        assert_eq!(other.srb().srb_status, srb_status::SUCCESS);
        stuck.release();
        assert_eq!(first.completion(reset).status(), status::SUCCESS);
        let ends: Vec<u8> = reads.into_iter().map(|id| second.completion(id).srb().srb_status).collect();
        assert!(ends.iter().all(|end| [srb_status::SUCCESS, srb_status::ABORTED].contains(end)), "{ends:?}");
        assert!(ends.contains(&srb_status::ABORTED), "what nobody had begun with is aborted");
        // The units tell of it.
        for (lun, told) in [(0, true), (1, !of_unit)] {
            let answer = first.call(&srb(lun, &TEST_UNIT_READY, 2, 0), &[]);
            assert_eq!(answer.srb().srb_status != srb_status::SUCCESS, told, "LUN {lun}");
        }
    }
}

#[test]
fn resets_of_all_channels_at_once_are_all_answered() {
    let (mut host, stuck, mut first, mut second) = two_channels();
    let buffer = host.buffer(1);
    let reads =
        [&mut first, &mut second].map(|driver| driver.post(&transfer(0, false, 0, 4096), &[buffer.clone()]));
    stuck.wait_for(1);
    let resets = [&mut first, &mut second].map(|driver| {
        (0..10).map(|_| driver.post(&storage_packet(operation::RESET_BUS), &[])).collect::<Vec<_>>()
    });
    stuck.release();
    for (driver, (read, resets)) in [&mut first, &mut second].into_iter().zip(reads.into_iter().zip(resets)) {
        driver.completion(read);
        for reset in resets {
            assert_eq!(driver.completion(reset).status(), status::SUCCESS);
        }
    }
}

#[test]
fn closing_waits_for_what_is_in_flight() {
    let stuck = Stuck::new();
    let mut host = Host::new([(0, unit(Box::new(stuck.clone())))]);
    let mut driver = host.open(Version::V6_2);
    driver.call(&srb(0, &TEST_UNIT_READY, 2, 0), &[]);
    let buffer = host.buffer(1);
    for _ in 0..50 {
        driver.post(&transfer(0, false, 0, 4096), &[buffer.clone()]);
    }
    stuck.wait_for(1);
    let gate = stuck.clone();
    let releaser = std::thread::spawn(move || {
        std::thread::sleep(SOON);
        gate.release();
    });
    // Comes back when the pages are the guest's again: not before the read has ended.
    host.guest.close(driver.port);
    assert!(stuck.gate.0.lock().unwrap().open);
    host.fill(&buffer, 0x77);
    releaser.join().unwrap();
    std::thread::sleep(SOON);
    assert!(host.bytes(&buffer).iter().all(|&byte| byte == 0x77));
    // And it may begin anew.
    let mut driver = host.open(Version::V5_1);
    driver.call(&srb(0, &TEST_UNIT_READY, 2, 0), &[]);
    let answer = driver.call(&transfer(0, false, 0, 4096), &[buffer]);
    assert_eq!(answer.srb().srb_status, srb_status::SUCCESS);
}

#[test]
fn a_guest_that_starts_over_or_loses_its_controller_waits_for_what_is_in_flight() {
    for rescind in [false, true] {
        let (mut host, stuck, mut first, mut second) = two_channels();
        let buffer = host.buffer(1);
        for driver in [&mut first, &mut second] {
            driver.post(&transfer(0, true, 0, 4096), &[buffer.clone()]);
        }
        stuck.wait_for(1);
        let gate = stuck.clone();
        let releaser = std::thread::spawn(move || {
            std::thread::sleep(SOON);
            gate.release();
        });
        if rescind {
            let id = host.guest.bus.find("scsi0").unwrap();
            host.guest.bus.remove(id);
            let deadline = Instant::now() + Duration::from_secs(20);
            while host.guest.bus.channels().iter().any(|row| row.state != "revoked")
                || !host.guest.synic.bound().is_empty()
            {
                assert!(Instant::now() < deadline);
                host.guest.bus.process();
            }
        } else {
            host.guest.connect(BusVersion::V4_1);
        }
        assert!(stuck.gate.0.lock().unwrap().open);
        releaser.join().unwrap();
    }
}

#[test]
fn a_unit_that_is_removed_answers_what_it_had_and_goes() {
    let (mut host, stuck, mut first, mut second) = two_channels();
    let buffer = host.buffer(1);
    let reads: Vec<u64> =
        (0..20).map(|n| second.post(&transfer(0, false, n, 4096), &[buffer.clone()])).collect();
    stuck.wait_for(1);
    host.controller.remove(0).unwrap();
    assert_eq!(host.controller.luns(), [1]);
    let notice = first.receive(Duration::from_secs(20)).unwrap();
    assert_eq!((notice.kind, notice.transaction_id, notice.len), (PacketType::IN_BAND, 0, 64));
    assert_eq!(notice.packet.header.operation.get(), operation::ENUMERATE_BUS);
    let answer = second.call(&srb(0, &TEST_UNIT_READY, 2, 0), &[]);
    assert_eq!(answer.srb().srb_status & 0x3F, srb_status::INVALID_LUN);
    stuck.release();
    for id in reads {
        second.completion(id);
    }
    // Its image is let go: somebody else may have it.
    let weak = Arc::downgrade(&stuck.image);
    drop(stuck);
    let deadline = Instant::now() + Duration::from_secs(20);
    while Weak::strong_count(&weak) > 0 {
        assert!(Instant::now() < deadline, "the image is still held");
        // The idle channel lets go when it is told to.
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(second.receive(SOON).is_none(), "one channel tells");
}

#[test]
fn a_unit_that_is_added_is_told_of_and_works_at_once() {
    let mut host = Host::new([]);
    let mut driver = host.open(Version::V6_2);
    assert_eq!(host.controller.remove(2), Err(UnitError::Absent { controller: 0, lun: 2 }));
    assert_eq!(host.controller.add(64, ram_disk()), Err(UnitError::OutOfRange(64)));
    host.controller.add(2, ram_disk()).unwrap();
    assert_eq!(host.controller.add(2, ram_disk()), Err(UnitError::Taken { controller: 0, lun: 2 }));
    let notice = driver.receive(Duration::from_secs(20)).unwrap();
    assert_eq!(notice.packet.header.operation.get(), operation::ENUMERATE_BUS);
    driver.call(&srb(2, &TEST_UNIT_READY, 2, 0), &[]);
    let answer = driver.call(&srb(2, &TEST_UNIT_READY, 2, 0), &[]);
    assert_eq!(answer.srb().srb_status, srb_status::SUCCESS);
}

#[test]
fn more_requests_than_slots_wait_in_the_ring() {
    let stuck = Stuck::new();
    let mut host = Host::new([(0, unit(Box::new(stuck.clone())))]);
    let mut driver = StorageDriver::new(host.guest.open(&host.offer, 33, 17));
    driver.initialise(Version::V6_2);
    driver.call(&srb(0, &TEST_UNIT_READY, 2, 0), &[]);
    let buffer = host.buffer(1);
    let ids: Vec<u64> = (0..700)
        .map(|_| driver.post(&transfer(0, false, 0, 512), &[Buffer { len: 512, ..buffer.clone() }]))
        .collect();
    stuck.wait_for(1);
    stuck.release();
    for id in ids {
        assert_eq!(driver.completion(id).srb().srb_status, srb_status::SUCCESS);
    }
}
