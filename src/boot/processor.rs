//! Registers that every virtual processor starts with, and that reset alone does not give it: memory types above
//! all.
//!
//! A kernel that is booted directly finds everything write-back. Firmware is told that the host has set the memory
//! type range registers (Intel SDM volume 3, 12.11), so they must say where RAM is and where devices are.

use std::ops::Range;

use devices::hvdef::msr;

use crate::layout;

/// IA32_MTRR_PHYSBASE0; base and mask of each range follow each other.
const MTRR_PHYS_BASE_0: u32 = 0x200;
/// IA32_MTRR_FIX64K_00000: 0 to 512 KiB.
const MTRR_FIX_64K_00000: u32 = 0x250;
/// IA32_MTRR_FIX16K_80000: 512 to 640 KiB.
const MTRR_FIX_16K_80000: u32 = 0x258;
/// IA32_PAT.
const PAT: u32 = 0x277;
/// IA32_MTRR_DEF_TYPE.
const MTRR_DEF_TYPE: u32 = 0x2ff;
const MTRR_ENABLE: u64 = 1 << 11;
const MTRR_FIXED_ENABLE: u64 = 1 << 10;
/// Makes an IA32_MTRR_PHYSMASK count.
const MTRR_VALID: u64 = 1 << 11;
/// IA32_MISC_ENABLE: fast string operations.
const MISC_ENABLE: u32 = 0x1a0;
const MISC_ENABLE_FAST_STRINGS: u64 = 1;

const UNCACHEABLE: u64 = 0;
const WRITE_BACK: u64 = 6;
/// Eight parts of a fixed range, all write-back.
const ALL_WRITE_BACK: u64 = 0x0606_0606_0606_0606;
/// What processors have after reset.
const PAT_AFTER_RESET: u64 = 0x0007_0406_0007_0406;

/// A register and its value.
pub type Msr = (u32, u64);

/// For a kernel without firmware: memory is write-back unless a page table says otherwise.
#[must_use]
pub fn for_kernel() -> Vec<Msr> {
    vec![(MTRR_DEF_TYPE, MTRR_ENABLE | WRITE_BACK), (MISC_ENABLE, MISC_ENABLE_FAST_STRINGS)]
}

/// For firmware, on a processor with so many bits of physical addresses.
///
/// The SynIC is enabled: the firmware never writes SCONTROL, and uses the SynIC.
#[must_use]
pub fn for_firmware(memory: u64, address_bits: u8) -> Vec<Msr> {
    let mut msrs = vec![
        (PAT, PAT_AFTER_RESET),
        (MISC_ENABLE, MISC_ENABLE_FAST_STRINGS),
        (MTRR_FIX_64K_00000, ALL_WRITE_BACK),
        (MTRR_FIX_16K_80000, ALL_WRITE_BACK),
    ];
    let addresses = 1u64.checked_shl(address_bits.into()).unwrap_or(0).wrapping_sub(1);
    for (index, (range, kind)) in (0..).zip(memory_types(memory)) {
        let size = range.end - range.start;
        let base = MTRR_PHYS_BASE_0 + 2 * index;
        msrs.push((base, range.start | kind));
        msrs.push((base + 1, (addresses & !(size - 1)) | MTRR_VALID));
    }
    msrs.push((MTRR_DEF_TYPE, MTRR_ENABLE | MTRR_FIXED_ENABLE | UNCACHEABLE));
    msrs.push((msr::SCONTROL, 1));
    msrs
}

/// The ranges of RAM, in as few power-of-two sizes as there can be: all is write-back up to the first power of two
/// past the RAM, less the MMIO windows in that. Where ranges overlap, uncacheable wins.
fn memory_types(memory: u64) -> Vec<(Range<u64>, u64)> {
    let (low, high) = layout::split(memory);
    let end = if high == 0 { low } else { layout::HIGH_RAM + high };
    let all = 0..end.next_power_of_two();
    let windows = [layout::LOW_GAP..layout::HIGH_RAM, layout::high_mmio(memory)];
    let holes = windows.into_iter().filter(|window| window.start < all.end);
    let holes: Vec<_> = holes.map(|window| (window, UNCACHEABLE)).collect();
    [vec![(all, WRITE_BACK)], holes].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const BITS: u8 = 40;

    fn firmware(memory: u64) -> BTreeMap<u32, u64> {
        let msrs = for_firmware(memory, BITS);
        let map: BTreeMap<_, _> = msrs.iter().copied().collect();
        assert_eq!(map.len(), msrs.len(), "no register is set twice");
        map
    }

    /// The type of an address at or above 1 MiB, as a processor finds it.
    fn kind(msrs: &BTreeMap<u32, u64>, address: u64) -> u64 {
        let hits = (0..8u32).filter_map(|index| {
            let base = msrs.get(&(MTRR_PHYS_BASE_0 + 2 * index))?;
            let mask = msrs[&(MTRR_PHYS_BASE_0 + 2 * index + 1)];
            assert_eq!((mask & MTRR_VALID, mask & 0x7ff, mask >> BITS), (MTRR_VALID, 0, 0));
            let mask = mask & !0xfff;
            assert_eq!(base & !0xfff & !mask, 0, "a base is a multiple of its size");
            (address & mask == base & mask & !0xfff).then_some(base & 0xff)
        });
        // Uncacheable wins, and is also the default.
        hits.min().unwrap_or_else(|| msrs[&MTRR_DEF_TYPE] & 0xff)
    }

    #[test]
    fn ram_is_write_back_and_devices_are_not_whatever_the_size() {
        for memory in [64 << 20, 512 << 20, 1 << 30, 3000 << 20, layout::LOW_GAP, 5 << 30, 6 << 30, 100 << 30]
        {
            let msrs = firmware(memory);
            let (low, high) = layout::split(memory);
            let window = layout::high_mmio(memory);
            for address in [1 << 20, low / 2, low - 1] {
                assert_eq!(kind(&msrs, address), WRITE_BACK, "{address:#x} of {memory:#x}");
            }
            for address in [layout::HIGH_RAM, layout::HIGH_RAM + high / 2, layout::HIGH_RAM + high - 1] {
                assert!(high == 0 || kind(&msrs, address) == WRITE_BACK, "{address:#x} of {memory:#x}");
            }
            let mmio = [layout::LOW_GAP, layout::IOAPIC, layout::LAPIC, (1 << 32) - 1];
            for address in mmio.into_iter().chain([window.start, window.end - 1]) {
                assert_eq!(kind(&msrs, address), UNCACHEABLE, "{address:#x} of {memory:#x}");
            }
        }
    }

    #[test]
    fn registers_are_those_of_the_documentation() {
        let msrs = firmware(512 << 20);
        assert_eq!(msrs[&0x2ff], 0xc00);
        assert_eq!((msrs[&0x250], msrs[&0x258]), (0x0606_0606_0606_0606, 0x0606_0606_0606_0606));
        assert_eq!((msrs[&0x200], msrs[&0x201]), (6, 0xff_e000_0800));
        assert_eq!(msrs[&0x277], 0x0007_0406_0007_0406);
        assert_eq!(msrs[&msr::SCONTROL], 1);
        assert_eq!(for_kernel(), [(0x2ff, 0x806), (0x1a0, 1)]);
    }
}
