//! What the guest's CPUID shows of the processor: the host's, without its hypervisor, as one socket.

use kvm_bindings::{CpuId, kvm_cpuid_entry2};

use super::{bit, leaf};

/// The processor's leaves for one virtual processor: the host's, as one socket of `vp_count` cores.
#[must_use]
pub fn processor_leaves(host: &CpuId, vp: u32, vp_count: u32, nested: bool) -> Vec<kvm_cpuid_entry2> {
    let mut leaves: Vec<_> = host
        .as_slice()
        .iter()
        .filter(|entry| !(leaf::VENDOR..=leaf::LAST).contains(&entry.function))
        .filter(|entry| !matches!(entry.function, 0x0B | 0x1F | 0x8000_001E))
        .filter(|entry| nested || entry.function != 0x8000_000A)
        .copied()
        .collect();
    for entry in &mut leaves {
        adapt(entry, vp, vp_count, nested);
    }
    leaves.extend(topology(vp, vp_count));
    leaves
}

/// Bits of a physical address, as the host's processor says; 36 if it does not.
#[must_use]
pub fn address_bits(host: &CpuId) -> u8 {
    let entry = host.as_slice().iter().find(|entry| entry.function == 0x8000_0008);
    entry.map_or(36, |entry| entry.eax.to_le_bytes()[0])
}

/// APIC id, core count and what the hypervisor adds, in the leaves that hold them.
fn adapt(entry: &mut kvm_cpuid_entry2, vp: u32, vp_count: u32, nested: bool) {
    const VMX: u32 = bit(5);
    const SVM: u32 = bit(2);
    const TSC_DEADLINE: u32 = bit(24);
    const HYPERVISOR: u32 = bit(31);
    const HTT: u32 = bit(28);
    const ARAT: u32 = bit(2);
    match entry.function {
        0x01 => {
            entry.ebx = (entry.ebx & 0xFFFF) | (vp_count.min(255) << 16) | ((vp & 0xFF) << 24);
            entry.ecx |= HYPERVISOR | TSC_DEADLINE;
            if !nested {
                entry.ecx &= !VMX;
            }
            entry.edx = if vp_count > 1 { entry.edx | HTT } else { entry.edx & !HTT };
        }
        // Intel: cores of the package, in each cache's leaf. No cache is shared.
        0x04 => entry.eax = (entry.eax & 0x3FFF) | ((vp_count.next_power_of_two().min(64) - 1) << 26),
        0x8000_0001 if !nested => entry.ecx &= !SVM,
        // An APIC timer that always runs (ARAT): Linux would take the boot processor's for broadcasts, as there is
        // no other timer for that, and then have none to fall back on when hv_vmbus is unloaded and takes the
        // synthetic ones along; it crashes at the next tick.
        0x06 => entry.eax &= !ARAT,
        // AMD: cores of the package, and bits of the APIC id that number them.
        0x8000_0008 => {
            entry.ecx = (vp_count.min(256) - 1) | (vp_count.next_power_of_two().trailing_zeros() << 12);
        }
        0x8000_001D => entry.eax &= 0x3FFF,
        _ => {}
    }
}

/// Leaf 0x0B (extended topology): one thread in a core, all cores in one package.
fn topology(vp: u32, vp_count: u32) -> [kvm_cpuid_entry2; 3] {
    const SIGNIFICANT_INDEX: u32 = 1;
    let level = |index: u32, shift: u32, count: u32, kind: u32| kvm_cpuid_entry2 {
        function: 0x0B,
        index,
        flags: SIGNIFICANT_INDEX,
        eax: shift,
        ebx: count,
        ecx: index | (kind << 8),
        edx: vp,
        ..Default::default()
    };
    let (thread, core) = (1, 2);
    let shift = vp_count.next_power_of_two().trailing_zeros();
    [level(0, 0, 1, thread), level(1, shift, vp_count, core), level(2, 0, 0, 0)]
}

#[cfg(test)]
mod tests {
    use super::super::entry;
    use super::*;

    #[test]
    fn no_other_hypervisor_and_no_virtualization_show_through() {
        let host = CpuId::from_entries(&[
            entry(0x01, [0, 0, bit(5), 0]),
            entry(0x4000_0000, [0x4000_0001, 1, 2, 3]),
            entry(0x4000_0100, [1; 4]),
            entry(0x8000_0001, [0, 0, bit(2), 0]),
            entry(0x8000_000A, [1; 4]),
        ])
        .unwrap();
        let leaves = processor_leaves(&host, 1, 4, false);
        assert!(leaves.iter().all(|entry| entry.function >> 28 != 4 && entry.function != 0x8000_000A));
        assert_eq!(leaves[0].ecx & (bit(5) | bit(31)), bit(31));
        assert_eq!(leaves[1].ecx & bit(2), 0);
        let nested = processor_leaves(&host, 1, 4, true);
        assert_eq!(nested[0].ecx & bit(5), bit(5));
    }

    #[test]
    fn linux_crashed_when_hv_vmbus_was_unloaded_because_it_saw_arat() {
        let host = CpuId::from_entries(&[entry(0x06, [!0; 4])]).unwrap();
        let leaves = processor_leaves(&host, 0, 2, false);
        assert_eq!(leaves.iter().find(|leaf| leaf.function == 0x06).unwrap().eax & bit(2), 0);
    }
}
