//! A DVD drive: discs that come and go, and what the drive tells of itself and of them.

use super::*;

const CD: u64 = 300_000;
const DVD: u64 = 2_000_000;

const TUR: [u8; 6] = [0; 6];
const TRAY_CLOSED: (SenseKey, u8, u8) = (SenseKey::NotReady, 0x3A, 0x01);
const TRAY_OPEN: (SenseKey, u8, u8) = (SenseKey::NotReady, 0x3A, 0x02);
const CHANGED: (SenseKey, u8, u8) = (SenseKey::UnitAttention, 0x28, 0x00);
const INVALID_FIELD: (SenseKey, u8, u8) = (SenseKey::IllegalRequest, 0x24, 0x00);

fn disc(blocks: u64) -> Arc<Disk> {
    disk_of(Geometry { size: blocks * 2048, read_only: true, unmap_granularity: None, ..geometry() })
}

fn empty() -> Dvd {
    ready(Dvd::new(Identity::new(None, None, CONTROLLER, 1)))
}

fn loaded(blocks: u64) -> Dvd {
    let drive = empty();
    drive.insert(disc(blocks)).unwrap();
    assert_eq!(checked(&done(&drive, &TUR, 0)), CHANGED);
    assert_eq!(event(&drive), (2, 2));
    drive
}

/// Code and status of the next media event.
fn event(drive: &Dvd) -> (u8, u8) {
    let data = data(done(drive, &[0x4A, 1, 0, 0, 0x10, 0, 0, 0, 8, 0], 8));
    assert_eq!(data[..4], [0, 6, 4, 0x50]);
    (data[4], data[5])
}

fn eject_by_guest(drive: &Dvd) -> Reply {
    done(drive, &[0x1B, 0, 0, 0, 2, 0], 0)
}

fn lock(drive: &Dvd, locks: u8) {
    assert_eq!(done(drive, &[0x1E, 0, 0, 0, locks, 0], 0), Reply::good());
}

#[test]
fn a_disc_comes_and_goes_by_the_host() {
    let drive = empty();
    assert_eq!(checked(&done(&drive, &TUR, 0)), TRAY_CLOSED);
    assert_eq!(event(&drive), (0, 0));
    drive.insert(disc(CD)).unwrap();
    assert_eq!(event(&drive), (2, 2), "events are told before the unit attention");
    assert_eq!(event(&drive), (0, 2), "and once");
    assert_eq!(checked(&done(&drive, &TUR, 0)), CHANGED);
    assert_eq!(done(&drive, &TUR, 0), Reply::good());
    assert_eq!(drive.eject(false), Ejected::Done);
    assert_eq!(event(&drive), (3, 0));
    assert_eq!(checked(&done(&drive, &TUR, 0)), TRAY_CLOSED);
    assert_eq!(drive.eject(false), Ejected::Done, "empty before, empty now");
    assert_eq!(event(&drive), (0, 0));
}

#[test]
fn another_disc_takes_the_place_of_the_first() {
    let drive = loaded(CD);
    let other =
        |number| answer(drive.start(&Command { initiator: initiator(number), ..command(&TUR, 0, &[]) }));
    assert_eq!(checked(&other(1)), (SenseKey::UnitAttention, 0x29, 0x00));
    drive.insert(disc(DVD)).unwrap();
    assert_eq!(checked(&done(&drive, &TUR, 0)), CHANGED);
    assert_eq!(checked(&other(1)), CHANGED, "everybody is told");
    assert_eq!(event(&drive), (2, 2));
    assert_eq!(checked(&other(2)), (SenseKey::UnitAttention, 0x29, 0x00));
    assert_eq!(other(2), Reply::good(), "who comes later needs to be told one thing only");
}

#[test]
fn a_guest_ejects_and_loads() {
    let drive = loaded(CD);
    assert_eq!(eject_by_guest(&drive), Reply::good());
    assert!(drive.disc().is_none());
    assert_eq!(event(&drive), (3, 1));
    assert_eq!(checked(&done(&drive, &TUR, 0)), TRAY_OPEN);
    assert_eq!(checked(&done(&drive, &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], 2048)), TRAY_OPEN);
    assert_eq!(done(&drive, &[0x1B, 0, 0, 0, 3, 0], 0), Reply::good());
    assert_eq!(event(&drive), (2, 2));
    assert_eq!(checked(&done(&drive, &TUR, 0)), CHANGED);
    assert_eq!(done(&drive, &TUR, 0), Reply::good());
    assert_eq!(done(&drive, &[0x1B, 0, 0, 0, 3, 0], 0), Reply::good(), "it is in already");
    assert_eq!((event(&drive), done(&drive, &TUR, 0)), ((0, 2), Reply::good()));
    // A disc that the host puts in closes the tray.
    assert_eq!(eject_by_guest(&drive), Reply::good());
    drive.insert(disc(DVD)).unwrap();
    assert_eq!(event(&drive), (2, 2));
}

