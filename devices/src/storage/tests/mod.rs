//! Conformance: a controller with its channels and threads, in front of a guest that keeps to the protocol or does not.

#![expect(clippy::panic, reason = "how a test fails")]

mod commands;
mod life;
mod versions;

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::scsi::{Identity, Initiator, ScsiDisk, Unit};
use super::*;
use crate::disk::{Disk, DiskError, DiskOptions, Geometry, Image, MemoryImage, OpenOptions, Zeroing};
use crate::mem::Pages;
use crate::testing::storage::{Buffer, StorageDriver};
use crate::testing::{OfferSeen, TestChannel, TestGuest};
use protocol::{INTERFACE, Version};

/// Bytes of every test disk.
const SIZE: usize = 8 << 20;
/// How long something is waited for that should not come.
const SOON: Duration = Duration::from_millis(50);

/// A guest with one controller.
struct Host {
    guest: TestGuest,
    controller: Arc<Controller>,
    offer: OfferSeen,
}

type Driver = StorageDriver<TestChannel>;

impl Host {
    fn new(units: impl IntoIterator<Item = (u8, Arc<dyn Unit>)>) -> Self {
        let mut guest = TestGuest::default();
        let controller = Controller::new(Initiator::new(0).unwrap());
        for (lun, unit) in units {
            controller.add(lun, unit).unwrap();
        }
        let options = StorageOptions { sub_channels: 4, ..StorageOptions::default() };
        guest.bus.add(StorageDevice::new(Arc::clone(&controller), options)).unwrap();
        let offer = guest.connect_to(INTERFACE);
        Host { guest, controller, offer }
    }

    /// The first channel, initialised.
    fn open(&mut self, version: Version) -> Driver {
        let mut driver = StorageDriver::new(self.guest.open(&self.offer, 17, 17));
        driver.initialise(version);
        driver
    }

    fn sub_channel(&mut self, version: Version) -> Driver {
        let offer = self.guest.next_offer();
        StorageDriver::speaking(self.guest.open(&offer, 17, 17), version)
    }

    fn buffer(&mut self, pages: usize) -> Buffer {
        Buffer::pages(&self.guest.allocate(pages))
    }

    fn fill(&self, buffer: &Buffer, byte: u8) {
        self.pages(buffer).write(0, &vec![byte; buffer.pfns.len() * 4096]).unwrap();
    }

    fn bytes(&self, buffer: &Buffer) -> Vec<u8> {
        let mut bytes = vec![0; buffer.len as usize];
        self.pages(buffer).read(buffer.offset as usize, &mut bytes).unwrap();
        bytes
    }

    fn pages(&self, buffer: &Buffer) -> Pages {
        Pages::resolve(self.guest.ram(), &buffer.pfns).unwrap()
    }
}

fn unit(image: Box<dyn Image>) -> Arc<dyn Unit> {
    let disk = Disk::new("test".to_owned(), image, &DiskOptions::default()).unwrap();
    let identity = Identity::new(None, None, instance(0), 0);
    Arc::new(ScsiDisk::new(Arc::new(disk), identity, MAX_TRANSFER))
}

fn ram_disk() -> Arc<dyn Unit> {
    unit(Box::new(MemoryImage::new(SIZE, 512)))
}

/// A raw file, and what keeps it.
fn raw_disk() -> (Arc<dyn Unit>, vmm_sys_util::tempdir::TempDir) {
    let directory = vmm_sys_util::tempdir::TempDir::new_with_prefix("/tmp/busman-storage").unwrap();
    let path = directory.as_path().join("disk.raw");
    std::fs::File::create(&path).unwrap().set_len(SIZE as u64).unwrap();
    (unit(OpenOptions::new(path).open().unwrap()), directory)
}

/// An image that lets nothing through until it is told to, as a disk that has stopped answering.
#[derive(Clone, Debug)]
struct Stuck {
    image: Arc<MemoryImage>,
    gate: Arc<(Mutex<Gate>, Condvar)>,
}

#[derive(Debug, Default)]
struct Gate {
    open: bool,
    waiting: usize,
}

impl Stuck {
    fn new() -> Self {
        Stuck { image: Arc::new(MemoryImage::new(SIZE, 512)), gate: Arc::default() }
    }

    fn pass(&self) {
        let (gate, changed) = &*self.gate;
        let mut gate = gate.lock().unwrap();
        gate.waiting += 1;
        changed.notify_all();
        drop(changed.wait_while(gate, |gate| !gate.open).unwrap());
    }

    fn release(&self) {
        self.gate.0.lock().unwrap().open = true;
        self.gate.1.notify_all();
    }

    /// Waits until so many requests are in the image's hands.
    fn wait_for(&self, requests: usize) {
        let gate = self.gate.0.lock().unwrap();
        let patience = Duration::from_secs(20);
        let waited = self.gate.1.wait_timeout_while(gate, patience, |gate| gate.waiting < requests).unwrap();
        assert!(!waited.1.timed_out());
    }
}

impl Image for Stuck {
    fn geometry(&self) -> Geometry {
        self.image.geometry()
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.pass();
        self.image.read(offset, buffer)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.pass();
        self.image.write(offset, bytes)
    }

    fn zero(&self, offset: u64, len: u64, how: Zeroing) -> Result<(), DiskError> {
        self.image.zero(offset, len, how)
    }

    fn flush(&self) -> Result<(), DiskError> {
        self.image.flush()
    }
}
