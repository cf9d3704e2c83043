//! Random requests, several in flight, against a model of the disk and of guest memory.

use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::for_both_engines;
use super::rig::{BLOCK, Blocks, Memory, Rig, disk};
use crate::disk::{CacheMode, Disk, DiskOptions, Engine, IoError, MemoryImage, Request, Tag, Zeroing};
use crate::mem::PAGE_SIZE;

/// Bytes of the disk that are used.
const DISK: u64 = 128 * BLOCK;
/// Requests that are in flight together have a part of the disk and of memory each: their order is nobody's business.
const LANES: u64 = 8;
const LANE_SECTORS: u64 = DISK / LANES / 512;
const LANE_PAGES: u64 = 16;
const LANE_BYTES: usize = LANE_PAGES as usize * PAGE_SIZE;
/// Most sectors of a request.
const MOST: u64 = 120;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Read,
    Write(bool),
    Flush,
    Zero(Zeroing),
    Unmap,
    Fill(u8),
    Compare,
    /// With one byte changed, so many bytes in.
    Miscompare(u64),
}

#[derive(Clone, Debug)]
struct Step {
    kind: Kind,
    sector: u64,
    sectors: u64,
    /// First byte within guest memory, and by how many pages one goes on to the next.
    memory: usize,
    stride: u64,
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![
        4 => Just(Kind::Read),
        4 => any::<bool>().prop_map(Kind::Write),
        1 => Just(Kind::Flush),
        1 => prop_oneof![Just(Zeroing::Keep), Just(Zeroing::Free)].prop_map(Kind::Zero),
        1 => Just(Kind::Unmap),
        1 => any::<u8>().prop_map(Kind::Fill),
        1 => Just(Kind::Compare),
        1 => (0..MOST * 512).prop_map(Kind::Miscompare),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    let memory = prop_oneof![Just(0), 0..PAGE_SIZE, (0..8_usize).prop_map(|n| n * 512)];
    // Within few blocks, so that requests meet what earlier ones wrote.
    let sector = prop_oneof![0..4 * BLOCK / 512, 0..LANE_SECTORS - MOST];
    let stride = prop_oneof![Just(1), Just(3), Just(LANE_PAGES - 1)];
    let step = (kinds(), sector, 1..=MOST, memory, stride);
    step.prop_map(|(kind, sector, sectors, memory, stride)| Step { kind, sector, sectors, memory, stride })
}

/// What disk and memory should be.
struct Model {
    disk: Vec<u8>,
    memory: Vec<Vec<u8>>,
}

fn lane(lane: u64, stride: u64, offset: usize) -> Memory {
    let pfns = (0..LANE_PAGES).map(|i| lane * LANE_PAGES + i * stride % LANE_PAGES).collect();
    Memory { pfns, offset }
}

impl Model {
    /// Submits a step of a lane and does the same to the model; returns what it should answer.
    fn submit(&mut self, rig: &mut Rig, disk: &Arc<Disk>, index: u64, step: &Step) -> Option<u64> {
        let (offset, len) = ((index * LANE_SECTORS + step.sector) * 512, step.sectors * 512);
        let (all, memory) = (lane(index, step.stride, 0), lane(index, step.stride, step.memory));
        // Other bytes on each page and for each step.
        let pattern: Vec<u8> = (0..=250).map(|byte: u8| byte.wrapping_add(step.sector as u8)).collect();
        let mut filler = pattern.repeat(LANE_BYTES / pattern.len() + 1);
        filler.truncate(LANE_BYTES);
        rig.poke(&all, &filler);
        let now = &mut self.memory[index as usize];
        now.copy_from_slice(&filler);
        let place = &mut self.disk[offset as usize..][..len as usize];
        let guest = &mut now[step.memory..][..len as usize];
        let mut differs = None;
        let request = match step.kind {
            Kind::Read => {
                guest.copy_from_slice(place);
                Request::Read { offset, len }
            }
            Kind::Write(fua) => {
                place.copy_from_slice(guest);
                Request::Write { offset, len, fua }
            }
            Kind::Flush => Request::Flush,
            Kind::Zero(how) => {
                place.fill(0);
                Request::Zero { offset, len, how }
            }
            Kind::Unmap => {
                place.fill(0);
                let half = len / 1024 * 512;
                Request::Unmap(vec![(offset, half), (offset + half, len - half)])
            }
            Kind::Fill(byte) => {
                place.fill(byte);
                Request::Fill { offset, len, pattern: [byte; 512].into() }
            }
            Kind::Compare | Kind::Miscompare(_) => {
                guest.copy_from_slice(place);
                if let Kind::Miscompare(at) = step.kind {
                    let at = at % len;
                    guest[at as usize] ^= 0x10;
                    differs = Some(at);
                }
                rig.poke(&memory, guest);
                Request::Compare { offset, len }
            }
        };
        rig.submit(index as u32, disk, request, &memory);
        differs
    }
}

fn run(rig: &mut Rig, disk: &Arc<Disk>, model: &mut Model, batches: &[Vec<Step>]) {
    for batch in batches {
        let steps = || (0..).zip(batch);
        let differ: Vec<_> = steps().map(|(index, step)| model.submit(rig, disk, index, step)).collect();
        let mut ended = rig.finish();
        ended.sort_by_key(|&(tag, _)| tag);
        assert_eq!(ended.len(), batch.len());
        for ((index, step), (tag, outcome)) in steps().zip(ended) {
            assert_eq!(tag, Tag(index as u32));
            match (differ[index as usize], outcome) {
                (None, Ok(())) => {}
                (Some(at), Err(IoError::Miscompare(found))) => assert_eq!(at, found),
                (_, outcome) => panic!("{step:?} ended {outcome:?}"),
            }
            let memory = rig.peek(&lane(index, step.stride, 0), LANE_BYTES);
            assert!(memory == model.memory[index as usize], "guest memory after {step:?}");
        }
    }
}

/// Reads all of the disk back.
fn check(rig: &mut Rig, disk: &Arc<Disk>, model: &Model) {
    let all = Memory::at(0, DISK / LANES / PAGE_SIZE as u64);
    for (index, part) in (0..).zip(model.disk.chunks((DISK / LANES) as usize)) {
        let len = part.len() as u64;
        rig.run(disk, Request::Read { offset: index * len, len }, &all).unwrap();
        assert!(rig.peek(&all, part.len()) == part, "part {index} of the disk");
    }
}

fn against_the_model(engine: Engine, cases: u32, new: impl Fn() -> Arc<Disk>) {
    let mut runner =
        TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) });
    let batches = prop::collection::vec(prop::collection::vec(steps(), 1..=LANES as usize), 1..10);
    let result = runner.run(&batches, |batches| {
        let (mut rig, disk) = (Rig::new(engine), new());
        let memory = vec![vec![0; LANE_BYTES]; LANES as usize];
        let mut model = Model { disk: vec![0; DISK as usize], memory };
        run(&mut rig, &disk, &mut model, &batches);
        check(&mut rig, &disk, &model);
        assert_eq!(Arc::strong_count(&disk), 1, "the queue keeps no disk that it has nothing to do with");
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

/// Some blocks are there, in an order that is not the disk's.
fn blocks() -> Blocks {
    Blocks::in_temp_file().with_blocks((0..DISK / BLOCK).rev().filter(|block| block % 3 > 0))
}

for_both_engines!(
    requests_on_scattered_blocks_do_what_the_model_does,
    requests_past_the_page_cache_do_what_the_model_does,
    requests_on_a_ram_disk_do_what_the_model_does,
);

fn requests_on_scattered_blocks_do_what_the_model_does(engine: Engine) {
    against_the_model(engine, 16, || disk(blocks(), &DiskOptions::default()));
}

fn requests_past_the_page_cache_do_what_the_model_does(engine: Engine) {
    let options = DiskOptions { cache: CacheMode::None, ..DiskOptions::default() };
    against_the_model(engine, 4, || disk(blocks(), &options));
}

fn requests_on_a_ram_disk_do_what_the_model_does(engine: Engine) {
    against_the_model(engine, 8, || disk(MemoryImage::new(DISK as usize, 512), &DiskOptions::default()));
}
