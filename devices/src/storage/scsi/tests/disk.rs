//! Tables of a disk's commands and what they are answered.

use std::io;

use super::*;

const INVALID_OPCODE: (SenseKey, u8, u8) = (SenseKey::IllegalRequest, 0x20, 0x00);
const OUT_OF_RANGE: (SenseKey, u8, u8) = (SenseKey::IllegalRequest, 0x21, 0x00);
const INVALID_FIELD: (SenseKey, u8, u8) = (SenseKey::IllegalRequest, 0x24, 0x00);
const INVALID_PARAMETER: (SenseKey, u8, u8) = (SenseKey::IllegalRequest, 0x26, 0x00);
const LIST_LENGTH: (SenseKey, u8, u8) = (SenseKey::IllegalRequest, 0x1A, 0x00);
const WRITE_PROTECTED: (SenseKey, u8, u8) = (SenseKey::DataProtect, 0x27, 0x00);

/// The CDB of an opcode of 10, 12 or 16 bytes that names blocks.
fn cdb(opcode: u8, flags: u8, lba: u64, count: u32) -> Vec<u8> {
    let (lba, count) = (lba.to_be_bytes(), count.to_be_bytes());
    match opcode >> 5 {
        0 => [&[opcode], &lba[5..], &[count[3], 0]].concat(),
        1 | 2 => [&[opcode, flags], &lba[4..], &[0], &count[2..], &[0]].concat(),
        5 => [&[opcode, flags], &lba[4..], &count[..], &[0, 0]].concat(),
        _ => [&[opcode, flags], &lba[..], &count, &[0, 0]].concat(),
    }
}

/// Sense key specific bytes and the information field of a command that went wrong.
fn details(reply: &Reply) -> ([u8; 3], Option<u32>) {
    let bytes = reply.sense.expect("sense data").to_bytes();
    assert_eq!((bytes[0] & 0x7F, bytes[7]), (0x70, 10));
    let information = u32::from_be_bytes([bytes[3], bytes[4], bytes[5], bytes[6]]);
    ([bytes[15], bytes[16], bytes[17]], (bytes[0] & 0x80 != 0).then_some(information))
}

#[test]
fn blocks_past_the_end_are_refused_and_the_address_is_told() {
    let unit = unit();
    let opcodes = [
        0x08, 0x0A, 0x28, 0x2A, 0xA8, 0xAA, 0x88, 0x8A, 0x2E, 0xAE, 0x8E, 0x2F, 0xAF, 0x8F, 0x35, 0x91, 0x41,
        0x93,
    ];
    for opcode in opcodes {
        for (lba, count) in [(1000, 1), (999, 2), (0x1F_FFFF, 255)] {
            let reply = done(&unit, &cdb(opcode, 0, lba, count), 1 << 20);
            assert_eq!(checked(&reply), OUT_OF_RANGE, "{opcode:02x} {lba} {count}");
            assert_eq!(details(&reply), ([0; 3], Some(lba as u32)));
        }
    }
    for opcode in [0x88, 0x8A, 0x8E, 0x8F, 0x91, 0x93] {
        let reply = done(&unit, &cdb(opcode, 0, u64::MAX, u32::MAX), 1 << 20);
        assert_eq!(checked(&reply), OUT_OF_RANGE, "{opcode:02x}");
        assert_eq!(details(&reply).1, None, "the address has no room in 32 bits");
    }
}

#[test]
fn a_read_only_disk_says_so_and_refuses_each_write() {
    let unit = ready(unit_of(Geometry { read_only: true, ..geometry() }));
    for opcode in [0x0A, 0x2A, 0xAA, 0x8A, 0x2E, 0xAE, 0x8E, 0x41, 0x93] {
        let reply = answer(unit.start(&command(&cdb(opcode, 0, 0, 1), 512, &[])));
        assert_eq!(checked(&reply), WRITE_PROTECTED, "{opcode:02x}");
    }
    assert_eq!(data(done(&unit, &[0x1A, 0, 0x3F, 0, 255, 0], 255))[2], 0x90);
    assert_eq!(
        request(unit.start(&command(&cdb(0x28, 0, 0, 1), 512, &[]))),
        Request::Read { offset: 0, len: 512 }
    );
}

