//! Data goes in and comes back: files, and patterns at every depth.

use anyhow::{Context, Result};

use super::{Kind, check, disk, disks, task, with_disks};
use crate::disk::Cache;
use crate::lab::Lab;
use crate::storage;

/// fio's runs: sizes of requests, how many at a time, and over how many MiB.
const PATTERNS: [(&str, u32, u32); 4] =
    [("4k-4k", 1, 2), ("4k-4k", 64, 8), ("4k-1m", 16, 32), ("1m-1m", 4, 32)];

pub fn files(lab: &mut Lab) -> Result<()> {
    let folder = storage::scratch(lab)?;
    let disks = disks(lab, &folder, 192)?;
    let vmm = lab.wishes.vmm;
    with_disks(lab, &disks, |vm| {
        for disk in &disks {
            task(vm, &format!("tree {} 10000", disk.name(vmm)))
                .with_context(|| disk.path().display().to_string())?;
        }
        Ok(())
    })?;
    disks.iter().try_for_each(|disk| check(lab, disk))
}

pub fn patterns(lab: &mut Lab) -> Result<()> {
    let folder = storage::scratch(lab)?;
    let mut disks = disks(lab, &folder, 64)?;
    // Past the host's page cache, which is another way through the engine.
    let direct = folder.join("direct");
    lab.sh("mkdir \"$1\"", &[&direct.display().to_string()])?;
    disks.push(disk(lab, &direct, Kind::Raw, 64)?.cache(Cache::None).at(0, u32::try_from(disks.len())?));
    let vmm = lab.wishes.vmm;
    with_disks(lab, &disks, |vm| {
        for disk in &disks {
            for (sizes, depth, mib) in PATTERNS {
                task(vm, &format!("pattern {} {sizes} {depth} {mib}", disk.name(vmm)))
                    .with_context(|| format!("{}, {sizes}, {depth} at a time", disk.path().display()))?;
            }
        }
        Ok(())
    })?;
    disks.iter().try_for_each(|disk| check(lab, disk))
}
