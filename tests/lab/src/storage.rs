//! What guests with disks need: an image with fio and e2fsprogs, and a folder for their disks' images.
//!
//! The folder is where the guests run. In L1 it is a file system on a disk made of memory: one that has O_DIRECT and
//! holes, as those of real hosts have, and whose speed depends on nothing else. Used by the families `storage` of
//! tests and measures.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cache::Cache;
use crate::cpio::Archive;
use crate::guest;
use crate::lab::Lab;
use crate::packages::{self, Packages};
use crate::vmm::{Guest, Vmm};
use crate::{fio, programs};

/// Programs that the place of the guests needs, and their packages. Those of e2fsprogs are on every Debian machine.
const TOOLS: [(&str, &str); 3] =
    [("qemu-img", "qemu-utils"), ("genisoimage", "genisoimage"), ("mkfs.ext4", "e2fsprogs")];

/// Packages for guests, next to fio's, and what they need.
const PACKAGES: [&str; 3] = ["e2fsprogs", "sg3-utils", "libsgutils2-1.46-2"];

/// Modules for guests, next to those of every guest.
const MODULES: [&str; 4] = ["isofs", "sg", "virtio_pci", "virtio_blk"];

/// Where L1 has the folder.
const SCRATCH: &str = "/scratch";

/// Makes L1's disk of memory, unless it is there; $1 is the folder of L1's kernel. A journal would protect from
/// nothing that happens here.
const MAKE_SCRATCH: &str = "
    mountpoint -q /scratch && exit
    set -e
    modprobe -d \"$1\" brd rd_nr=1 rd_size=2097152
    modprobe -d \"$1\" ext4
    mkfs.ext4 -q -O ^has_journal -N 4096 /dev/ram0
    mkdir -p /scratch
    mount -o noatime /dev/ram0 /scratch
";

/// A guest that does what the host types (resources/guest/tests/storage.sh).
pub fn guest(lab: &Lab) -> Result<Guest> {
    let modules = match lab.wishes.vmm {
        Vmm::Busman => "hv_vmbus,hv_utils,hv_storvsc,sd_mod,sr_mod,isofs",
        Vmm::Qemu => "virtio_pci,virtio_blk",
    };
    Ok(Guest::new("storage").initrd(&image(lab)?).append(&format!("lab.modules={modules}")))
}

/// The file tree of those guests.
fn image(lab: &Lab) -> Result<PathBuf> {
    let cache = Cache::open()?;
    let wanted = [&fio::PACKAGES[..], &PACKAGES].concat();
    let packages = Packages::fetch(&cache, &wanted, &[], |_, _| Ok(()))?;
    let mut archive = Archive::default();
    guest::add_modules(&mut archive, &lab.images.kernel, &MODULES)?;
    fio::add(&cache, &packages, &mut archive)?;
    let e2fsprogs = packages.tree("e2fsprogs")?;
    programs::add(&mut archive, &e2fsprogs.join("sbin/mke2fs"), "/sbin/mkfs.ext4", &[])?;
    programs::add(&mut archive, &e2fsprogs.join("sbin/e2fsck"), "/sbin/e2fsck", &[])?;
    archive.copy("/etc/mke2fs.conf", &e2fsprogs.join("etc/mke2fs.conf"))?;
    let sg3 = packages.tree("sg3-utils")?.join("usr/bin");
    let folders = [packages.tree("libsgutils2-1.46-2")?.join(programs::LIBRARIES)];
    for name in ["sg_start", "sg_turs", "sg_persist", "sg_verify", "sg_write_same"] {
        programs::add(&mut archive, &sg3.join(name), &format!("/bin/{name}"), &folders)?;
    }
    let both = [std::fs::read(&lab.images.base)?, archive.finish()].concat();
    cache.content("images/guest-storage", &both)
}

/// An empty folder for images.
pub fn scratch(lab: &mut Lab) -> Result<PathBuf> {
    packages::install_tools(&TOOLS)?;
    let folder = match lab.l1_modules() {
        Some(kernel) => {
            let kernel = kernel.display().to_string();
            lab.sh(MAKE_SCRATCH, &[&kernel]).context("a folder for images in L1")?;
            PathBuf::from(SCRATCH)
        }
        None => lab.logs().join("scratch"),
    };
    // A test that failed may have left something mounted in there.
    lab.sh(
        "umount \"$1\"/* 2>/dev/null; rm -rf \"$1\"/* && mkdir -p \"$1\"",
        &[&folder.display().to_string()],
    )?;
    Ok(folder)
}

/// Bytes that a file takes on the host's disk.
pub fn allocated(lab: &mut Lab, path: &Path) -> Result<u64> {
    let text = lab.sh("sync \"$1\"; stat -c '%b %B' \"$1\"", &[&path.display().to_string()])?;
    let numbers: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    match numbers[..] {
        [blocks, size] => Ok(blocks * size),
        _ => anyhow::bail!("stat says {text:?}"),
    }
}
