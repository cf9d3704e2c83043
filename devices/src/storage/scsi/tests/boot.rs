//! What Linux, Windows and the firmware do first with a disk.

use super::*;

const INVALID_FIELD: (SenseKey, u8, u8) = (SenseKey::IllegalRequest, 0x24, 0x00);

#[test]
fn inquiry_tells_what_it_is_even_before_the_unit_attention() {
    let unit = unit_of(geometry());
    let inquiry = data(done(&unit, &[0x12, 0, 0, 0, 255, 0], 255));
    assert_eq!(inquiry.len(), 74);
    assert_eq!(inquiry[..8], [0x00, 0x00, 0x06, 0x12, 69, 0, 0, 0x02]);
    assert_eq!(&inquiry[8..36], b"Busman  Virtual Disk    1.0 ");
    assert_eq!(inquiry[58..64], [0x00, 0xA0, 0x04, 0x60, 0x04, 0xC0]);
    // Linux first asks for 36 bytes, and a guest's buffer may be smaller than it says.
    assert_eq!(data(done(&unit, &[0x12, 0, 0, 0, 36, 0], 255)).len(), 36);
    assert_eq!(data(done(&unit, &[0x12, 0, 0, 0, 255, 0], 5)), inquiry[..5]);
    assert_eq!(checked(&done(&unit, &[0x12, 0, 0x80, 0, 255, 0], 255)), INVALID_FIELD);
    assert_eq!(checked(&done(&unit, &[0x12, 1, 0xB7, 0, 255, 0], 255)), INVALID_FIELD);
    assert_eq!(checked(&done(&unit, &[0; 6], 0)), (SenseKey::UnitAttention, 0x29, 0x00));
    assert_eq!(done(&unit, &[0; 6], 0), Reply::good());
}

/// Told of the power, the firmware asked forever whether the disk is ready.
#[test]
fn a_new_unit_has_nothing_to_tell() {
    let identity = Identity::new(geometry().id, None, CONTROLLER, 0);
    let disk = ScsiDisk::new(disk_of(geometry()), identity, MAX_TRANSFER);
    assert_eq!(done(&disk, &[0; 6], 0), Reply::good());
    disk.reset(Reset::Unit);
    assert_eq!(checked(&done(&disk, &[0; 6], 0)), (SenseKey::UnitAttention, 0x29, 0x00));
}

#[test]
fn pages_of_vital_product_data() {
    let unit = unit();
    let page = |page| data(done(&unit, &[0x12, 1, page, 0, 255, 0], 255));
    assert_eq!(page(0x00), [0, 0, 0, 6, 0x00, 0x80, 0x83, 0xB0, 0xB1, 0xB2]);
    assert_eq!(page(0x80), [&[0, 0x80, 0, 5][..], b"S/N 1"].concat());

    let names = page(0x83);
    assert_eq!(names[..8], [0, 0x83, 0, 12 + 4 + 29, 0x01, 0x03, 0, 8]);
    assert_eq!(names[8] >> 4, 3, "locally assigned");
    assert_eq!(names[16..20], [0x02, 0x01, 0, 29]);
    assert_eq!(&names[20..], b"Busman  Virtual Disk    S/N 1");

    let limits = page(0xB0);
    assert_eq!(limits[..16], [0, 0xB0, 0, 60, 1, 0, 0, 8, 0, 0, 0x08, 0, 0, 0, 0, 0]);
    assert_eq!(limits[20..36], [0, 0x20, 0, 0, 0, 0, 1, 0, 0, 0, 0, 8, 0x80, 0, 0, 0]);
    assert_eq!(limits[36..44], [0, 0, 0, 0, 0, 2, 0, 0]);
    assert_eq!((limits.len(), &limits[44..]), (64, &[0; 20][..]));

    let characteristics = page(0xB1);
    assert_eq!((characteristics.len(), &characteristics[..6]), (64, &[0, 0xB1, 0, 60, 0, 1][..]));
    assert_eq!(page(0xB2), [0, 0xB2, 0, 4, 0, 0xE4, 2, 0]);
}

