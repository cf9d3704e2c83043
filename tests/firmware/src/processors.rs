//! The other processors: they wait to be started, and then have the same memory types and SynIC as the first.

use core::arch::global_asm;

use crate::blob::Blob;
use crate::console::{check, value};
use crate::machine::{rdmsr, read, wait_for, write};
use crate::registers::{MTRR_DEF_TYPE, MTRR_FIX_16K, MTRR_FIX_64K, PAT, SCONTROL};

/// Where other processors start (SIPI vector 8).
const CODE: u64 = 0x8000;
/// Registers to read, a zero after the last.
const LIST: u64 = 0x8f00;
/// How many have started, and how many are done.
const STARTED: u64 = 0x9000;
const DONE: u64 = 0x9004;
/// What each has read, 128 bytes each.
const RESULTS: u64 = 0x9040;

const REGISTERS: [u32; 12] = [
    MTRR_DEF_TYPE,
    MTRR_FIX_64K,
    MTRR_FIX_16K,
    0x200,
    0x201,
    0x202,
    0x203,
    0x204,
    0x205,
    PAT,
    SCONTROL,
    0x4000_0002,
];
/// Of those, the VP index, which differs.
const VP_INDEX: usize = 11;

const ICR: u64 = 0xfee0_0300;
const INIT_ALL_OTHERS: u32 = 0x000c_4500;
const SIPI_ALL_OTHERS: u32 = 0x000c_4608;

// Runs in real mode at CODE:0, and uses no address of its own.
global_asm!(
    ".pushsection .rodata.other, \"a\"",
    ".code16",
    ".global other_start",
    "other_start:",
    "xor ax, ax",
    "mov ds, ax",
    "mov eax, 1",
    "mov bx, 0x9000",
    "lock xadd dword ptr [bx], eax",
    "shl ax, 7",
    "add ax, 0x9040",
    "mov di, ax",
    "mov si, 0x8f00",
    "2: mov ecx, dword ptr [si]",
    "test ecx, ecx",
    "jz 3f",
    "rdmsr",
    "mov dword ptr [di], eax",
    "mov dword ptr [di + 4], edx",
    "add si, 4",
    "add di, 8",
    "jmp 2b",
    "3: lock inc dword ptr [bx + 4]",
    "4: cli",
    "hlt",
    "jmp 4b",
    ".global other_end",
    "other_end:",
    ".code64",
    ".popsection",
);

unsafe extern "C" {
    static other_start: u8;
    static other_end: u8;
}

pub fn check(blob: &Blob) {
    let others = blob.processors - 1;
    prepare();
    check!(read::<u32>(STARTED) == 0, "another processor runs before it was started");
    if others > 0 {
        write(ICR, INIT_ALL_OTHERS);
        check!(wait_for(|| read::<u32>(ICR) & 1 << 12 == 0), "the INIT was not delivered");
        write(ICR, SIPI_ALL_OTHERS);
    }
    wait_for(|| read::<u32>(DONE) == others);
    let done: u32 = read(DONE);
    check!(done == others, "{done} of {others} other processors started");
    let mut seen = 1u64;
    for other in 0..u64::from(others) {
        let found: [u64; REGISTERS.len()] = read(RESULTS + other * 128);
        for (index, &msr) in REGISTERS.iter().enumerate().filter(|&(index, _)| index != VP_INDEX) {
            let (own, found) = (rdmsr(msr), found[index]);
            check!(
                found == own,
                "register {msr:#x} is {found:#x} on another processor, {own:#x} on the first"
            );
        }
        seen |= 1 << found[VP_INDEX];
    }
    check!(seen == (1 << blob.processors) - 1, "the processors have the indices {seen:#b}");
    value!("processors_started", "{others}");
}

fn prepare() {
    let (start, end) = (&raw const other_start as u64, &raw const other_end as u64);
    for offset in 0..end - start {
        write(CODE + offset, read::<u8>(start + offset));
    }
    for (index, msr) in (0..).zip(REGISTERS.into_iter().chain([0])) {
        write(LIST + index * 4, msr);
    }
    write(STARTED, [0u32; 2]);
}
