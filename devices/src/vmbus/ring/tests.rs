//! The rules of the ring, one test each; beside it the ring against a model, and against a hostile peer.

mod barriers;
mod hostile;
mod model;
mod violations;

use std::sync::atomic::Ordering;

use vm_memory::GuestAddress;

use super::protocol::*;
use super::*;
use crate::mem::{GuestRam, PAGE_SIZE, Pages};

/// A ring of so many pages in an empty RAM; no two of them are neighbours to both guest and host.
fn ring(pages: usize) -> RingPages {
    let pfns: Vec<u64> = (0..pages as u64).rev().collect();
    RingPages::new(pages_of(pages, &pfns)).unwrap()
}

/// The pages with those numbers in a RAM of `ram_pages`.
fn pages_of(ram_pages: usize, pfns: &[u64]) -> Pages {
    let ram = GuestRam::from_ranges(&[(GuestAddress(0), ram_pages * PAGE_SIZE)]).unwrap();
    Pages::resolve(&ram, pfns).unwrap()
}

/// Both sides of a new ring, and its memory.
fn sides(pages: usize) -> (Outgoing<RingPages>, Incoming<RingPages>, RingPages) {
    let memory = ring(pages);
    (Outgoing::open(memory.clone()).unwrap(), Incoming::open(memory.clone()).unwrap(), memory)
}

fn word(memory: &RingPages, word: ControlWord) -> u32 {
    memory.load(word, Ordering::Relaxed).unwrap()
}

fn set(memory: &RingPages, word: ControlWord, value: u32) {
    memory.store(word, value, Ordering::Relaxed).unwrap();
}

/// Writes an in-band packet that takes so many bytes in the ring.
fn put(writer: &mut Outgoing<RingPages>, ring_bytes: usize) -> Result<(), WriteError> {
    let payload = vec![0x5a; ring_bytes - 24];
    writer.write(&PacketOut::in_band(ring_bytes as u64, &[&payload]))
}

/// Reads a packet and returns how many bytes it took, if there is one.
fn take(reader: &mut Incoming<RingPages>) -> Option<usize> {
    let mut buffer = PacketBuffer::new();
    reader.next(&mut buffer).unwrap().map(|packet| packet.payload.len() + packet.extension.len() + 24)
}

#[test]
fn a_packet_lies_in_the_ring_as_the_protocol_says() {
    let (mut writer, _, memory) = sides(3);
    put(&mut writer, 64).unwrap();
    let mut ranges = Vec::new();
    let range = TransferPageRange { byte_count: 0x123.into(), byte_offset: 0x4567.into() };
    transfer_page_extension(0xcafe, &[range], &mut ranges);
    let packet = PacketOut {
        kind: PacketType::TRANSFER_PAGES,
        transaction_id: 0x0102_0304_0506_0708,
        completion_requested: true,
        extension: &ranges,
        payload: &[b"one", b"", b" two"],
    };
    assert_eq!(packet.ring_bytes(), 48);
    writer.write(&packet).unwrap();
    assert_eq!(word(&memory, ControlWord::WriteIndex), 0);
    assert_eq!(writer.commit(), Ok(true));
    assert_eq!(word(&memory, ControlWord::WriteIndex), 112);
    let mut bytes = [0xff; 48];
    memory.read(64, &mut bytes).unwrap();
    #[rustfmt::skip]
    let expected = [
        7, 0, 4, 0, 5, 0, 1, 0, 8, 7, 6, 5, 4, 3, 2, 1,
        0xfe, 0xca, 0, 0, 1, 0, 0, 0, 0x23, 0x01, 0, 0, 0x67, 0x45, 0, 0,
        b'o', b'n', b'e', b' ', b't', b'w', b'o', 0,
        0, 0, 0, 0, 64, 0, 0, 0,
    ];
    assert_eq!(bytes, expected);
}

