//! A SCSI controller against any packets and schedules, on two channels.
//!
//! Bytes become steps: a packet of any kind, mostly a command that makes sense, a turn of a worker, a completion taken,
//! a unit that comes or goes. Each packet that asks for a completion must get one, of its size and on its channel, and
//! nothing else may come but notices that units have changed. Afterwards an honest driver must still find its disk.
//!
//! Run it with `cargo fuzz run storvsp` (nightly, or `RUSTC_BOOTSTRAP=1`).

#![no_main]

mod input;

use std::collections::BTreeMap;
use std::sync::Arc;

use devices::disk::{Disk, DiskOptions, Engine, MemoryImage};
use devices::mem::{GuestRam, PAGE_SIZE};
use devices::storage::protocol::{LONG_PACKET, Version, VstorPacket, operation, srb_status};
use devices::storage::scsi::{Identity, Initiator, ScsiDisk, Unit};
use devices::storage::{Controller, MAX_TRANSFER, StorageDevice, StorageOptions, StorageWorker, instance};
use devices::testing::TestWorker;
use devices::testing::storage::{
    Buffer, StorageDriver, gpa_direct, query_version, srb, storage_packet, transfer,
};
use devices::vmbus::channel::{Opening, SubChannels};
use devices::vmbus::protocol::Version as BusVersion;
use devices::vmbus::ring::PacketOut;
use devices::vmbus::ring::protocol::PacketType;
use input::Input;
use libfuzzer_sys::fuzz_target;
use vm_memory::GuestAddress;
use zerocopy::IntoBytes;

/// Pages of the guest. Rings are in the first, packets name any.
const PAGES: u64 = 96;
const RING_PAGES: u64 = 16;
/// Blocks of the disk.
const BLOCKS: usize = 512;

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let ram = GuestRam::from_ranges(&[(GuestAddress(0), PAGES as usize * PAGE_SIZE)]).expect("RAM");
    let controller = Controller::new(Initiator::new(1).expect("a number"));
    controller.add(0, disk()).expect("a free place");
    // A ring of the kernel's for every input would take longer than all else.
    let options = StorageOptions { sub_channels: 3, engine: Engine::Threads };
    let mut device = StorageDevice::new(Arc::clone(&controller), options);
    let flags = input.byte();
    let version = Version::ALL[usize::from(flags & 7) % Version::ALL.len()];
    let mut channels = [0, 1].map(|number| Channel::open(&mut device, &ram, number));
    if flags & 8 == 0 {
        channels[0].initialise(version);
    }
    while !input.0.is_empty() {
        step(&mut input, &mut channels, &controller);
    }
    settle(&mut channels);
    drop(channels);
    // An honest driver takes over.
    let _ = controller.remove(0);
    controller.add(0, disk()).expect("a free place");
    let mut driver = StorageDriver::new(Channel::open(&mut device, &ram, 0).worker);
    driver.initialise(Version::V6_2);
    driver.call(&srb(0, &[0; 6], 2, 0), &[]);
    let answer = driver.call(&transfer(0, false, 0, 4096), &[&Buffer::pages(&[PAGES - 1])]);
    assert_eq!(answer.srb().srb_status, srb_status::SUCCESS);
});

fn disk() -> Arc<dyn Unit> {
    let image = Box::new(MemoryImage::new(BLOCKS * 512, 512));
    let disk = Disk::new("fuzz".into(), image, &DiskOptions::default()).expect("a disk");
    Arc::new(ScsiDisk::new(Arc::new(disk), Identity::new(None, None, instance(1), 0), MAX_TRANSFER))
}

/// A channel and what its guest waits for: bytes of each request that asked for a completion.
struct Channel {
    worker: TestWorker<StorageWorker>,
    owed: BTreeMap<u64, usize>,
    next_id: u64,
}

impl Channel {
    fn open(device: &mut StorageDevice, ram: &GuestRam, sub_channel: u16) -> Self {
        let first = 1 + u64::from(sub_channel) * 2 * RING_PAGES;
        let outgoing: Vec<u64> = (first..first + RING_PAGES).collect();
        // Too small for as many completions as there may be requests.
        let incoming: Vec<u64> = (first + RING_PAGES..first + RING_PAGES + 2).collect();
        let opening = Opening {
            version: BusVersion::V5_3,
            sub_channel,
            user_data: [0; 120],
            sub_channels: SubChannels::none(),
            ram: ram.clone(),
        };
        let worker =
            TestWorker::open_as(device, &opening, (&outgoing, &incoming)).expect("an honest opening");
        Channel { worker, owed: BTreeMap::new(), next_id: 1 << 40 }
    }

    /// As an honest driver does.
    fn initialise(&mut self, version: Version) {
        let query = query_version(version);
        let plain = [operation::QUERY_PROPERTIES, operation::END_INITIALIZATION].map(storage_packet);
        for packet in [storage_packet(operation::BEGIN_INITIALIZATION), query].iter().chain(&plain) {
            let payload = [packet.as_bytes()];
            self.send(&PacketOut { completion_requested: true, ..PacketOut::in_band(0, &payload) });
            self.worker.ring().expect("a worker that goes on");
            assert!(self.take());
        }
    }

