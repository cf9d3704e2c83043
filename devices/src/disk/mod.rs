//! Disks: image formats behind one trait, and the engine that moves bytes between their files and guest memory.
//!
//! The storage device is the only one that uses it. Nothing in here knows the bus or SCSI.
//!
//! | file | what it holds |
//! |---|---|
//! | `image` | the trait of formats |
//! | `memory` | a RAM disk, for tests and benches |
//! | `disk` | a disk: image, cache mode, limits, counters |
//! | `direct` | files past the page cache, for `cache=none` |
//! | `limit` | how many requests and bytes a second |
//! | `queue` | the engine: requests of one channel, in flight |

mod direct;
#[expect(clippy::module_inception, reason = "the room is named after what it holds")]
mod disk;
mod image;
mod limit;
mod memory;
mod queue;

pub use disk::{CacheMode, Disk, DiskCounters, DiskOptions};
pub use image::{Access, DiskError, Extent, Geometry, Image, Place, Zeroing};
pub use memory::MemoryImage;
pub use queue::{Engine, IoError, Queue, QueueCounters, Request, Tag};
