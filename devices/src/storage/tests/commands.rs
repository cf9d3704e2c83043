//! Commands, the memory that they name, and units that are not there.

use super::protocol::{VstorPacket, srb_status, status};
use super::*;
use crate::testing::storage::{FromHost, srb, transfer};

const INQUIRY: [u8; 6] = [0x12, 0, 0, 0, 255, 0];
const TEST_UNIT_READY: [u8; 6] = [0; 6];
const REPORT_LUNS: [u8; 12] = [0xA0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0];

/// A controller with one unit, open, its unit attentions taken.
fn open(unit: Arc<dyn Unit>) -> (Host, Driver) {
    let mut host = Host::new([(0, unit)]);
    let mut driver = host.open(Version::V6_2);
    driver.call(&srb(0, &TEST_UNIT_READY, 2, 0), &[]);
    (host, driver)
}

/// Told of the power, the firmware asked forever whether the disk is ready.
#[test]
fn the_first_command_of_a_driver_succeeds() {
    let mut host = Host::new([(0, ram_disk())]);
    let mut driver = host.open(Version::V6_0);
    assert_eq!(outcome(&driver.call(&srb(0, &TEST_UNIT_READY, 2, 0), &[])), (1, 0));
}

fn outcome(answer: &FromHost) -> (u8, u32) {
    assert_eq!(answer.status(), status::SUCCESS);
    (answer.srb().srb_status, answer.srb().data_transfer_length.get())
}

#[test]
fn what_is_written_is_read_on_every_disk_at_every_offset_in_pages() {
    let (raw, _directory) = raw_disk();
    for unit in [ram_disk(), raw] {
        let (mut host, mut driver) = open(unit);
        let (mut source, mut target) = (host.buffer(4), host.buffer(4));
        for (n, offset) in [0u8, 1, 2, 3].into_iter().zip([0, 512, 1024, 4092]) {
            (source.offset, source.len) = (offset, 8192);
            (target.offset, target.len) = (4096 - offset, 8192);
            host.fill(&source, n + 1);
            host.fill(&target, 0xff);
            let block = u32::from(n) * 100;
            assert_eq!(outcome(&driver.call(&transfer(0, true, block, 8192), &[&source])), (1, 8192));
            assert_eq!(outcome(&driver.call(&transfer(0, false, block, 8192), &[&target])), (1, 8192));
            assert!(host.bytes(&target).iter().all(|&byte| byte == n + 1));
            // Not a byte more.
            let whole = Buffer { offset: 0, len: 4 * 4096, pfns: target.pfns.clone() };
            assert_eq!(host.bytes(&whole).iter().filter(|&&byte| byte == n + 1).count(), 8192);
        }
    }
}

#[test]
fn the_largest_transfer_is_honoured() {
    let (raw, _directory) = raw_disk();
    for unit in [ram_disk(), raw] {
        let (mut host, mut driver) = open(unit);
        let mut buffer = host.buffer(257);
        (buffer.offset, buffer.len) = (512, 1 << 20);
        host.fill(&buffer, 7);
        assert_eq!(outcome(&driver.call(&transfer(0, true, 5, 1 << 20), &[&buffer])), (1, 1 << 20));
        host.fill(&buffer, 0);
        assert_eq!(outcome(&driver.call(&transfer(0, false, 5, 1 << 20), &[&buffer])), (1, 1 << 20));
        assert!(host.bytes(&buffer).iter().all(|&byte| byte == 7));
        let mut long = host.buffer(258);
        long.len = (1 << 20) + 512;
        assert_eq!(outcome(&driver.call(&transfer(0, false, 0, (1 << 20) + 512), &[&long])), (0x06, 0));
    }
}

#[test]
fn bad_buffers_end_their_command_alone() {
    let (mut host, mut driver) = open(ram_disk());
    let page = host.buffer(1);
    let read = transfer(0, false, 0, 4096);
    let two = host.buffer(2);
    let not_ram = Buffer::pages(&[page.pfns[0], 1 << 40]);
    let far = Buffer { offset: 4096, ..two.clone() };
    for (name, packet, buffers, expected) in [
        ("two ranges", read, vec![page.clone(), page.clone()], srb_status::INVALID_REQUEST),
        ("pages that are not RAM", transfer(0, false, 0, 8192), vec![not_ram], srb_status::INVALID_REQUEST),
        (
            "a read into what the device may only read",
            {
                let mut p = read;
                p.srb.short.data_in = 0;
                p
            },
            vec![page.clone()],
            srb_status::INVALID_REQUEST,
        ),
        (
            "a write from what the device may only write",
            {
                let mut p = transfer(0, true, 0, 4096);
                p.srb.short.data_in = 1;
                p
            },
            vec![page.clone()],
            srb_status::INVALID_REQUEST,
        ),
        ("no CDB", srb(0, &[], 1, 4096), vec![page.clone()], srb_status::INVALID_REQUEST),
        (
            "a CDB of 17 bytes",
            {
                let mut p = read;
                p.srb.short.cdb_length = 17;
                p
            },
            vec![page.clone()],
            srb_status::INVALID_REQUEST,
        ),
        (
            "an offset past the first page",
            transfer(0, false, 0, 4096),
            vec![Buffer { len: 4096, ..far }],
            srb_status::SUCCESS,
        ),
    ] {
        let answer = driver.call(&packet, &buffers.iter().collect::<Vec<_>>());
        assert_eq!(answer.srb().srb_status, expected, "{name}");
    }
    let answer = driver.call(&read, &[&page]);
    assert_eq!(outcome(&answer), (1, 4096));
}

