//! VHDX files that somebody made to do harm.
//!
//! Bytes are patched over a small valid file, checksums made right again or not; then it is checked, opened, read and
//! written. Whatever it says, nothing may panic, hang or take memory without bound, and what is read after a write is
//! what was written.
//!
//! Run it with `cargo fuzz run vhdx` (nightly, or `RUSTC_BOOTSTRAP=1`).

#![no_main]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, LazyLock};

use devices::disk::vhdx::{self, CreateOptions, Kind, OpenOptions, Parent, ParentLocator, Vhdx};
use devices::disk::{Access, DiskError, Geometry, Image, Zeroing};
use devices::guid::Guid;
use libfuzzer_sys::fuzz_target;
use rustix::fs::MemfdFlags;

const PAGE: usize = 4096;
const SIZE: u64 = 5 << 20;
/// Where the parts of the small files are: headers, region tables, log, BAT, metadata table, items.
const PARTS: [u64; 8] =
    [64 << 10, 128 << 10, 192 << 10, 256 << 10, 1 << 20, 5 << 20, 6 << 20, (6 << 20) + (64 << 10)];

/// The pages of a valid file that are not 0.
type Pages = Vec<(u64, Vec<u8>)>;

/// Dynamic, differencing, and each with a log that was left behind.
static FILES: LazyLock<Vec<(u64, Pages)>> = LazyLock::new(|| {
    let linkage = Guid::parse("01020304-0506-4708-890a-0b0c0d0e0f10");
    let locator = ParentLocator {
        linkage,
        linkage_2: None,
        relative_path: Some("parent.vhdx".to_owned()),
        volume_path: None,
        absolute_win32_path: None,
    };
    let kinds = [Kind::Dynamic, Kind::Differencing(locator)];
    let make = |kind: &Kind, dirty: bool| {
        let file = memory_file();
        let options = CreateOptions { block_size: 1 << 20, ..CreateOptions::new(kind.clone(), SIZE) };
        vhdx::create(&file, &options).expect("a small file");
        let image = open(&file, false).expect("what was made");
        image.write(512, &[1; 4096]).expect("there is room");
        image.zero(1 << 20, 1 << 20, Zeroing::Free).expect("there is room");
        image.write(3 << 20, &[2; 1 << 20]).expect("there is room");
        if dirty {
            std::mem::forget(image);
        } else {
            drop(image);
        }
        pages(&file)
    };
    kinds.iter().flat_map(|kind| [make(kind, false), make(kind, true)]).collect()
});

fuzz_target!(|bytes: &[u8]| {
    let mut input = bytes;
    let choice = take(&mut input);
    let Some((len, pages)) = FILES.get(usize::from(choice % 4)) else { return };
    let file = memory_file();
    file.set_len(*len).expect("a sparse file");
    for (at, page) in pages {
        file.write_all_at(page, *at).expect("memory");
    }
    for _ in 0..take(&mut input) % 16 {
        patch(&file, &mut input);
    }
    if choice & 0x80 == 0 {
        fix_checksums(&file);
    }
    let _ = vhdx::check(&file);
    if let Ok(image) = open(&file, choice & 0x40 != 0) {
        use_image(&image, &mut input);
        let _ = image.close();
        drop(image);
        // What was written here is valid, whatever was there before.
        let _ = vhdx::check(&file).expect("it still is a VHDX file");
        open(&file, true).expect("it could be opened before");
    }
});

fn take(input: &mut &[u8]) -> u8 {
    let Some((first, rest)) = input.split_first() else { return 0 };
    *input = rest;
    *first
}

fn number(input: &mut &[u8]) -> u64 {
    u64::from_le_bytes([(); 8].map(|()| take(input)))
}

/// A few bytes at a place in one of the parts, or anywhere in the file.
fn patch(file: &File, input: &mut &[u8]) {
    let part = take(input);
    let within = u64::from(take(input)) | u64::from(take(input)) << 8;
    let at = match PARTS.get(usize::from(part % 16)) {
        Some(part) => part + within,
        None => within << 8,
    };
    let len = usize::from(take(input) % 17);
    let bytes: Vec<u8> = (0..len).map(|_| take(input)).collect();
    file.write_all_at(&bytes, at).expect("memory");
}