#[test]
fn a_transfer_must_fit_into_the_guests_buffer() {
    let unit = unit();
    for (opcode, field) in [(0x08, 4), (0x28, 7), (0xA8, 6), (0x88, 10), (0x2A, 7), (0x8A, 10)] {
        let reply = done(&unit, &cdb(opcode, 0, 0, 3), 1535);
        assert_eq!(checked(&reply), INVALID_FIELD);
        assert_eq!(details(&reply), ([0xC0, 0, field], None));
        assert!(matches!(unit.start(&command(&cdb(opcode, 0, 0, 3), 1536, &[])), Step::Io(..)));
    }
}

#[test]
fn protection_information_is_refused_and_the_field_is_pointed_at() {
    let unit = unit();
    for opcode in [0x28, 0x2A, 0xA8, 0xAA, 0x88, 0x8A, 0x2E, 0x2F, 0x8F, 0x41, 0x93] {
        let reply = done(&unit, &cdb(opcode, 0x20, 0, 1), 512);
        assert_eq!(checked(&reply), INVALID_FIELD, "{opcode:02x}");
        assert_eq!(details(&reply), ([0xCF, 0, 1], None));
    }
}

#[test]
fn what_is_not_there_is_an_invalid_opcode_and_a_short_cdb_an_invalid_field() {
    let unit = unit();
    // FORMAT UNIT, READ DEFECT DATA, EXTENDED COPY, COMPARE AND WRITE, ATA PASS-THROUGH, and commands of drives.
    for opcode in [0x04, 0x37, 0x83, 0x89, 0x85, 0xA1, 0x43, 0x46, 0x4A, 0xFF] {
        assert_eq!(checked(&done(&unit, &[opcode; 16], 512)), INVALID_OPCODE, "{opcode:02x}");
    }
    assert_eq!(checked(&done(&unit, &[], 512)), INVALID_OPCODE);
    for short in [&[0x00, 0][..], &[0x28, 0, 0, 0, 0, 0, 0, 0, 1], &[0x88; 15]] {
        assert_eq!(checked(&done(&unit, short, 512)), INVALID_FIELD);
    }
    let reply = done(&unit, &[0x9E, 0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0], 32);
    assert_eq!((checked(&reply), details(&reply).0), (INVALID_FIELD, [0xCC, 0, 1]));
}

#[test]
fn verify_and_write_and_verify() {
    let unit = unit();
    for opcode in [0x2F, 0xAF, 0x8F] {
        assert_eq!(done(&unit, &cdb(opcode, 0, 0, 1000), 0), Reply::good());
        let compare = request(unit.start(&command(&cdb(opcode, 0x02, 5, 2), 1024, &[])));
        assert_eq!(compare, Request::Compare { offset: 2560, len: 1024 });
        assert_eq!(checked(&done(&unit, &cdb(opcode, 0x02, 5, 2), 1023)), INVALID_FIELD);
        assert_eq!(details(&done(&unit, &cdb(opcode, 0x06, 5, 2), 1024)).0, [0xCA, 0, 1]);
        assert_eq!(unit.finish(&command(&cdb(opcode, 0x02, 5, 2), 1024, &[]), Ok(())), Reply::moved(1024));
        let reply = unit.finish(&command(&cdb(opcode, 0x02, 5, 2), 1024, &[]), Err(IoError::Miscompare(513)));
        assert_eq!(checked(&reply), (SenseKey::Miscompare, 0x1D, 0x00));
        assert_eq!(details(&reply).1, Some(6));
    }
    for opcode in [0x2E, 0xAE, 0x8E] {
        for flags in [0, 0x02] {
            let write = request(unit.start(&command(&cdb(opcode, flags, 5, 2), 1024, &[])));
            assert_eq!(write, Request::Write { offset: 2560, len: 1024, fua: true });
        }
        assert_eq!(checked(&done(&unit, &cdb(opcode, 0x04, 5, 2), 1024)), INVALID_FIELD);
    }
}

