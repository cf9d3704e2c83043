//! Every format against a plain vector of bytes: random requests, reopened now and then, read both ways.

use super::*;
use proptest::prelude::*;
use std::os::unix::fs::FileExt;
use std::path::Path;
use vmm_sys_util::tempdir::TempDir;

const SECTOR: u64 = 512;
/// More than two blocks of any format here, and no multiple of one.
const SIZE: u64 = (5 << 20) + 3 * SECTOR;

#[derive(Clone, Debug)]
enum Step {
    Write { offset: u64, len: u64, byte: u8 },
    Zero { offset: u64, len: u64, how: Zeroing },
    Read { offset: u64, len: u64 },
    Flush,
    Reopen,
}

fn range() -> impl Strategy<Value = (u64, u64)> {
    let sectors = SIZE / SECTOR;
    // Near the ends of blocks, or anywhere.
    let start =
        prop_oneof![(0..11u64, 0..16u64).prop_map(|(block, sector)| block * 1024 + sector), 0..sectors];
    (start, prop_oneof![1..16u64, 1..2048u64]).prop_map(move |(start, len)| {
        let start = start.saturating_sub(8).min(sectors - 1);
        (start * SECTOR, len.min(sectors - start) * SECTOR)
    })
}

fn step() -> impl Strategy<Value = Step> {
    let zeroing = prop_oneof![Just(Zeroing::Keep), Just(Zeroing::Free)];
    prop_oneof![
        4 => (range(), any::<u8>()).prop_map(|((offset, len), byte)| Step::Write { offset, len, byte }),
        2 => (range(), zeroing).prop_map(|((offset, len), how)| Step::Zero { offset, len, how }),
        3 => range().prop_map(|(offset, len)| Step::Read { offset, len }),
        1 => Just(Step::Flush),
        1 => Just(Step::Reopen),
    ]
}

fn open(path: &Path) -> Box<dyn Image> {
    OpenOptions::new(path).open().unwrap()
}

/// Reads as the I/O engine does: from the places that the image gives, if it gives them.
fn read_places(image: &dyn Image, offset: u64, len: u64) -> Option<Vec<u8>> {
    let mut extents = Vec::new();
    if !image.extents(offset, len, Access::Read, &mut extents) {
        assert!(extents.is_empty());
        return None;
    }
    let mut bytes = Vec::new();
    for extent in extents {
        let mut part = vec![0; extent.len as usize];
        if let Place::File { file, offset } = extent.place {
            image.files()[file].read_exact_at(&mut part, offset).unwrap();
        }
        bytes.extend(part);
    }
    Some(bytes)
}

/// Writes as the I/O engine does.
fn write_places(image: &dyn Image, offset: u64, mut bytes: &[u8]) -> bool {
    let mut extents = Vec::new();
    if !image.extents(offset, bytes.len() as u64, Access::Write, &mut extents) {
        return false;
    }
    for extent in extents {
        let Place::File { file, offset } = extent.place else { panic!("no place to write to: {extent:?}") };
        let (part, rest) = bytes.split_at(extent.len as usize);
        image.files()[file].write_all_at(part, offset).unwrap();
        bytes = rest;
    }
    bytes.is_empty()
}

fn run(path: &Path, steps: &[Step]) {
    let mut model = vec![0; SIZE as usize];
    let mut image = open(path);
    assert_eq!(image.geometry().size, SIZE);
    for step in steps {
        match *step {
            Step::Write { offset, len, byte } => {
                let bytes: Vec<u8> = (0..len).map(|at| byte ^ (at / SECTOR) as u8).collect();
                if byte % 2 == 0 || !write_places(&*image, offset, &bytes) {
                    image.write(offset, &bytes).unwrap();
                }
                model[offset as usize..][..len as usize].copy_from_slice(&bytes);
            }
            Step::Zero { offset, len, how } => {
                image.zero(offset, len, how).unwrap();
                model[offset as usize..][..len as usize].fill(0);
            }
            Step::Read { offset, len } => {
                let wanted = &model[offset as usize..][..len as usize];
                let mut bytes = vec![0xee; len as usize];
                image.read(offset, &mut bytes).unwrap();
                assert!(bytes == wanted, "{step:?}");
                assert!(
                    read_places(&*image, offset, len).is_none_or(|bytes| bytes == wanted),
                    "{step:?} by places"
                );
            }
            Step::Flush => image.flush().unwrap(),
            Step::Reopen => {
                drop(image);
                image = open(path);
            }
        }
    }
    drop(image);
    let mut bytes = vec![0xee; SIZE as usize];
    open(path).read(0, &mut bytes).unwrap();
    assert!(bytes == model, "after the end");
    if Format::of_name(path) != Some(Format::Qcow2) {
        assert!(OpenOptions::new(path).check().unwrap().is_empty());
    }
}

