//! vmbfs: a small file system that guests read over the bus, before they have any disk (firmware: VmbfsDxe; through it
//! Windows' boot loader).
//!
//! What is in it is behind [`Volume`]; the machine's initial configuration is a volume of one file. Nothing is ever
//! written, and no file is open: every request names its file.
//!
//! | module | what it holds |
//! |---|---|
//! | [`protocol`] | messages as they lie in a packet |
//! | `volume` | the files, and names as guests write them |
//! | `device` | the offer, and the channel's thread |

mod device;
pub mod protocol;
#[cfg(test)]
mod tests;
mod volume;

pub use device::{Vmbfs, VmbfsWorker};
pub use volume::{Entry, File, FileError, Volume};
