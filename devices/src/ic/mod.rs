//! Integration services: small services of the host that a guest's drivers use (Linux: hv_utils).
//!
//! All speak one framework: the host starts, both agree on versions, then the host sends one request at a time
//! and the guest answers by sending the same packet back. [`device`] is that framework; each service says in a
//! [`device::Service`] what it sends and what an answer means.
//!
//! | module | service |
//! |---|---|
//! | [`shutdown`] | asks the guest to power off, reboot or hibernate |
//! | [`heartbeat`] | tells whether the guest is alive |
//! | [`timesync`] | gives the guest the host's time |
//! | [`kvp`] | asks the guest for names, versions and addresses, and keeps values in it |
//! | [`vss`] | has the guest hold its writes while its disks are copied |
//! | [`fcopy`] | copies files into the guest |
//!
//! What users ask of the guest goes through [`requests`]; [`text`] is how messages hold text.

pub mod device;
pub mod fcopy;
pub mod heartbeat;
pub mod kvp;
pub mod protocol;
pub mod requests;
pub mod shutdown;
pub mod text;
pub mod timesync;
pub mod vss;

#[cfg(test)]
mod tests;