/// The images that can be made, by name: fixed or not, block size.
fn kinds() -> impl Strategy<Value = (&'static str, bool, Option<u32>)> {
    prop_oneof![
        Just(("disk.img", false, None)),
        Just(("disk.vhd", true, None)),
        Just(("disk.vhd", false, None)),
        Just(("disk.vhd", false, Some(512 << 10))),
        Just(("disk.vhdx", false, Some(1 << 20))),
        Just(("disk.qcow2", false, None)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_image_is_its_bytes(
        (name, fixed, block_size) in kinds(),
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        let directory = TempDir::new_with_prefix("/tmp/busman-model").unwrap();
        let path = directory.as_path().join(name);
        CreateOptions { fixed, block_size, ..CreateOptions::new(&path, SIZE) }.create().unwrap();
        run(&path, &steps);
    }
}

#[test]
fn a_copy_has_the_same_bytes_and_leaves_zeroes_out() {
    let directory = TempDir::new_with_prefix("/tmp/busman-copy").unwrap();
    let root = directory.as_path();
    let source = root.join("source.img");
    CreateOptions::new(&source, 64 << 20).create().unwrap();
    let image = open(&source);
    image.write(0, &[1; 512]).unwrap();
    image.write((40 << 20) - 512, &[2; 3 << 16]).unwrap();
    image.write((50 << 20) + 512, &[0; 4096]).unwrap();
    image.write((64 << 20) - 512, &[3; 512]).unwrap();
    drop(image);
    let mut last = source.clone();
    for (name, fixed) in [
        ("a.vhd", false),
        ("b.vhd", true),
        ("c.raw", false),
        ("d.vhd", false),
        ("f.vhdx", false),
        ("e.img", true),
    ] {
        let target = CreateOptions { fixed, ..CreateOptions::new(root.join(name), 0) };
        let mut seen = Vec::new();
        let converted =
            convert(&OpenOptions::new(&last), &target, |done, total| seen.push((done, total))).unwrap();
        assert_eq!(converted.size, 64 << 20);
        assert!((512..=512 << 10).contains(&converted.written), "{converted:?}");
        assert_eq!(seen.last(), Some(&(64 << 20, 64 << 20)));
        assert!(seen.is_sorted());
        last = target.path;
    }
    let mut bytes = (vec![0; 64 << 20], vec![0; 64 << 20]);
    open(&source).read(0, &mut bytes.0).unwrap();
    open(&last).read(0, &mut bytes.1).unwrap();
    assert!(bytes.0 == bytes.1);
    let info = OpenOptions::new(root.join("d.vhd")).info().unwrap();
    assert_eq!((info.format, info.layout, info.block_size), (Format::Vhd, Layout::Dynamic, Some(2 << 20)));
    assert!(info.host_bytes < 4 << 20, "{info:?}");
    let info = OpenOptions::new(root.join("e.img")).info().unwrap();
    assert!(info.layout == Layout::Fixed && info.host_bytes >= 64 << 20, "{info:?}");
}

#[test]
fn a_converted_image_is_whole_or_absent() {
    let directory = TempDir::new_with_prefix("/tmp/busman-copy").unwrap();
    let source = directory.as_path().join("source.img");
    let target = CreateOptions::new(directory.as_path().join("a.vhd"), 0);
    CreateOptions::new(&source, 4 << 20).create().unwrap();
    let used = open(&source);
    let error = convert(&OpenOptions::new(&source), &target, |_, _| ()).unwrap_err();
    assert!(matches!(error, ConvertError::Open(_)));
    assert!(!target.path.exists());
    drop(used);
    // A medium's last sectors are whole sectors of a disk.
    let medium = OpenOptions { format: Some(Format::Iso), ..OpenOptions::new(&source) };
    convert(&medium, &target, |_, _| ()).unwrap();
    let error = convert(&medium, &target, |_, _| ()).unwrap_err();
    assert!(matches!(error, ConvertError::Create(CreateError { reason: CreateReason::Exists, .. })));
}
