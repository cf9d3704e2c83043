//! Disks: image formats behind one trait, and the engine that moves bytes between their files and guest memory.
//!
//! The storage device is the only one that uses it. Nothing in here knows the bus or SCSI.
//!
//! | file | what it holds |
//! |---|---|
//! | `image` | the trait of formats |
//! | `format` | the list of formats: names, signatures |
//! | `open` | from a path to an open, locked image |
//! | `create`, `convert`, `info` | what `busman image` does |
//! | `copy` | from image to image, without zeroes |
//! | `lock` | locks on image files |
//! | `parents` | where parents of differencing images may be |
//! | `raw` | raw disks and optical media |
//! | `qcow2` | QCOW2, by the `imago` crate (feature `qcow2`) |
//! | `sectors` | an image seen with larger sectors |
//! | `vhd` | VHD, fixed and dynamic |
//! | [`vhdx`] | VHDX: fixed, dynamic, differencing |
//! | `chain` | VHDX files and their parents |
//! | `space` | zeroes and holes on the host |
//! | `memory` | a RAM disk, for tests and benches |
//! | `disk` | a disk: image, cache mode, limits, counters |
//! | `direct` | files past the page cache, for `cache=none` |
//! | `limit` | how many requests and bytes a second |
//! | `queue` | the engine: requests of one channel, in flight |

mod chain;
mod convert;
mod copy;
mod create;
mod direct;
#[expect(clippy::module_inception, reason = "the room is named after what it holds")]
mod disk;
mod format;
mod image;
mod info;
mod limit;
mod lock;
mod memory;
mod open;
mod parents;
#[cfg(feature = "qcow2")]
mod qcow2;
mod queue;
mod raw;
mod sectors;
mod space;
mod vhd;
pub mod vhdx;

pub use convert::{ConvertError, Converted, convert};
pub use copy::CopyError;
pub use create::{CreateError, CreateOptions, CreateReason};
pub use disk::{CacheMode, Disk, DiskCounters, DiskOptions};
pub use format::{Format, UnknownFormat};
pub use image::{Access, DiskError, Extent, Geometry, Image, Place, Zeroing};
pub use info::{ImageInfo, Layout};
pub(crate) use lock::lock;
pub use lock::{Holder, LockError};
pub use memory::MemoryImage;
pub use open::{FileError, OpenError, OpenOptions, OpenReason};
pub use parents::{Parent, ParentError, ParentRules, Parents};
pub use queue::{Engine, IoError, Queue, QueueCounters, Request, Tag};
pub use raw::Raw;
pub use sectors::Sectors;
pub use vhd::{Vhd, VhdOptions};

#[cfg(test)]
mod tests;
