//! SCSI units: what a command means and what its initiator is told. No I/O, no bus and no thread in here.
//!
//! The controller hands each command to [`Unit::start`] and does what the [`Step`] says: fetch parameters, answer, or
//! have the I/O engine move bytes and call [`Unit::finish`]. A command is refused, gated and shown to the guest
//! (REPORT SUPPORTED OPERATION CODES) from one table per kind of unit.
//!
//! | file | what it holds |
//! |---|---|
//! | `unit` | the trait and its types |
//! | [`protocol`] | opcodes, CDBs, pages as they lie on the wire |
//! | [`sense`] | what went wrong, in SCSI's words |
//! | `operation` | the table of commands: lookup, CDB length, supported operation codes |
//! | `gate` | unit attentions and reservations: may this initiator do this now? |
//! | `reservation` | persistent reservations |
//! | `identity` | names of a unit that last: serial number, device identification |
//! | `luns` | what is answered for no unit: REPORT LUNS, absent units |
//! | `failure` | what the engine's errors become |
//! | `disk` | [`ScsiDisk`]: SBC-3 |
//! | `dvd` | [`Dvd`]: MMC-6 |
//!
//! Sources: SPC-4 r37, SBC-3 r36, MMC-6 r2.

mod disk;
mod dvd;
mod failure;
mod gate;
mod identity;
mod inquiry;
mod luns;
mod mode;
mod operation;
pub mod protocol;
mod requests;
mod reservation;
pub mod sense;
mod unit;

pub use disk::ScsiDisk;
pub use dvd::{Dvd, Ejected, InsertError};
pub use identity::{Identity, Serial, SerialError};
pub use luns::{absent, report_luns};
pub use sense::Sense;
pub use unit::{Command, Initiator, Reply, Reset, ScsiStatus, Step, Unit};

#[cfg(test)]
mod tests;
