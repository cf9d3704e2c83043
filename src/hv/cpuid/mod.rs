//! What the guest's CPUID shows: the host's processor without its hypervisor, and the chosen Hyper-V features.
//!
//! Hyper-V's features have names (`features`); what KVM cannot serve is refused by name, so what is shown is what
//! works. With KVM_CAP_HYPERV_ENFORCE_CPUID it is also all that works.

mod features;
mod processor;

use kvm_bindings::{CpuId, kvm_cpuid_entry2};

use self::features::{Choice, NESTED};
pub use self::features::{FeatureError, HypervFeatures};
pub use self::processor::{address_bits, processor_leaves};

/// Leaves of the hypervisor interface (TLFS, "Feature and Interface Discovery").
mod leaf {
    pub const VENDOR: u32 = 0x4000_0000;
    pub const INTERFACE: u32 = 0x4000_0001;
    pub const VERSION: u32 = 0x4000_0002;
    pub const FEATURES: u32 = 0x4000_0003;
    pub const RECOMMENDATIONS: u32 = 0x4000_0004;
    pub const LIMITS: u32 = 0x4000_0005;
    pub const NESTED: u32 = 0x4000_000A;
    /// Everything from VENDOR up to here belongs to one hypervisor or another.
    pub const LAST: u32 = 0x4000_FFFF;
}

/// "Hv#1".
const INTERFACE_SIGNATURE: u32 = 0x3123_7648;
/// "Microsoft Hv" in EBX, ECX, EDX.
const VENDOR: [u32; 3] = [0x7263_694D, 0x666F_736F, 0x7648_2074];
/// Spins before a guest says that it waits long; what KVM recommends.
const SPIN_RETRIES: u32 = 0xFFF;
/// Interrupt vectors for devices, as KVM and Hyper-V say.
const DEVICE_VECTORS: u32 = 64;

/// Registers of a leaf, in the order EAX, EBX, ECX, EDX.
type Registers = [u32; 4];

const fn bit(n: u32) -> u32 {
    1 << n
}

/// The hypervisor's leaves for the chosen features, on a host whose KVM supports these leaves, and virtualizes APICs
/// in hardware or does not.
///
/// # Errors
/// [`FeatureError::Unsupported`] names the first feature that was asked for and is not among what KVM said it can
/// serve. A default that cannot be served is left out.
pub fn hypervisor_leaves(
    features: &HypervFeatures,
    supported: &CpuId,
    apicv: bool,
    vp_count: u32,
) -> Result<Vec<kvm_cpuid_entry2>, FeatureError> {
    let can = |function: u32| -> Registers {
        let found = supported.as_slice().iter().find(|entry| entry.function == function);
        found.map_or([0; 4], |entry| [entry.eax, entry.ebx, entry.ecx, entry.edx])
    };
    let (can_do, can_hint) = (can(leaf::FEATURES), can(leaf::RECOMMENDATIONS)[0]);
    let mut shown: Registers = [0; 4];
    let mut hints = 0;
    for (feature, choice) in features.rows() {
        if choice == Choice::IfUseful && apicv {
            continue;
        }
        let missing = feature.features.iter().zip(can_do).any(|(wanted, can)| wanted & !can != 0);
        if missing || feature.hints & !can_hint != 0 {
            if choice == Choice::Asked {
                return Err(FeatureError::Unsupported { name: feature.name });
            }
            log::info!(
                "The guest does without the Hyper-V feature {}: this host's KVM cannot serve it",
                feature.name
            );
            continue;
        }
        for (register, bits) in shown.iter_mut().zip(feature.features) {
            *register |= bits;
        }
        hints |= feature.hints;
    }
    let nested = features.has(NESTED) && can(leaf::NESTED) != [0; 4];
    let last = if nested { leaf::NESTED } else { leaf::LIMITS };
    let [vendor_b, vendor_c, vendor_d] = VENDOR;
    let mut leaves = vec![
        entry(leaf::VENDOR, [last, vendor_b, vendor_c, vendor_d]),
        entry(leaf::INTERFACE, [INTERFACE_SIGNATURE, 0, 0, 0]),
        entry(leaf::VERSION, can(leaf::VERSION)),
        entry(leaf::FEATURES, shown),
        entry(leaf::RECOMMENDATIONS, [hints, SPIN_RETRIES, 0, 0]),
        entry(leaf::LIMITS, [vp_count, vp_count, DEVICE_VECTORS, 0]),
    ];
    if nested {
        leaves.push(entry(leaf::NESTED, can(leaf::NESTED)));
    }
    Ok(leaves)
}

fn entry(function: u32, [eax, ebx, ecx, edx]: Registers) -> kvm_cpuid_entry2 {
    kvm_cpuid_entry2 { function, eax, ebx, ecx, edx, ..Default::default() }
}

#[cfg(test)]
mod tests;
