//! vmbfs as the firmware's driver uses it, and as nobody should.

use std::sync::Arc;
use std::time::{Duration, Instant};

use zerocopy::{FromBytes, IntoBytes};

use super::protocol::{
    FileInfoResponse, IMC_FILE, IMC_INSTANCE, INTERFACE, READ_MAX, ReadFile, ReadFileRdmaResponse,
    ReadFileResponse, Status, VERSION, VersionResponse, message_type,
};
use super::{File, Vmbfs};
use crate::testing::{TestChannel, TestGuest};
use crate::vmbus::pipe;
use crate::vmbus::ring::{PacketOut, pipe_message};

/// A file whose bytes tell where they are from.
fn content(len: usize) -> Arc<[u8]> {
    (0..len).map(|at| (at * 31 + at / 251) as u8).collect()
}

fn open(len: usize) -> (TestGuest, TestChannel) {
    let mut guest = TestGuest::default();
    guest.bus.add(Vmbfs::new("imc", IMC_INSTANCE, File::new(IMC_FILE, content(len)))).unwrap();
    let offer = guest.connect_to(INTERFACE);
    assert_eq!(offer.offer.instance, IMC_INSTANCE);
    assert_eq!(offer.offer.user_data[0], 4, "a pipe of messages");
    // As the firmware opens it: four pages of data and one of control, in either direction.
    let channel = guest.open(&offer, 5, 5);
    (guest, channel)
}