#[test]
fn a_locked_drive_asks_its_guest() {
    let drive = loaded(CD);
    lock(&drive, 1);
    assert_eq!(checked(&eject_by_guest(&drive)), (SenseKey::IllegalRequest, 0x53, 0x02));
    assert_eq!(drive.insert(disc(DVD)), Err(InsertError::Locked));
    assert_eq!(drive.eject(false), Ejected::Asked);
    assert_eq!(event(&drive), (1, 2));
    assert_eq!(event(&drive), (0, 2));
    lock(&drive, 0);
    assert_eq!(eject_by_guest(&drive), Reply::good());
    assert_eq!(event(&drive), (3, 1));

    let drive = loaded(CD);
    lock(&drive, 1);
    assert_eq!(drive.eject(true), Ejected::Done);
    assert_eq!(checked(&done(&drive, &TUR, 0)), TRAY_CLOSED);
    drive.insert(disc(CD)).unwrap();
    assert_eq!(drive.eject(false), Ejected::Asked, "the lock is the drive's, not the disc's");
    drive.reset(Reset::Initiator(initiator(0)));
    assert_eq!(drive.eject(false), Ejected::Done);
}

#[test]
fn an_image_with_large_sectors_or_without_a_block_is_no_disc() {
    let drive = loaded(CD);
    let image = disk_of(Geometry { logical_sector: 4096, ..geometry() });
    assert_eq!(drive.insert(image), Err(InsertError::Sectors(4096)));
    let image = disk_of(Geometry { size: 1536, ..geometry() });
    assert_eq!(drive.insert(image), Err(InsertError::Empty(1536)));
    assert_eq!(done(&drive, &TUR, 0), Reply::good());
}

#[test]
fn blocks_are_read() {
    let drive = loaded(CD);
    let read = |cdb: &[u8]| request(drive.start(&command(cdb, 4096, &[])));
    let two_at_16 = Request::Read { offset: 32768, len: 4096 };
    assert_eq!(read(&[0x28, 0, 0, 0, 0, 16, 0, 0, 2, 0]), two_at_16);
    assert_eq!(read(&[0xA8, 0, 0, 0, 0, 16, 0, 0, 0, 2, 0, 0]), two_at_16);
    let cdb = [0x28, 0, 0, 0, 0, 16, 0, 0, 2, 0];
    assert_eq!(drive.finish(&command(&cdb, 4096, &[]), Ok(())), Reply::moved(4096));
    let eio = IoError::Disk(DiskError::Host(std::io::Error::from_raw_os_error(5)));
    assert_eq!(checked(&drive.finish(&command(&cdb, 4096, &[]), Err(eio))), (SenseKey::MediumError, 0x11, 0));
    assert_eq!(checked(&done(&drive, &cdb, 4095)), INVALID_FIELD);
    let past = [0x28, 0, 0, 4, 0x93, 0xE0, 0, 0, 1, 0];
    assert_eq!(checked(&done(&drive, &past, 4096)), (SenseKey::IllegalRequest, 0x21, 0x00));
    assert_eq!(done(&drive, &[0x28, 0, 0, 0, 0, 0, 0, 0, 0, 0], 0), Reply::good());
    assert_eq!(done(&drive, &[0x2B, 0, 0, 4, 0x93, 0xDF, 0, 0, 0, 0], 0), Reply::good());
    assert_eq!(
        checked(&done(&drive, &[0x2B, 0, 0, 4, 0x93, 0xE0, 0, 0, 0, 0], 0)),
        (SenseKey::IllegalRequest, 0x21, 0x00)
    );
    let capacity = data(done(&drive, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], 8));
    assert_eq!(capacity, [0, 4, 0x93, 0xDF, 0, 0, 8, 0]);
    assert_eq!(checked(&done(&empty(), &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], 8)), TRAY_CLOSED);
    assert_eq!(checked(&done(&drive, &[0x2A; 10], 4096)), (SenseKey::IllegalRequest, 0x20, 0x00));
}

