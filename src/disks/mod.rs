//! The disks of a machine: what users say of them, where they are, and the units that guests see.
//!
//! | file | what it holds |
//! |---|---|
//! | `options` | a disk or DVD drive as users write it: command line, TOML, JSON |
//! | `place` | controller and LUN |
//! | `units` | a machine's controllers and what is in them: add, remove, put in, take out |

mod options;
mod place;
mod units;

pub use options::{Cache, DiskOptions, DvdOptions, FormatName, OptionError, Unit, UnitConfig};
pub use place::{Place, PlaceError};
pub use units::{DiskRow, Disks, UnitError};
