//! Requests that name guest memory.

use vm_memory::{Bytes, GuestAddress};

use super::super::protocol::{FNV_OFFSET_BASIS, MAX_GPA_BYTES, fnv1a};
use super::*;
use crate::mem::PAGE_SIZE;
use crate::vmbus::ring::gpa_direct_extension;

fn ask_gpa(channel: &mut TestChannel, operation: u32, ranges: &[(u32, u32, &[u64])]) -> Header {
    let mut extension = Vec::new();
    gpa_direct_extension(ranges, &mut extension);
    let header = request(operation);
    channel.send(&PacketOut {
        kind: PacketType::GPA_DIRECT,
        transaction_id: 4,
        completion_requested: true,
        extension: &extension,
        payload: &[header.as_bytes()],
    });
    let got = channel.receive(answer);
    assert_eq!((got.kind, got.id), (PacketType::COMPLETION, 4));
    got.header
}

#[test]
fn the_hash_is_fnv_1a() {
    // From the reference implementation's test vectors.
    assert_eq!(fnv1a(FNV_OFFSET_BASIS, b""), 0xcbf2_9ce4_8422_2325);
    assert_eq!(fnv1a(FNV_OFFSET_BASIS, b"a"), 0xaf63_dc4c_8601_ec8c);
    assert_eq!(fnv1a(FNV_OFFSET_BASIS, b"foobar"), 0x8594_4171_f739_67e8);
}

#[test]
fn guest_memory_is_read_and_inverted_in_the_order_of_its_ranges() {
    let mut subject = Subject::new();
    let mut channel = subject.open(2, 2);
    let pages = subject.guest.allocate(3);
    let ram = subject.guest.ram().clone();
    let at = |page: usize, offset: usize| GuestAddress(pages[page] * 4096 + offset as u64);
    let (first, second) = (pattern(1, 5000), pattern(2, 10));
    // 5000 bytes from 4000 on in pages 2 and 0 and 1, then 10 bytes of page 1 behind them.
    ram.write_slice(&first[..96], at(2, 4000)).unwrap();
    ram.write_slice(&first[96..4192], at(0, 0)).unwrap();
    ram.write_slice(&first[4192..], at(1, 0)).unwrap();
    ram.write_slice(&second, at(1, 3000)).unwrap();
    let list = [pages[2], pages[0], pages[1]];
    let ranges: [(u32, u32, &[u64]); 2] = [(4000, 5000, &list), (3000, 10, &pages[1..2])];

    let sum = fnv1a(fnv1a(FNV_OFFSET_BASIS, &first), &second);
    let got = ask_gpa(&mut channel, operation::GPA_SUM, &ranges);
    assert_eq!((got.status.get(), got.argument.get()), (status::OK, sum));

    let got = ask_gpa(&mut channel, operation::GPA_INVERT, &ranges);
    assert_eq!((got.status.get(), got.argument.get()), (status::OK, 5010));
    let mut page = [0; PAGE_SIZE];
    ram.read_slice(&mut page, at(2, 0)).unwrap();
    assert!(page[..4000].iter().all(|&byte| byte == 0), "what is not named is not touched");
    assert!(page[4000..].iter().zip(&first).all(|(&now, &before)| now == !before));
    ram.read_slice(&mut page, at(1, 0)).unwrap();
    assert!(page[..808].iter().zip(&first[4192..]).all(|(&now, &before)| now == !before));
    assert!(page[808..3000].iter().all(|&byte| byte == 0));
    assert!(page[3000..3010].iter().zip(&second).all(|(&now, &before)| now == !before));
}

#[test]
fn pages_that_are_not_ram_change_nothing() {
    let mut subject = Subject::new();
    let mut channel = subject.open(2, 2);
    let page = subject.guest.allocate(1)[0];
    for bad in [1 << 30, u64::MAX, u64::MAX / 4096] {
        let got = ask_gpa(&mut channel, operation::GPA_INVERT, &[(0, 8192, &[page, bad])]);
        assert_eq!((got.status.get(), got.argument.get()), (status::NO_MEMORY, 0));
        let first: u64 = subject.guest.ram().read_obj(GuestAddress(page * 4096)).unwrap();
        assert_eq!(first, 0);
    }
}

#[test]
fn one_packet_names_4_mib_at_most() {
    let mut subject = Subject::new();
    let mut channel = subject.open(8, 2);
    let page = subject.guest.allocate(1)[0];
    let list = vec![page; MAX_GPA_BYTES / PAGE_SIZE + 1];
    let got = ask_gpa(&mut channel, operation::GPA_INVERT, &[(0, MAX_GPA_BYTES as u32, &list[1..])]);
    assert_eq!((got.status.get(), got.argument.get()), (status::OK, MAX_GPA_BYTES as u64));
    let got = ask_gpa(&mut channel, operation::GPA_SUM, &[(0, MAX_GPA_BYTES as u32 + 1, &list)]);
    assert_eq!(got.status.get(), status::BAD_REQUEST);
    let two: [(u32, u32, &[u64]); 2] = [(0, 1, &list[..1]), (0, MAX_GPA_BYTES as u32, &list[1..])];
    assert_eq!(ask_gpa(&mut channel, operation::GPA_SUM, &two).status.get(), status::BAD_REQUEST);
}

#[test]
fn a_packet_without_ranges_names_no_memory() {
    let mut subject = Subject::new();
    let mut channel = subject.open(2, 2);
    for operation in [operation::GPA_SUM, operation::GPA_INVERT] {
        assert_eq!(ask(&mut channel, &request(operation), &[]).header.status, status::BAD_REQUEST);
    }
    let got = ask_gpa(&mut channel, operation::GPA_SUM, &[]);
    assert_eq!((got.status.get(), got.argument.get()), (status::OK, FNV_OFFSET_BASIS));
    // Ranges that end behind the packet.
    let header = request(operation::GPA_SUM);
    for extension in [&[][..], &[0, 0, 0, 0, 1, 0, 0, 0], &[0xff; 24]] {
        channel.send(&PacketOut {
            kind: PacketType::GPA_DIRECT,
            transaction_id: 4,
            completion_requested: false,
            extension,
            payload: &[header.as_bytes()],
        });
        assert_eq!(channel.receive(answer).header.status, status::BAD_REQUEST);
    }
}