#[test]
fn flushes() {
    let unit = unit();
    for flush in [cdb(0x35, 0, 5, 2), cdb(0x91, 0x02, 0, 0), vec![0x1B, 0, 0, 0, 0, 0]] {
        assert_eq!(request(unit.start(&command(&flush, 0, &[]))), Request::Flush);
        assert_eq!(unit.finish(&command(&flush, 0, &[]), Ok(())), Reply::good());
    }
    // Start, stop without a flush, and a power condition.
    for flags in [0x01, 0x04, 0x20, 0x03] {
        assert_eq!(done(&unit, &[0x1B, 0, 0, 0, flags, 0], 0), Reply::good());
    }
}

fn unmap(descriptors: &[(u64, u32)]) -> Vec<u8> {
    let bytes = (descriptors.len() * 16) as u16;
    let mut list = [&(bytes + 6).to_be_bytes()[..], &bytes.to_be_bytes(), &[0; 4]].concat();
    for (lba, count) in descriptors {
        list.extend([&lba.to_be_bytes()[..], &count.to_be_bytes(), &[0; 4]].concat());
    }
    list
}

fn send_unmap<'u>(unit: &'u ScsiDisk, list: &[u8]) -> Step<'u> {
    let [high, low] = (list.len() as u16).to_be_bytes();
    with(unit, &[0x42, 0, 0, 0, 0, 0, 0, high, low, 0], list)
}

#[test]
fn unmap_gives_back_what_its_list_names() {
    let unit = unit();
    let ranges = request(send_unmap(&unit, &unmap(&[(0, 8), (500, 0), (992, 8)])));
    assert_eq!(ranges, Request::Unmap(vec![(0, 4096), (507_904, 4096)]));
    let cdb = [0x42, 0, 0, 0, 0, 0, 0, 0, 56, 0];
    assert_eq!(unit.finish(&command(&cdb, 56, &[]), Ok(())), Reply::moved(56));
    assert_eq!(answer(send_unmap(&unit, &unmap(&[]))), Reply::moved(8));
    assert_eq!(done(&unit, &[0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0], 0), Reply::good());
    // What is no whole descriptor is ignored.
    let mut odd = unmap(&[(0, 8), (8, 8)]);
    odd[3] = 31;
    assert_eq!(request(send_unmap(&unit, &odd)), Request::Unmap(vec![(0, 4096)]));
}

#[test]
fn unmap_refuses_lists_that_are_wrong() {
    let unit = unit();
    assert_eq!(checked(&answer(send_unmap(&unit, &unmap(&[(0, 8), (993, 8)])))), OUT_OF_RANGE);
    assert_eq!(checked(&answer(send_unmap(&unit, &unmap(&[])[..7]))), LIST_LENGTH);
    let mut long = unmap(&[(0, 8)]);
    long[3] = 32;
    let reply = answer(send_unmap(&unit, &long));
    assert_eq!((checked(&reply), details(&reply).0), (INVALID_PARAMETER, [0x80, 0, 2]));
    assert_eq!(checked(&answer(send_unmap(&unit, &unmap(&[(0, 1); 257])))), INVALID_PARAMETER);
    assert!(matches!(send_unmap(&unit, &unmap(&[(0, 1); 256])), Step::Io(..)));
    assert_eq!(checked(&done(&unit, &[0x42, 1, 0, 0, 0, 0, 0, 0, 24, 0], 24)), INVALID_FIELD);
    // The buffer is shorter than the list.
    assert_eq!(checked(&done(&unit, &[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], 23)), LIST_LENGTH);

    let large = ready(unit_of(Geometry { size: 1 << 40, ..geometry() }));
    assert!(matches!(send_unmap(&large, &unmap(&[(0, 1 << 20), (1 << 20, 1 << 20)])), Step::Io(..)));
    let reply = answer(send_unmap(&large, &unmap(&[(0, 1 << 20), (1 << 20, (1 << 20) + 1)])));
    assert_eq!((checked(&reply), details(&reply).0), (INVALID_PARAMETER, [0x80, 0, 32]));
}