    fn send(&mut self, packet: &PacketOut<'_>) {
        let id = self.next_id;
        let sent = self.worker.send(&PacketOut { transaction_id: id, ..*packet });
        if sent && packet.completion_requested {
            let len: usize = packet.payload.iter().map(|piece| piece.len()).sum();
            self.owed.insert(id, len.next_multiple_of(8).min(LONG_PACKET));
        }
        self.next_id += 1;
    }

    /// Takes one packet of the host; whether there was one.
    fn take(&mut self) -> bool {
        let owed = &mut self.owed;
        let taken = self.worker.receive(|packet| {
            if packet.kind == PacketType::COMPLETION {
                let len = owed.remove(&packet.transaction_id);
                assert_eq!(
                    len,
                    Some(packet.payload.len()),
                    "a completion that nobody waits for, or of another size"
                );
                let operation = packet.payload.first_chunk().map_or(1, |word| u32::from_le_bytes(*word));
                assert_eq!(operation, operation::COMPLETE_IO);
            } else {
                assert_eq!((packet.kind, packet.transaction_id), (PacketType::IN_BAND, 0));
                assert_eq!(packet.payload[0], operation::ENUMERATE_BUS as u8);
            }
        });
        taken.is_some()
    }
}

fn step(input: &mut Input<'_>, channels: &mut [Channel; 2], controller: &Controller) {
    let choice = input.byte();
    let channel = &mut channels[usize::from(choice & 1)];
    match choice >> 1 {
        0..=63 => command(input, channel),
        64..=71 => any_packet(input, channel),
        72..=79 => reset(input, channel),
        80..=95 => channel.worker.ring().expect("a worker that goes on"),
        96..=103 => channel.worker.fire(usize::from(input.byte() % 4)).expect("a worker that goes on"),
        104..=119 => drop(channel.take()),
        // Refused where somebody or nobody is.
        120..=123 => drop(controller.add(input.byte() % 4, disk())),
        _ => drop(controller.remove(input.byte() % 4)),
    }
}

/// A command with a buffer that mostly suits it.
fn command(input: &mut Input<'_>, channel: &mut Channel) {
    let (shape, lun, block, len) = (input.byte(), input.byte(), input.byte(), u32::from(input.byte()) * 512);
    let mut packet = match shape & 3 {
        0 => transfer(lun & 3, false, block.into(), len),
        1 => transfer(lun & 3, true, block.into(), len),
        2 => srb(lun & 3, input.bytes(usize::from(block % 20).min(16)), lun >> 6, len),
        _ => srb(lun, &[0xA0, 0, 0, 0, 0, 0, 0, block, 4, 0, 0, 0], 1, len),
    };
    if shape & 4 != 0 {
        packet.srb.short.data_transfer_length = (u32::from(input.byte()) * 1000).into();
        (packet.srb.short.target, packet.srb.short.cdb_length) = (lun >> 7, input.byte() % 20);
    }
    let pfns: Vec<u64> = (0..u64::from(len).div_ceil(4096) + 1)
        // Some are past the end of RAM.
        .map(|n| {
            RING_PAGES * 4
                + (u64::from(lun) + n * u64::from(shape)) % (PAGES - RING_PAGES * 4 + u64::from(shape >> 7))
        })
        .collect();
    let buffer = Buffer { offset: u32::from(lun & 15) * 200, len, pfns };
    let buffers = vec![&buffer; usize::from(shape >> 3 & 3 != 0) + usize::from(shape >> 3 & 15 == 15)];
    let extension = if buffers.is_empty() { Vec::new() } else { gpa_direct(&buffers) };
    let kind = if buffers.is_empty() { PacketType::IN_BAND } else { PacketType::GPA_DIRECT };
    let payload = [packet.as_bytes()];
    let completion_requested = shape & 0x40 == 0;
    channel.send(&PacketOut {
        kind,
        transaction_id: 0,
        completion_requested,
        extension: &extension,
        payload: &payload,
    });
}

fn any_packet(input: &mut Input<'_>, channel: &mut Channel) {
    let (kind, len, extension) = (input.byte(), input.byte(), input.byte());
    let kind = match kind & 3 {
        0 => PacketType::IN_BAND,
        1 | 2 => PacketType::GPA_DIRECT,
        _ => PacketType((kind >> 2).into()),
    };
    let extension = input.bytes(extension.into());
    let payload = [input.bytes(len.into())];
    channel.send(&PacketOut {
        kind,
        transaction_id: 0,
        completion_requested: true,
        extension,
        payload: &payload,
    });
}

fn reset(input: &mut Input<'_>, channel: &mut Channel) {
    let mut packet: VstorPacket = storage_packet(operation::RESET_LUN + u32::from(input.byte() % 3));
    packet.srb.short.lun = input.byte() % 4;
    let payload = [packet.as_bytes()];
    channel.send(&PacketOut { completion_requested: true, ..PacketOut::in_band(0, &payload) });
}

/// Both workers work and both guests read until nobody waits for anything.
fn settle(channels: &mut [Channel; 2]) {
    for _ in 0..10_000 {
        for channel in &mut *channels {
            channel.worker.ring().expect("a worker that goes on");
            for source in 0..4 {
                channel.worker.fire(source).expect("a worker that goes on");
            }
            while channel.take() {}
        }
        if channels.iter().all(|channel| channel.owed.is_empty()) {
            return;
        }
    }
    panic!("completions are missing");
}
