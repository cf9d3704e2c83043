//! What a device offers to the guest, which chooses a driver by it. Made by devices, sent by the server.

use super::pipe::MESSAGE_PIPE;
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

impl Offer {
    /// A plain device: packets as they are, no MMIO.
    #[must_use]
    pub fn new(name: impl Into<String>, interface: Guid, instance: Guid) -> Offer {
        Offer {
            name: name.into(),
            interface,
            instance,
            sub_channel: 0,
            flags: OfferFlags::empty(),
            mmio_megabytes: 0,
            user_data: [0; 120],
        }
    }

    /// A device whose packets are messages of a pipe.
    #[must_use]
    pub fn message_pipe(name: impl Into<String>, interface: Guid, instance: Guid) -> Offer {
        let (flags, user_data) = (OfferFlags::NAMED_PIPE_MODE, MESSAGE_PIPE);
        Offer { flags, user_data, ..Offer::new(name, interface, instance) }
    }

    /// The channel's name in logs and tables: the device's, with the number of a sub-channel behind it.
    #[must_use]
    pub fn label(&self) -> String {
        match self.sub_channel {
            0 => self.name.clone(),
            number => format!("{}.{number}", self.name),
        }
    }
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