#[test]
fn a_disk_that_cannot_be_unmapped_says_so() {
    for geometry in
        [Geometry { unmap_granularity: None, ..geometry() }, Geometry { read_only: true, ..geometry() }]
    {
        let unit = ready(unit_of(geometry));
        let page = |page| data(done(&unit, &[0x12, 1, page, 0, 255, 0], 255));
        assert_eq!(page(0xB2), [0, 0xB2, 0, 4, 0, 0, 0, 0]);
        assert_eq!(page(0xB0)[20..36], [0; 16]);
        let capacity = data(done(&unit, &[0x9E, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0], 32));
        assert_eq!(capacity[12..16], [0, 3, 0, 0]);
        let unmap = done(&unit, &[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], 24);
        assert_eq!(checked(&unmap), (SenseKey::IllegalRequest, 0x20, 0x00));
    }
}

#[test]
fn read_capacity() {
    let read_capacity_16 = [0x9E, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0];
    let small = unit();
    assert_eq!(data(done(&small, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], 8)), [0, 0, 3, 0xE7, 0, 0, 2, 0]);
    let capacity = data(done(&small, &read_capacity_16, 32));
    assert_eq!(capacity[..16], [0, 0, 0, 0, 0, 0, 3, 0xE7, 0, 0, 2, 0, 0, 3, 0xC0, 0]);
    assert_eq!(capacity[16..], [0; 16]);
    assert_eq!(checked(&done(&small, &[0x25, 0, 0, 0, 0, 1, 0, 0, 0, 0], 8)), INVALID_FIELD);
    assert_eq!(
        checked(&done(&small, &[0x9E, 0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0], 32)),
        INVALID_FIELD
    );

    let large = ready(unit_of(Geometry { size: 16 << 40, logical_sector: 4096, ..geometry() }));
    assert_eq!(data(done(&large, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], 8)), [255, 255, 255, 255, 0, 0, 16, 0]);
    let capacity = data(done(&large, &read_capacity_16, 32));
    assert_eq!(capacity[..16], [0, 0, 0, 0, 255, 255, 255, 255, 0, 0, 16, 0, 0, 0, 0xC0, 0]);
}

#[test]
fn blocks_are_read_and_written() {
    let unit = unit();
    let read = |cdb: &[u8]| request(unit.start(&command(cdb, 1024, &[])));
    let two_at_5 = Request::Read { offset: 2560, len: 1024 };
    assert_eq!(read(&[0x08, 0xE0, 0, 5, 2, 0]), two_at_5);
    assert_eq!(read(&[0x28, 0x18, 0, 0, 0, 5, 0, 0, 2, 0]), two_at_5);
    assert_eq!(read(&[0xA8, 0, 0, 0, 0, 5, 0, 0, 0, 2, 0, 0]), two_at_5);
    assert_eq!(read(&[0x88, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 2, 0, 0]), two_at_5);
    for (flags, fua) in [(0, false), (0x08, true), (0x10, false)] {
        let written = Request::Write { offset: 2560, len: 1024, fua };
        assert_eq!(read(&[0x2A, flags, 0, 0, 0, 5, 0, 0, 2, 0]), written);
        assert_eq!(read(&[0xAA, flags, 0, 0, 0, 5, 0, 0, 0, 2, 0, 0]), written);
        assert_eq!(read(&[0x8A, flags, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 2, 0, 0]), written);
    }
    assert_eq!(read(&[0x0A, 0, 0, 5, 2, 0]), Request::Write { offset: 2560, len: 1024, fua: false });
    assert_eq!(
        request(unit.start(&command(&[0x08, 0, 0, 5, 0, 0], 1 << 20, &[]))),
        Request::Read { offset: 2560, len: 256 * 512 },
        "0 blocks of the oldest READ are 256"
    );
    assert_eq!(done(&unit, &[0x28, 0, 0, 0, 3, 0xE8, 0, 0, 0, 0], 0), Reply::good());
    let cdb = [0x28, 0, 0, 0, 0, 5, 0, 0, 2, 0];
    assert_eq!(unit.finish(&command(&cdb, 1024, &[]), Ok(())), Reply::moved(1024));
}
