//! VHDX, the format of Hyper-V's disks (MS-VHDX): fixed, dynamic and differencing.
//!
//! Read in this order: `protocol` (the file), `open`, `image` (looking up, reading), `operations` (writing), `writer`,
//! `log`.
//!
//! | file | what it holds |
//! |---|---|
//! | `protocol` | structures of the file |
//! | `medium` | the file under the image |
//! | `header`, `region`, `metadata`, `locator` | the parts of the file, read and checked |
//! | `bat`, `bitmap` | block allocation table and sector bitmaps in memory |
//! | `log` | replay, append |
//! | `open` | all of them brought together |
//! | `image` | [`Vhdx`]: look up, read |
//! | `operations` | write, zero, flush, close |
//! | `change`, `writer` | allocation, and how it gets into the file |
//! | `create`, `check` | new files; what is wrong with a file |
//!
//! # What survives
//!
//! A write has reached the page cache, and the log entry of what it allocated too, when it is acknowledged: it
//! survives this process at any point, and the next one to open the file replays the log. After a flush it survives
//! a loss of power. Of a write that was not flushed, a loss of power leaves the old sector, the new one, or, where the
//! sector had not been in this file, zeroes; it never touches sectors beside it.
//!
//! A file that is open for writing counts as in use by its log from its first write to [`Vhdx::close`]. One that
//! was left that way can still be opened for reading: the log is replayed in memory.

mod bat;
mod bitmap;
mod change;
mod check;
mod create;
mod error;
mod header;
mod image;
mod locator;
mod log;
mod medium;
mod metadata;
mod open;
mod operations;
mod protocol;
mod region;
mod writer;

#[cfg(test)]
mod tests;

pub use check::check;
pub use create::{CreateOptions, Kind, create};
pub use error::VhdxError;
pub use image::Vhdx;
pub use locator::ParentLocator;
pub use open::{Info, MAX_CHAIN, OpenOptions, Parent};
