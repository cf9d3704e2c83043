//! VHD files that somebody made to do harm.
//!
//! Bytes are patched over a small valid file, checksums made right again or not; then it is opened, read and written.
//! Whatever it says, nothing may panic, hang or take memory without bound, places stay where they were, and what is
//! read after a write is what was written.
//!
//! Run it with `cargo fuzz run vhd` (nightly, or `RUSTC_BOOTSTRAP=1`).

#![no_main]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::LazyLock;

use devices::disk::{Access, Image, Vhd, VhdOptions, Zeroing};
use libfuzzer_sys::fuzz_target;
use rustix::fs::MemfdFlags;

const BLOCK: u32 = 512 << 10;
const SIZE: u64 = 2 * BLOCK as u64 + 1024;
/// Of a footer and of the dynamic header: where the checksum is in it.
const CHECKSUMS: [usize; 2] = [64, 36];
/// Parts of a dynamic file: footer's copy, header, table, the first block's bitmap.
const PARTS: [u64; 4] = [0, 512, 1536, 3584];

/// The start and the end of a file, and how long it is.
struct Valid {
    start: Vec<u8>,
    end: [u8; 512],
    len: u64,
}

static FILES: LazyLock<[Valid; 2]> = LazyLock::new(|| {
    [false, true].map(|fixed| {
        let file = memory_file();
        let block_size = (!fixed).then_some(BLOCK);
        Vhd::create(&file, &VhdOptions { size: SIZE, fixed, block_size }).expect("a small file");
        let image = Vhd::open(file.try_clone().expect("a descriptor"), false).expect("what was made");
        image.write(512, &[1; 4096]).expect("there is room");
        let len = file.metadata().expect("a file").len();
        let mut valid = Valid { start: vec![0; 16 << 10], end: [0; 512], len };
        file.read_exact_at(&mut valid.start, 0).expect("memory");
        file.read_exact_at(&mut valid.end, len - 512).expect("memory");
        valid
    })
});

fuzz_target!(|bytes: &[u8]| {
    let mut input = bytes;
    let choice = take(&mut input);
    let Valid { start, end, len } = &FILES[usize::from(choice & 1)];
    let file = memory_file();
    file.write_all_at(start, 0).expect("memory");
    file.write_all_at(end, len - 512).expect("memory");
    for _ in 0..take(&mut input) % 16 {
        patch(&file, *len, &mut input);
    }
    if choice & 0x40 != 0 {
        file.set_len(u64::from(number(&mut input)) % (len + 1024)).expect("memory");
    }
    if choice & 0x80 == 0 {
        fix_checksums(&file);
    }
    let read_only = choice & 0x20 != 0;
    if let Ok(image) = Vhd::open(file.try_clone().expect("a descriptor"), read_only) {
        use_image(&image, &mut input);
        drop(image);
        if !read_only {
            Vhd::open(file, true).expect("what was written to is valid");
        }
    }
});

fn memory_file() -> File {
    rustix::fs::memfd_create("vhd", MemfdFlags::CLOEXEC).expect("a file in memory").into()
}

fn take(input: &mut &[u8]) -> u8 {
    let Some((&first, rest)) = input.split_first() else { return 0 };
    *input = rest;
    first
}

fn number(input: &mut &[u8]) -> u32 {
    u32::from_be_bytes([0; 4].map(|_| take(input)))
}

/// Writes some bytes somewhere in the parts that count.
fn patch(file: &File, len: u64, input: &mut &[u8]) {
    let part = take(input);
    let base = PARTS.get(usize::from(part % 5)).copied().unwrap_or(len - 512);
    let at = base + u64::from(take(input)) * if part & 0x80 == 0 { 1 } else { 4 };
    for offset in 0..u64::from(part >> 3 & 7) + 1 {
        file.write_all_at(&[take(input)], at + offset).expect("memory");
    }
}

fn fix_checksums(file: &File) {
    let len = file.metadata().expect("a file").len();
    let places =
        [(0, 512, CHECKSUMS[0]), (512, 1024, CHECKSUMS[1]), (len.saturating_sub(512), 512, CHECKSUMS[0])];
    for (at, size, checksum) in places {
        let mut bytes = vec![0; size];
        if file.read_exact_at(&mut bytes, at).is_err() {
            continue;
        }
        bytes[checksum..checksum + 4].fill(0);
        let sum = bytes.iter().fold(0u32, |sum, byte| sum.wrapping_add(u32::from(*byte)));
        file.write_all_at(&(!sum).to_be_bytes(), at + checksum as u64).expect("memory");
    }
}

fn use_image(image: &Vhd, input: &mut &[u8]) {
    let geometry = image.geometry();
    let sectors = geometry.size / 512;
    let mut extents = Vec::new();
    for _ in 0..8 {
        let what = take(input);
        let sector = u64::from(number(input)) % sectors;
        let len = (u64::from(take(input)) + 1).min(sectors - sector) * 512;
        let offset = sector * 512;
        let mut buffer = vec![0; usize::try_from(len).expect("short")];
        if what & 1 == 0 {
            let _ = image.read(offset, &mut buffer);
        } else if what & 2 == 0 {
            buffer.fill(what);
            if image.write(offset, &buffer).is_ok() {
                assert!(!geometry.read_only);
                let mut back = vec![0; buffer.len()];
                image.read(offset, &mut back).expect("what was just written");
                assert!(back == buffer);
                extents.clear();
                assert!(image.extents(offset, len, Access::Write, &mut extents), "it is allocated");
            }
        } else {
            let _ = image.zero(offset, len, if what & 4 == 0 { Zeroing::Free } else { Zeroing::Keep });
        }
    }
    let _ = image.flush();
}
