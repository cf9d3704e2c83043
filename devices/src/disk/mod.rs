//! Disks: image formats behind one trait, and the engine that moves bytes between their files and guest memory.
//!
//! The storage device is the only one that uses it. Nothing in here knows the bus or SCSI.
//!
//! | file | what it holds |
//! |---|---|
//! | `image` | the trait of formats |
//! | `format` | the list of formats: names, signatures |
//! | `open` | from a path to an open, locked image |
//! | `lock` | locks on image files |
//! | `parents` | where parents of differencing images may be |
//! | `raw` | raw disks and optical media |
//! | `vhd` | VHD, fixed and dynamic |
//! | `space` | zeroes and holes on the host |

mod format;
mod image;
mod lock;
mod open;
mod parents;
mod raw;
mod space;
mod vhd;

pub use format::{Format, UnknownFormat};
pub use image::{Access, DiskError, Extent, Geometry, Image, Place, Zeroing};
pub use lock::{Holder, LockError};
pub use open::{FileError, OpenError, OpenOptions, OpenReason};
pub use parents::{Parent, ParentError, ParentRules, Parents};
pub use raw::Raw;
pub use vhd::{Vhd, VhdOptions};
