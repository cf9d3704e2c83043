//! The machine's map: guest-physical memory, I/O ports and interrupt lines.
//!
//! Everything that has an address in the guest has it here, and nowhere else. The numbers of the platform
//! (low gap, PM block, SCI, IRQs) are those of a Hyper-V generation 2 machine, so that a kernel that is booted
//! directly finds the same machine as one that comes through UEFI firmware.
//!
//! ```text
//! 0x0000_0000  RAM: boot structures, then free up to LOW_RAM_END
//! 0x000a_0000  backed by RAM, not declared to the guest
//! 0x000e_0000  ACPI tables, reserved
//! 0x0010_0000  RAM: kernel; initrd at the upper end
//! 0xf800_0000  low MMIO window, published by \_SB.VMOD (up to the chipset, or by firmware up to 4 GiB)
//! 0xfec0_0000  IOAPIC, TPM, LAPIC, KVM's own pages
//! 4 GiB        RAM, the rest
//! above RAM    high MMIO window, published by \_SB.VMOD
//! ```

use std::ops::Range;

use devices::tpm::protocol;

/// First address past the RAM below 4 GiB, whatever the size of the machine.
pub const LOW_GAP: u64 = 0xf800_0000;
/// First address of the RAM that the gap pushed up.
pub const HIGH_RAM: u64 = 1 << 32;

/// MMIO below 4 GiB that the guest may give to devices of the bus; ends where the chipset begins.
pub const LOW_MMIO: Range<u64> = LOW_GAP..IOAPIC;
/// Bytes of the MMIO window above RAM.
pub const HIGH_MMIO_SIZE: u64 = 512 << 20;
/// The window above RAM starts on a multiple of this, so that large pages can map it.
const HIGH_MMIO_ALIGN: u64 = 1 << 30;

/// Address of the IOAPIC.
pub const IOAPIC: u64 = 0xfec0_0000;
/// The TPM's registers, where the firmware insists on them.
pub const TPM: Range<u64> = protocol::TPM_ADDRESS..protocol::TPM_ADDRESS + protocol::TPM_SIZE;
/// What the TPM's ACPI table leads to.
pub const TPM_CONTROL_AREA: u64 = TPM.start + protocol::CONTROL_AREA;
/// RAM of a directly booted machine that its TPM's buffers take, at the end of what is below the gap. Firmware finds
/// room for them itself.
pub const TPM_BUFFERS: u64 = 2 * protocol::BUFFER_SIZE as u64;
/// Address of every processor's local APIC.
pub const LAPIC: u64 = 0xfee0_0000;
/// One page that KVM needs on Intel processors without unrestricted guest mode (`KVM_SET_IDENTITY_MAP_ADDR`).
pub const KVM_IDENTITY_MAP: u64 = 0xfeff_c000;
/// Three pages that KVM needs on such processors (`KVM_SET_TSS_ADDR`).
pub const KVM_TSS: u64 = KVM_IDENTITY_MAP + 0x1000;

/// Boot structures in low memory; free for the guest once its kernel has read them.
pub mod boot {
    use super::Range;

    /// Global descriptor table of VP 0 at entry.
    pub const GDT: u64 = 0x500;
    /// PVH start info, its module list and memory map: one page.
    pub const PVH_START_INFO: u64 = 0x6000;
    /// Linux's `boot_params`, the "zero page".
    pub const ZERO_PAGE: u64 = 0x7000;
    /// Top-level page table; five more pages follow and identity-map the first 4 GiB.
    pub const PAGE_TABLES: u64 = 0x9000;
    /// Command line, NUL-terminated.
    pub const CMDLINE: Range<u64> = 0x2_0000..0x3_0000;
    /// End of the conventional memory that the memory map reports.
    pub const LOW_RAM_END: u64 = 0x9_fc00;
    /// Reserved for what ACPI needs. An OS also searches this area for the RSDP.
    pub const ACPI: Range<u64> = 0xe_0000..0x10_0000;
    /// ACPI tables, the RSDP first.
    pub const ACPI_TABLES: Range<u64> = ACPI.start..GENERATION_ID as u64;
    /// The generation id: 16 bytes, alone on their page.
    pub const GENERATION_ID: u32 = 0xf_f000;
    /// Where RAM without history starts; kernels load here or above.
    pub const HIGH_MEMORY: u64 = 0x10_0000;
}

/// Low memory of a machine that starts with UEFI firmware, which insists on these places.
pub mod firmware {
    use super::Range;

