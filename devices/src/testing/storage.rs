//! The guest's side of the storage protocol.

use std::sync::Arc;
use std::time::{Duration, Instant};

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::channel::TestChannel;
use super::guest::TestGuest;
use super::worker::TestWorker;
use crate::disk::{Disk, DiskOptions, MemoryImage};
use crate::storage::protocol::{
    CreateSubChannels, Properties, QueryVersion, SHORT_PACKET, ShortSrb, Version, VstorPacket, operation,
    status,
};
use crate::storage::scsi::{Identity, Initiator, ScsiDisk};
use crate::storage::{Controller, MAX_TRANSFER, StorageDevice, StorageOptions, StorageWorker, instance};
use crate::vmbus::ring::protocol::PacketType;
use crate::vmbus::ring::{PacketOut, gpa_direct_extension};

/// A buffer of a guest's: bytes from `offset` on in pages that it lists.
#[derive(Clone, Debug, Default)]
pub struct Buffer {
    /// Into the first page.
    pub offset: u32,
    /// Bytes.
    pub len: u32,
    /// The pages.
    pub pfns: Vec<u64>,
}

impl Buffer {
    /// Whole pages.
    #[must_use]
    pub fn pages(pfns: &[u64]) -> Self {
        Buffer { offset: 0, len: (pfns.len() * crate::mem::PAGE_SIZE) as u32, pfns: pfns.to_vec() }
    }
}

/// What a GPA direct packet with these buffers carries ahead of its payload.
#[must_use]
pub fn gpa_direct(buffers: &[&Buffer]) -> Vec<u8> {
    let ranges: Vec<_> = buffers.iter().map(|buffer| (buffer.offset, buffer.len, &*buffer.pfns)).collect();
    let mut bytes = Vec::new();
    gpa_direct_extension(&ranges, &mut bytes);
    bytes
}

/// A packet of an operation, its body empty.
#[must_use]
pub fn storage_packet(operation: u32) -> VstorPacket {
    let mut packet = VstorPacket::new_zeroed();
    packet.header.operation = operation.into();
    packet.header.flags = 1.into();
    packet
}

/// A command to a unit on path 0 and target 0, its data going to the guest (`data_in` 1) or coming from it (0).
#[must_use]
pub fn srb(lun: u8, cdb: &[u8], data_in: u8, len: u32) -> VstorPacket {
    let mut packet = storage_packet(operation::EXECUTE_SRB);
    let short = &mut packet.srb.short;
    short.length = 52.into();
    short.lun = lun;
    short.cdb_length = cdb.len() as u8;
    short.sense_length = 20;
    short.data_in = data_in;
    short.data_transfer_length = len.into();
    short.cdb_or_sense[..cdb.len()].copy_from_slice(cdb);
    packet
}