#[test]
fn inquiry() {
    let drive = Dvd::new(Identity::new(None, Some(Serial::new("DVD1").unwrap()), CONTROLLER, 1));
    let standard = data(done(&drive, &[0x12, 0, 0, 0, 255, 0], 255));
    assert_eq!(standard[..8], [0x05, 0x80, 0x06, 0x12, 69, 0, 0, 0x02]);
    assert_eq!(&standard[8..36], b"Busman  Virtual DVD-ROM 1.0 ");
    let page = |page| data(done(&drive, &[0x12, 1, page, 0, 255, 0], 255));
    assert_eq!(page(0), [5, 0, 0, 3, 0x00, 0x80, 0x83]);
    assert_eq!(page(0x80), [&[5, 0x80, 0, 4][..], b"DVD1"].concat());
    assert_eq!(page(0x83).len(), 4 + 12 + 4 + 28);
    assert_eq!(checked(&done(&drive, &[0x12, 1, 0xB0, 0, 255, 0], 255)), INVALID_FIELD);
}

#[test]
fn request_sense_says_why_the_drive_is_not_ready() {
    let drive = empty();
    let codes = |drive: &Dvd| {
        let sense = data(done(drive, &[0x03, 0, 0, 0, 18, 0], 18));
        (sense[2], sense[12], sense[13])
    };
    assert_eq!(codes(&drive), (2, 0x3A, 1));
    drive.insert(disc(CD)).unwrap();
    assert_eq!(codes(&drive), (6, 0x28, 0));
    assert_eq!(codes(&drive), (0, 0, 0));
}

#[test]
fn configuration() {
    let get = |drive: &Dvd, request, feature, room| {
        data(done(drive, &[0x46, request, 0, feature, 0, 0, 0, 0, room, 0], 255))
    };
    let codes = |data: &[u8]| {
        let (mut rest, mut codes) = (&data[8..], Vec::new());
        while !rest.is_empty() {
            codes.push((rest[1], rest[2] & 1));
            rest = &rest[4 + usize::from(rest[3])..];
        }
        assert_eq!(data[..4], ((data.len() - 4) as u32).to_be_bytes());
        codes
    };
    let (none, cd, dvd) = (empty(), loaded(CD), loaded(DVD));
    let all = |current: u8, dvd: u8| vec![(0, 1), (1, 1), (2, 1), (3, 1), (0x10, current), (0x1F, dvd)];
    for (drive, profile, features) in [(&none, 0, all(0, 0)), (&cd, 8, all(1, 0)), (&dvd, 16, all(1, 1))] {
        let data = get(drive, 0, 0, 255);
        assert_eq!((&data[6..8], codes(&data)), (&[0, profile][..], features.clone()));
        assert_eq!(
            data[8..20],
            [0, 0, 3, 8, 0, 16, u8::from(profile == 16), 0, 0, 8, u8::from(profile == 8), 0]
        );
        let current: Vec<_> = features.into_iter().filter(|&(_, current)| current == 1).collect();
        assert_eq!(codes(&get(drive, 1, 0, 255)), current);
    }
    assert_eq!(codes(&get(&dvd, 0, 3, 255)).len(), 3);
    assert_eq!(get(&dvd, 2, 3, 255)[8..], [0, 3, 3, 4, 0x29, 0, 0, 0]);
    assert_eq!(get(&dvd, 2, 5, 255), [0, 0, 0, 4, 0, 0, 0, 16]);
    assert_eq!(get(&dvd, 0, 0, 8).len(), 8);
    assert_eq!(checked(&done(&dvd, &[0x46, 3, 0, 0, 0, 0, 0, 0, 255, 0], 255)), INVALID_FIELD);
}

#[test]
fn events_of_other_classes() {
    let drive = loaded(CD);
    let get = |classes, room| done(&drive, &[0x4A, 1, 0, 0, classes, 0, 0, 0, room, 0], 255);
    assert_eq!(data(get(0x42, 8)), [0, 6, 6, 0x50, 0, 0, 0, 0]);
    assert_eq!(data(get(0x02, 8)), [0, 2, 0x80, 0x50]);
    assert_eq!(checked(&done(&drive, &[0x4A, 0, 0, 0, 0x10, 0, 0, 0, 8, 0], 8)), INVALID_FIELD);
    lock(&drive, 1);
    assert_eq!(drive.eject(false), Ejected::Asked);
    assert_eq!(data(get(0x10, 4)), [0, 6, 4, 0x50]);
    assert_eq!(event(&drive), (1, 2), "the header alone takes no event");
}