/// Sends a request and gives the answer's type and body.
fn ask(channel: &mut TestChannel, kind: u32, body: &[u8]) -> (u32, Vec<u8>) {
    channel.send(&PacketOut::in_band(1, &[pipe::head(kind, 0, body.len()).as_bytes(), body]));
    channel.receive(|packet| {
        let (_, message) = pipe_message(packet.payload).unwrap();
        let (header, body) = pipe::MessageHeader::read_from_prefix(message).unwrap();
        assert_eq!(header.size.get(), 0, "reserved");
        (header.message_type.get(), body.to_vec())
    })
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn negotiate(channel: &mut TestChannel, version: u32) -> u32 {
    let (kind, body) = ask(channel, message_type::VERSION_REQUEST, &version.to_le_bytes());
    assert_eq!(kind, message_type::VERSION_RESPONSE);
    VersionResponse::read_from_bytes(&body).unwrap().status.get()
}

/// Status, flags and size of a path.
fn info(channel: &mut TestChannel, path: &str) -> (u32, u32, u64) {
    let (kind, body) = ask(channel, message_type::GET_FILE_INFO, &utf16(path));
    assert_eq!(kind, message_type::GET_FILE_INFO_RESPONSE);
    let response = FileInfoResponse::read_from_bytes(&body).unwrap();
    (response.status.get(), response.flags.get(), response.size.get())
}

fn read(channel: &mut TestChannel, path: &str, offset: u64, count: usize) -> (u32, Vec<u8>) {
    let request = ReadFile { count: u32::try_from(count).unwrap_or(u32::MAX).into(), offset: offset.into() };
    let body = [request.as_bytes(), &utf16(path)].concat();
    let (kind, body) = ask(channel, message_type::READ_FILE, &body);
    assert_eq!(kind, message_type::READ_FILE_RESPONSE);
    let (response, data) = ReadFileResponse::read_from_prefix(&body).unwrap();
    (response.status.get(), data.to_vec())
}

const SUCCESS: u32 = Status::Success as u32;
const NOT_FOUND: u32 = Status::NotFound as u32;
const END_OF_FILE: u32 = Status::EndOfFile as u32;
const ERROR: u32 = Status::Error as u32;

#[test]
fn the_firmware_reads_a_file_in_pieces() {
    let len = 3 * READ_MAX + 1234;
    let (_guest, mut channel) = open(len);
    assert_eq!(negotiate(&mut channel, VERSION), 0);
    assert_eq!(info(&mut channel, "\\imc.hiv"), (SUCCESS, 0, len as u64));
    let mut bytes = Vec::new();
    while bytes.len() < len {
        // The firmware's buffer may be larger than what is left: it asks for as much as a message carries.
        let (status, piece) = read(&mut channel, "\\imc.hiv", bytes.len() as u64, READ_MAX);
        assert!(status == SUCCESS && !piece.is_empty(), "{status} at {}", bytes.len());
        bytes.extend(piece);
    }
    assert_eq!(bytes, *content(len));
}

#[test]
fn names_are_found_whatever_their_case_and_slashes() {
    let (_guest, mut channel) = open(5);
    assert_eq!(negotiate(&mut channel, VERSION), 0);
    for path in ["imc.hiv", "/imc.hiv", "\\IMC.HIV", ".\\Imc.hiv", "x\\..\\imc.hiv"] {
        assert_eq!(info(&mut channel, path), (SUCCESS, 0, 5), "{path}");
        assert_eq!(read(&mut channel, path, 1, 3), (SUCCESS, content(5)[1..4].to_vec()), "{path}");
    }
    for path in ["", "\\"] {
        assert_eq!(info(&mut channel, path), (SUCCESS, 1, 0), "the root is a directory");
        assert_eq!(read(&mut channel, path, 0, 1), (ERROR, vec![]));
    }
    for path in ["imc.hi", "imc.hiv ", "imc.hiv\\x", "\\..\\imc.hiv", "imc.hiv\0", "EFI\\BOOT\\BOOTX64.EFI"] {
        assert_eq!(info(&mut channel, path), (NOT_FOUND, 0, 0), "{path}");
        assert_eq!(read(&mut channel, path, 0, 1), (NOT_FOUND, vec![]), "{path}");
    }
}

#[test]
fn no_read_gives_more_than_the_file_or_the_message_has() {
    let len = READ_MAX + 10;
    let (_guest, mut channel) = open(len);
    assert_eq!(negotiate(&mut channel, VERSION), 0);
    let mut lengths = |offset, count| {
        let (status, data) = read(&mut channel, IMC_FILE, offset, count);
        (status, data.len())
    };
    assert_eq!(lengths(0, usize::MAX), (SUCCESS, READ_MAX));
    assert_eq!(lengths(READ_MAX as u64, READ_MAX), (SUCCESS, 10));
    assert_eq!(lengths(len as u64 - 1, 100), (SUCCESS, 1));
    for offset in [len as u64, len as u64 + 1, u64::MAX] {
        assert_eq!(lengths(offset, 1), (END_OF_FILE, 0), "{offset}");
        assert_eq!(lengths(offset, 0), (SUCCESS, 0), "nothing is always there");
    }
}

#[test]
fn other_versions_are_refused_and_the_right_one_still_works() {
    let (_guest, mut channel) = open(1);
    for version in [0, 1, VERSION + 1, 2 * VERSION, u32::MAX] {
        assert_eq!(negotiate(&mut channel, version), 1, "{version:#x}");
        assert_eq!(info(&mut channel, IMC_FILE), (ERROR, 0, 0), "there was no version");
        assert_eq!(read(&mut channel, IMC_FILE, 0, 1), (ERROR, vec![]));
    }
    assert_eq!(negotiate(&mut channel, VERSION), 0);
    assert_eq!(info(&mut channel, IMC_FILE), (SUCCESS, 0, 1));
}

#[test]
fn requests_that_are_cut_off_fail_and_nobody_waits() {
    let (_guest, mut channel) = open(1);
    let (kind, body) = ask(&mut channel, message_type::VERSION_REQUEST, &[0, 0, 1]);
    assert_eq!((kind, body), (message_type::VERSION_RESPONSE, vec![1, 0, 0, 0]));
    assert_eq!(negotiate(&mut channel, VERSION), 0);
    for body in [&[] as &[u8], &[0; 11]] {
        let (kind, body) = ask(&mut channel, message_type::READ_FILE, body);
        assert_eq!((kind, body), (message_type::READ_FILE_RESPONSE, vec![3, 0, 0, 0]));
    }
    let (kind, body) = ask(&mut channel, message_type::GET_FILE_INFO, &utf16(IMC_FILE)[1..]);
    assert_eq!((kind, body[0]), (message_type::GET_FILE_INFO_RESPONSE, 1), "half a unit");
    let (kind, body) = ask(&mut channel, message_type::READ_FILE_RDMA, &[0; 24]);
    assert_eq!(kind, message_type::READ_FILE_RDMA_RESPONSE);
    let response = ReadFileRdmaResponse::read_from_bytes(&body).unwrap();
    assert_eq!((response.status.get(), response.count.get()), (ERROR, 0));
}

#[test]
fn messages_that_mean_nothing_do_no_harm() {
    let (_guest, mut channel) = open(1);
    for kind in [0, message_type::VERSION_RESPONSE, message_type::READ_FILE_RESPONSE, 9, u32::MAX] {
        channel.send(&PacketOut::in_band(1, &[pipe::head(kind, 0, 0).as_bytes()]));
    }
    channel.send(&PacketOut::in_band(1, &[]));
    channel.send(&PacketOut::completion(1, &[]));
    assert!(channel.try_receive(Instant::now() + Duration::from_millis(20), |_| ()).is_none());
    assert_eq!(negotiate(&mut channel, VERSION), 0);
}

/// The rings hold one answer of the largest size: the others wait in the guest's ring.
#[test]
fn requests_that_come_before_answers_are_read_are_answered_in_their_order() {
    let len = 40 * 1024;
    let (_guest, mut channel) = open(len);
    assert_eq!(negotiate(&mut channel, VERSION), 0);
    let path = utf16(IMC_FILE);
    for at in 0..20u64 {
        let request = ReadFile { count: 12000.into(), offset: (at * 1000).into() };
        let head = pipe::head(message_type::READ_FILE, 0, size_of::<ReadFile>() + path.len());
        channel.send(&PacketOut::in_band(at, &[head.as_bytes(), request.as_bytes(), &path]));
    }
    let content = content(len);
    for at in 0..20usize {
        let right =
            channel.receive(|packet| packet.payload[20..12020] == content[at * 1000..at * 1000 + 12000]);
        assert!(right, "answer {at}");
    }
}

#[test]
fn a_channel_that_is_opened_again_starts_over() {
    let (mut guest, mut channel) = open(7);
    assert_eq!(negotiate(&mut channel, VERSION), 0);
    guest.close(channel);
    let offer = *guest.offered();
    let mut channel = guest.open(&offer, 5, 5);
    assert_eq!(info(&mut channel, IMC_FILE), (ERROR, 0, 0));
    assert_eq!(negotiate(&mut channel, VERSION), 0);
    assert_eq!(info(&mut channel, IMC_FILE), (SUCCESS, 0, 7));
}