#[test]
fn what_one_side_writes_the_other_reads() {
    let (mut writer, mut reader, _) = sides(2);
    let mut extension = Vec::new();
    gpa_direct_extension(&[(4000, 200, &[7, 9]), (0, 0, &[]), (0, 4096, &[u64::MAX])], &mut extension);
    let packet = PacketOut {
        kind: PacketType::GPA_DIRECT,
        transaction_id: 42,
        completion_requested: true,
        extension: &extension,
        payload: &[b"request"],
    };
    writer.write(&packet).unwrap();
    writer.write(&PacketOut::completion(u64::MAX, &[])).unwrap();
    assert_eq!(take(&mut reader), None, "not committed yet");
    writer.commit().unwrap();

    let mut buffer = PacketBuffer::new();
    let packet = reader.next(&mut buffer).unwrap().unwrap();
    assert_eq!((packet.kind, packet.transaction_id), (PacketType::GPA_DIRECT, 42));
    assert!(packet.completion_requested);
    assert_eq!(packet.payload, b"request\0");
    let ranges = packet.gpa_ranges().unwrap();
    assert_eq!(ranges.len(), 3);
    let ranges: Vec<_> =
        ranges.map(|range| (range.offset, range.len, range.pfns().collect::<Vec<_>>())).collect();
    assert_eq!(ranges, [(4000, 200, vec![7, 9]), (0, 0, vec![]), (0, 4096, vec![u64::MAX])]);

    let packet = reader.next(&mut buffer).unwrap().unwrap();
    assert_eq!((packet.kind, packet.transaction_id), (PacketType::COMPLETION, u64::MAX));
    assert!(!packet.completion_requested);
    assert!(packet.payload.is_empty());
    assert_eq!(take(&mut reader), None);
    assert_eq!(reader.counters().packets, writer.counters().packets);
    assert_eq!(reader.counters().bytes, writer.counters().bytes);
}

#[test]
fn the_ring_is_never_filled_to_the_brim() {
    let (mut writer, mut reader, _) = sides(2);
    assert_eq!(writer.largest_packet(), 4088);
    assert_eq!(put(&mut writer, 4096), Err(WriteError::TooLarge { need: 4096, most: 4088 }));
    put(&mut writer, 4088).unwrap();
    assert_eq!(writer.room(), Ok(0));
    assert_eq!(put(&mut writer, 24), Err(WriteError::Full { need: 24, room: 0 }));
    assert_eq!(writer.counters().full, 1);
    writer.commit().unwrap();
    assert_eq!(take(&mut reader), Some(4088));
    assert_eq!(take(&mut reader), None);
    assert_eq!(put(&mut writer, 24), Err(WriteError::Full { need: 24, room: 0 }), "not given back yet");
    reader.commit().unwrap();
    put(&mut writer, 24).unwrap();
}

#[test]
fn how_full_a_ring_is_can_be_seen_from_outside() {
    let (mut writer, mut reader, memory) = sides(2);
    assert_eq!(memory.used(), 0);
    put(&mut writer, 4088).unwrap();
    assert_eq!(memory.used(), 0, "not published yet");
    writer.commit().unwrap();
    assert_eq!(memory.used(), 4088);
    take(&mut reader).unwrap();
    reader.commit().unwrap();
    put(&mut writer, 64).unwrap();
    writer.commit().unwrap();
    assert_eq!(memory.used(), 64, "behind the end of the data area");
    set(&memory, ControlWord::WriteIndex, 4096);
    assert_eq!(memory.used(), 0, "no index");
}

#[test]
fn packets_of_more_than_16_bits_of_units_are_refused() {
    let (mut writer, mut reader, _) = sides(200);
    let most = 65536 * 8;
    assert_eq!(writer.largest_packet(), most);
    let need = most as usize + 8;
    assert_eq!(put(&mut writer, need), Err(WriteError::TooLarge { need, most }));
    put(&mut writer, most as usize).unwrap();
    writer.commit().unwrap();
    assert_eq!(take(&mut reader), Some(most as usize));
}

