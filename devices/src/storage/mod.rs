//! Storage: SCSI controllers on the bus, and the units behind them.
//!
//! The path of a command: the guest's driver puts a packet into its ring → [`StorageWorker`], on the channel's thread,
//! takes it into a slot → its [unit](scsi::Unit) says what the command means → the
//! [engine](crate::disk::Queue) moves bytes straight between guest memory and image → the packet goes back as its own
//! completion.
//!
//! | module | what it holds |
//! |---|---|
//! | [`protocol`] | packets as they lie on the wire |
//! | `device` | the controller's offer and channels |
//! | `controller` | the units that channels share; resets; what comes and goes while the guest runs |
//! | `initialisation` | what a driver says first, as a state machine |
//! | `worker` | an open channel |
//! | `requests` | packets that were taken and not yet completed |
//! | `commands` | a SCSI request block, until the engine has it or it has ended |
//! | `data` | the guest memory of a command |
//! | [`scsi`] | units: what a command means, without I/O |

mod commands;
mod controller;
mod data;
mod device;
mod initialisation;
pub mod protocol;
mod requests;
pub mod scsi;
mod worker;

#[cfg(test)]
mod tests;

pub use controller::{Controller, MAX_UNITS, UnitError};
pub use device::{StorageDevice, StorageOptions, instance, name};
pub use initialisation::MAX_TRANSFER;
pub use worker::StorageWorker;