#[test]
fn table_of_contents() {
    let drive = loaded(CD);
    let toc = |msf, format, first, control| {
        done(&drive, &[0x43, msf, format, 0, 0, 0, first, 0, 255, control], 255)
    };
    let track = [0, 0x14, 1, 0, 0, 0, 0, 0];
    let lead_out = [0, 0x14, 0xAA, 0, 0, 4, 0x93, 0xE0];
    assert_eq!(data(toc(0, 0, 0, 0)), [&[0, 18, 1, 1][..], &track, &lead_out].concat());
    assert_eq!(data(toc(0, 0, 1, 0)), data(toc(0, 0, 0, 0)));
    assert_eq!(data(toc(0, 0, 0xAA, 0)), [&[0, 10, 1, 1][..], &lead_out].concat());
    assert_eq!(checked(&toc(0, 0, 2, 0)), INVALID_FIELD);
    let in_minutes = data(toc(2, 0, 0, 0));
    assert_eq!((&in_minutes[8..12], &in_minutes[16..20]), (&[0, 0, 2, 0][..], &[0, 66, 42, 0][..]));
    let sessions = [0, 10, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0];
    assert_eq!(data(toc(0, 1, 0, 0)), sessions);
    assert_eq!(data(toc(0, 0, 0, 0x40)), sessions, "the format where it used to be");
    let full = data(toc(2, 2, 0, 0));
    assert_eq!(full[..15], [0, 46, 1, 1, 1, 0x14, 0, 0xA0, 0, 0, 0, 0, 1, 0, 0]);
    assert_eq!(full[26..37], [1, 0x14, 0, 0xA2, 0, 0, 0, 0, 66, 42, 0]);
    assert_eq!(checked(&toc(0, 5, 0, 0)), INVALID_FIELD);
    assert_eq!(checked(&done(&empty(), &[0x43, 0, 0, 0, 0, 0, 0, 0, 255, 0], 255)), TRAY_CLOSED);
    let far = data(done(&loaded(2_000_000), &[0x43, 2, 0, 0, 0, 0, 0xAA, 0, 255, 0], 255));
    assert_eq!(far[8..], [0, 255, 59, 74]);
}

#[test]
fn disc_information_and_structures() {
    let (cd, dvd) = (loaded(CD), loaded(DVD));
    let information = data(done(&cd, &[0x51, 0, 0, 0, 0, 0, 0, 0, 255, 0], 255));
    assert_eq!((information.len(), &information[..9]), (34, &[0, 32, 0x0E, 1, 1, 1, 1, 0x20, 0][..]));
    assert_eq!(checked(&done(&cd, &[0x51, 1, 0, 0, 0, 0, 0, 0, 255, 0], 255)), INVALID_FIELD);

    let structure = |drive: &Dvd, media, layer, format| {
        done(drive, &[0xAD, media, 0, 0, 0, 0, layer, format, 0xFF, 0xFF, 0, 0], 65535)
    };
    let physical = data(structure(&dvd, 0, 0, 0));
    assert_eq!((physical.len(), &physical[..8]), (2052, &[8, 2, 0, 0, 1, 0x0F, 1, 0][..]));
    assert_eq!(physical[8..16], [0, 3, 0, 0, 0, 0x21, 0x84, 0x7F]);
    assert_eq!(data(structure(&dvd, 0, 0, 1)), [0, 6, 0, 0, 0, 0, 0, 0]);
    assert_eq!(data(structure(&dvd, 0, 0, 4)).len(), 2052);
    assert_eq!(data(structure(&dvd, 0, 0, 0xFF))[..8], [0, 14, 0, 0, 0, 0x40, 8, 4]);
    assert_eq!(checked(&structure(&cd, 0, 0, 0)), (SenseKey::IllegalRequest, 0x30, 0x02));
    for refused in [structure(&dvd, 1, 0, 0), structure(&dvd, 0, 1, 0), structure(&dvd, 0, 0, 2)] {
        assert_eq!(checked(&refused), INVALID_FIELD);
    }
}

#[test]
fn mechanism_and_mode_page() {
    let drive = loaded(CD);
    let mechanism = |drive: &Dvd| data(done(drive, &[0xBD, 0, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0], 255));
    assert_eq!(mechanism(&drive), [0; 8]);
    let page = |page| done(&drive, &[0x5A, 0, page, 0, 0, 0, 0, 0, 255, 0], 255);
    let capabilities = data(page(0x2A));
    assert_eq!(capabilities[..15], [0, 28, 0, 0, 0, 0, 0, 0, 0x2A, 20, 0x08, 0, 0, 0, 0x29]);
    assert_eq!((capabilities.len(), data(page(0x3F))), (30, capabilities));
    assert_eq!(data(page(0x6A))[10..], [0; 20], "nothing can be changed");
    lock(&drive, 1);
    assert_eq!(data(page(0x2A))[14], 0x2B);
    lock(&drive, 0);
    assert_eq!(checked(&page(0x08)), INVALID_FIELD);
    assert_eq!(eject_by_guest(&drive), Reply::good());
    assert_eq!(mechanism(&drive)[1], 0x10);
}
