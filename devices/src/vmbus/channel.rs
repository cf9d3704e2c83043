//! What the author of a device sees: the traits that a device implements and what its channel gives it.
//!
//! A device is a [`VmbusDevice`]: it says what it offers and makes a [`ChannelWorker`] whenever the guest opens
//! its channel. The worker lives on a thread of its own, owns the channel's rings through [`Channel`], and is
//! handed back to the device as a value when the channel closes. An error ends the worker and with it this
//! channel's service, never the machine.

use std::fmt::Debug;
use std::os::fd::RawFd;

use crate::guid::Guid;

/// What a device offers to the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Short name for logs, tables and the command line, for instance `heartbeat`.
    pub name: String,
    /// Kind of device; chooses the guest's driver.
    pub interface: Guid,
    /// This device among its kind; must stay the same over restarts.
    pub instance: Guid,
    /// 0 for the device's first channel.
    pub sub_channel: u16,
    /// How the guest shows the device, and whether packets carry the pipe header.
    pub flags: OfferFlags,
    /// MMIO that the guest's driver is to reserve, MiB.
    pub mmio_megabytes: u16,
    /// 120 bytes for the guest's driver; of pipes the first word is the pipe type.
    pub user_data: [u8; 120],
}

bitflags::bitflags! {
    /// Flags of an offer (Linux: `vmbus_channel_offer.chn_flags`).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct OfferFlags: u16 {
        /// Windows shows a device interface rather than a plug and play device.
        const ENUMERATE_DEVICE_INTERFACE = 0x0001;
        /// Packets carry the 8-byte pipe header.
        const NAMED_PIPE_MODE = 0x0010;
        /// A Hyper-V socket.
        const TLNPI_PROVIDER = 0x2000;
    }
}
