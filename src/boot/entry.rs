//! The registers that VP 0 starts with, and the descriptor and page tables that they point to.
//!
//! Linux's 64-bit boot protocol wants long mode with the first 4 GiB identity-mapped, flat segments at
//! selectors 0x10 and 0x18, and the zero page in RSI. PVH wants 32-bit protected mode without paging and its
//! start info in EBX. UEFI firmware wants long mode too, with tables and selectors of its own and SSE enabled.
//! hv applies an [`Entry`] to VP 0, the others wait for a SIPI.

use devices::mem::GuestRam;
use kvm_bindings::{kvm_regs, kvm_segment, kvm_sregs};
use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

use crate::layout::{boot, firmware};

/// Selectors of code, data and task state, for Linux.
const CODE: u16 = 0x10;
const DATA: u16 = 0x18;
const TASK: u16 = 0x20;
/// Selectors of code and data, for firmware.
const FIRMWARE_CODE: u16 = 0x08;
const FIRMWARE_DATA: u16 = 0x10;

const CR0_PE: u64 = 1 << 0;
const CR0_MP: u64 = 1 << 1;
const CR0_ET: u64 = 1 << 4;
const CR0_NE: u64 = 1 << 5;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const CR4_MCE: u64 = 1 << 6;
const CR4_OSFXSR: u64 = 1 << 9;
const CR4_OSXMMEXCPT: u64 = 1 << 10;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
const EFER_NXE: u64 = 1 << 11;
/// Bit 1 of RFLAGS is always set; interrupts are off.
const RFLAGS: u64 = 1 << 1;

const PTE_PRESENT_WRITABLE: u64 = 0b11;
const PDE_LARGE: u64 = 1 << 7;
const ENTRIES: u64 = 512;
const TABLE: u64 = 0x1000;
const GIB_MAPPED: u64 = 4;

/// How VP 0 starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Long mode, by Linux's 64-bit boot protocol.
    Linux64 {
        /// First instruction.
        rip: u64,
        /// Address of `boot_params`.
        zero_page: u64,
    },
    /// Protected mode without paging, by the PVH protocol.
    Pvh {
        /// First instruction.
        eip: u32,
        /// Address of `hvm_start_info`.
        start_info: u32,
    },
    /// Long mode, as UEFI firmware expects it.
    Firmware {
        /// First instruction.
        rip: u64,
    },
}

