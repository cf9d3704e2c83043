//! The power goes, or the process is killed, between any two writes to the file.
//!
//! A workload runs on a medium that remembers what was done to it. Then, for every prefix of that: what a killed
//! process leaves (all of the prefix), and what a loss of power leaves (all up to the last sync, and of the rest any
//! part, cut at 512 bytes). The file must open, say of every sector what a disk may say, and be whole.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::TestRng;

use super::super::Vhdx;
use super::super::{CreateOptions, Kind};
use super::{Contents, Event, Memory, SECTOR, locator};
use crate::disk::vhdx::check::check_medium;
use crate::disk::{Image, Zeroing};

const SECTORS: usize = 5000;

/// What a sector may hold: a number that says who wrote it, 0 for zeroes.
type Tags = Vec<u64>;

/// The disk as of a moment of the workload.
struct Moment {
    /// How many events the file has seen by then.
    events: usize,
    /// What was acknowledged.
    acknowledged: Tags,
    /// What is safe from a loss of power.
    flushed: Tags,
    /// What each sector may be after a loss of power besides that, by sector.
    since: Vec<(usize, u64)>,
}

struct Workload {
    memory: Memory,
    vhdx: Vhdx,
    rng: TestRng,
    tags: Tags,
    flushed: Tags,
    since: Vec<(usize, u64)>,
    /// A sector that is first written to this file may read as 0 after a loss of power.
    zero_too: bool,
    moments: Vec<Moment>,
}

fn sector_of(tag: u64) -> [u8; SECTOR] {
    let mut bytes = [0; SECTOR];
    bytes.as_chunks_mut().0.fill(tag.to_le_bytes());
    bytes
}

fn pick(rng: &mut TestRng, below: usize) -> usize {
    rng.random_range(0..below)
}

impl Workload {
    fn moment(&mut self) {
        self.moments.push(Moment {
            events: self.memory.event_count(),
            acknowledged: self.tags.clone(),
            flushed: self.flushed.clone(),
            since: self.since.clone(),
        });
    }

    fn write(&mut self, step: usize) {
        let rng = &mut self.rng;
        let (sector, count) = match pick(rng, 6) {
            0 => (pick(rng, 2) * 2048, 2048),
            1 => (pick(rng, SECTORS - 300), 300),
            _ => (pick(rng, SECTORS - 9), 1 + pick(rng, 8)),
        };
        let tag = |at: usize| (step as u64) << 32 | at as u64;
        let bytes: Vec<u8> = (sector..sector + count).flat_map(|at| sector_of(tag(at))).collect();
        self.since.extend((sector..sector + count).map(|at| (at, tag(at))));
        if self.zero_too {
            self.since.extend((sector..sector + count).map(|at| (at, 0)));
        }
        self.vhdx.write((sector * SECTOR) as u64, &bytes).unwrap();
        for at in sector..sector + count {
            self.tags[at] = tag(at);
        }
    }

    fn zero(&mut self) {
        let rng = &mut self.rng;
        let (sector, count) =
            if pick(rng, 2) == 0 { (pick(rng, 2) * 2048, 2048) } else { (pick(rng, 4000), 700) };
        let how = if pick(rng, 3) == 0 { Zeroing::Keep } else { Zeroing::Free };
        self.since.extend((sector..sector + count).map(|at| (at, 0)));
        self.vhdx.zero((sector * SECTOR) as u64, (count * SECTOR) as u64, how).unwrap();
        self.tags[sector..sector + count].fill(0);
    }

    fn run(&mut self, steps: usize) {
        self.moment();
        for step in 1..=steps {
            match pick(&mut self.rng, 10) {
                0..6 => self.write(step),
                6 | 7 => self.zero(),
                _ => {
                    self.vhdx.flush().unwrap();
                    self.all_is_safe();
                }
            }
            self.moment();
        }
    }

    fn close(&mut self) {
        self.vhdx.close().unwrap();
        self.all_is_safe();
        self.moment();
    }

    fn all_is_safe(&mut self) {
        self.flushed.clone_from(&self.tags);
        self.since.clear();
    }
}

fn read_tags(vhdx: &Vhdx) -> Tags {
    let mut bytes = vec![0; SECTORS * SECTOR];
    vhdx.read(0, &mut bytes).unwrap();
    let tag = |(at, sector): (usize, &[u8])| {
        assert!(sector[8..] == sector[..SECTOR - 8], "sector {at} is mixed");
        u64::from_le_bytes(sector[..8].try_into().unwrap())
    };
    bytes.chunks(SECTOR).enumerate().map(tag).collect()
}

/// What a loss of power may leave of events that were not synced: each subset of a few, else a random one, torn.
fn leftovers(synced: &Contents, events: &[Event], rng: &mut TestRng) -> Vec<Contents> {
    let mut left = Vec::new();
    if (1..=4).contains(&events.len()) {
        // All of them together are what a killed process leaves.
        for subset in 0..(1_u8 << events.len()) - 1 {
            let mut contents = synced.clone();
            for (i, event) in events.iter().enumerate() {
                if subset >> i & 1 != 0 {
                    event.apply(&mut contents);
                }
            }
            left.push(contents);
        }
    } else {
        left.push(synced.clone());
        torn(&mut left[0], events, rng);
    }
    left
}