    /// The image, executed where it lies.
    pub const IMAGE: Range<u64> = 0x10_0000..0x70_0000;
    /// The volume in the image that has the first code.
    pub const SEC_VOLUME: u64 = IMAGE.start + 0x5e_0000;
    /// Top-level page table; five more pages follow and identity-map the first 4 GiB.
    pub const PAGE_TABLES: u64 = IMAGE.end;
    /// Global descriptor table at entry, one page.
    pub const GDT: u64 = PAGE_TABLES + 6 * 0x1000;
    /// Two pages that the firmware finds zero and uses.
    pub const FREE_PAGES: Range<u64> = GDT + 0x1000..CONFIG;
    /// What the firmware is told of the machine, to the end of that.
    pub const CONFIG: u64 = GDT + 3 * 0x1000;
}

/// I/O ports: first port of each device.
pub mod port {
    use devices::tpm::protocol;

    /// Keyboard controller's command port; only the reset pulse lives there.
    pub const I8042_COMMAND: u16 = 0x64;
    /// CMOS clock: index and data.
    pub const CMOS: u16 = 0x70;
    /// First serial port.
    pub const COM1: u16 = 0x3f8;
    /// Second serial port.
    pub const COM2: u16 = 0x2f8;
    /// ACPI power management block.
    pub const PM: u16 = 0x400;
    /// The TPM's buffers, and its Physical Presence Interface.
    pub const TPM: u16 = protocol::TPM_PORT;
}

/// Interrupt lines (global system interrupts; the ISA ones are identity mapped).
pub mod gsi {
    /// Second serial port, edge.
    pub const COM2: u32 = 3;
    /// First serial port, edge.
    pub const COM1: u32 = 4;
    /// What ACPI declares for VMBus; modern guests never use it.
    pub const VMBUS: u32 = 5;
    /// CMOS clock, edge.
    pub const RTC: u32 = 8;
    /// ACPI's system control interrupt, level, active high.
    pub const SCI: u32 = 9;
}

/// Splits a machine's memory around the low gap: bytes below it, bytes above.
#[must_use]
pub fn split(memory: u64) -> (u64, u64) {
    let low = memory.min(LOW_GAP);
    (low, memory - low)
}

/// Where the TPM's buffers are in a directly booted machine.
#[must_use]
pub fn tpm_buffers(memory: u64) -> u64 {
    let (low, _) = split(memory);
    low.saturating_sub(TPM_BUFFERS)
}

/// The MMIO window above a machine's RAM.
#[must_use]
pub fn high_mmio(memory: u64) -> Range<u64> {
    let (_, high) = split(memory);
    let start = (HIGH_RAM + high).next_multiple_of(HIGH_MMIO_ALIGN);
    start..start + HIGH_MMIO_SIZE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_splits_at_the_gap() {
        assert_eq!(split(1 << 30), (1 << 30, 0));
        assert_eq!(split(LOW_GAP), (LOW_GAP, 0));
        assert_eq!(split(8 << 30), (LOW_GAP, (8 << 30) - LOW_GAP));
    }

    #[test]
    fn high_mmio_is_above_all_ram() {
        assert_eq!(high_mmio(1 << 30).start, 4 << 30);
        assert_eq!(high_mmio(LOW_GAP + 1).start, 5 << 30);
        for gib in [1, 4, 5, 64] {
            let memory = gib << 30;
            let (_, high) = split(memory);
            assert!(high_mmio(memory).start >= HIGH_RAM + high, "{gib} GiB");
        }
    }

    #[test]
    fn firmware_lies_where_its_documentation_says() {
        use firmware::{CONFIG, FREE_PAGES, GDT, PAGE_TABLES, SEC_VOLUME};
        assert_eq!([SEC_VOLUME, PAGE_TABLES, GDT, CONFIG], [0x6e_0000, 0x70_0000, 0x70_6000, 0x70_9000]);
        assert_eq!(FREE_PAGES, 0x70_7000..0x70_9000);
    }

    #[test]
    fn boot_structures_do_not_overlap() {
        use boot::{ACPI, CMDLINE, GDT, HIGH_MEMORY, LOW_RAM_END, PAGE_TABLES, PVH_START_INFO, ZERO_PAGE};
        let ranges = [
            GDT..GDT + 0x100,
            PVH_START_INFO..PVH_START_INFO + 0x1000,
            ZERO_PAGE..ZERO_PAGE + 0x1000,
            PAGE_TABLES..PAGE_TABLES + 6 * 0x1000,
            CMDLINE,
            LOW_RAM_END..0xa_0000,
            ACPI,
            HIGH_MEMORY..LOW_GAP,
            LOW_MMIO,
            IOAPIC..IOAPIC + 0x1000,
            LAPIC..LAPIC + 0x1000,
            KVM_IDENTITY_MAP..KVM_IDENTITY_MAP + 0x1000,
            KVM_TSS..KVM_TSS + 0x3000,
        ];
        for pair in ranges.windows(2) {
            assert!(pair[0].start < pair[0].end && pair[0].end <= pair[1].start, "{pair:x?}");
        }
    }
}
