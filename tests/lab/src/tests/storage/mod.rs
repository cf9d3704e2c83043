//! Family `storage`: an operating system lives on the disks. Guests run resources/guest/tests/storage.sh on images
//! of each kind, which are checked afterwards by tools that are not ours.

mod io;
mod power;
mod shape;
mod space;

use std::path::Path;

use anyhow::{Result, ensure};

use super::{Test, check_warnings};
use crate::disk::Disk;
use crate::lab::Lab;
use crate::storage;
use crate::vm::{Outcome, Vm};
use crate::vmm::{Guest, Vmm};

pub const TESTS: &[Test] = &[
    Test { name: "64 LUNs of one controller, and 4 controllers", run: shape::many },
    Test { name: "read-only disks, sectors of 4096 bytes, limits, rare commands", run: shape::options },
    Test { name: "DVDs are read and changed", run: shape::dvd },
    Test { name: "disks and controllers come and go while the guest runs", run: shape::hot },
    Test { name: "what the guest discards is room on the host", run: space::discard },
    Test { name: "a full host disk is an error of the disk alone", run: space::full },
    Test { name: "what was promised survives a kill of the VMM under load", run: power::loss },
    Test { name: "patterns are read back as written", run: io::patterns },
];

pub const SLOW: &[Test] = &[Test { name: "10000 files on every kind of image", run: io::files }];

/// The kinds of images that guests write to most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Raw,
    Dynamic,
    Differencing,
}

const KINDS: [Kind; 3] = [Kind::Raw, Kind::Dynamic, Kind::Differencing];

/// Makes an image of each kind, as the disks of LUNs 0, 1, ….
fn disks(lab: &mut Lab, folder: &Path, mib: u32) -> Result<Vec<Disk>> {
    // QEMU has no differencing images.
    let kinds = if lab.wishes.vmm == Vmm::Qemu { &KINDS[..2] } else { &KINDS };
    kinds.iter().zip(0..).map(|(kind, lun)| Ok(disk(lab, folder, *kind, mib)?.at(0, lun))).collect()
}

/// Makes an image.
fn disk(lab: &mut Lab, folder: &Path, kind: Kind, mib: u32) -> Result<Disk> {
    let size = format!("{mib}M");
    let path = |name: &str| folder.join(name).display().to_string();
    match kind {
        Kind::Raw => {
            lab.sh("truncate -s \"$2\" \"$1\"", &[&path("raw.img"), &size])?;
            Ok(Disk::new(&folder.join("raw.img"), "raw"))
        }
        Kind::Dynamic => {
            create(lab, &path("dynamic.vhdx"), &size)?;
            Ok(Disk::new(&folder.join("dynamic.vhdx"), "vhdx"))
        }
        Kind::Differencing => {
            create(lab, &path("parent.vhdx"), &size)?;
            lab.run_busman(&["image", "create", &path("child.vhdx"), "--parent", &path("parent.vhdx")])?;
            Ok(Disk::new(&folder.join("child.vhdx"), "vhdx"))
        }
    }
}

/// Makes a dynamic VHDX.
fn create(lab: &mut Lab, path: &str, size: &str) -> Result<()> {
    match lab.wishes.vmm {
        Vmm::Busman => lab.run_busman(&["image", "create", path, "--size", size])?,
        Vmm::Qemu => lab.sh("qemu-img create -q -f vhdx \"$1\" \"$2\"", &[path, size])?,
    };
    Ok(())
}

/// What qemu-img makes of an image that no guest uses any more.
fn check(lab: &mut Lab, disk: &Disk) -> Result<()> {
    let path = disk.path().display().to_string();
    if path.ends_with("child.vhdx") {
        // QEMU reads no differencing images.
        lab.run_busman(&["image", "check", &path])?;
    } else if path.ends_with(".vhdx") {
        let said = lab.sh("qemu-img check -f vhdx \"$1\"", &[&path])?;
        ensure!(said.contains("No errors were found"), "qemu-img check {path}: {said}");
    }
    Ok(())
}

/// Runs a guest that has these disks.
fn with_disks(
    lab: &mut Lab,
    disks: &[Disk],
    work: impl FnOnce(&mut Vm<'_>) -> Result<()>,
) -> Result<Outcome> {
    let guest = storage::guest(lab)?;
    let guest = disks.iter().fold(guest, Guest::disk);
    let mut vm = lab.start(&guest)?;
    vm.expect("lab: ready")?;
    work(&mut vm)?;
    vm.tell("end")?;
    let outcome = vm.finish_well()?;
    check_warnings(&outcome)?;
    Ok(outcome)
}

/// Gives storage.sh a task and waits until it is done.
fn task(vm: &mut Vm<'_>, words: &str) -> Result<()> {
    vm.tell(words)?;
    vm.expect("lab: ready")?;
    Ok(())
}