#[test]
fn packets_wrap_anywhere() {
    for start in (8..4096).step_by(8) {
        let memory = ring(2);
        set(&memory, ControlWord::WriteIndex, start);
        set(&memory, ControlWord::ReadIndex, start);
        let mut writer = Outgoing::open(memory.clone()).unwrap();
        let mut reader = Incoming::open(memory).unwrap();
        let payload: Vec<u8> = (0..4064_u32).map(|i| (i % 251) as u8).collect();
        writer.write(&PacketOut::in_band(1, &[&payload])).unwrap();
        assert_eq!(writer.commit(), Ok(true));
        let mut buffer = PacketBuffer::new();
        assert_eq!(reader.next(&mut buffer).unwrap().unwrap().payload, payload);
    }
}

#[test]
fn the_reader_is_interrupted_only_from_empty_and_unmasked() {
    let (mut writer, mut reader, memory) = sides(2);
    assert_eq!(writer.commit(), Ok(false), "nothing written");
    put(&mut writer, 32).unwrap();
    put(&mut writer, 32).unwrap();
    assert_eq!(writer.commit(), Ok(true), "empty to non-empty, once for the batch");
    put(&mut writer, 32).unwrap();
    assert_eq!(writer.commit(), Ok(false), "the reader has not come to the end yet");
    while take(&mut reader).is_some() {}
    put(&mut writer, 32).unwrap();
    assert_eq!(writer.commit(), Ok(false), "read but not given back: not empty yet");
    reader.commit().unwrap();
    assert_eq!(reader.unmask(), Ok(true), "the packet that came without an interrupt is seen");
    reader.mask().unwrap();
    assert_eq!(word(&memory, ControlWord::InterruptMask), 1);
    assert_eq!(take(&mut reader), Some(32));
    reader.commit().unwrap();
    put(&mut writer, 32).unwrap();
    assert_eq!(writer.commit(), Ok(false), "masked");
    assert_eq!(reader.unmask(), Ok(true), "and seen on unmasking");
    assert_eq!(word(&memory, ControlWord::InterruptMask), 0);
    assert_eq!(take(&mut reader), Some(32));
    reader.commit().unwrap();
    assert_eq!(reader.unmask(), Ok(false));
    put(&mut writer, 32).unwrap();
    assert_eq!(writer.commit(), Ok(true));
    assert_eq!(writer.counters().signals, 2);
}

/// Fills a ring of 4096 bytes with 15 packets of 256 bytes, so that 248 bytes are free.
fn full_ring() -> (Outgoing<RingPages>, Incoming<RingPages>, RingPages) {
    let (mut writer, reader, memory) = sides(2);
    for _ in 0..15 {
        put(&mut writer, 256).unwrap();
    }
    writer.commit().unwrap();
    assert_eq!(writer.room(), Ok(248));
    (writer, reader, memory)
}

#[test]
fn the_writer_is_signalled_once_per_crossing() {
    let (mut writer, mut reader, memory) = full_ring();
    assert_eq!(put(&mut writer, 512), Err(WriteError::Full { need: 512, room: 248 }));
    assert_eq!(writer.wait_for_room(512), Ok(false));
    assert_eq!(word(&memory, ControlWord::PendingSendSize), 512);
    let mut signals = Vec::new();
    for _ in 0..5 {
        take(&mut reader);
        signals.push(reader.commit().unwrap());
    }
    // Free: 504, then 760 and the crossing, then more.
    assert_eq!(signals, [false, true, false, false, false]);
    assert_eq!(reader.commit(), Ok(false), "nothing read");
    put(&mut writer, 512).unwrap();
    assert_eq!(word(&memory, ControlWord::PendingSendSize), 0, "taken back by the next packet");
    assert_eq!(reader.counters().signals, 1);
}

#[test]
fn a_batch_crosses_the_pending_size_once() {
    let (mut writer, mut reader, _) = full_ring();
    assert_eq!(writer.wait_for_room(504), Ok(false));
    while take(&mut reader).is_some() {}
    assert_eq!(reader.commit(), Ok(true));
    assert_eq!(reader.commit(), Ok(false));
}

#[test]
fn exactly_enough_room_counts_as_room() {
    let (mut writer, mut reader, _) = full_ring();
    assert_eq!(writer.wait_for_room(504), Ok(false));
    take(&mut reader);
    assert_eq!(reader.commit(), Ok(true));
    assert_eq!(writer.wait_for_room(504), Ok(true), "room is there already");
    put(&mut writer, 504).unwrap();
}

