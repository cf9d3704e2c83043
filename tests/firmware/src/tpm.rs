//! The TPM, as the real firmware drives it: buffers through the ports, commands through the control area.

use crate::blob::Blob;
use crate::console::{check, value};
use crate::machine::{in32, out32, read, wait_for, write};

const COMMAND_PORT: u16 = 0x1040;
const VALUE_PORT: u16 = 0x1044;
const MAP_SHARED_MEMORY: u32 = 1;
const ESTABLISHED: u32 = 2;
const PENDING_OPERATION: u32 = 3;
const SET_OPERATION: u32 = 7;
const TCG_PROTOCOL: u32 = 64;
/// Clears the TPM.
const CLEAR: u32 = 5;

const BASE: u64 = 0xfed4_0000;
/// Behind the registers of a locality, because flag 25 says so.
const AREA: u64 = BASE + 0x40;
const STATUS: u64 = AREA + 0x04;
const START: u64 = AREA + 0x0c;
/// Two pages of RAM that nothing else uses.
const BUFFERS: u64 = 0xa1_0000;
const RESPONSE: u64 = BUFFERS + 0x1000;

const NV_DEFINED: u32 = 0x14c;
const STARTUP: [u8; 12] = [0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x44, 0, 0];
const GET_RANDOM: [u8; 12] = [0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x7b, 0, 16];
/// PCR 16, the SHA-256 bank.
const PCR_READ: [u8; 20] = [0x80, 1, 0, 0, 0, 20, 0, 0, 1, 0x7e, 0, 0, 0, 1, 0, 0x0b, 3, 0, 0, 1];
/// The same PCR, without a password; the digest is 32 zeros.
const PCR_EXTEND: [u8; 65] = {
    let head = [
        0x80, 2, 0, 0, 0, 65, 0, 0, 1, 0x82, 0, 0, 0, 16, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0,
        1, 0, 0x0b,
    ];
    let mut command = [0; 65];
    let mut at = 0;
    while at < head.len() {
        command[at] = head[at];
        at += 1;
    }
    command
};
/// An index of the owner, 8 bytes, without a password.
const NV_DEFINE: [u8; 45] = [
    0x80, 2, 0, 0, 0, 45, 0, 0, 1, 0x2a, 0x40, 0, 0, 1, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0,
    14, 0x01, 0x50, 0, 0, 0, 0x0b, 0, 4, 0, 4, 0, 0, 0, 8,
];

pub fn check(blob: &Blob) {
    if blob.flags & 1 << 5 == 0 {
        check!(read::<u32>(AREA + 0x1c) == u32::MAX, "there is a TPM that no flag tells of");
        return;
    }
    check!(blob.flags & 1 << 25 != 0, "the TPM has no locality registers: flags {:#x}", blob.flags);
    (0..0x2000 / 8).for_each(|word| write(BUFFERS + word * 8, 0u64));
    write_port(MAP_SHARED_MEMORY, BUFFERS as u32);
    let established = read_port(ESTABLISHED);
    check!(established != 0, "the TPM's buffers are not established");
    check_area();
    check!(read_port(TCG_PROTOCOL) <= 1, "the TCG protocol is {}", read_port(TCG_PROTOCOL));
    check!(read_port(PENDING_OPERATION) == 0, "an operation waits: {}", read_port(PENDING_OPERATION));
    check!(submit(&STARTUP) == 0, "the TPM was not reset: startup gives {:#x}", code());
    check!(submit(&GET_RANDOM) == 0, "random numbers give {:#x}", code());
    let random: [u64; 2] = read(RESPONSE + 12);
    check!(random[0] != 0 && random[0] != random[1], "random numbers are {random:x?}");
    check!(pcr() == [0; 4], "PCR 16 is {:x?} after a reset", pcr());
    check!(submit(&PCR_EXTEND) == 0, "a PCR cannot be extended: {:#x}", code());
    check!(pcr() != [0; 4], "PCR 16 is still zero");
    let defined = submit(&NV_DEFINE);
    check!([0, NV_DEFINED].contains(&defined), "an index cannot be defined: {defined:#x}");
    value!("tpm_remembers", "{}", defined == NV_DEFINED);
}

/// The control area as the real firmware's library reads it.
fn check_area() {
    let area: [u32; 12] = core::array::from_fn(|word| read(AREA + word as u64 * 4));
    let [request, status, cancel, start, _, _, size, low, high, response_size, response_low, response_high] =
        area;
    check!([request, status, cancel, start] == [0; 4], "the TPM begins with {area:x?}");
    let places = [size, low, high, response_size, response_low, response_high];
    let wanted = [0x1000, BUFFERS as u32, 0, 0x1000, RESPONSE as u32, 0];
    check!(places == wanted, "the TPM's buffers are {places:x?}");
}

/// At the next start the TPM forgets its owner.
pub fn clear() {
    write_port(SET_OPERATION, CLEAR);
    check!(read_port(SET_OPERATION) == 0, "the TPM cannot be cleared");
    check!(read_port(PENDING_OPERATION) == CLEAR, "the TPM will not be cleared");
}

fn submit(command: &[u8]) -> u32 {
    let [start, status] = [START, STATUS].map(read::<u32>);
    check!([start, status] == [0, 0], "the TPM is not ready: start {start}, status {status}");
    for (at, byte) in command.iter().enumerate() {
        write(BUFFERS + at as u64, *byte);
    }
    write(START, 1u32);
    check!(wait_for(|| read::<u32>(START) == 0), "the TPM does not answer");
    check!(read::<u32>(STATUS) == 0, "the TPM has status {:#x}", read::<u32>(STATUS));
    code()
}

/// The response code.
fn code() -> u32 {
    u32::from_be_bytes(read(RESPONSE + 6))
}

fn pcr() -> [u64; 4] {
    check!(submit(&PCR_READ) == 0, "a PCR cannot be read: {:#x}", code());
    let size = u64::from(u32::from_be_bytes(read(RESPONSE + 2)));
    read(RESPONSE + size - 32)
}

fn write_port(command: u32, value: u32) {
    out32(COMMAND_PORT, command);
    out32(VALUE_PORT, value);
}

fn read_port(command: u32) -> u32 {
    out32(COMMAND_PORT, command);
    in32(VALUE_PORT)
}