/// A random part of events.
fn torn(contents: &mut Contents, events: &[Event], rng: &mut TestRng) {
    let keep = [0, 20, 50, 80, 100][pick(rng, 5)];
    let kept = |rng: &mut TestRng| pick(rng, 100) < keep;
    for event in events {
        match event {
            Event::Write(offset, bytes) if pick(rng, 4) == 0 => {
                for (i, piece) in bytes.chunks(SECTOR).enumerate() {
                    if kept(rng) {
                        contents.write(offset + (i * SECTOR) as u64, piece);
                    }
                }
            }
            event if kept(rng) => event.apply(contents),
            _ => {}
        }
    }
}

type Open<'a> = &'a dyn Fn(&Memory) -> Vhdx;

/// Opens what is left, both ways; what the disk holds.
fn survivors(contents: Contents, solid: bool, open: Open<'_>) -> Tags {
    let memory = Memory { solid, ..Memory::of(contents) };
    assert_eq!(check_medium(Box::new(memory.clone())).unwrap(), Vec::<String>::new());
    let vhdx = open(&memory);
    let tags = read_tags(&vhdx);
    vhdx.write(0, &sector_of(7)).unwrap();
    drop(vhdx);
    assert_eq!(check_medium(Box::new(memory.clone())).unwrap(), Vec::<String>::new());
    let again = read_tags(&open(&memory));
    assert!(again[0] == 7 && again[1..] == tags[1..], "what was left changed with the next write");
    tags
}

fn cut_everywhere(workload: &Workload, base: Contents, open: Open<'_>, mut rng: TestRng) {
    let events = workload.memory.events();
    let (mut all, mut synced, mut last_sync) = (base.clone(), base, 0);
    let mut moment = 0;
    for cut in 0..=events.len() {
        while workload.moments.get(moment + 1).is_some_and(|next| next.events <= cut) {
            moment += 1;
        }
        let before = &workload.moments[moment];
        let after = workload.moments.get(moment + 1).unwrap_or(before);

        let killed = survivors(all.clone(), workload.memory.solid, open);
        let pending: BTreeSet<(usize, u64)> = after.since.iter().copied().collect();
        for (at, tag) in killed.iter().enumerate() {
            let may = *tag == before.acknowledged[at] || pending.contains(&(at, *tag));
            assert!(may, "killed at {cut}: sector {at} is {tag:x}, not {:x}", before.acknowledged[at]);
        }

        let mut may_be: BTreeSet<(usize, u64)> = before.since.iter().copied().collect();
        may_be.extend(&pending);
        for left in leftovers(&synced, &events[last_sync..cut], &mut rng) {
            for (at, tag) in survivors(left, workload.memory.solid, open).iter().enumerate() {
                let may = *tag == before.flushed[at] || may_be.contains(&(at, *tag));
                assert!(may, "power lost at {cut}: sector {at} is {tag:x}, not {:x}", before.flushed[at]);
            }
        }

        if let Some(event) = events.get(cut) {
            event.apply(&mut all);
            if matches!(event, Event::Sync) {
                synced = all.clone();
                last_sync = cut + 1;
            }
        }
    }
}

fn options(kind: Kind) -> CreateOptions {
    CreateOptions { block_size: 1 << 20, ..CreateOptions::new(kind, (SECTORS * SECTOR) as u64) }
}

fn seed(number: u8) -> TestRng {
    TestRng::from_seed(prop::test_runner::RngAlgorithm::ChaCha, &[number; 32])
}

/// Steps without a cut fill the log first, so that the cuts see it go around.
fn run(memory: &Memory, tags: Tags, zero_too: bool, number: u8, open: Open<'_>) {
    let mut workload = Workload {
        vhdx: open(memory),
        memory: memory.clone(),
        rng: seed(number),
        flushed: tags.clone(),
        tags,
        since: Vec::new(),
        zero_too,
        moments: Vec::new(),
    };
    if number.is_multiple_of(2) {
        workload.run(300);
        workload.vhdx.flush().unwrap();
        workload.all_is_safe();
        workload.moments.clear();
    }
    memory.forget_events();
    let base = memory.contents();
    workload.run(40);
    workload.close();
    cut_everywhere(&workload, base, open, seed(number + 100));
}

#[test]
fn a_dynamic_file_survives_every_cut() {
    for number in 0..4 {
        let memory = Memory { solid: number > 1, ..Memory::default() };
        memory.create(&options(Kind::Dynamic));
        run(&memory, vec![0; SECTORS], false, number, &Memory::open);
    }
}

#[test]
fn a_differencing_file_survives_every_cut() {
    let base = Memory::default();
    base.create(&options(Kind::Dynamic));
    let parent = base.open();
    let tags: Tags = (0..SECTORS as u64).map(|at| if at % 3 == 0 { 0 } else { 0xAAAA << 48 | at }).collect();
    parent.write(0, &tags.iter().flat_map(|tag| sector_of(*tag)).collect::<Vec<_>>()).unwrap();
    drop(parent);
    let parent = Arc::new(base.try_open(true).unwrap());
    for number in 0..2 {
        let memory = Memory::default();
        memory.create(&options(Kind::Differencing(locator(&parent))));
        run(&memory, tags.clone(), true, number, &|memory| memory.open_child(&parent).unwrap());
    }
}
