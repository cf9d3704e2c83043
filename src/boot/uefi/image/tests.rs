//! Images made here, right ones and wrong ones.

use super::*;
use zerocopy::{FromZeros, IntoBytes};

const SEC: usize = VOLUMES[2].1;
/// Of the SEC core in [`image`]: its file, its PE32 section, the executable, the entry in that.
const FILE: usize = SEC + 0x80;
const SECTION: usize = FILE + 24 + 8;
const EXECUTABLE: usize = SECTION + 4;
const ENTRY: u32 = 0x240;
/// The same, from the start of the image.
pub(in crate::boot::uefi) const ENTRY_OFFSET: usize = EXECUTABLE + ENTRY as usize;

fn put(image: &mut [u8], at: usize, bytes: &[u8]) {
    image[at..at + bytes.len()].copy_from_slice(bytes);
}

fn small(size: usize) -> [u8; 3] {
    let [a, b, c, _] = u32::try_from(size).unwrap().to_le_bytes();
    [a, b, c]
}

fn file(kind: u8, size: usize) -> FileHeader {
    FileHeader { kind, size: small(size), ..FileHeader::new_zeroed() }
}

/// An executable of 0x400 bytes.
fn executable() -> Vec<u8> {
    let mut bytes = vec![0; 0x400];
    put(&mut bytes, 0, &DOS_MAGIC);
    put(&mut bytes, DOS_PE_OFFSET, &0x80u32.to_le_bytes());
    let header = PeHeader {
        signature: PE_SIGNATURE,
        machine: PE_MACHINE_X64.into(),
        optional_magic: PE_OPTIONAL_64.into(),
        entry: ENTRY.into(),
        ..PeHeader::new_zeroed()
    };
    put(&mut bytes, 0x80, header.as_bytes());
    bytes
}

/// Three volumes; in the SEC volume a pad file, then the SEC core with a section of another kind before its code.
pub(in crate::boot::uefi) fn image() -> Vec<u8> {
    let mut image = vec![0xff; IMAGE_SIZE];
    for ((_, at), end) in VOLUMES.into_iter().zip([VOLUMES[1].1, SEC, IMAGE_SIZE]) {
        let header = VolumeHeader {
            length: ((end - at) as u64).into(),
            signature: VOLUME_SIGNATURE,
            header_length: 72.into(),
            revision: 2,
            ..VolumeHeader::new_zeroed()
        };
        put(&mut image, at, header.as_bytes());
    }
    // Its size is no multiple of 8: the next file begins on one.
    put(&mut image, SEC + 72, file(0xf0, 0x80 - 72 - 3).as_bytes());
    put(&mut image, FILE, file(FILE_SECURITY_CORE, 24 + 8 + 4 + 0x400).as_bytes());
    put(&mut image, FILE + 24, SectionHeader { size: small(7), kind: 0x15 }.as_bytes());
    put(&mut image, SECTION, SectionHeader { size: small(4 + 0x400), kind: SECTION_PE32 }.as_bytes());
    put(&mut image, EXECUTABLE, &executable());
    image
}

/// What is wrong with the image after some bytes of it were changed.
fn changed(at: usize, bytes: &[u8]) -> ImageError {
    let mut image = image();
    put(&mut image, at, bytes);
    entry(&image).unwrap_err()
}

#[test]
fn the_entry_is_that_of_the_sec_core() {
    assert_eq!(entry(&image()), Ok(ENTRY_OFFSET));
}

#[test]
fn large_headers_and_an_extended_volume_header_are_understood() {
    let mut image = image();
    // The volume's extension lies between its header and the first file.
    put(&mut image, SEC + 52, &96u16.to_le_bytes());
    put(&mut image, SEC + 96, VolumeExtension { name: [7; 16], length: 0x20.into() }.as_bytes());
    let header = FileHeader { attributes: FILE_LARGE, ..file(FILE_SECURITY_CORE, 0) };
    put(&mut image, FILE, header.as_bytes());
    put(&mut image, FILE + 24, &(32u64 + 8 + 0x400).to_le_bytes());
    put(&mut image, FILE + 32, SectionHeader { size: small(SECTION_LARGE), kind: SECTION_PE32 }.as_bytes());
    put(&mut image, FILE + 36, &(8u32 + 0x400).to_le_bytes());
    put(&mut image, FILE + 40, &executable());
    assert_eq!(entry(&image), Ok(FILE + 40 + ENTRY as usize));
}