#[test]
fn write_same_fills_or_zeroes() {
    let unit = unit();
    let bytes = (2560, 1024);
    for opcode in [0x41, 0x93] {
        let zero = |how| Request::Zero { offset: bytes.0, len: bytes.1, how };
        assert_eq!(request(with(&unit, &cdb(opcode, 0, 5, 2), &[0; 512])), zero(Zeroing::Keep));
        assert_eq!(request(with(&unit, &cdb(opcode, 0x08, 5, 2), &[0; 512])), zero(Zeroing::Free));
        for flags in [0, 0x08] {
            let fill = Request::Fill { offset: bytes.0, len: bytes.1, pattern: vec![7; 512].into() };
            assert_eq!(request(with(&unit, &cdb(opcode, flags, 5, 2), &[7; 512])), fill);
        }
        assert_eq!(unit.finish(&command(&cdb(opcode, 0, 5, 2), 512, &[]), Ok(())), Reply::moved(512));
        assert_eq!(checked(&answer(with(&unit, &cdb(opcode, 0, 5, 2), &[0; 511]))), LIST_LENGTH);
        assert_eq!(
            checked(&done(&unit, &cdb(opcode, 0, 5, 0), 512)),
            INVALID_FIELD,
            "not to the end of the disk"
        );
        for (flags, bit) in [(0x10, 4), (0x04, 2), (0x02, 2)] {
            assert_eq!(details(&done(&unit, &cdb(opcode, flags, 5, 2), 512)).0, [0xC8 | bit, 0, 1]);
        }
    }
    let zero = Request::Zero { offset: bytes.0, len: bytes.1, how: Zeroing::Free };
    assert_eq!(request(unit.start(&command(&cdb(0x93, 0x09, 5, 2), 0, &[]))), zero);
    assert_eq!(unit.finish(&command(&cdb(0x93, 0x09, 5, 2), 0, &[]), Ok(())), Reply::good());

    let large = ready(unit_of(Geometry { size: 1 << 40, unmap_granularity: None, ..geometry() }));
    assert!(matches!(large.start(&command(&cdb(0x93, 0x01, 0, 1 << 17), 0, &[])), Step::Io(..)));
    let reply = done(&large, &cdb(0x93, 0x01, 0, (1 << 17) + 1), 0);
    assert_eq!(details(&reply).0, [0xC0, 0, 10]);
    assert_eq!(details(&done(&large, &cdb(0x93, 0x09, 0, 1), 0)).0, [0xCB, 0, 1]);
}

#[test]
fn what_fails_on_the_host_becomes_sense_data() {
    let unit = unit();
    let os = |errno| Err(IoError::Disk(DiskError::Host(io::Error::from_raw_os_error(errno))));
    let told = |cdb: &[u8], outcome| {
        let reply = unit.finish(&command(cdb, 1024, &[]), outcome);
        (checked(&reply), details(&reply).1)
    };
    let (read, write, flush) = (cdb(0x28, 0, 5, 2), cdb(0x2A, 0, 5, 2), cdb(0x35, 0, 0, 0));
    let (eio, enospc, edquot, enomem) = (5, 28, 122, 12);
    assert_eq!(told(&read, os(eio)), ((SenseKey::MediumError, 0x11, 0x00), Some(5)));
    assert_eq!(told(&write, os(eio)), ((SenseKey::MediumError, 0x0C, 0x00), Some(5)));
    assert_eq!(told(&flush, os(eio)), ((SenseKey::MediumError, 0x0C, 0x00), None));
    for full in [enospc, edquot] {
        assert_eq!(told(&write, os(full)), ((SenseKey::DataProtect, 0x27, 0x07), None));
    }
    assert_eq!(told(&write, os(enomem)), ((SenseKey::HardwareError, 0x44, 0x00), None));
    let disk = |error| Err(IoError::Disk(error));
    assert_eq!(
        told(&read, disk(DiskError::Damaged("x".to_owned()))),
        ((SenseKey::MediumError, 0x11, 0), Some(5))
    );
    assert_eq!(told(&write, disk(DiskError::ReadOnly)), (WRITE_PROTECTED, None));
    let past = DiskError::OutOfRange { offset: 2560, len: 1024, size: 0 };
    assert_eq!(told(&write, disk(past)), (OUT_OF_RANGE, Some(5)));
    assert_eq!(told(&write, Err(IoError::Aborted)), ((SenseKey::AbortedCommand, 0, 0), None));
}

