//! A disk that a guest may be given: an image and how it is used. Shared by all channels that reach it.
//!
//! The queues ([`Queue`](super::Queue)) do the work; this is what they have in common: the files, the threads for
//! what blocks, the rate limit, the counters, and the budget of log lines.

use std::fmt::{self, Debug};
use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::direct::Direct;
use super::limit::Limit;
use super::queue::{IoError, Pool, Request};
use super::{DiskError, Geometry, Image};
use crate::ratelimit::Limiter;

/// What stands between a disk and the host's storage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheMode {
    /// The host's page cache. What a flush or a FUA write has answered is on the host's disk.
    #[default]
    Writeback,
    /// Nothing: files are opened with `O_DIRECT`. Flushes work as with [`CacheMode::Writeback`].
    None,
    /// The page cache, and **flush and FUA do nothing**: when the host loses power or crashes, the guest's file
    /// systems are lost, however well they keep their journals. For guests that are thrown away.
    Unsafe,
}

/// How a disk is used.
#[derive(Clone, Debug, Default)]
pub struct DiskOptions {
    /// What stands between it and the host's storage.
    pub cache: CacheMode,
    /// Most requests a second.
    pub iops: Option<NonZeroU64>,
    /// Most bytes a second, reads and writes together.
    pub bytes_per_second: Option<NonZeroU64>,
}

/// What a disk has done since it was opened. Each is read on its own: together they may be a request apart.
#[derive(Debug, Default)]
pub struct DiskCounters {
    /// Reads that ended well.
    pub reads: AtomicU64,
    /// Writes that ended well.
    pub writes: AtomicU64,
    /// Flushes that ended well.
    pub flushes: AtomicU64,
    /// Other requests that ended well: zeroes, unmaps, fills, comparisons.
    pub others: AtomicU64,
    /// Bytes of those reads.
    pub bytes_read: AtomicU64,
    /// Bytes of those writes.
    pub bytes_written: AtomicU64,
    /// Requests that failed for the image's or the host's reasons.
    pub errors: AtomicU64,
    /// Requests that a thread carried out: all of the threads engine's; of `io_uring`'s those without extents.
    pub slow: AtomicU64,
    /// Requests that had to wait for the rate limit.
    pub limited: AtomicU64,
}

/// A disk that a guest may be given.
pub struct Disk {
    name: String,
    image: Box<dyn Image>,
    geometry: Geometry,
    cache: CacheMode,
    direct: Option<Direct>,
    limit: Option<Limit>,
    counters: DiskCounters,
    errors: Limiter,
    pool: Pool,
}

impl Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").field("name", &self.name).field("image", &self.image).finish_non_exhaustive()
    }
}

impl Disk {
    /// A disk of this image. The name is for log lines and threads.
    ///
    /// # Errors
    /// With [`CacheMode::None`], when the host's file system cannot read and write past its page cache, or not in
    /// units as small as the image's sectors.
    pub fn new(name: String, image: Box<dyn Image>, options: &DiskOptions) -> io::Result<Self> {
        let geometry = image.geometry();
        let direct = match options.cache {
            CacheMode::None => Some(Direct::open(image.files(), geometry.logical_sector)?),
            CacheMode::Writeback | CacheMode::Unsafe => None,
        };
        let limit = Limit::new(options.iops, options.bytes_per_second, Instant::now());
        let pool = Pool::new(&name);
        let (counters, errors) = (DiskCounters::default(), Limiter::with_burst(1));
        Ok(Disk { name, image, geometry, cache: options.cache, direct, limit, counters, errors, pool })
    }

    /// What it consists of.
    pub fn image(&self) -> &dyn Image {
        &*self.image
    }

    /// As the image said when it was opened.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The name that log lines call it by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What stands between it and the host's storage.
    pub fn cache(&self) -> CacheMode {
        self.cache
    }

    /// What it has done.
    pub fn counters(&self) -> &DiskCounters {
        &self.counters
    }

    pub(super) fn limit(&self) -> Option<&Limit> {
        self.limit.as_ref()
    }

    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    pub(super) fn direct(&self) -> Option<&Direct> {
        self.direct.as_ref()
    }

    /// The file that data of [`Place::File`](super::Place::File) goes through.
    pub(super) fn file(&self, index: usize) -> Option<&File> {
        let files = self.direct.as_ref().map_or_else(|| self.image.files(), Direct::files);
        files.get(index)
    }

    /// Counts how a request ended and, if it failed, says so in the log, once a second at most.
    pub(super) fn note(&self, request: &Request, outcome: &Result<(), IoError>) {
        let counters = &self.counters;
        let add = |counter: &AtomicU64, n| counter.fetch_add(n, Ordering::Relaxed);
        match (outcome, request) {
            (Ok(()), Request::Read { len, .. }) => {
                add(&counters.reads, 1);
                add(&counters.bytes_read, *len);
            }
            (Ok(()), Request::Write { len, .. }) => {
                add(&counters.writes, 1);
                add(&counters.bytes_written, *len);
            }
            (Ok(()), Request::Flush) => {
                add(&counters.flushes, 1);
            }
            (Ok(()) | Err(IoError::Miscompare(_)), _) => {
                add(&counters.others, 1);
            }
            (Err(IoError::Disk(error)), _) => {
                add(&counters.errors, 1);
                self.log(request, error);
            }
            (Err(IoError::Aborted), _) => {}
        }
    }

    #[cold]
    fn log(&self, request: &Request, error: &DiskError) {
        let name = &self.name;
        match self.errors.take(Instant::now()) {
            Some(0) => log::warn!("Disk {name}: {request} failed: {error}"),
            Some(more) => {
                log::warn!("Disk {name}: {request} failed: {error} ({more} more failed since the last line)");
            }
            None => {}
        }
    }
}
