//! The first processor's registers and what they point to: segments, descriptors, page tables, memory types, CPUID.

use core::arch::asm;

use crate::console::{check, value};
use crate::machine::{cpuid, rdmsr, read};
use crate::start::Registers;

const PAGE_TABLES: u64 = 0x70_0000;
const GDT: u64 = 0x70_6000;
const FREE_PAGES: u64 = 0x70_7000;

const EFER: u32 = 0xc000_0080;
pub const PAT: u32 = 0x277;
pub const MTRR_DEF_TYPE: u32 = 0x2ff;
pub const MTRR_FIX_64K: u32 = 0x250;
pub const MTRR_FIX_16K: u32 = 0x258;
pub const SCONTROL: u32 = 0x4000_0080;

pub fn check(registers: &Registers) {
    check!(registers.rflags == 2, "RFLAGS is {:#x}", registers.rflags);
    check!(registers.rbp == 0x6e_0000, "RBP is {:#x}, not the SEC volume", registers.rbp);
    check!(
        registers.r8_to_r12 == [0; 5],
        "R8 to R12 say that the machine is isolated: {:x?}",
        registers.r8_to_r12
    );
    check!(
        registers.selectors == [8, 0x10, 0x10, 0x10, 0x10, 0x10],
        "selectors are {:x?}",
        registers.selectors
    );
    check_control_registers();
    check_descriptors();
    check_page_tables();
    for page in [FREE_PAGES, FREE_PAGES + 0x1000] {
        check!((0..512).all(|word| read::<u64>(page + word * 8) == 0), "the free page {page:#x} is not zero");
    }
    check_memory_types();
    check!(rdmsr(SCONTROL) == 1, "SCONTROL is {:#x}: the SynIC is not enabled at reset", rdmsr(SCONTROL));
    check_cpuid();
}

fn check_control_registers() {
    let (cr0, cr3, cr4): (u64, u64, u64);
    // SAFETY: they are only read.
    unsafe { asm!("mov {}, cr0", "mov {}, cr3", "mov {}, cr4", out(reg) cr0, out(reg) cr3, out(reg) cr4) };
    check!(cr0 == 0x8000_0033, "CR0 is {cr0:#x}");
    check!(cr3 == PAGE_TABLES, "CR3 is {cr3:#x}");
    check!(cr4 == 0x660, "CR4 is {cr4:#x}");
    let efer = rdmsr(EFER);
    check!(efer == 0xd00, "EFER is {efer:#x}");
    check!(rdmsr(PAT) == 0x0007_0406_0007_0406, "the PAT is {:#x}", rdmsr(PAT));
}

fn check_descriptors() {
    let mut gdtr = [0u8; 10];
    let mut idtr = [0u8; 10];
    // SAFETY: ten bytes are written to each.
    unsafe { asm!("sgdt [{}]", "sidt [{}]", in(reg) &mut gdtr, in(reg) &mut idtr) };
    let limit = u16::from_le_bytes([gdtr[0], gdtr[1]]);
    let base = u64::from_le_bytes(core::array::from_fn(|i| gdtr[i + 2]));
    check!(base == GDT && limit >= 23, "the GDT is at {base:#x}, limit {limit}");
    check!(idtr[..2] == [0, 0], "the IDT has entries");
    let descriptors: [u64; 3] = read(GDT);
    let wanted = [0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff];
    check!(descriptors == wanted, "the descriptors are {descriptors:x?}");
}

/// Identity, by large pages, for 4 GiB and not a byte more.
fn check_page_tables() {
    let table = |table: u64, index: u64| read::<u64>(table + index * 8) & !0x60;
    check!(table(PAGE_TABLES, 0) & 0xf_ffff_ffff_f003 == PAGE_TABLES + 0x1003, "the PML4 leads elsewhere");
    check!((1..512).all(|index| table(PAGE_TABLES, index) == 0), "the PML4 maps more than it should");
    let pointers = PAGE_TABLES + 0x1000;
    for gib in 0..512 {
        let entry = table(pointers, gib);
        let directory = PAGE_TABLES + 0x2000 + gib * 0x1000;
        let wanted = if gib < 4 { directory | 3 } else { 0 };
        check!(entry == wanted, "page directory {gib} is {entry:#x}");
        let page = |index: u64| gib << 30 | index << 21 | 0x83;
        let right = gib >= 4 || (0..512).all(|index| table(directory, index) == page(index));
        check!(right, "GiB {gib} is not mapped to itself");
    }
}

fn check_memory_types() {
    check!(rdmsr(MTRR_DEF_TYPE) == 0xc00, "MTRRdefType is {:#x}", rdmsr(MTRR_DEF_TYPE));
    for msr in [MTRR_FIX_64K, MTRR_FIX_16K] {
        check!(rdmsr(msr) == 0x0606_0606_0606_0606, "the fixed MTRR {msr:#x} is {:#x}", rdmsr(msr));
    }
}

/// The type that the variable ranges give an address above 1 MiB; uncacheable wins and is the default.
pub fn memory_type(address: u64) -> u64 {
    let count = rdmsr(0xfe) & 0xff;
    let mut found = None;
    for index in 0..u32::try_from(count).unwrap_or(0) {
        let [base, mask] = [rdmsr(0x200 + 2 * index), rdmsr(0x201 + 2 * index)];
        let mask = if mask & 0x800 == 0 { continue } else { mask & !0xfff };
        if address & mask == base & mask & !0xfff {
            found = Some(found.unwrap_or(0xff).min(base & 0xff));
        }
    }
    found.unwrap_or(0)
}

fn check_cpuid() {
    check!(cpuid(1).ecx & 1 << 31 != 0, "CPUID shows no hypervisor");
    check!(cpuid(0x4000_0001).eax == u32::from_le_bytes(*b"Hv#1"), "the hypervisor is not Hv#1");
    let features = cpuid(0x4000_0003);
    let wanted = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 5 | 1 << 6;
    check!(features.eax & wanted == wanted, "Hyper-V's features are {:#x}", features.eax);
    check!(features.edx & 1 << 19 != 0, "synthetic timers have no direct mode");
    check!(cpuid(0x4000_0004).eax & 1 << 9 != 0, "the hypervisor wants SINTs with automatic EOI");
    check!(cpuid(0x8000_0001).edx & 1 << 20 != 0, "CPUID shows no NX");
    let bits = cpuid(0x8000_0008).eax & 0xff;
    check!((36..=52).contains(&bits), "physical addresses have {bits} bits");
    let random = cpuid(1).ecx & 1 << 30 != 0;
    value!("rdrand", "{random}");
}