#[test]
fn one_page_may_be_named_many_times() {
    let (mut host, mut driver) = open(ram_disk());
    let page = host.buffer(1);
    let mut many = Buffer::pages(&vec![page.pfns[0]; 64]);
    host.fill(&page, 9);
    assert_eq!(outcome(&driver.call(&transfer(0, true, 0, 64 * 4096), &[&many])), (1, 64 * 4096));
    host.fill(&page, 0);
    (many.offset, many.len) = (100, 32 * 4096);
    assert_eq!(outcome(&driver.call(&transfer(0, false, 0, 32 * 4096), &[&many])), (1, 32 * 4096));
    assert!(host.bytes(&page).iter().all(|&byte| byte == 9));
}

#[test]
fn no_more_than_the_smaller_of_buffer_and_length_is_moved() {
    let (mut host, mut driver) = open(ram_disk());
    let buffer = host.buffer(2);
    for (claimed, given) in [(36, 8192), (8192, 36), (0, 8192)] {
        host.fill(&buffer, 0xEE);
        let given = Buffer { len: given, ..buffer.clone() };
        let (status, moved) = outcome(&driver.call(&srb(0, &INQUIRY, 1, claimed), &[&given]));
        assert_eq!((status, moved), (srb_status::SUCCESS, claimed.min(given.len)));
        let bytes = host.bytes(&buffer);
        assert!(bytes[moved as usize..].iter().all(|&byte| byte == 0xEE), "{claimed} {}", given.len);
    }
    // Without any buffer there is nothing to move to.
    let (status, moved) = outcome(&driver.call(&srb(0, &INQUIRY, 1, 4096), &[]));
    assert_eq!((status, moved), (srb_status::SUCCESS, 0));
}

#[test]
fn sense_comes_with_the_failure_as_far_as_there_is_room() {
    let (_host, mut driver) = open(ram_disk());
    let unknown: [u8; 6] = [0xFF, 0, 0, 0, 0, 0];
    for room in [20, 18, 8, 0] {
        let mut packet = srb(0, &unknown, 2, 0);
        packet.srb.short.sense_length = room;
        let answer = driver.call(&packet, &[]);
        let srb = answer.srb();
        let flag = if room > 0 { srb_status::AUTOSENSE_VALID } else { 0 };
        assert_eq!((srb.srb_status, srb.scsi_status), (srb_status::ERROR | flag, 2));
        assert_eq!(srb.sense_length, room.min(18));
        let sense = &srb.cdb_or_sense[..srb.sense_length.into()];
        assert!(sense.is_empty() || sense[0] == 0x70 && sense[2] == 5, "{sense:x?}");
        assert!(srb.cdb_or_sense[srb.sense_length.into()..].iter().all(|&byte| byte == 0));
    }
}

#[test]
fn absent_units_are_seen_to_be_absent() {
    let (mut host, mut driver) = open(ram_disk());
    let buffer = host.buffer(1);
    let elsewhere = |path, target, lun| {
        move |cdb: &[u8]| {
            let mut packet: VstorPacket = srb(lun, cdb, 1, 4096);
            (packet.srb.short.path, packet.srb.short.target) = (path, target);
            packet
        }
    };
    for (path, target, lun) in [(0, 0, 1), (0, 0, 64), (0, 0, 255), (0, 1, 0), (1, 0, 0)] {
        let at = elsewhere(path, target, lun);
        let answer = driver.call(&at(&INQUIRY), &[&buffer]);
        assert_eq!(outcome(&answer).0, srb_status::SUCCESS);
        let data = host.bytes(&buffer);
        // Nobody is there, but whoever looks may ask for the list: older answers make Linux try numbers instead.
        assert_eq!(data[0], 0x7F);
        assert!(data[2] >= 5, "Linux asks no older target for its units");
        let answer = driver.call(&at(&TEST_UNIT_READY), &[&buffer]);
        assert_eq!(answer.srb().srb_status & 0x3F, srb_status::INVALID_LUN);
    }
}

#[test]
fn the_list_of_units_comes_from_any_of_them() {
    let units = [0, 3, 63].map(|lun| (lun, ram_disk()));
    let mut host = Host::new(units);
    let mut driver = host.open(Version::V6_0);
    let buffer = host.buffer(1);
    for (target, lun, luns) in
        [(0, 0, &[0u8, 3, 63][..]), (0, 5, &[0, 3, 63]), (0, 200, &[0, 3, 63]), (1, 0, &[])]
    {
        let mut packet = srb(lun, &REPORT_LUNS, 1, 4096);
        packet.srb.short.target = target;
        let answer = driver.call(&packet, &[&buffer]);
        assert_eq!(outcome(&answer), (srb_status::SUCCESS, 8 + 8 * luns.len() as u32));
        let data = host.bytes(&buffer);
        assert_eq!(u32::from_be_bytes(data[..4].try_into().unwrap()), 8 * luns.len() as u32);
        let found: Vec<u8> = data[8..8 + 8 * luns.len()].chunks(8).map(|lun| lun[1]).collect();
        assert_eq!(found, luns);
    }
}

#[test]
fn a_full_ring_holds_completions_back_and_loses_none() {
    let mut host = Host::new([(0, ram_disk())]);
    let mut driver = StorageDriver::new(host.guest.open(&host.offer, 33, 2));
    driver.initialise(Version::V6_2);
    // One page takes 46 completions; the rest waits in slots, and then in the guest's own ring.
    let ids: Vec<u64> = (0..1000).map(|_| driver.post(&srb(0, &TEST_UNIT_READY, 2, 0), &[])).collect();
    for id in ids {
        assert_eq!(driver.receive(Duration::from_secs(20)).unwrap().transaction_id, id);
    }
}
