//! Debian's hyperv-daemons in a guest: the programs that answer what `busman guest` asks.

use std::path::PathBuf;

use anyhow::Result;

use crate::cache::Cache;
use crate::cpio::Archive;
use crate::lab::Lab;
use crate::packages::Packages;
use crate::vmm::Guest;
use crate::{guest, programs};

/// Packages for guests: the daemons, and what makes a file system that can be frozen.
const PACKAGES: [&str; 2] = ["hyperv-daemons", "e2fsprogs"];

/// Modules for guests, next to those of every guest.
const MODULES: [&str; 2] = ["ext4", "dummy"];

/// A guest that does what the host types (resources/guest/tests/guest.sh). Its daemons do not run yet.
pub fn guest(lab: &Lab) -> Result<Guest> {
    let modules = "lab.modules=hv_vmbus,hv_utils,hv_storvsc,sd_mod";
    Ok(Guest::new("guest").initrd(&image(lab)?).append(modules))
}

fn image(lab: &Lab) -> Result<PathBuf> {
    let cache = Cache::open()?;
    let packages = Packages::fetch(&cache, &PACKAGES, &[], |_, _| Ok(()))?;
    let mut archive = Archive::default();
    guest::add_modules(&mut archive, &lab.images.kernel, &MODULES)?;
    let daemons = packages.tree("hyperv-daemons")?.join("usr/sbin");
    for name in ["hv_kvp_daemon", "hv_vss_daemon", "hv_fcopy_daemon"] {
        programs::add(&mut archive, &daemons.join(name), &format!("/sbin/{name}"), &[])?;
    }
    let e2fsprogs = packages.tree("e2fsprogs")?;
    programs::add(&mut archive, &e2fsprogs.join("sbin/mke2fs"), "/sbin/mkfs.ext4", &[])?;
    archive.copy("/etc/mke2fs.conf", &e2fsprogs.join("etc/mke2fs.conf"))?;
    // The daemon keeps its values here.
    archive.file("/var/lib/hyperv/.keep", b"");
    let both = [std::fs::read(&lab.images.base)?, archive.finish()].concat();
    cache.content("images/guest-daemons", &both)
}
