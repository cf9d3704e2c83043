//! Data goes in and comes back: files, and patterns at every depth.

use anyhow::{Context, Result, ensure};

use super::{Kind, check, disk, disks, task, with_disks};
use crate::disk::Cache;
use crate::lab::Lab;
use crate::storage;
use crate::vm::Vm;

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
                pattern(vm, &format!("{} {sizes} {depth} {mib}", disk.name(vmm)))
                    .with_context(|| format!("{}, {sizes}, {depth} at a time", disk.path().display()))?;
            }
        }
        Ok(())
    })?;
    disks.iter().try_for_each(|disk| check(lab, disk))
}

/// Has a pattern written and verified; all that was written must have been read.
fn pattern(vm: &mut Vm<'_>, words: &str) -> Result<()> {
    vm.tell(&format!("pattern {words}"))?;
    let said = vm.expect("lab: value pattern=")?;
    vm.expect("lab: ready")?;
    let figure = |name: &str| said.split_whitespace().find_map(|word| word.strip_prefix(name));
    let (read, written) = (figure("read_kib="), figure("written_kib="));
    ensure!(read.is_some() && read == written, "fio read {read:?} of {written:?} KiB");
    Ok(())
}
