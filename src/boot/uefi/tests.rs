//! The firmware as it lies in RAM. What images look like inside is the tests' of `image`.

use super::*;
use std::fs;
use vmm_sys_util::tempdir::TempDir;

const UUID: Guid = Guid::parse("00112233-4455-6677-8899-aabbccddeeff");

fn source(image: &Path) -> FirmwareSource {
    FirmwareSource {
        image: image.to_owned(),
        uuid: Some(UUID),
        smbios: Smbios::default(),
        console: Console::Com1,
        front_page: true,
        watchdog: false,
    }
}

/// The structures of a blob: kind and body.
fn structures(blob: &[u8]) -> Vec<(u32, Vec<u8>)> {
    let word = |at: usize| u32::from_le_bytes(blob[at..at + 4].try_into().unwrap());
    let mut found = Vec::new();
    let mut at = 0;
    while at < blob.len() {
        let length = word(at + 4) as usize;
        assert!(length > 8 && length.is_multiple_of(8), "{length}");
        found.push((word(at), blob[at + 8..at + length].to_vec()));
        at += length;
    }
    assert_eq!((word(8) as usize, word(12) as usize), (found.len(), blob.len()));
    found
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

#[test]
fn every_machine_is_told_all_that_the_firmware_requires() {
    for memory in [64 << 20, 1 << 30, layout::LOW_GAP, 6 << 30, 200 << 30] {
        let machine = Machine { cpus: 3, memory, tpm: false };
        let found = structures(&describe(&source(Path::new("x")), UUID, &machine, &[1; ENTROPY]));
        let kinds: Vec<u32> = found.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [0x00, 0x01, 0x03, 0x04, 0x05, 0x12, 0x13, 0x14, 0x18]);
        let body = |kind| found.iter().find(|(found, _)| *found == kind).unwrap().1.as_slice();

        let ranges = body(0x03).chunks(24).map(|range| (u64_at(range, 0), u64_at(range, 8)));
        let ranges: Vec<_> = ranges.collect();
        assert_eq!(ranges.iter().map(|(_, length)| length).sum::<u64>(), memory);
        assert!(ranges.iter().all(|&(base, length)| length > 0 && [0, 1 << 32].contains(&base)));
        assert!(ranges[0].1 <= layout::LOW_GAP);

        let mmio = body(0x14);
        let [low, low_pages, high, high_pages] = [0, 8, 16, 24].map(|at| u64_at(mmio, at));
        assert_eq!((low, low + low_pages), (0xf8000, 1 << 20), "the low gap ends at 4 GiB");
        let (last, length) = ranges[ranges.len() - 1];
        assert!(high << 12 >= (last + length).max(1 << 32) && high_pages << 12 == 512 << 20);

        assert_eq!(&body(0x18)[..4], b"APIC");
        assert_eq!(u64_at(body(0x12), 0), 0x1020_0081);
    }
}

#[test]
fn what_the_user_says_of_the_machine_is_told_and_nothing_else() {
    let smbios = "serial=S1,asset-tag=A2,product=Rack machine".parse().unwrap();
    let source = FirmwareSource { smbios, ..source(Path::new("x")) };
    let machine = Machine { cpus: 1, memory: 1 << 30, tpm: false };
    let found = structures(&describe(&source, UUID, &machine, &[1; ENTROPY]));
    let texts: Vec<_> = found.iter().filter(|(kind, _)| matches!(kind, 0x06..=0x11 | 0x1a..=0x1f)).collect();
    let text = |text: &str| text.as_bytes().to_vec();
    assert_eq!(
        texts,
        [
            &(0x06, text("S1\0\0\0\0\0\0")),
            &(0x09, text("A2\0\0\0\0\0\0")),
            &(0x1b, text("Rack machine\0\0\0\0"))
        ]
    );
}

#[test]
fn image_tables_and_config_lie_where_the_firmware_looks() {
    let directory = TempDir::new_with_prefix("/tmp/busman-firmware").unwrap();
    let path = directory.as_path().join("MSVM.fd");
    let image = image::tests::image();
    fs::write(&path, &image).unwrap();
    let ram = GuestRam::from_ranges(&[(GuestAddress(0), 64 << 20)]).unwrap();
    let entry = load(&ram, &source(&path), &Machine { cpus: 1, memory: 64 << 20, tpm: false }).unwrap();
    assert_eq!(entry, Entry::Firmware { rip: 0x10_0000 + image::tests::ENTRY_OFFSET as u64 });

    let mut loaded = vec![0; IMAGE_SIZE];
    ram.read_slice(&mut loaded, GuestAddress(0x10_0000)).unwrap();
    assert!(loaded == image);
    let at = |address| ram.read_obj::<u64>(GuestAddress(address)).unwrap();
    assert_eq!([at(0x70_0000), at(0x70_1000), at(0x70_2000)], [0x70_1003, 0x70_2003, 0x83]);
    assert_eq!([at(0x70_6000), at(0x70_6008)], [0, 0x00af_9b00_0000_ffff]);
    assert_eq!([at(0x70_7000), at(0x70_8ff8)], [0, 0]);
    assert_eq!([at(0x70_9000), at(0x70_9008) & 0xffff_ffff], [16 << 32, 9]);
}

#[test]
fn what_is_no_firmware_is_refused_with_the_file_and_the_reason() {
    let directory = TempDir::new_with_prefix("/tmp/busman-firmware").unwrap();
    let path = directory.as_path().join("MSVM.fd");
    let machine = Machine { cpus: 1, memory: 64 << 20, tpm: false };
    let ram = GuestRam::from_ranges(&[(GuestAddress(0), 64 << 20)]).unwrap();
    let refused = |text: &str| {
        let error = load(&ram, &source(&path), &machine).unwrap_err();
        let reason = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        assert!(format!("{error}: {reason}").contains(text), "{error}: {reason}");
        assert!(error.to_string().contains("MSVM.fd"), "{error}");
    };
    refused("Cannot read firmware");
    fs::write(&path, "kernel").unwrap();
    refused("it has 6 bytes instead of 6291456");
    fs::write(&path, vec![0; IMAGE_SIZE]).unwrap();
    refused("there is no DXE firmware volume at 0x0");
    // Nothing was written, then.
    assert_eq!(ram.read_obj::<u64>(GuestAddress(firmware::CONFIG + 8)).unwrap(), 0);
    assert_eq!(ram.read_obj::<u64>(GuestAddress(firmware::GDT + 8)).unwrap(), 0);
}

#[test]
fn what_the_user_wants_of_the_firmware_becomes_flags() {
    let plain = Machine { cpus: 1, memory: 64 << 20, tpm: false };
    let of = |console, front_page| {
        let source = FirmwareSource { console, front_page, ..source(Path::new("x")) };
        flags(&source, &plain).bits()
    };
    assert_eq!(of(Console::Com1, true), 0x1020_0081);
    assert_eq!(of(Console::Screen, false), 0x1020_4001);
    assert_eq!(of(Console::None, true), 0x1020_0181);
    let watched = FirmwareSource { watchdog: true, ..source(Path::new("x")) };
    assert_eq!(flags(&watched, &plain).bits(), 0x1120_0081);
    let trusted = Machine { tpm: true, ..plain };
    assert_eq!(flags(&source(Path::new("x")), &trusted).bits(), 0x1220_00a1);
}
