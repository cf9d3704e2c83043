//! vmbfs against any messages: the files that a guest reads over the bus.
//!
//! Bytes become steps: a message, a question about some path, a read of some part, any packet at all, a turn of the
//! worker, an answer taken. The rings are sound, so the worker may not end. Every request is answered, by a message of
//! exactly the bytes that it has; what is read is the file's; and after all this an honest firmware can read the file.
//!
//! Run it with `cargo fuzz run vmbfs` (nightly, or `RUSTC_BOOTSTRAP=1`).

#![no_main]

mod input;

use std::sync::Arc;

use devices::mem::{GuestRam, PAGE_SIZE};
use devices::testing::TestWorker;
use devices::vmbfs::protocol::{IMC_FILE, IMC_INSTANCE, READ_MAX, VERSION, message_type};
use devices::vmbfs::{File, Vmbfs, VmbfsWorker};
use devices::vmbus::channel::VmbusDevice;
use devices::vmbus::ring::PacketOut;
use devices::vmbus::ring::protocol::PacketType;
use input::Input;
use libfuzzer_sys::fuzz_target;
use vm_memory::GuestAddress;

/// Pages of either ring, as the firmware has them.
const RING: usize = 5;
/// Bytes of the file, more than a message carries.
const SIZE: usize = READ_MAX + 777;
/// Pipe header, message header.
const HEADERS: usize = 16;

type Worker = TestWorker<VmbfsWorker<File>>;

fuzz_target!(|bytes: &[u8]| {
    let content: Arc<[u8]> = (0..SIZE).map(at).collect();
    let mut device = Vmbfs::new("imc", IMC_INSTANCE, File::new(IMC_FILE, content));
    let ram = GuestRam::from_ranges(&[(GuestAddress(0), 2 * RING * PAGE_SIZE)]).expect("RAM");
    let pages: Vec<u64> = (0..2 * RING as u64).collect();
    let mut worker = TestWorker::open(&mut device, &ram, pages.split_at(RING), [0; 120]).expect("a channel");
    let (mut asked, mut answered) = (0, 0);
    let mut input = Input(bytes);
    while !input.0.is_empty() {
        match input.byte() {
            0..=99 => asked += u32::from(request(&mut worker, &mut input)),
            100..=129 => {
                let (kind, len) = (PacketType(input.byte().into()), input.byte().into());
                let payload: &[&[u8]] = &[input.bytes(len)];
                // It may be a request by chance.
                worker.send(&PacketOut { kind, ..PacketOut::in_band(2, payload) });
            }
            130..=189 => worker.ring().expect("sound rings"),
            _ => answered += u32::from(receive(&mut worker).is_some()),
        }
    }
    let mut quiet = 0;
    while quiet < 2 {
        worker.ring().expect("sound rings");
        quiet = if receive(&mut worker).is_some() { 0 } else { quiet + 1 };
        answered += u32::from(quiet == 0);
    }
    assert!(answered >= asked, "{answered} of {asked} requests are answered");
    honest(&mut worker);
    device.closed(Some(worker.close()));
});

/// The byte of the file at a place.
fn at(place: usize) -> u8 {
    (place * 31 + place / 251) as u8
}

/// Sends a request of one of the four kinds, more or less as it should be; whether there was room.
fn request(worker: &mut Worker, input: &mut Input<'_>) -> bool {
    let kind = [1, 3, 5, 7][usize::from(input.byte() % 4)];
    let mut body = Vec::new();
    match kind {
        message_type::VERSION_REQUEST if input.byte() < 128 => body.extend(VERSION.to_le_bytes()),
        message_type::READ_FILE => {
            body.extend((u32::from(input.byte()) << 6).to_le_bytes());
            body.extend((u64::from(input.byte()) << 6).to_le_bytes());
        }
        _ => {}
    }
    if input.byte() < 128 {
        body.extend("\\x\\..\\IMC.hiv".encode_utf16().flat_map(u16::to_le_bytes));
    }
    let len = input.byte();
    body.extend(input.bytes((len % 32).into()));
    send(worker, kind, &body)
}

fn send(worker: &mut Worker, kind: u32, body: &[u8]) -> bool {
    let pipe = [1, 8 + body.len() as u32, kind, 0].map(u32::to_le_bytes);
    worker.send(&PacketOut::in_band(1, &[pipe.as_flattened(), body]))
}

/// The host's next message: type and body. It is one that the host has, of its size.
fn receive(worker: &mut Worker) -> Option<(u32, Vec<u8>)> {
    let packet = worker.receive(|packet| (packet.kind, packet.payload.to_vec()))?;
    let (kind, payload) = packet;
    if kind == PacketType::COMPLETION {
        assert!(payload.is_empty());
        return receive(worker);
    }
    let word = |at: usize| u32::from_le_bytes(payload[at..at + 4].try_into().expect("four bytes"));
    let length = word(4) as usize;
    assert_eq!((kind, word(0), word(12)), (PacketType::IN_BAND, 1, 0));
    let body = payload[HEADERS..8 + length].to_vec();
    match word(8) {
        message_type::VERSION_RESPONSE => assert_eq!(body.len(), 4),
        message_type::GET_FILE_INFO_RESPONSE => assert_eq!(body.len(), 16),
        message_type::READ_FILE_RDMA_RESPONSE => assert_eq!(body, [3, 0, 0, 0, 0, 0, 0, 0]),
        message_type::READ_FILE_RESPONSE => {
            assert!((4..=4 + READ_MAX).contains(&body.len()));
            assert!(word(HEADERS) == 0 || body.len() == 4, "bytes with a failure");
        }
        other => panic!("message {other}"),
    }
    Some((word(8), body))
}

/// The firmware, after whatever was before.
fn honest(worker: &mut Worker) {
    let mut ask = |kind, body: &[u8]| {
        assert!(send(worker, kind, body), "an empty ring has no room");
        worker.ring().expect("sound rings");
        receive(worker).expect("an answer").1
    };
    assert_eq!(ask(message_type::VERSION_REQUEST, &VERSION.to_le_bytes()), [0; 4]);
    let path: Vec<u8> = "\\imc.hiv".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let info = ask(message_type::GET_FILE_INFO, &path);
    assert_eq!((&info[..8], &info[8..]), ([0; 8].as_slice(), (SIZE as u64).to_le_bytes().as_slice()));
    for offset in [0, READ_MAX, 5] {
        let head = [&(READ_MAX as u32).to_le_bytes()[..], &(offset as u64).to_le_bytes()].concat();
        let read = ask(message_type::READ_FILE, &[&head[..], &path].concat());
        let wanted: Vec<u8> = (offset..SIZE.min(offset + READ_MAX)).map(at).collect();
        assert!(read[..4] == [0; 4] && read[4..] == wanted, "at {offset}");
    }
}
