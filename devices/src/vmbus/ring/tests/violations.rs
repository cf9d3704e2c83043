//! What the other side can do wrong, one test each.

use super::*;

/// A ring of 4096 bytes with `used` bytes in it, which start with a descriptor of those lengths.
fn with_descriptor(used: u32, data_offset8: u16, length8: u16) -> Incoming<RingPages> {
    let memory = ring(2);
    set(&memory, ControlWord::WriteIndex, used);
    let descriptor = PacketDescriptor {
        kind: 6.into(),
        data_offset8: data_offset8.into(),
        length8: length8.into(),
        flags: 0.into(),
        transaction_id: 0.into(),
    };
    memory.write(0, zerocopy::IntoBytes::as_bytes(&descriptor)).unwrap();
    Incoming::open(memory).unwrap()
}

fn next(reader: &mut Incoming<RingPages>) -> Result<usize, RingError> {
    let mut buffer = PacketBuffer::new();
    reader.next(&mut buffer).map(|packet| packet.unwrap().payload.len())
}

#[test]
fn rings_without_data_pages_are_refused() {
    for pages in [0, 1] {
        let pfns = vec![0; pages];
        let error = RingPages::new(pages_of(1, &pfns)).unwrap_err();
        assert_eq!(error, RingError::Size { bytes: pages * PAGE_SIZE });
    }
}

#[test]
fn bad_indices_are_named() {
    let index = |word, value| RingError::Index { word, value, size: 4096 };
    for value in [4, 4095, 4096, 4104, u32::MAX] {
        for bad in [ControlWord::ReadIndex, ControlWord::WriteIndex] {
            let memory = ring(2);
            set(&memory, bad, value);
            assert_eq!(Incoming::open(memory.clone()).unwrap_err(), index(bad, value));
            assert_eq!(Outgoing::open(memory).unwrap_err(), index(bad, value));
        }

        let (mut writer, mut reader, memory) = full_ring();
        let bad = index(ControlWord::WriteIndex, value);
        take(&mut reader);
        set(&memory, ControlWord::PendingSendSize, 8);
        set(&memory, ControlWord::WriteIndex, value);
        assert_eq!(reader.commit().unwrap_err(), bad);
        assert_eq!(reader.unmask().unwrap_err(), bad);
        assert_eq!(reader.writer_is_stuck().unwrap_err(), bad);
        while let Ok(1..) = next(&mut reader) {}
        assert_eq!(next(&mut reader).unwrap_err(), bad);

        let bad = index(ControlWord::ReadIndex, value);
        set(&memory, ControlWord::ReadIndex, value);
        assert_eq!(writer.room().unwrap_err(), bad);
        assert_eq!(writer.wait_for_room(8).unwrap_err(), bad);
        assert_eq!(
            put(&mut writer, 256).unwrap_err(),
            WriteError::Ring(index(ControlWord::ReadIndex, value))
        );
        put(&mut writer, 248).unwrap();
        assert_eq!(writer.commit().unwrap_err(), bad);
    }
}

#[test]
fn own_indices_are_not_read_again() {
    let (mut writer, mut reader, memory) = full_ring();
    set(&memory, ControlWord::ReadIndex, 8);
    assert_eq!(take(&mut reader), Some(256));
    reader.commit().unwrap();
    assert_eq!(word(&memory, ControlWord::ReadIndex), 256);
    set(&memory, ControlWord::WriteIndex, 3);
    put(&mut writer, 24).unwrap();
    writer.commit().unwrap();
    assert_eq!(word(&memory, ControlWord::WriteIndex), 15 * 256 + 24);
}

#[test]
fn packets_that_contradict_themselves_are_refused() {
    for (header, len) in [(0, 3), (1, 3), (4, 3), (u16::MAX, 3), (2, 1), (2, 0), (0, 0)] {
        let error = next(&mut with_descriptor(256, header, len)).unwrap_err();
        let (header, len) = (u32::from(header) * 8, u32::from(len) * 8);
        assert_eq!(error, RingError::Descriptor { at: 0, header, len });
    }
    assert_eq!(next(&mut with_descriptor(256, 3, 3)), Ok(0), "all extension, no payload");
}

