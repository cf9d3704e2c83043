//! What a driver says first, version by version.

use super::protocol::{LONG_PACKET, SHORT_PACKET, operation, srb_status, status};
use super::*;
use crate::testing::storage::{query_version, srb, storage_packet, transfer};
use crate::vmbus::ring::PacketOut;
use zerocopy::IntoBytes;

const TEST_UNIT_READY: [u8; 6] = [0; 6];

#[test]
fn every_version_is_spoken_with_packets_of_its_size() {
    for version in Version::ALL {
        let mut host = Host::new([(0, ram_disk())]);
        let mut driver = StorageDriver::new(host.guest.open(&host.offer, 17, 17));
        let properties = driver.initialise(version);
        assert_eq!(properties.max_transfer_bytes.get(), 1 << 20);
        assert_eq!(properties.flags.get(), u32::from(version >= Version::V5_1));
        assert_eq!(properties.max_sub_channels.get(), if version >= Version::V5_1 { 4 } else { 0 });
        // The driver checks that completions have its packets' size.
        let buffer = host.buffer(1);
        let answer = driver.call(&transfer(0, false, 0, 4096), &[&buffer]);
        assert_eq!(
            (answer.srb().srb_status, answer.srb().data_transfer_length.get()),
            (srb_status::SUCCESS, 4096)
        );
    }
}

#[test]
fn the_first_packets_may_have_either_size() {
    // The UEFI firmware's are short until there is a version; Linux' are long from the start.
    for size in [SHORT_PACKET, LONG_PACKET] {
        let mut host = Host::new([]);
        let mut driver = StorageDriver::new(host.guest.open(&host.offer, 17, 17));
        driver.packet_size = size;
        for packet in [storage_packet(operation::BEGIN_INITIALIZATION), query_version(Version::V6_0)] {
            assert_eq!(driver.call(&packet, &[]).status(), status::SUCCESS);
        }
    }
}

#[test]
fn a_driver_goes_down_until_a_version_is_spoken() {
    let mut host = Host::new([]);
    let mut driver = StorageDriver::new(host.guest.open(&host.offer, 17, 17));
    driver.call(&storage_packet(operation::BEGIN_INITIALIZATION), &[]);
    for version in [0x0700, 0x0603] {
        let answer = driver.call(&query_version(Version(version)), &[]);
        assert_eq!(answer.status(), status::REVISION_MISMATCH);
    }
    assert_eq!(driver.call(&query_version(Version::V6_0), &[]).status(), status::SUCCESS);
}

#[test]
fn nothing_works_out_of_order() {
    let mut host = Host::new([(0, ram_disk())]);
    let mut driver = StorageDriver::new(host.guest.open(&host.offer, 17, 17));
    let state = |driver: &mut Driver, operation| driver.call(&storage_packet(operation), &[]).status();
    for operation in [3, 4, 5, 6, 8, 9, 10, 13] {
        assert_eq!(state(&mut driver, operation), status::INVALID_DEVICE_STATE, "{operation}");
    }
    driver.initialise(Version::V6_2);
    for operation in [7, 8, 9, 10] {
        assert_eq!(state(&mut driver, operation), status::INVALID_DEVICE_STATE, "{operation}");
    }
    for operation in [0, 1, 2, operation::ENUMERATE_BUS, operation::FCHBA_DATA, 14, u32::MAX] {
        assert_eq!(state(&mut driver, operation), status::INVALID_DEVICE_REQUEST, "{operation}");
    }
    // It is none the worse for that.
    let answer = driver.call(&srb(0, &TEST_UNIT_READY, 2, 0), &[]);
    assert_eq!(answer.status(), status::SUCCESS);
}

#[test]
fn packets_of_the_wrong_size_are_answered_in_that_size() {
    let mut host = Host::new([(0, ram_disk())]);
    let mut driver = host.open(Version::V6_2);
    let packet = srb(0, &TEST_UNIT_READY, 2, 0);
    for (size, status, answered) in [
        (0, 0, 0),
        (8, 0, 8),
        (16, status::INVALID_PARAMETER, 16),
        (SHORT_PACKET, status::INVALID_PARAMETER, SHORT_PACKET),
        (LONG_PACKET, status::SUCCESS, LONG_PACKET),
        (4 * LONG_PACKET, status::SUCCESS, LONG_PACKET),
    ] {
        let payload = [packet.as_bytes(), &[0x5a; 4 * LONG_PACKET]].concat();
        let payload = [&payload[..size]];
        driver.port.send(&PacketOut { completion_requested: true, ..PacketOut::in_band(9, &payload) });
        let answer = driver.receive(Duration::from_secs(20)).unwrap();
        assert_eq!((answer.len, answer.status()), (answered, status), "{size} bytes");
    }
}

#[test]
fn who_waits_for_no_completion_gets_none() {
    let mut host = Host::new([(0, ram_disk())]);
    let mut driver = host.open(Version::V6_2);
    let packet = srb(0, &TEST_UNIT_READY, 2, 0);
    for _ in 0..1000 {
        driver.port.send(&PacketOut::in_band(9, &[packet.as_bytes()]));
    }
    assert_eq!(driver.call(&packet, &[]).status(), status::SUCCESS);
    assert!(driver.receive(SOON).is_none());
}

#[test]
fn sub_channels_carry_commands_and_nothing_else() {
    for before_end in [true, false] {
        let mut host = Host::new([(0, ram_disk())]);
        let mut first = StorageDriver::new(host.guest.open(&host.offer, 17, 17));
        if before_end {
            first.call(&storage_packet(operation::BEGIN_INITIALIZATION), &[]);
            first.call(&query_version(Version::V6_2), &[]);
            first.packet_size = LONG_PACKET;
            first.call(&storage_packet(operation::QUERY_PROPERTIES), &[]);
            first.create_sub_channels(2);
            assert_eq!(
                first.call(&storage_packet(operation::END_INITIALIZATION), &[]).status(),
                status::SUCCESS
            );
        } else {
            first.initialise(Version::V6_2);
            first.create_sub_channels(2);
        }
        let mut subs = [host.sub_channel(Version::V6_2), host.sub_channel(Version::V6_2)];
        for driver in subs.iter_mut().chain([&mut first]) {
            driver.call(&srb(0, &TEST_UNIT_READY, 2, 0), &[]);
            let answer = driver.call(&srb(0, &TEST_UNIT_READY, 2, 0), &[]);
            assert_eq!((answer.status(), answer.srb().srb_status), (status::SUCCESS, srb_status::SUCCESS));
        }
        for operation in [7, 8, 9, 10, 11, 12, 13, 99] {
            let answer = subs[0].call(&storage_packet(operation), &[]);
            assert_eq!(answer.status(), status::INVALID_DEVICE_STATE, "{operation}");
        }
    }
}
