//! A guest in memory: for unit tests, benches and fuzz targets, and for whoever writes a device.
//!
//! [`TestGuest`] has RAM, virtual processors that take messages and interrupts ([`TestSynic`]), and a
//! [`Bus`](crate::vmbus::bus::Bus) in front of it. It speaks the guest's side of the control protocol and plays the
//! guest's role on rings with the same ring types over the same pages. It panics when the host breaks the
//! protocol; that is what tests are for.
//!
//! [`TestWorker`] is less: one open channel, without bus and threads, for those who decide what happens when.
//! [`Shape`] is an image without bytes, [`TestVideoMemory`] a frame buffer without a guest, [`TestTpm`] a TPM
//! that answers when it is told to. [`storage`] has the guest's driver of a SCSI controller, for either.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a panic is how a test fails, and a test's numbers are small"
)]

mod channel;
mod guest;
mod shape;
pub mod storage;
mod synic;
mod tpm;
mod video;
mod worker;

pub use channel::TestChannel;
pub use guest::{OfferSeen, TestGuest};
pub use shape::Shape;
pub use synic::TestSynic;
pub use tpm::TestTpm;
pub use video::TestVideoMemory;
pub use worker::TestWorker;
