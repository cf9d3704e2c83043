//! Disks: image formats behind one trait, and the engine that moves bytes between their files and guest memory.
//!
//! The storage device is the only one that uses it. Nothing in here knows the bus or SCSI.
//!
//! | file | what it holds |
//! |---|---|
//! | `image` | the trait of formats |
//! | [`vhdx`] | VHDX files |

mod image;
pub mod vhdx;

pub use image::{Access, DiskError, Extent, Geometry, Image, Place, Zeroing};
