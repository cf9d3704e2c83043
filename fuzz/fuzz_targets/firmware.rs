//! Firmware images that somebody made to do harm.
//!
//! Bytes are patched over the headers of a small valid image: volumes, files, sections, executable. Whatever they say,
//! the search for the entry may not panic or go on for ever, and an entry that is found lies in the SEC volume.
//!
//! Run it with `cargo fuzz run firmware` (nightly, or `RUSTC_BOOTSTRAP=1`).

#![no_main]

use std::cell::RefCell;

use busman::boot::uefi::image::{IMAGE_SIZE, entry};
use libfuzzer_sys::fuzz_target;

/// Where the volumes begin, and the end.
const VOLUMES: [usize; 4] = [0, 0x4e_0000, 0x5e_0000, IMAGE_SIZE];
const SEC: usize = VOLUMES[2];
/// Of the SEC volume, what is patched.
const HEAD: usize = 0x400;
/// Of the SEC core, from the start of its volume: its file, its section, the executable, that one's header.
const FILE: usize = 0x60;
const SECTION: usize = FILE + 24;
const EXECUTABLE: usize = SECTION + 4;
const PE: usize = EXECUTABLE + 0x40;

thread_local! {
    static IMAGE: RefCell<Vec<u8>> = RefCell::new(image());
}

fuzz_target!(|bytes: &[u8]| {
    IMAGE.with_borrow_mut(|image| {
        let before = image[SEC..SEC + HEAD].to_vec();
        for patch in bytes.chunks_exact(4) {
            let at = usize::from(u16::from_le_bytes([patch[0], patch[1]])) % (HEAD - 1);
            image[SEC + at..SEC + at + 2].copy_from_slice(&patch[2..]);
        }
        if let Ok(entry) = entry(image) {
            assert!((SEC..IMAGE_SIZE).contains(&entry), "{entry:#x}");
        }
        image[SEC..SEC + HEAD].copy_from_slice(&before);
    });
});

fn image() -> Vec<u8> {
    let mut image = vec![0xff; IMAGE_SIZE];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    for pair in VOLUMES.windows(2) {
        put(pair[0] + 32, &((pair[1] - pair[0]) as u64).to_le_bytes());
        put(pair[0] + 40, b"_FVH");
        put(pair[0] + 48, &[0x48, 0, 0, 0, 0, 0, 0, 2]);
    }
    // A file of type 3 (SEC core), a section of type 0x10 (PE32), an executable for x86-64.
    put(SEC + FILE, &[0; 24]);
    put(SEC + FILE + 18, &[3, 0, 0x00, 0x10, 0]);
    // Before it, from the end of the volume's header on, a pad file.
    put(SEC + 0x48, &[0; 24]);
    put(SEC + 0x48 + 18, &[0xf0, 0, 24, 0, 0]);
    put(SEC + SECTION, &[0xe8, 0x0f, 0, 0x10]);
    put(SEC + EXECUTABLE, b"MZ");
    put(SEC + EXECUTABLE + 0x3c, &0x40u32.to_le_bytes());
    put(SEC + PE, b"PE\0\0\x64\x86");
    put(SEC + PE + 24, &[0x0b, 2]);
    put(SEC + PE + 40, &0x240u32.to_le_bytes());
    assert!(entry(&image).is_ok());
    image
}