/// READ (10) or WRITE (10), `len` bytes from a block of 512 bytes on.
#[must_use]
pub fn transfer(lun: u8, write: bool, block: u32, len: u32) -> VstorPacket {
    let mut cdb = [if write { 0x2A } else { 0x28 }, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    cdb[2..6].copy_from_slice(&block.to_be_bytes());
    cdb[7..9].copy_from_slice(&((len / 512) as u16).to_be_bytes());
    srb(lun, &cdb, u8::from(!write), len)
}

/// A packet from the host.
#[derive(Clone, Copy, Debug)]
pub struct FromHost {
    /// What the ring says that it is.
    pub kind: PacketType,
    /// Of the request.
    pub transaction_id: u64,
    /// Bytes of its payload.
    pub len: usize,
    /// The payload, zeroes behind it.
    pub packet: VstorPacket,
}

impl FromHost {
    fn of(packet: &crate::vmbus::ring::Packet<'_>) -> Self {
        let mut bytes = VstorPacket::new_zeroed();
        let len = packet.payload.len();
        assert!(len <= size_of::<VstorPacket>(), "Linux throws away packets of {len} bytes");
        bytes.as_mut_bytes()[..len].copy_from_slice(packet.payload);
        FromHost { kind: packet.kind, transaction_id: packet.transaction_id, len, packet: bytes }
    }

    /// NTSTATUS.
    #[must_use]
    pub fn status(&self) -> u32 {
        self.packet.header.status.get()
    }

    /// The SRB.
    #[must_use]
    pub fn srb(&self) -> &ShortSrb {
        &self.packet.srb.short
    }
}

/// Where a driver's packets go.
pub trait StoragePort {
    /// Sends a packet.
    fn send(&mut self, packet: &PacketOut<'_>);
    /// The next packet of the host, if it comes within this time.
    fn receive(&mut self, within: Duration) -> Option<FromHost>;
}

impl StoragePort for TestChannel {
    fn send(&mut self, packet: &PacketOut<'_>) {
        TestChannel::send(self, packet);
    }

    fn receive(&mut self, within: Duration) -> Option<FromHost> {
        self.try_receive(Instant::now() + within, FromHost::of)
    }
}

impl StoragePort for TestWorker<StorageWorker> {
    fn send(&mut self, packet: &PacketOut<'_>) {
        assert!(TestWorker::send(self, packet), "the ring is full");
        self.ring().expect("a worker that goes on");
    }

    /// Time does not pass: what comes is there already.
    fn receive(&mut self, _: Duration) -> Option<FromHost> {
        TestWorker::receive(self, FromHost::of)
    }
}

/// A guest's driver of one channel of a controller.
#[derive(Debug)]
pub struct StorageDriver<P> {
    /// The channel.
    pub port: P,
    /// Bytes of every packet.
    pub packet_size: usize,
    next_id: u64,
    aside: Vec<FromHost>,
}

impl<P: StoragePort> StorageDriver<P> {
    /// A driver that has not said anything.
    pub fn new(port: P) -> Self {
        StorageDriver { port, packet_size: SHORT_PACKET, next_id: 1, aside: Vec::new() }
    }

    /// The driver of a sub-channel, or of a first channel that is initialised already.
    pub fn speaking(port: P, version: Version) -> Self {
        StorageDriver { packet_size: version.packet_size(), ..Self::new(port) }
    }

    /// Goes through the initialisation as guests do.
    pub fn initialise(&mut self, version: Version) -> Properties {
        self.succeed(&storage_packet(operation::BEGIN_INITIALIZATION));
        self.succeed(&query_version(version));
        self.packet_size = version.packet_size();
        let answer = self.succeed(&storage_packet(operation::QUERY_PROPERTIES));
        self.succeed(&storage_packet(operation::END_INITIALIZATION));
        Properties::read_from_prefix(answer.packet.srb.as_bytes()).expect("a body").0
    }

    /// Asks for sub-channels.
    pub fn create_sub_channels(&mut self, count: u16) {
        let mut packet = storage_packet(operation::CREATE_SUB_CHANNELS);
        let body = CreateSubChannels { count: count.into() };
        body.write_to_prefix(packet.srb.as_mut_bytes()).expect("room");
        self.succeed(&packet);
    }

    /// Sends a packet, with the buffers that it is about, and does not wait. Returns its id.
    pub fn post(&mut self, packet: &VstorPacket, buffers: &[&Buffer]) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let payload = [&packet.as_bytes()[..self.packet_size]];
        let mut out = PacketOut { completion_requested: true, ..PacketOut::in_band(id, &payload) };
        let extension = gpa_direct(buffers);
        if !buffers.is_empty() {
            (out.kind, out.extension) = (PacketType::GPA_DIRECT, &extension);
        }
        self.port.send(&out);
        id
    }

    /// The next packet of the host, if it comes within this time.
    pub fn receive(&mut self, within: Duration) -> Option<FromHost> {
        if self.aside.is_empty() { self.port.receive(within) } else { Some(self.aside.remove(0)) }
    }

    /// Waits for the completion of a packet; others are kept for later.
    pub fn completion(&mut self, id: u64) -> FromHost {
        if let Some(at) = self.aside.iter().position(|early| early.transaction_id == id) {
            return self.aside.remove(at);
        }
        loop {
            let answer = self.port.receive(super::guest::PATIENCE).expect("a completion");
            if answer.transaction_id == id && answer.kind == PacketType::COMPLETION {
                assert_eq!(answer.len, self.packet_size, "a completion is as long as its request");
                assert_eq!(answer.packet.header.operation.get(), operation::COMPLETE_IO);
                return answer;
            }
            self.aside.push(answer);
        }
    }

    /// Sends a packet and waits for its completion.
    pub fn call(&mut self, packet: &VstorPacket, buffers: &[&Buffer]) -> FromHost {
        let id = self.post(packet, buffers);
        self.completion(id)
    }

    fn succeed(&mut self, packet: &VstorPacket) -> FromHost {
        let answer = self.call(packet, &[]);
        assert_eq!(answer.status(), status::SUCCESS, "{packet:?}");
        answer
    }
}

/// The driver of a controller whose LUN 0 is a RAM disk of so many blocks of 512 bytes: initialised, and told that the
/// power came on.
#[must_use]
pub fn ram_disk(blocks: usize) -> StorageDriver<TestWorker<StorageWorker>> {
    let image = Box::new(MemoryImage::new(blocks * 512, 512));
    let disk = Disk::new("ram".into(), image, &DiskOptions::default()).expect("a disk");
    let unit = ScsiDisk::new(Arc::new(disk), Identity::new(None, None, instance(0), 0), MAX_TRANSFER);
    let controller = Controller::new(Initiator::new(0).expect("a number"));
    controller.add(0, Arc::new(unit)).expect("a free place");
    let mut device = StorageDevice::new(controller, StorageOptions::default());
    let mut guest = TestGuest::default();
    let (to_host, from_host) = (guest.allocate(33), guest.allocate(33));
    let port = TestWorker::open(&mut device, guest.ram(), (&to_host, &from_host), [0; 120]);
    let mut driver = StorageDriver::new(port.expect("a channel"));
    driver.initialise(Version::V6_2);
    driver.call(&srb(0, &[0; 6], 2, 0), &[]);
    driver
}

/// QUERY_PROTOCOL_VERSION.
#[must_use]
pub fn query_version(version: Version) -> VstorPacket {
    let mut packet = storage_packet(operation::QUERY_PROTOCOL_VERSION);
    let body = QueryVersion { version: version.0.into(), revision: 0.into() };
    body.write_to_prefix(packet.srb.as_mut_bytes()).expect("room");
    packet
}
