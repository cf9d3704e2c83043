//! A guest's disk as tests describe it, and each VMM's words for it.

use std::path::{Path, PathBuf};

use crate::vmm::Vmm;

/// How a disk's data is cached on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cache {
    /// In the host's page cache.
    Writeback,
    /// Not at all (O_DIRECT).
    None,
    /// In the host's page cache, and flushes are ignored.
    Unsafe,
}

/// A disk or a DVD drive.
#[derive(Debug, Clone)]
pub struct Disk {
    path: PathBuf,
    format: &'static str,
    controller: u32,
    lun: u32,
    readonly: bool,
    cache: Cache,
    more: String,
    dvd: bool,
}

impl Disk {
    /// A disk at LUN 0 of controller 0.
    pub fn new(path: &Path, format: &'static str) -> Self {
        Self {
            path: path.to_owned(),
            format,
            controller: 0,
            lun: 0,
            readonly: false,
            cache: Cache::Writeback,
            more: String::new(),
            dvd: false,
        }
    }

    /// A DVD drive at LUN 0 of controller 0.
    pub fn dvd(path: &Path) -> Self {
        Self { dvd: true, ..Self::new(path, "raw") }
    }

    /// Puts it elsewhere. With QEMU in busman's place, disks count their LUNs from 0 on, in order.
    pub fn at(self, controller: u32, lun: u32) -> Self {
        Self { controller, lun, ..self }
    }

    /// Lets the guest only read.
    pub fn readonly(self) -> Self {
        Self { readonly: true, ..self }
    }

    /// Sets the way of caching.
    pub fn cache(self, cache: Cache) -> Self {
        Self { cache, ..self }
    }

    /// Adds options of busman's own, each with a comma before it.
    pub fn with(self, more: &str) -> Self {
        Self { more: more.to_owned(), ..self }
    }

    /// The image.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The disk's name for resources/guest/tests/storage.sh.
    pub fn name(&self, vmm: Vmm) -> String {
        match vmm {
            Vmm::Busman => format!("{}:{}", self.controller, self.lun),
            Vmm::Qemu => self.lun.to_string(),
        }
    }

    /// The words for busman's command line, or for its command `add`.
    pub fn words(&self) -> String {
        let place = format!("path={},controller={},lun={}", escaped(&self.path), self.controller, self.lun);
        if self.dvd {
            return place;
        }
        let readonly = if self.readonly { "on" } else { "off" };
        let cache = match self.cache {
            Cache::Writeback => "writeback",
            Cache::None => "none",
            Cache::Unsafe => "unsafe",
        };
        format!("{place},readonly={readonly},cache={cache},format={}{}", self.format, self.more)
    }

    /// The arguments for a VMM: SCSI with busman, virtio-blk with QEMU.
    pub fn arguments(&self, vmm: Vmm) -> Vec<String> {
        if vmm == Vmm::Busman {
            let option = if self.dvd { "--dvd" } else { "--disk" };
            return vec![option.to_owned(), self.words()];
        }
        let direct = if self.cache == Cache::None { "on" } else { "off" };
        let readonly = if self.readonly { "on" } else { "off" };
        let drive = format!(
            "if=none,id=disk{lun},file={},format={},cache.direct={direct},read-only={readonly},aio=io_uring,discard=unmap",
            escaped(&self.path),
            self.format,
            lun = self.lun,
        );
        // One I/O thread for a disk is how those run QEMU whom speed matters to.
        let device = format!("virtio-blk-pci,drive=disk{lun},iothread=io{lun}", lun = self.lun);
        let iothread = format!("iothread,id=io{}", self.lun);
        ["-object", &iothread, "-drive", &drive, "-device", &device].map(str::to_owned).to_vec()
    }
}

/// A path in a list of words: a comma would end it.
pub fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}
