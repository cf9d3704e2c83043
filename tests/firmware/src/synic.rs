//! Hypercall page, SynIC pages and a timer, as the real firmware uses them: SCONTROL is never written.

use crate::console::check;
use crate::machine::{rdmsr, read, wait_for, write, wrmsr};

const GUEST_OS_ID: u32 = 0x4000_0000;
const HYPERCALL: u32 = 0x4000_0001;
const SIEFP: u32 = 0x4000_0082;
const SIMP: u32 = 0x4000_0083;
const EOM: u32 = 0x4000_0084;
const SINT0: u32 = 0x4000_0090;
const STIMER0_CONFIG: u32 = 0x4000_00b0;
const STIMER0_COUNT: u32 = 0x4000_00b1;

/// Pages that nothing else uses.
const HYPERCALL_PAGE: u64 = 0x90_0000;
const EVENT_PAGE: u64 = 0x90_1000;
const MESSAGE_PAGE: u64 = 0x90_2000;
/// Input of hypercalls.
pub const INPUT: u64 = 0x90_3000;

const ENABLE: u64 = 1;
/// Vector of the timer, directly; of the bus's SINT.
const TIMER_VECTOR: u64 = 0x40;
const BUS_VECTOR: u64 = 0x41;
pub const BUS_SINT: u64 = 2;

const APIC_SPURIOUS: u64 = 0xfee0_00f0;
const APIC_REQUESTS: u64 = 0xfee0_0200;

pub fn check() {
    for page in [EVENT_PAGE, MESSAGE_PAGE] {
        (0..512).for_each(|word| write(page + word * 8, 0u64));
    }
    wrmsr(GUEST_OS_ID, 0x8100_0000_0000_0001);
    wrmsr(HYPERCALL, HYPERCALL_PAGE | ENABLE);
    check!(rdmsr(HYPERCALL) == HYPERCALL_PAGE | ENABLE, "the hypercall page was not taken");
    check!(read::<u64>(HYPERCALL_PAGE) != 0, "there is no code in the hypercall page");
    wrmsr(SIEFP, EVENT_PAGE | ENABLE);
    wrmsr(SIMP, MESSAGE_PAGE | ENABLE);
    wrmsr(SINT0 + BUS_SINT as u32, BUS_VECTOR);
    check!(rdmsr(SINT0 + BUS_SINT as u32) == BUS_VECTOR, "the bus's SINT was not taken");
    check_timer();
}

/// Every 10 ms, directly to a vector. Interrupts are off, so the request stays where it can be seen.
fn check_timer() {
    write(APIC_SPURIOUS, 0x1ffu32);
    wrmsr(STIMER0_COUNT, 100_000);
    // Enabled, periodic, lazy, enabled by the count, direct.
    wrmsr(STIMER0_CONFIG, 0b1111 | TIMER_VECTOR << 4 | 1 << 12);
    let requested = || read::<u32>(APIC_REQUESTS + TIMER_VECTOR / 32 * 16) & 1 << (TIMER_VECTOR % 32) != 0;
    check!(wait_for(requested), "the synthetic timer never fires");
    wrmsr(STIMER0_CONFIG, 0);
    wrmsr(STIMER0_COUNT, 0);
}

/// Calls the hypervisor through its page.
pub fn hypercall(control: u64, input: u64, output: u64) -> u64 {
    let result;
    // SAFETY: the page has the hypervisor's code, which keeps to the x64 calling convention of the TLFS.
    unsafe {
        core::arch::asm!("call {}", in(reg) HYPERCALL_PAGE, in("rcx") control, in("rdx") input, in("r8") output,
            lateout("rax") result, clobber_abi("win64"));
    }
    result
}

/// A message from the host.
pub struct Message {
    pub kind: u32,
    /// Bytes of the payload.
    pub size: u8,
    pub payload: [u32; 60],
}

/// Takes the next message of a SINT.
pub fn message(sint: u64) -> Option<Message> {
    let slot = MESSAGE_PAGE + sint * 256;
    if !wait_for(|| read::<u32>(slot) != 0) {
        return None;
    }
    let found = Message { kind: read(slot), size: read(slot + 4), payload: read(slot + 16) };
    let pending = read::<u8>(slot + 5) & 1 != 0;
    write(slot, 0u32);
    if pending {
        wrmsr(EOM, 0);
    }
    Some(found)
}

/// Whether the host has signalled a channel of the bus since this was last asked.
pub fn signalled(channel: u32) -> bool {
    let flags = EVENT_PAGE + BUS_SINT * 256 + u64::from(channel / 32) * 4;
    let (found, bit) = (read::<u32>(flags), 1 << (channel % 32));
    // Nothing else is signalled meanwhile: no other channel is open.
    write(flags, found & !bit);
    found & bit != 0
}

/// Gives everything back, as at ExitBootServices.
pub fn leave() {
    wrmsr(SINT0 + BUS_SINT as u32, 1 << 16);
    for msr in [SIMP, SIEFP, HYPERCALL, GUEST_OS_ID] {
        wrmsr(msr, 0);
    }
}