/// Makes the checksums of headers, region tables and the log's first entries right.
fn fix_checksums(file: &File) {
    let fix = |at: u64, len: usize| {
        let mut bytes = vec![0; len];
        if file.read_exact_at(&mut bytes, at).is_ok() {
            bytes[4..8].fill(0);
            file.write_all_at(&crc32c::crc32c(&bytes).to_le_bytes(), at + 4).expect("memory");
        }
    };
    for (at, len) in PARTS.into_iter().zip([PAGE, PAGE, 64 << 10, 64 << 10]) {
        fix(at, len);
    }
    let mut at = 1 << 20;
    for _ in 0..16 {
        let mut header = [0; 12];
        if file.read_exact_at(&mut header, at).is_err() || &header[..4] != b"loge" {
            break;
        }
        let len = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
        let len = len.clamp(PAGE as u32, 1 << 20);
        fix(at, len as usize);
        at += u64::from(len);
    }
}

fn use_image(image: &Vhdx, input: &mut &[u8]) {
    let Geometry { size, logical_sector, .. } = image.geometry();
    let _ = image.info();
    let sector = u64::from(logical_sector);
    for _ in 0..take(input) % 16 {
        let operation = take(input);
        let offset = (number(input) % size) / sector * sector;
        let len =
            ((u64::from(take(input)) << 8 | u64::from(take(input))) * sector % (3 << 20)).min(size - offset);
        let mut bytes = vec![operation; len as usize];
        match operation % 6 {
            0 => {
                let _ = image.read(offset, &mut bytes);
            }
            1 | 2 => {
                if image.write(offset, &bytes).is_ok() {
                    let mut again = vec![0; bytes.len()];
                    image.read(offset, &mut again).expect("what was written");
                    assert!(again == bytes, "{len} bytes at {offset} are not what was written");
                }
            }
            3 => {
                let how = if operation & 0x40 == 0 { Zeroing::Keep } else { Zeroing::Free };
                if image.zero(offset, len, how).is_ok() {
                    image.read(offset, &mut bytes).expect("what was zeroed");
                    assert!(bytes.iter().all(|byte| *byte == 0), "{len} bytes at {offset} are not 0");
                }
            }
            4 => {
                let _ = image.flush();
            }
            _ => {
                let mut extents = Vec::new();
                if image.extents(offset, len, Access::Read, &mut extents) {
                    assert_eq!(extents.iter().map(|extent| extent.len).sum::<u64>(), len);
                }
            }
        }
    }
}

fn memory_file() -> File {
    File::from(rustix::fs::memfd_create("vhdx", MemfdFlags::CLOEXEC).expect("a file in memory"))
}

fn pages(file: &File) -> (u64, Pages) {
    let len = file.metadata().expect("a file").len();
    let page = |at: u64| {
        let mut page = vec![0; PAGE];
        file.read_exact_at(&mut page, at).expect("memory");
        page.iter().any(|byte| *byte != 0).then_some((at, page))
    };
    (len, (0..len).step_by(PAGE).filter_map(page).collect())
}

fn open(file: &File, read_only: bool) -> Result<Vhdx, vhdx::VhdxError> {
    let file = file.try_clone().expect("a descriptor");
    Vhdx::open(file, OpenOptions { read_only, ..OpenOptions::default() }, |locator| {
        Ok(Parent { image: Arc::new(Ones), data_write_guid: locator.linkage })
    })
}

/// A parent.
#[derive(Debug)]
struct Ones;

impl Image for Ones {
    fn geometry(&self) -> Geometry {
        Geometry {
            size: SIZE - 4096,
            logical_sector: 512,
            physical_sector: 512,
            read_only: true,
            unmap_granularity: None,
            id: None,
        }
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.geometry().check(offset, buffer.len() as u64)?;
        buffer.fill(1);
        Ok(())
    }

    fn write(&self, _: u64, _: &[u8]) -> Result<(), DiskError> {
        Err(DiskError::ReadOnly)
    }

    fn zero(&self, _: u64, _: u64, _: Zeroing) -> Result<(), DiskError> {
        Err(DiskError::ReadOnly)
    }

    fn flush(&self) -> Result<(), DiskError> {
        Ok(())
    }
}
