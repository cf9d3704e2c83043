//! Any sequence of operations against a plain model of a disk, with reopening in between.

use std::sync::Arc;

use proptest::prelude::*;

use super::super::image::Vhdx;
use super::super::{CreateOptions, Kind};
use super::{Memory, SECTOR, kill, locator};
use crate::disk::vhdx::check::check_medium;
use crate::disk::vhdx::medium::Medium;
use crate::disk::{Access, Extent, Image, Place, Zeroing};

const SECTORS: usize = 7000;

#[derive(Clone, Debug)]
enum Operation {
    Write { sector: usize, count: usize, tag: u8 },
    Zero { sector: usize, count: usize, how: Zeroing },
    Flush,
    Close,
    Reopen,
    KillAndReopen,
}

fn range() -> impl Strategy<Value = (usize, usize)> {
    let count = prop_oneof![4 => 1..40_usize, 2 => 500..2100_usize, 1 => Just(2048), 1 => 3000..6000_usize];
    (0..SECTORS, count, prop_oneof![3 => Just(1_usize), 1 => Just(2048)]).prop_map(
        |(sector, count, align)| {
            let sector = sector / align * align;
            (sector, count.min(SECTORS - sector))
        },
    )
}

fn operation() -> impl Strategy<Value = Operation> {
    let how = prop_oneof![Just(Zeroing::Keep), Just(Zeroing::Free)];
    prop_oneof![
        8 => (range(), 1..=255_u8).prop_map(|((sector, count), tag)| Operation::Write { sector, count, tag }),
        3 => (range(), how).prop_map(|((sector, count), how)| Operation::Zero { sector, count, how }),
        2 => Just(Operation::Flush),
        1 => Just(Operation::Close),
        1 => Just(Operation::Reopen),
        1 => Just(Operation::KillAndReopen),
    ]
}

/// A sector's bytes differ from those of its neighbours and of other writes.
fn fill(model: &mut [u8], sector: usize, count: usize, tag: u8) {
    for at in sector..sector + count {
        let bytes = &mut model[at * SECTOR..(at + 1) * SECTOR];
        bytes.fill(tag);
        bytes[..8].copy_from_slice(&(at as u64).to_le_bytes());
    }
}

/// Moves bytes as an engine does, where the image lets it: `media` are what [`Image::files`] stands for.
fn by_extents(vhdx: &Vhdx, media: &[Memory], offset: u64, access: Access, bytes: &mut [u8]) -> bool {
    let before = Extent { place: Place::File { file: 0, offset: 0 }, len: 1 };
    let mut extents = vec![before];
    if !vhdx.extents(offset, bytes.len() as u64, access, &mut extents) {
        assert_eq!(extents, [before], "something was appended all the same");
        return false;
    }
    assert_eq!(extents.remove(0), before);
    let mut rest = bytes;
    for Extent { place, len } in extents {
        let (piece, tail) = rest.split_at_mut(len as usize);
        match (place, access) {
            (Place::File { file, offset }, Access::Read) => media[file].read(offset, piece).unwrap(),
            (Place::File { file, offset }, Access::Write) => {
                assert_eq!(file, 0, "a write to the parent");
                media[file].write(offset, piece).unwrap();
            }
            (Place::Zero, Access::Read) => piece.fill(0),
            (Place::Zero, Access::Write) => panic!("zeroes for a write"),
        }
        rest = tail;
    }
    assert!(rest.is_empty());
    true
}

fn compare(vhdx: &Vhdx, media: &[Memory], model: &[u8]) {
    let mut bytes = vec![0xEE; model.len()];
    vhdx.read(0, &mut bytes).unwrap();
    let mut again = vec![0xEE; model.len()];
    assert!(by_extents(vhdx, media, 0, Access::Read, &mut again), "all sector bitmaps have been read");
    assert!(bytes == again, "extents are elsewhere");
    let wrong = bytes.chunks(SECTOR).zip(model.chunks(SECTOR)).position(|(a, b)| a != b);
    assert_eq!(wrong, None, "sector that differs");
}

