//! MODE SENSE and MODE SELECT of a disk.

use super::*;

const INVALID_FIELD: (SenseKey, u8, u8) = (SenseKey::IllegalRequest, 0x24, 0x00);
const INVALID_PARAMETER: (SenseKey, u8, u8) = (SenseKey::IllegalRequest, 0x26, 0x00);
const LIST_LENGTH: (SenseKey, u8, u8) = (SenseKey::IllegalRequest, 0x1A, 0x00);

const DESCRIPTOR: [u8; 8] = [0, 0, 0x03, 0xE8, 0, 0, 2, 0];

fn caching(flags: u8) -> Vec<u8> {
    [&[0x08, 18, flags][..], &[0; 17]].concat()
}

fn control(queueing: u8) -> Vec<u8> {
    [&[0x0A, 10, 0, queueing][..], &[0; 8]].concat()
}

fn sense6(unit: &ScsiDisk, flags: u8, page: u8, length: u8) -> Vec<u8> {
    data(done(unit, &[0x1A, flags, page, 0, length, 0], 255))
}

#[test]
fn pages_come_behind_a_header_and_a_block_descriptor() {
    let unit = unit();
    let both = [caching(4), control(0x10)].concat();
    assert_eq!(sense6(&unit, 0, 0x3F, 255), [&[43, 0, 0x10, 8][..], &DESCRIPTOR, &both].concat());
    assert_eq!(sense6(&unit, 8, 0x3F, 255), [&[35, 0, 0x10, 0][..], &both].concat());
    // Linux asks for a page's first 4 bytes to learn its length.
    assert_eq!(sense6(&unit, 0, 0x08, 4), [31, 0, 0x10, 8]);
    assert_eq!(sense6(&unit, 8, 0x0A, 255), [&[15, 0, 0x10, 0][..], &control(0x10)].concat());
    let ten = data(done(&unit, &[0x5A, 0, 0x3F, 0xFF, 0, 0, 0, 1, 0, 0], 4096));
    assert_eq!(ten, [&[0, 46, 0, 0x10, 0, 0, 0, 8][..], &DESCRIPTOR, &both].concat());
}

#[test]
fn changeable_and_default_values_but_no_saved_ones() {
    let unit = unit();
    assert_eq!(sense6(&unit, 8, 0x48, 255)[4..], caching(4));
    assert_eq!(sense6(&unit, 8, 0x4A, 255)[4..], control(0));
    assert_eq!(sense6(&unit, 8, 0xBF, 255)[4..], [caching(4), control(0x10)].concat());
    let saved = done(&unit, &[0x1A, 0, 0xC8, 0, 255, 0], 255);
    assert_eq!(checked(&saved), (SenseKey::IllegalRequest, 0x39, 0x00));
    assert_eq!(checked(&done(&unit, &[0x1A, 0, 0x1C, 0, 255, 0], 255)), INVALID_FIELD);
    assert_eq!(checked(&done(&unit, &[0x1A, 0, 0x08, 1, 255, 0], 255)), INVALID_FIELD);
}

fn select6<'u>(unit: &'u ScsiDisk, list: &[u8]) -> Step<'u> {
    with(unit, &[0x15, 0x10, 0, 0, list.len() as u8, 0], list)
}

fn select10<'u>(unit: &'u ScsiDisk, list: &[u8]) -> Step<'u> {
    with(unit, &[0x55, 0x10, 0, 0, 0, 0, 0, 0, list.len() as u8, 0], list)
}

