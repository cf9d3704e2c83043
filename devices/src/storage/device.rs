//! The controller as a device on the bus: its offer and its channels.

use std::sync::Arc;

use super::controller::Controller;
use super::initialisation::MAX_TRANSFER;
use super::protocol::{INTERFACE, LONG_PACKET};
use super::worker::StorageWorker;
use crate::disk::{Engine, Queue};
use crate::guid::Guid;
use crate::mem::PAGE_SIZE;
use crate::vmbus::channel::{ChannelError, Offer, Opening, RingNeeds, VmbusDevice};
use crate::vmbus::ring::PacketOut;

/// A SCSI controller on the bus.
#[derive(Debug)]
pub struct StorageDevice {
    controller: Arc<Controller>,
    options: StorageOptions,
}

/// How a controller's channels are served.
#[derive(Clone, Copy, Debug, Default)]
pub struct StorageOptions {
    /// Most sub-channels that the guest is told of.
    pub sub_channels: u16,
    /// Who moves bytes.
    pub engine: Engine,
}

impl StorageDevice {
    /// The device of a controller. Units come and go by the controller itself.
    #[must_use]
    pub fn new(controller: Arc<Controller>, options: StorageOptions) -> Self {
        StorageDevice { controller, options }
    }
}

impl VmbusDevice for StorageDevice {
    type Worker = StorageWorker;

    fn offer(&self) -> Offer {
        Offer::new(name(self.controller.number()), INTERFACE, instance(self.controller.number()))
    }

    fn ring_needs(&self, _: &Opening) -> RingNeeds {
        // The largest transfer, at the worst offset in its first page.
        let pages = MAX_TRANSFER as usize / PAGE_SIZE + 1;
        let request =
            PacketOut { extension: &vec![0; 16 + 8 * pages], ..PacketOut::in_band(0, &[&[0; LONG_PACKET]]) };
        let from_guest = u32::try_from(request.ring_bytes()).unwrap_or(u32::MAX);
        RingNeeds { from_guest, ..RingNeeds::of_payload(LONG_PACKET) }
    }

    fn open(&mut self, opening: &Opening) -> Result<StorageWorker, ChannelError> {
        let queue = Queue::new(opening.ram.clone(), self.options.engine)?;
        let member = self.controller.join()?;
        Ok(StorageWorker::new(opening, member, queue, self.options.sub_channels))
    }

    fn closed(&mut self, _: Option<StorageWorker>) {}
}

/// The name of a controller on the bus, by its number.
#[must_use]
pub fn name(number: u8) -> String {
    format!("scsi{number}")
}

/// The instance GUID of a controller: the same in every run, since guests know their disks by it.
#[must_use]
pub fn instance(number: u8) -> Guid {
    const FIRST: Guid = Guid::parse("c5f1d2a6-5e0b-4b7c-9d43-7a16e2f4b800");
    let mut bytes = FIRST.to_bytes();
    if let Some(last) = bytes.last_mut() {
        *last = number;
    }
    Guid::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_are_their_numbers() {
        assert_eq!(instance(0).to_string(), "c5f1d2a6-5e0b-4b7c-9d43-7a16e2f4b800");
        assert_eq!(instance(63).to_string(), "c5f1d2a6-5e0b-4b7c-9d43-7a16e2f4b83f");
    }
}