#[test]
fn a_file_of_another_size_is_refused() {
    for size in [0, 100, IMAGE_SIZE - 1, IMAGE_SIZE + 1] {
        let mut image = image();
        image.resize(size, 0);
        assert_eq!(entry(&image), Err(ImageError::Size { size: size as u64 }));
    }
    assert_eq!(entry(&vec![0; IMAGE_SIZE]), Err(ImageError::NoVolume { name: "DXE", at: 0 }));
}

#[test]
fn a_volume_that_is_not_there_or_lies_about_its_length_is_named() {
    assert_eq!(changed(SEC + 40, b"x"), ImageError::NoVolume { name: "SEC", at: SEC });
    assert_eq!(changed(0x4e_0028, b"x"), ImageError::NoVolume { name: "PEI", at: 0x4e_0000 });
    for length in [0x2_0001, u64::MAX, 71, 0] {
        let error = changed(SEC + 32, &length.to_le_bytes());
        assert_eq!(error, ImageError::VolumeLength { name: "SEC", at: SEC, length, room: 0x2_0000 });
    }
    let text = changed(SEC + 32, &0x2_0001u64.to_le_bytes()).to_string();
    assert_eq!(
        text,
        "its SEC firmware volume at 0x5e0000 says that it has 131073 bytes; 131072 is its place"
    );
    // Headers that end before they begin, or past the volume.
    assert_eq!(changed(SEC + 48, &[0, 0]), ImageError::VolumeHeader);
    assert_eq!(changed(SEC + 52, &0xfff0u16.to_le_bytes()), ImageError::NoSecCore);
}

#[test]
fn a_file_that_lies_about_its_size_is_found() {
    let room = IMAGE_SIZE - FILE;
    for size in [23, 0x2_0000, 0xff_fffe] {
        let error = changed(FILE + 20, &small(size));
        assert_eq!(error, ImageError::FileSize { at: FILE, size: size as u64, room });
    }
    // The pad file before it: of no size, it would be found again and again.
    assert!(matches!(changed(SEC + 72 + 20, &small(0)), ImageError::FileSize { size: 0, .. }));
    let large = FileHeader { attributes: FILE_LARGE, ..file(FILE_SECURITY_CORE, 0) };
    let error = changed(FILE, &[large.as_bytes(), &u64::MAX.to_le_bytes()].concat());
    assert_eq!(error, ImageError::FileSize { at: FILE, size: u64::MAX, room });
}

#[test]
fn a_volume_without_sec_core_is_refused() {
    assert_eq!(changed(FILE + 18, &[7]), ImageError::NoSecCore);
    assert_eq!(changed(FILE, &[0xff; 24]), ImageError::NoSecCore);
    assert_eq!(changed(SECTION + 3, &[0x12]), ImageError::NoPe32 { at: FILE });
}

#[test]
fn a_section_that_lies_about_its_size_is_found() {
    let room = 4 + 0x400;
    for size in [3, 0, room + 1] {
        let error = changed(SECTION, &small(size));
        assert_eq!(error, ImageError::SectionSize { at: SECTION, size, room });
    }
    let error = changed(FILE + 24, &small(0));
    assert!(matches!(error, ImageError::SectionSize { size: 0, .. }), "{error}");
}

#[test]
fn code_that_cannot_start_here_is_refused() {
    let pe = EXECUTABLE + 0x80;
    let not_pe = ImageError::NotPe { at: EXECUTABLE };
    for (at, bytes) in [
        (EXECUTABLE, [0; 4]),
        (EXECUTABLE + DOS_PE_OFFSET, [0xff; 4]),
        (EXECUTABLE + DOS_PE_OFFSET, 0x3f0u32.to_le_bytes()),
        (pe, *b"PE32"),
        (pe + 24, [0x0b, 0x01, 0, 0]),
    ] {
        assert_eq!(changed(at, &bytes), not_pe);
    }
    assert_eq!(changed(pe + 4, &0xaa64u16.to_le_bytes()), ImageError::Machine { machine: 0xaa64 });
    for entry in [0, 0x400, u32::MAX] {
        assert_eq!(changed(pe + 40, &entry.to_le_bytes()), ImageError::Entry { entry, size: 0x400 });
    }
}