#[test]
fn room_that_was_there_before_is_no_crossing() {
    let (_writer, mut reader, memory) = full_ring();
    set(&memory, ControlWord::PendingSendSize, 248);
    take(&mut reader);
    assert_eq!(reader.commit(), Ok(false));
}

#[test]
fn writers_that_tell_no_need_are_never_signalled() {
    let (mut writer, mut reader, memory) = full_ring();
    assert_eq!(reader.writer_tells_need(), Ok(true));
    assert_eq!(writer.wait_for_room(504), Ok(false));
    set(&memory, ControlWord::FeatureBits, !FEATURE_PENDING_SEND_SIZE);
    assert_eq!(reader.writer_tells_need(), Ok(false));
    while take(&mut reader).is_some() {}
    assert_eq!(reader.commit(), Ok(false));
    assert_eq!(reader.writer_is_stuck(), Ok(false));
}

#[test]
fn a_writer_that_stores_the_size_less_a_byte_waits_for_an_empty_ring() {
    let (_writer, mut reader, memory) = full_ring();
    set(&memory, ControlWord::PendingSendSize, 4095);
    for _ in 0..14 {
        take(&mut reader);
        assert_eq!(reader.commit(), Ok(false));
    }
    take(&mut reader);
    assert_eq!(reader.commit(), Ok(true));
}

#[test]
fn a_packet_written_into_the_new_room_does_not_hide_the_crossing() {
    let (mut writer, mut reader, memory) = full_ring();
    set(&memory, ControlWord::PendingSendSize, 2048);
    while take(&mut reader).is_some() {}
    // Another of the guest's threads sees the room at once and uses some of it, before we look at the indices.
    set(&memory, ControlWord::ReadIndex, 15 * 256);
    put(&mut writer, 248 + 256).unwrap();
    writer.commit().unwrap();
    set(&memory, ControlWord::PendingSendSize, 2048);
    assert_eq!(reader.commit(), Ok(true));
}

#[test]
fn waiting_for_more_than_the_ring_can_hold_waits_for_an_empty_ring() {
    let (mut writer, mut reader, memory) = full_ring();
    for need in [4090, u32::MAX] {
        assert_eq!(writer.wait_for_room(need), Ok(false));
        assert_eq!(word(&memory, ControlWord::PendingSendSize), 4088);
    }
    while take(&mut reader).is_some() {}
    assert_eq!(reader.commit(), Ok(true));
    assert_eq!(writer.wait_for_room(u32::MAX), Ok(true));
}

#[test]
fn a_missed_signal_can_be_found_later() {
    let (mut writer, mut reader, memory) = full_ring();
    assert_eq!(writer.reader_is_stuck(), Ok(true));
    reader.mask().unwrap();
    assert_eq!(writer.reader_is_stuck(), Ok(false));
    assert_eq!(reader.writer_is_stuck(), Ok(false));
    set(&memory, ControlWord::PendingSendSize, 248);
    assert_eq!(reader.writer_is_stuck(), Ok(true));
    while take(&mut reader).is_some() {}
    reader.commit().unwrap();
    reader.unmask().unwrap();
    assert_eq!(writer.reader_is_stuck(), Ok(false));
}

#[test]
fn a_reopened_side_goes_on_where_the_control_page_says() {
    let (mut writer, mut reader, memory) = full_ring();
    writer.wait_for_room(512).unwrap();
    take(&mut reader);
    reader.commit().unwrap();
    let mut writer = Outgoing::open(memory.clone()).unwrap();
    let mut reader = Incoming::open(memory.clone()).unwrap();
    assert_eq!(writer.room(), Ok(504));
    put(&mut writer, 32).unwrap();
    assert_eq!(word(&memory, ControlWord::PendingSendSize), 0, "the request of before is taken back");
    writer.commit().unwrap();
    let mut packets = 0;
    while take(&mut reader).is_some() {
        packets += 1;
    }
    assert_eq!(packets, 15);
}
