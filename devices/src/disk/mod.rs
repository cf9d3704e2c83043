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
//! | `vhd` | VHD, fixed and dynamic |
//! | [`vhdx`] | VHDX: fixed, dynamic, differencing |
//! | `chain` | VHDX files and their parents |
//! | `space` | zeroes and holes on the host |

mod chain;
mod convert;
mod copy;
mod create;
mod format;
mod image;
mod info;
mod lock;
mod open;
mod parents;
#[cfg(feature = "qcow2")]
mod qcow2;
mod raw;
mod space;
mod vhd;
pub mod vhdx;

pub use convert::{ConvertError, Converted, convert};
pub use copy::CopyError;
pub use create::{CreateError, CreateOptions, CreateReason};
pub use format::{Format, UnknownFormat};
pub use image::{Access, DiskError, Extent, Geometry, Image, Place, Zeroing};
pub use info::{ImageInfo, Layout};
pub use lock::{Holder, LockError};
pub use open::{FileError, OpenError, OpenOptions, OpenReason};
pub use parents::{Parent, ParentError, ParentRules, Parents};
pub use raw::Raw;
pub use vhd::{Vhd, VhdOptions};

#[cfg(test)]
mod tests;