#[test]
fn a_guest_switches_the_write_cache_off_and_on() {
    let unit = unit();
    let write = || request(unit.start(&command(&[0x2A, 0, 0, 0, 0, 0, 0, 0, 1, 0], 512, &[])));
    let fua = |fua| Request::Write { offset: 0, len: 512, fua };
    assert_eq!(write(), fua(false));

    let off = [&[0; 4][..], &caching(0)].concat();
    assert_eq!(request(select6(&unit, &off)), Request::Flush);
    let cdb = [0x15, 0x10, 0, 0, 24, 0];
    assert_eq!(unit.finish(&command(&cdb, 24, &[]), Ok(())), Reply::moved(24));
    assert_eq!(write(), fua(true));
    assert_eq!(sense6(&unit, 8, 0x08, 255)[4..], caching(0));
    assert_eq!(sense6(&unit, 8, 0x88, 255)[4..], caching(4));
    assert_eq!(answer(select6(&unit, &off)), Reply::moved(24), "nothing to flush");

    let on = [&[0, 0, 0, 0, 0, 0, 0, 8][..], &DESCRIPTOR, &caching(4), &control(0x10)].concat();
    assert_eq!(answer(select10(&unit, &on)), Reply::moved(48));
    assert_eq!(write(), fua(false));

    request(select6(&unit, &off));
    unit.reset(Reset::Unit);
    told_of_reset(&unit);
    assert_eq!(write(), fua(false));
}

#[test]
fn other_initiators_are_told_of_a_change() {
    let unit = unit();
    let other = Command { initiator: initiator(1), ..command(&[0; 6], 0, &[]) };
    assert_eq!(checked(&answer(unit.start(&other))), (SenseKey::UnitAttention, 0x29, 0x00));
    request(select6(&unit, &[&[0; 4][..], &caching(0)].concat()));
    assert_eq!(done(&unit, &[0; 6], 0), Reply::good());
    assert_eq!(checked(&answer(unit.start(&other))), (SenseKey::UnitAttention, 0x2A, 0x01));
    assert_eq!(answer(unit.start(&other)), Reply::good());
    assert_eq!(answer(select6(&unit, &[&[0; 4][..], &caching(0)].concat())), Reply::moved(24));
    assert_eq!(answer(unit.start(&other)), Reply::good(), "nothing changed");
}

#[test]
fn what_cannot_be_changed_is_refused() {
    let unit = unit();
    let page = |page: &[u8]| [&[0; 4], page].concat();
    let mut long = caching(4);
    long[1] = 19;
    long.push(0);
    let mut wrong_block = [&[0, 0, 0, 8][..], &DESCRIPTOR].concat();
    wrong_block[10] = 0x10;
    let refused = [
        (page(&caching(0x05)), INVALID_PARAMETER, Some(6)),
        (page(&control(0)), INVALID_PARAMETER, Some(7)),
        (page(&long), INVALID_PARAMETER, Some(5)),
        (page(&[0x1C, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), INVALID_PARAMETER, Some(4)),
        (page(&[&[0x48, 1, 0, 18][..], &[0; 18]].concat()), INVALID_PARAMETER, Some(4)),
        (page(&caching(4)[..19]), LIST_LENGTH, None),
        (page(&caching(4)[..1]), LIST_LENGTH, None),
        (vec![0; 3], LIST_LENGTH, None),
        (vec![0, 0, 0, 8, 0, 0, 0], LIST_LENGTH, None),
        (vec![0, 0, 0, 4, 0, 0, 0, 0], INVALID_PARAMETER, Some(3)),
        (wrong_block, INVALID_PARAMETER, Some(9)),
    ];
    for (list, sense, field) in refused {
        let reply = answer(select6(&unit, &list));
        assert_eq!(checked(&reply), sense, "{list:02x?}");
        let bytes = reply.sense.unwrap().to_bytes();
        assert_eq!((bytes[15] & 0xC0 == 0x80).then_some(bytes[17]), field, "{list:02x?}");
    }
    assert_eq!(sense6(&unit, 8, 0x08, 255)[4..], caching(4));
    assert_eq!(checked(&done(&unit, &[0x15, 0x11, 0, 0, 4, 0], 4)), INVALID_FIELD);
    assert_eq!(done(&unit, &[0x15, 0x10, 0, 0, 0, 0], 0), Reply::good());
}
