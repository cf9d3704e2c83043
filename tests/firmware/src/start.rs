//! The first instructions: keep the registers, find a stack, go on in Rust. And what compiled code needs of a runtime.

use core::arch::{asm, global_asm};

/// Registers as the first instruction found them.
#[derive(Debug)]
#[repr(C)]
pub struct Registers {
    pub rflags: u64,
    pub rbp: u64,
    /// R8 to R12.
    pub r8_to_r12: [u64; 5],
    /// CS, DS, ES, FS, GS, SS.
    pub selectors: [u64; 6],
}

// The stack begins where that of the real firmware does. Nothing before pushfq changes flags.
global_asm!(
    ".section .text.start, \"ax\"",
    ".global start",
    "start:",
    "mov rsp, 0x80000",
    "mov rax, ss",
    "push rax",
    "mov rax, gs",
    "push rax",
    "mov rax, fs",
    "push rax",
    "mov rax, es",
    "push rax",
    "mov rax, ds",
    "push rax",
    "mov rax, cs",
    "push rax",
    "push r12",
    "push r11",
    "push r10",
    "push r9",
    "push r8",
    "push rbp",
    "pushfq",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {run}",
    "ud2",
    ".text",
    run = sym crate::run,
);

// SAFETY of all four: they are what C says of them; `rep` keeps the compiler from calling them for themselves.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    unsafe { asm!("rep movsb", inout("rcx") len => _, inout("rdi") to => _, inout("rsi") from => _) };
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    if (to as usize).wrapping_sub(from as usize) >= len {
        return unsafe { memcpy(to, from, len) };
    }
    let last = len.wrapping_sub(1);
    unsafe {
        asm!("std", "rep movsb", "cld", inout("rcx") len => _,
            inout("rdi") to.wrapping_add(last) => _, inout("rsi") from.wrapping_add(last) => _);
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8 {
    unsafe { asm!("rep stosb", inout("rcx") len => _, inout("rdi") to => _, in("al") byte.to_le_bytes()[0]) };
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(one: *const u8, two: *const u8, len: usize) -> i32 {
    for at in 0..len {
        let [one, two] = unsafe { [one.add(at).read_volatile(), two.add(at).read_volatile()] };
        if one != two {
            return i32::from(one) - i32::from(two);
        }
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(one: *const u8, two: *const u8, len: usize) -> i32 {
    unsafe { memcmp(one, two, len) }
}