fn run(operations: Vec<Operation>, media: &[Memory], mut model: Vec<u8>, open: impl Fn() -> Vhdx) {
    let memory = &media[0];
    let mut vhdx = open();
    for operation in operations {
        match operation {
            Operation::Write { sector, count, tag } => {
                fill(&mut model, sector, count, tag);
                let bytes = &mut model[sector * SECTOR..(sector + count) * SECTOR];
                let offset = (sector * SECTOR) as u64;
                if !by_extents(&vhdx, media, offset, Access::Write, bytes) {
                    vhdx.write(offset, bytes).unwrap();
                }
            }
            Operation::Zero { sector, count, how } => {
                model[sector * SECTOR..(sector + count) * SECTOR].fill(0);
                vhdx.zero((sector * SECTOR) as u64, (count * SECTOR) as u64, how).unwrap();
            }
            Operation::Flush => vhdx.flush().unwrap(),
            Operation::Close => vhdx.close().unwrap(),
            Operation::Reopen => {
                drop(vhdx);
                vhdx = open();
                assert!(!vhdx.info().was_dirty);
                compare(&vhdx, media, &model);
            }
            Operation::KillAndReopen => {
                kill(vhdx);
                assert_eq!(check_medium(Box::new(memory.clone())).unwrap(), Vec::<String>::new());
                vhdx = open();
                compare(&vhdx, media, &model);
            }
        }
    }
    compare(&vhdx, media, &model);
    drop(vhdx);
    assert_eq!(check_medium(Box::new(memory.clone())).unwrap(), Vec::<String>::new());
    compare(&open(), media, &model);
}

fn options(kind: Kind) -> CreateOptions {
    CreateOptions { block_size: 1 << 20, ..CreateOptions::new(kind, (SECTORS * SECTOR) as u64) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn a_dynamic_file_is_a_disk(operations in proptest::collection::vec(operation(), 1..40), solid: bool) {
        let memory = Memory { solid, ..Memory::default() };
        memory.create(&options(Kind::Dynamic));
        run(operations, std::slice::from_ref(&memory), vec![0; SECTORS * SECTOR], || memory.open());
    }

    #[test]
    fn a_fixed_file_is_a_disk(operations in proptest::collection::vec(operation(), 1..40)) {
        let memory = Memory::default();
        memory.create(&options(Kind::Fixed));
        run(operations, std::slice::from_ref(&memory), vec![0; SECTORS * SECTOR], || memory.open());
    }

    #[test]
    fn a_differencing_file_is_a_disk(
        before in proptest::collection::vec((range(), 1..=255_u8), 0..4),
        operations in proptest::collection::vec(operation(), 1..40),
        solid: bool,
    ) {
        let mut model = vec![0; SECTORS * SECTOR];
        let base = Memory::default();
        base.create(&options(Kind::Dynamic));
        let parent = base.open();
        for ((sector, count), tag) in before {
            fill(&mut model, sector, count, tag);
            parent.write((sector * SECTOR) as u64, &model[sector * SECTOR..(sector + count) * SECTOR]).unwrap();
        }
        drop(parent);
        let parent = Arc::new(base.try_open(true).unwrap());
        let memory = Memory { solid, ..Memory::default() };
        memory.create(&options(Kind::Differencing(locator(&parent))));
        run(operations, &[memory.clone(), base], model, || memory.open_child(&parent).unwrap());
    }
}

#[test]
fn a_full_log_makes_room_without_a_flush() {
    let (memory, base) = (Memory::default(), Memory::default());
    base.create(&options(Kind::Dynamic));
    let parent = Arc::new(base.try_open(true).unwrap());
    memory.create(&options(Kind::Differencing(locator(&parent))));
    let vhdx = memory.open_child(&parent).unwrap();
    let mut model = vec![0; SECTORS * SECTOR];
    for i in 0..1000 {
        let sector = i * 7 % SECTORS;
        fill(&mut model, sector, 1, 3);
        vhdx.write((sector * SECTOR) as u64, &model[sector * SECTOR..][..SECTOR]).unwrap();
    }
    kill(vhdx);
    compare(&memory.open_child(&parent).unwrap(), &[memory, base], &model);
}
