//! The engine against a model, the same for both ways of moving bytes.

mod rig;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use self::rig::{BLOCK, Blocks, Memory, Rig, disk};
use super::{Engine, Request};
use crate::disk::DiskOptions;

/// Each test's body runs once for each engine.
macro_rules! for_both_engines {
    ($($name:ident),* $(,)?) => {
        mod uring {
            $(#[test] fn $name() { super::$name(super::Engine::Uring) })*
        }
        mod threads {
            $(#[test] fn $name() { super::$name(super::Engine::Threads) })*
        }
    };
}

for_both_engines!(bytes_written_are_read_back);

fn bytes_written_are_read_back(engine: Engine) {
    let mut rig = Rig::new(engine);
    let image = Blocks::in_temp_file().with_blocks((0..8).rev());
    let disk = disk(image, &DiskOptions::default());
    let out = Memory { pfns: vec![9, 3, 4, 5, 100], offset: 1234 };
    let bytes: Vec<u8> = (0..=250).cycle().take(12 << 10).collect();
    rig.poke(&out, &bytes);
    let offset = BLOCK - 4608;
    rig.run(&disk, Request::Write { offset, len: bytes.len() as u64, fua: false }, &out).unwrap();
    let back = Memory { pfns: vec![77, 20, 21, 22], offset: 3 };
    rig.run(&disk, Request::Read { offset, len: bytes.len() as u64 }, &back).unwrap();
    assert_eq!(rig.peek(&back, bytes.len()), bytes);
    assert_eq!(disk.counters().bytes_read.load(Ordering::Relaxed), 12 << 10);
}