#[test]
fn request_sense_takes_the_unit_attention() {
    let unit = unit_of(geometry());
    let sense = |length| data(done(&unit, &[0x03, 0, 0, 0, length, 0], 252));
    assert_eq!(sense(252), [0x70, 0, 6, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x29, 0, 0, 0, 0, 0]);
    assert_eq!(sense(8), [0x70, 0, 0, 0, 0, 0, 0, 10]);
    assert_eq!(done(&unit, &[0; 6], 0), Reply::good());
    assert_eq!(checked(&done(&unit, &[0x03, 1, 0, 0, 18, 0], 18)), INVALID_FIELD);
}

#[test]
fn small_commands() {
    let unit = unit();
    assert_eq!(done(&unit, &[0x1D, 0x04, 0, 0, 0, 0], 0), Reply::good());
    assert_eq!(checked(&done(&unit, &[0x1D, 0x20, 0, 0, 0, 0], 0)), INVALID_FIELD);
    assert_eq!(checked(&done(&unit, &[0x1D, 0, 0, 0, 4, 0], 4)), INVALID_FIELD);
    assert_eq!(done(&unit, &[0x1E, 0, 0, 0, 1, 0], 0), Reply::good());
}

#[test]
fn a_reset_is_told_once_to_those_whom_it_concerns() {
    let unit = unit();
    let ready = |number| {
        let reply = answer(unit.start(&Command { initiator: initiator(number), ..command(&[0; 6], 0, &[]) }));
        reply.status == ScsiStatus::GOOD
    };
    assert!(ready(0));
    assert!(!ready(63) && ready(63), "each initiator is told");
    unit.reset(Reset::Unit);
    assert!(!ready(63) && !ready(0) && ready(63) && ready(0));
    unit.reset(Reset::Unit);
    unit.reset(Reset::Initiator(initiator(0)));
    assert!(ready(0) && !ready(63), "one that begins anew has nothing to be told");
}

#[test]
fn supported_operation_codes_are_those_of_the_table() {
    let unit = unit();
    let ask = |options, opcode, action| {
        done(&unit, &[0xA3, 0x0C, options, opcode, 0, action, 0, 0, 16, 0, 0, 0], 4096)
    };
    let all = data(ask(0, 0, 0));
    assert_eq!(all[..4], ((all.len() - 4) as u32).to_be_bytes());
    let with_timeouts = data(ask(0x80, 0, 0));
    assert_eq!((with_timeouts.len() - 4) / 20, (all.len() - 4) / 8);
    for entry in all[4..].chunks(8) {
        let &[opcode, _, 0, action, 0, flags, 0, len] = entry else { panic!("{entry:02x?}") };
        let one = data(ask(3, opcode, action));
        assert_eq!(one[..5], [0, 3, 0, len, opcode]);
        assert_eq!(one.len(), 4 + usize::from(len));
        let (plain, with_action) = (ask(1, opcode, 0), ask(2, opcode, action));
        let (refused, served) = if flags == 1 { (plain, with_action) } else { (with_action, plain) };
        assert_eq!(checked(&refused), INVALID_FIELD);
        assert_eq!(data(served), one);
        if flags == 1 {
            assert_eq!(one[5] & 0x1F, action);
        }
    }
    assert_eq!(data(ask(3, 0x89, 0)), [0, 1, 0, 0]);
    assert_eq!(data(ask(1, 0x89, 0)), [0, 1, 0, 0]);
    assert_eq!(data(ask(2, 0x9E, 0x11)), [0, 1, 0, 0]);
    assert_eq!(data(ask(0x81, 0x28, 0))[..2], [0, 0x83]);
    assert_eq!(checked(&ask(4, 0, 0)), INVALID_FIELD);
    let fixed = ready(unit_of(Geometry { unmap_granularity: None, ..geometry() }));
    let unmap = done(&fixed, &[0xA3, 0x0C, 1, 0x42, 0, 0, 0, 0, 16, 0, 0, 0], 64);
    assert_eq!(data(unmap), [0, 1, 0, 0]);
}
