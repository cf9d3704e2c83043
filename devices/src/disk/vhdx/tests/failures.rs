//! A host's disk that is full, or gone.

use std::sync::Arc;

use super::super::{CreateOptions, Kind};
use super::{Memory, SECTOR, kill, locator};
use crate::disk::vhdx::check::check_medium;
use crate::disk::{Access, DiskError, Image, Zeroing};

const SIZE: u64 = 3 << 20;

fn options(kind: Kind) -> CreateOptions {
    CreateOptions { block_size: 1 << 20, ..CreateOptions::new(kind, SIZE) }
}

fn read_all(image: &dyn Image) -> Vec<u8> {
    let mut bytes = vec![0; SIZE as usize];
    image.read(0, &mut bytes).unwrap();
    bytes
}

/// Whatever write to the file fails: what was there stays, and the same write works when there is space again.
#[test]
fn a_full_host_disk_loses_nothing() {
    let base = Memory::default();
    base.create(&options(Kind::Dynamic));
    base.open().write(0, &vec![9; 2 << 20]).unwrap();
    let parent = Arc::new(base.try_open(true).unwrap());
    let mut failures = 0;
    for nth in 0..40 {
        let memory = Memory::default();
        memory.create(&options(Kind::Differencing(locator(&parent))));
        let vhdx = memory.open_child(&parent).unwrap();
        let mut model = read_all(&vhdx);
        memory.faults.lock().unwrap().write = Some(nth);
        for (i, at) in [5000, 100, 101, 3000, 2048, 40, 4100].into_iter().enumerate() {
            let range = at * SECTOR..(at + 7) * SECTOR;
            if vhdx.write(range.start as u64, &[i as u8 + 1; 7 * SECTOR]).is_err() {
                failures += 1;
                let mut found = read_all(&vhdx);
                found[range.clone()].copy_from_slice(&model[range.clone()]);
                assert!(found == model, "write {nth}: other sectors changed");
                vhdx.write(range.start as u64, &[i as u8 + 1; 7 * SECTOR]).unwrap();
            }
            model[range].fill(i as u8 + 1);
            if i == 4 && vhdx.zero(1 << 20, 1 << 20, Zeroing::Free).is_err() {
                failures += 1;
                vhdx.zero(1 << 20, 1 << 20, Zeroing::Free).unwrap();
            }
            if i == 4 {
                model[1 << 20..2 << 20].fill(0);
            }
            assert!(read_all(&vhdx) == model, "write {nth}");
        }
        kill(vhdx);
        memory.faults.lock().unwrap().write = None;
        assert_eq!(check_medium(Box::new(memory.clone())).unwrap(), Vec::<String>::new());
        assert!(read_all(&memory.open_child(&parent).unwrap()) == model, "write {nth}, reopened");
    }
    assert!(failures > 10, "{failures} writes failed");
}

/// Nobody knows what a disk holds that could not sync: it is read, but not written any more.
#[test]
fn a_failed_sync_ends_all_writing() {
    let memory = Memory::default();
    memory.create(&options(Kind::Dynamic));
    let vhdx = memory.open();
    vhdx.write(0, &[1; SECTOR]).unwrap();
    vhdx.flush().unwrap();
    vhdx.write(1 << 20, &[2; SECTOR]).unwrap();
    memory.faults.lock().unwrap().sync = true;
    assert!(matches!(vhdx.flush(), Err(DiskError::Host(_))));
    memory.faults.lock().unwrap().sync = false;
    assert!(matches!(vhdx.flush(), Err(DiskError::Host(_))), "a later sync does not know what was lost");
    assert!(vhdx.write(2 << 20, &[3; SECTOR]).is_err() && vhdx.write(0, &[3; SECTOR]).is_err());
    assert!(!vhdx.extents(0, SECTOR as u64, Access::Write, &mut Vec::new()));
    let held = read_all(&vhdx);
    drop(vhdx);
    let vhdx = memory.open();
    assert!(vhdx.info().was_dirty, "the log was given up");
    assert!(read_all(&vhdx) == held);
}
