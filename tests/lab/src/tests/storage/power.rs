//! The VMM is killed under load, and what the guest was promised is there afterwards.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use super::{check, disks, task, with_disks};
use crate::lab::Lab;
use crate::storage;
use crate::vmm::Guest;

/// Files that each disk must have kept before the power goes.
const FILES: u32 = 25;

pub fn loss(lab: &mut Lab) -> Result<()> {
    let folder = storage::scratch(lab)?;
    let disks = disks(lab, &folder, 96)?;
    let names: Vec<String> = disks.iter().map(|disk| disk.name(lab.wishes.vmm)).collect();

    let guest = disks.iter().fold(storage::guest(lab)?, Guest::disk);
    let mut vm = lab.start(&guest)?;
    vm.expect("lab: ready")?;
    for name in &names {
        task(&mut vm, &format!("format {name}"))?;
    }
    vm.tell(&format!("load {}", names.join(" ")))?;
    let mut synced = BTreeMap::new();
    while synced.len() < names.len() || synced.values().any(|last| *last < FILES) {
        let (name, last) = parse(&vm.expect("lab: value synced=")?)?;
        synced.insert(name, last);
    }
    let outcome = vm.kill()?;
    ensure!(outcome.code == 128 + 9, "the VMM ended by itself with exit code {}", outcome.code);
    // What was promised while the signal was on its way counts, too; the last line may be cut off.
    for line in outcome.said("value").filter_map(|line| line.strip_prefix("synced=")) {
        if let Ok((name, last)) = parse(line) {
            synced.entry(name).and_modify(|known| *known = last.max(*known));
        }
    }

    with_disks(lab, &disks, |vm| {
        synced.iter().try_for_each(|(name, last)| task(vm, &format!("synced {name} {last}")))
    })?;
    disks.iter().try_for_each(|disk| check(lab, disk))
}

/// A disk's name and the number of a file.
fn parse(line: &str) -> Result<(String, u32)> {
    let (name, number) = line.split_once(' ').context("no number of a file")?;
    Ok((name.to_owned(), number.trim().parse()?))
}
