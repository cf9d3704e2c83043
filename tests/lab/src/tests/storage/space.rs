//! Room on the host: given back when the guest discards, and missing when the host's disk is full.

use anyhow::{Result, ensure};

use super::{check, disks, task, with_disks};
use crate::disk::Disk;
use crate::lab::Lab;
use crate::storage;

/// MiB of a file that comes and goes.
const BLOB: u64 = 64;

/// MiB of the host's disk that is too small.
const SMALL: u64 = 16;

pub fn discard(lab: &mut Lab) -> Result<()> {
    let folder = storage::scratch(lab)?;
    let disks = disks(lab, &folder, 160)?;
    let vmm = lab.wishes.vmm;
    with_disks(lab, &disks, |vm| {
        for disk in &disks {
            task(vm, &format!("format {}", disk.name(vmm)))?;
            task(vm, &format!("trimmed {} {BLOB}", disk.name(vmm)))?;
        }
        Ok(())
    })?;
    for disk in &disks {
        check(lab, disk)?;
        let mib = storage::allocated(lab, disk.path())? >> 20;
        ensure!(mib < BLOB / 2, "{} still takes {mib} MiB", disk.path().display());
    }
    Ok(())
}

/// The guest finds an error where it writes, nowhere else, and goes on.
pub fn full(lab: &mut Lab) -> Result<()> {
    let folder = storage::scratch(lab)?.join("full");
    let path = folder.display().to_string();
    lab.sh("mkdir \"$1\" && mount -t tmpfs -o size=\"$2\" full \"$1\"", &[&path, &format!("{SMALL}M")])?;
    let image = folder.join("raw.img");
    lab.sh("truncate -s 64M \"$1\"", &[&image.display().to_string()])?;
    let disk = Disk::new(&image, "raw");
    let name = disk.name(lab.wishes.vmm);
    let outcome = with_disks(lab, &[disk], |vm| {
        task(vm, &format!("overfill {name}"))?;
        // The host has room again for what it has already.
        task(vm, &format!("pattern {name} 4k-64k 8 4"))
    })?;
    ensure!(outcome.value("error").is_ok(), "the guest's kernel reported no error");
    let lines = outcome.log.lines().filter(|line| line.contains("raw.img") || line.contains("disk")).count();
    ensure!((1..50).contains(&lines), "the host said {lines} lines about it");
    lab.sh("umount \"$1\"", &[&path])?;
    Ok(())
}
