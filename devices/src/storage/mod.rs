//! Storage: the SCSI controller on the bus (storvsp) and the units behind it.
//!
//! | module | what it holds |
//! |---|---|
//! | [`scsi`] | the units: what a command means, without I/O |

pub mod scsi;