impl Entry {
    /// Sets registers as they come from KVM after reset; what the protocol leaves open stays as it is.
    pub fn apply(&self, sregs: &mut kvm_sregs, regs: &mut kvm_regs) {
        let long = !matches!(self, Entry::Pvh { .. });
        let (gdt, code, data) = match self {
            Entry::Linux64 { .. } | Entry::Pvh { .. } => (boot::GDT, CODE, DATA),
            Entry::Firmware { .. } => (firmware::GDT, FIRMWARE_CODE, FIRMWARE_DATA),
        };
        let data = data_segment(data);
        sregs.cs = code_segment(code, long);
        (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
        sregs.gdt.base = gdt;
        sregs.gdt.limit = self.gdt_limit();
        sregs.idt.base = 0;
        sregs.idt.limit = 0;
        *regs = kvm_regs { rflags: RFLAGS, ..kvm_regs::default() };
        match *self {
            Entry::Linux64 { rip, zero_page } => {
                sregs.tr = task_segment();
                sregs.cr0 = CR0_PE | CR0_ET | CR0_PG;
                sregs.cr3 = boot::PAGE_TABLES;
                sregs.cr4 = CR4_PAE;
                sregs.efer = EFER_LME | EFER_LMA;
                regs.rip = rip;
                regs.rsi = zero_page;
            }
            Entry::Pvh { eip, start_info } => {
                sregs.tr = task_segment();
                sregs.cr0 = CR0_PE | CR0_ET;
                sregs.cr4 = 0;
                sregs.efer = 0;
                regs.rip = eip.into();
                regs.rbx = start_info.into();
            }
            // R8 to R11 are 0, which says that the machine is not isolated.
            Entry::Firmware { rip } => {
                sregs.cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_PG;
                sregs.cr3 = firmware::PAGE_TABLES;
                sregs.cr4 = CR4_PAE | CR4_MCE | CR4_OSFXSR | CR4_OSXMMEXCPT;
                sregs.efer = EFER_LME | EFER_LMA | EFER_NXE;
                regs.rip = rip;
                regs.rbp = firmware::SEC_VOLUME;
            }
        }
    }

    /// Writes the tables that [`Entry::apply`] points to.
    pub(super) fn write_tables(&self, ram: &GuestRam) -> Result<(), GuestMemoryError> {
        let gdt = match self {
            Entry::Linux64 { .. } | Entry::Pvh { .. } => boot::GDT,
            Entry::Firmware { .. } => firmware::GDT,
        };
        let descriptors: Vec<u8> = self.descriptors().into_iter().flat_map(u64::to_le_bytes).collect();
        ram.write_slice(&descriptors, GuestAddress(gdt))?;
        match self {
            Entry::Linux64 { .. } => write_page_tables(ram, boot::PAGE_TABLES),
            Entry::Pvh { .. } => Ok(()),
            Entry::Firmware { .. } => write_page_tables(ram, firmware::PAGE_TABLES),
        }
    }

    /// The GDT, with each descriptor at its selector. A task state segment takes two slots in long mode.
    fn descriptors(&self) -> Vec<u64> {
        let linux = |long| {
            let [code, data, task] = [code_segment(CODE, long), data_segment(DATA), task_segment()];
            vec![0, 0, descriptor(&code), descriptor(&data), descriptor(&task), 0]
        };
        match self {
            Entry::Linux64 { .. } => linux(true),
            Entry::Pvh { .. } => linux(false),
            Entry::Firmware { .. } => {
                let [code, data] = [code_segment(FIRMWARE_CODE, true), data_segment(FIRMWARE_DATA)];
                vec![0, descriptor(&code), descriptor(&data)]
            }
        }
    }

    /// The GDT's last byte.
    fn gdt_limit(&self) -> u16 {
        match self {
            Entry::Linux64 { .. } | Entry::Pvh { .. } => 6 * 8 - 1,
            Entry::Firmware { .. } => 3 * 8 - 1,
        }
    }
}

fn code_segment(selector: u16, long: bool) -> kvm_segment {
    kvm_segment {
        limit: u32::MAX,
        selector,
        type_: 0xb, // code, readable, accessed
        present: 1,
        db: u8::from(!long),
        s: 1,
        l: u8::from(long),
        g: 1,
        ..kvm_segment::default()
    }
}

fn data_segment(selector: u16) -> kvm_segment {
    kvm_segment {
        limit: u32::MAX,
        selector,
        type_: 0x3, // data, writable, accessed
        present: 1,
        db: 1,
        s: 1,
        g: 1,
        ..kvm_segment::default()
    }
}

/// Nobody switches tasks, but VM entry demands a busy TSS.
fn task_segment() -> kvm_segment {
    kvm_segment { limit: 0x67, selector: TASK, type_: 0xb, present: 1, ..kvm_segment::default() }
}

/// Packs a segment with base 0 into its descriptor (Intel SDM volume 3, 3.4.5).
fn descriptor(segment: &kvm_segment) -> u64 {
    let limit = u64::from(if segment.g == 1 { segment.limit >> 12 } else { segment.limit });
    (limit & 0xffff)
        | u64::from(segment.type_) << 40
        | u64::from(segment.s) << 44
        | u64::from(segment.present) << 47
        | (limit >> 16) << 48
        | u64::from(segment.l) << 53
        | u64::from(segment.db) << 54
        | u64::from(segment.g) << 55
}

/// PML4, PDPT and one page directory per GiB: the first 4 GiB, mapped to themselves by 2 MiB pages.
fn write_page_tables(ram: &GuestRam, base: u64) -> Result<(), GuestMemoryError> {
    let [pml4, pdpt, directories] = [0, 1, 2].map(|i| base + i * TABLE);
    ram.write_obj(pdpt | PTE_PRESENT_WRITABLE, GuestAddress(pml4))?;
    for gib in 0..GIB_MAPPED {
        let directory = directories + gib * TABLE;
        ram.write_obj(directory | PTE_PRESENT_WRITABLE, GuestAddress(pdpt + gib * 8))?;
    }
    for page in 0..GIB_MAPPED * ENTRIES {
        let entry = (page << 21) | PTE_PRESENT_WRITABLE | PDE_LARGE;
        ram.write_obj(entry, GuestAddress(directories + page * 8))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINUX: Entry = Entry::Linux64 { rip: 0, zero_page: 0 };
    const FIRMWARE: Entry = Entry::Firmware { rip: 0x6e_1234 };

    fn ram() -> GuestRam {
        GuestRam::from_ranges(&[(GuestAddress(0), 8 << 20)]).unwrap()
    }

    /// Walks the tables as the processor would.
    fn translate(ram: &GuestRam, mut table: u64, address: u64) -> Option<u64> {
        for shift in [39, 30, 21] {
            let entry: u64 = ram.read_obj(GuestAddress(table + (address >> shift & 0x1ff) * 8)).unwrap();
            if entry & PTE_PRESENT_WRITABLE != PTE_PRESENT_WRITABLE {
                return None;
            }
            table = entry & !0xfff;
            if entry & PDE_LARGE != 0 {
                return Some(table + (address & 0x1f_ffff));
            }
        }
        None
    }

    #[test]
    fn four_gibibytes_are_mapped_to_themselves() {
        let ram = ram();
        for (entry, tables) in [(LINUX, boot::PAGE_TABLES), (FIRMWARE, firmware::PAGE_TABLES)] {
            entry.write_tables(&ram).unwrap();
            for address in [0, 0x20_0000, 0x1234_5678, 0x4000_0000, 0xffff_ffff] {
                assert_eq!(translate(&ram, tables, address), Some(address), "{address:#x}");
            }
            assert_eq!(translate(&ram, tables, 1 << 32), None);
            assert_eq!(translate(&ram, tables, 1 << 39), None);
        }
    }

    #[test]
    fn descriptors_are_the_flat_ones() {
        let pvh = Entry::Pvh { eip: 0, start_info: 0 };
        assert_eq!(LINUX.descriptors()[2..4], [0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff]);
        assert_eq!(
            pvh.descriptors()[2..5],
            [0x00cf_9b00_0000_ffff, 0x00cf_9300_0000_ffff, 0x0000_8b00_0000_0067]
        );
        assert_eq!(FIRMWARE.descriptors(), [0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff]);
        for entry in [LINUX, pvh, FIRMWARE] {
            assert_eq!(usize::from(entry.gdt_limit()), entry.descriptors().len() * 8 - 1);
        }
    }

    #[test]
    fn firmware_finds_the_registers_that_its_documentation_names() {
        let (mut sregs, mut regs) = (kvm_sregs::default(), kvm_regs::default());
        FIRMWARE.apply(&mut sregs, &mut regs);
        assert_eq!((regs.rip, regs.rbp, regs.rflags), (0x6e_1234, 0x6e_0000, 2));
        assert_eq!([regs.r8, regs.r9, regs.r10, regs.r11, regs.r12], [0; 5]);
        assert_eq!((sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer), (0x8000_0033, 0x70_0000, 0x660, 0xd00));
        assert_eq!((sregs.cs.selector, sregs.cs.l), (0x08, 1));
        for segment in [sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss] {
            assert_eq!((segment.selector, segment.base, segment.limit), (0x10, 0, u32::MAX));
        }
        assert_eq!((sregs.gdt.base, sregs.gdt.limit, sregs.idt.limit), (0x70_6000, 23, 0));
    }

    #[test]
    fn registers_follow_the_protocol() {
        let (mut sregs, mut regs) =
            (kvm_sregs { apic_base: 0xfee0_0900, ..Default::default() }, kvm_regs::default());
        Entry::Linux64 { rip: 0x10_0200, zero_page: 0x7000 }.apply(&mut sregs, &mut regs);
        assert_eq!((regs.rip, regs.rsi, regs.rflags), (0x10_0200, 0x7000, 2));
        assert_eq!((sregs.cs.selector, sregs.cs.l, sregs.cs.db, sregs.ss.selector), (0x10, 1, 0, 0x18));
        assert_eq!((sregs.cr0, sregs.cr4, sregs.efer), (0x8000_0011, 0x20, 0x500));
        assert_eq!(sregs.apic_base, 0xfee0_0900);

        Entry::Pvh { eip: 0x100_0000, start_info: 0x6000 }.apply(&mut sregs, &mut regs);
        assert_eq!((regs.rip, regs.rbx, regs.rsi), (0x100_0000, 0x6000, 0));
        assert_eq!((sregs.cs.l, sregs.cs.db, sregs.cr0, sregs.efer), (0, 1, 0x11, 0));
    }
}