#[test]
fn packets_and_their_trailers_end_before_the_write_index() {
    assert_eq!(next(&mut with_descriptor(64, 2, 7)), Ok(40));
    let truncated = |need, used| RingError::Truncated { at: 0, need, used };
    assert_eq!(next(&mut with_descriptor(56, 2, 7)).unwrap_err(), truncated(64, 56));
    assert_eq!(next(&mut with_descriptor(4088, 2, u16::MAX)).unwrap_err(), truncated(524_288, 4088));
    for used in [8, 16] {
        assert_eq!(next(&mut with_descriptor(used, 2, 2)).unwrap_err(), truncated(24, used));
    }
    assert_eq!(next(&mut with_descriptor(24, 2, 2)), Ok(0));
}

#[test]
fn a_bad_packet_is_not_consumed() {
    let mut reader = with_descriptor(56, 2, 7);
    assert!(next(&mut reader).is_err());
    assert!(next(&mut reader).is_err());
    assert_eq!(reader.commit(), Ok(false));
    assert_eq!(reader.counters(), RingCounters::default());
}

fn packet(kind: PacketType, extension: &[u8]) -> Packet<'_> {
    Packet { kind, transaction_id: 0, completion_requested: true, extension, payload: &[] }
}

#[test]
fn gpa_ranges_that_leave_the_header_are_refused() {
    let mut extension = Vec::new();
    gpa_direct_extension(&[(1, 4096, &[7, 8]), (0, 1, &[9])], &mut extension);
    let count =
        |extension: &[u8]| packet(PacketType::GPA_DIRECT, extension).gpa_ranges().map(|ranges| ranges.len());
    assert_eq!(count(&extension), Ok(2));
    for len in 8..extension.len() {
        assert_eq!(count(&extension[..len]), Err(PacketError::Ranges { count: 2, len }));
    }
    for len in 0..8 {
        assert_eq!(count(&extension[..len]), Err(PacketError::Ranges { count: 0, len }));
    }
    let huge = PacketError::Ranges { count: u32::MAX, len: extension.len() };
    extension[4..8].fill(0xff);
    assert_eq!(count(&extension), Err(huge));
    extension[4..8].copy_from_slice(&[1, 0, 0, 0]);
    extension[8..16].fill(0xff);
    assert_eq!(count(&extension), Err(PacketError::Ranges { count: 1, len: extension.len() }));
}

#[test]
fn transfer_ranges_that_leave_the_header_are_refused() {
    let mut extension = Vec::new();
    let range = TransferPageRange { byte_count: 1.into(), byte_offset: 2.into() };
    transfer_page_extension(3, &[range, range], &mut extension);
    let parse = |extension: &[u8]| {
        let pages = packet(PacketType::TRANSFER_PAGES, extension).transfer_ranges();
        pages.map(|pages| (pages.pageset_id, pages.ranges.to_vec()))
    };
    assert_eq!(parse(&extension), Ok((3, vec![range, range])));
    for len in 8..extension.len() {
        assert_eq!(parse(&extension[..len]), Err(PacketError::Ranges { count: 2, len }));
    }
    extension[4..8].fill(0xff);
    assert_eq!(parse(&extension), Err(PacketError::Ranges { count: u32::MAX, len: 24 }));
}

#[test]
fn ranges_of_other_packets_are_refused_by_type() {
    for kind in [PacketType::IN_BAND, PacketType::COMPLETION, PacketType(0), PacketType(0xffff)] {
        let packet = packet(kind, &[0; 64]);
        assert_eq!(packet.gpa_ranges().unwrap_err(), PacketError::Type(kind));
        assert_eq!(packet.transfer_ranges(), Err(PacketError::Type(kind)));
    }
}

#[test]
fn pipe_messages_end_within_their_packet() {
    let mut payload = Vec::new();
    payload.extend_from_slice(zerocopy::IntoBytes::as_bytes(&PipeHeader::data(5)));
    payload.extend_from_slice(b"hello\0\0\0");
    assert_eq!(pipe_message(&payload), Ok((PipeMessageType::DATA, &b"hello"[..])));
    assert_eq!(pipe_message(&payload[..13]), Ok((PipeMessageType::DATA, &b"hello"[..])));
    for len in 8..13 {
        assert_eq!(pipe_message(&payload[..len]), Err(PacketError::Pipe { length: 5, len }));
    }
    assert_eq!(pipe_message(&payload[..7]), Err(PacketError::Pipe { length: 0, len: 7 }));
    payload[4..8].fill(0xff);
    assert_eq!(pipe_message(&payload), Err(PacketError::Pipe { length: u32::MAX, len: 16 }));
}
