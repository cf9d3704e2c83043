//! What the guest's CPUID shows: the host's processor without its hypervisor, and the chosen Hyper-V features.
//!
//! Features have names (`--hyperv default,-stimer-direct,+reset`). What a name stands for is one row of
//! `FEATURES`; what KVM cannot serve is refused by name, so what is shown is what works. With
//! KVM_CAP_HYPERV_ENFORCE_CPUID it is also all that works.

use std::fmt;
use std::str::FromStr;

use kvm_bindings::{CpuId, kvm_cpuid_entry2};
use thiserror::Error;

use ByDefault::{Hidden, Shown, WithoutApicv};

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

struct Feature {
    name: &'static str,
    /// Bits of leaf FEATURES.
    features: Registers,
    /// Bits of leaf RECOMMENDATIONS, register EAX.
    hints: u32,
    by_default: ByDefault,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ByDefault {
    Shown,
    Hidden,
    /// Shown where the host's processors do not virtualize the APIC.
    WithoutApicv,
}

const fn row(name: &'static str, features: Registers, hints: u32, by_default: ByDefault) -> Feature {
    Feature { name, features, hints, by_default }
}

const fn bit(n: u32) -> u32 {
    1 << n
}

/// Every feature by name; the defaults are what Windows is said to want (QEMU's and OpenVMM's experience).
const FEATURES: &[Feature] = &[
    row("runtime", [bit(0), 0, 0, 0], 0, Shown),
    row("time", [bit(1) | bit(9), 0, 0, 0], 0, Shown),
    row("synic", [bit(2), bit(4) | bit(5), 0, 0], 0, Shown),
    row("stimer", [bit(3), 0, 0, 0], 0, Shown),
    row("vapic", [bit(4), 0, 0, 0], 0, Shown),
    row("hypercall", [bit(5), 0, 0, 0], 0, Shown),
    row("vpindex", [bit(6), 0, 0, 0], 0, Shown),
    row("frequencies", [bit(11), 0, 0, bit(8)], 0, Shown),
    row("xmm-input", [0, 0, 0, bit(4)], 0, Shown),
    row("crash", [0, 0, 0, bit(10)], 0, Shown),
    row("stimer-direct", [0, 0, 0, bit(19)], 0, Shown),
    row("tlbflush", [0; 4], bit(2), Shown),
    row("relaxed", [0; 4], bit(5), Shown),
    row("no-autoeoi", [0; 4], bit(9), Shown),
    row("ipi", [0; 4], bit(10), Shown),
    row("ex-masks", [0; 4], bit(11), Shown),
    row("reset", [bit(7), 0, 0, 0], 0, Hidden),
    row("reenlightenment", [bit(13), 0, 0, 0], 0, Hidden),
    // The guest then ends interrupts through its VP assist page, for the most part without an exit, or else through a
    // register of Hyper-V's, which is an exit where the APIC's own would be none.
    row("apic-msr", [0; 4], bit(3), WithoutApicv),
    row(NESTED, [0; 4], 0, Hidden),
];

/// Shows VMX or SVM. Off by default: a Windows guest that sees them starts its own hypervisor.
const NESTED: &str = "nested";

/// Without these there is no VMBus, so no machine.
const REQUIRED: &[&str] = &["synic", "hypercall", "vpindex"];

/// A choice of Hyper-V features.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HypervFeatures {
    /// As many as there are rows in [`FEATURES`].
    choices: Vec<Choice>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    Off,
    /// Shown where the host can serve it.
    IfPossible,
    /// Shown where the host can serve it and its processors do not make it useless.
    IfUseful,
    /// The user asked for it by name: shown, or the machine does not start.
    Asked,
}

/// Why a choice of features cannot be had.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum FeatureError {
    /// No row has this name.
    #[error("There is no Hyper-V feature {name:?}; the features are {known}", known = HypervFeatures::names())]
    Unknown {
        /// What the user wrote.
        name: String,
    },
    /// The machine cannot do without it.
    #[error("The Hyper-V feature {0:?} cannot be left out: VMBus stands on it")]
    Required(&'static str),
    /// This host cannot serve it.
    #[error("This host's KVM cannot serve the Hyper-V feature {name:?}: do not ask for it with --hyperv")]
    Unsupported {
        /// The feature's name.
        name: &'static str,
    },
}

impl Default for HypervFeatures {
    fn default() -> Self {
        let choice = |feature: &Feature| match feature.by_default {
            _ if REQUIRED.contains(&feature.name) => Choice::Asked,
            Shown => Choice::IfPossible,
            Hidden => Choice::Off,
            WithoutApicv => Choice::IfUseful,
        };
        HypervFeatures { choices: FEATURES.iter().map(choice).collect() }
    }
}

impl FromStr for HypervFeatures {
    type Err = FeatureError;

    /// Reads a list such as `default,-stimer-direct,+reset`; `none` starts from nothing but what is required.
    fn from_str(list: &str) -> Result<Self, FeatureError> {
        let mut features = HypervFeatures::default();
        for word in list.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            match word {
                "default" => features = HypervFeatures::default(),
                "none" => features.keep_required(),
                _ => features.choose(word)?,
            }
        }
        Ok(features)
    }
}

impl HypervFeatures {
    /// The names of all features, for messages.
    #[must_use]
    pub fn names() -> String {
        FEATURES.iter().map(|feature| feature.name).collect::<Vec<_>>().join(", ")
    }

    /// Whether a feature was chosen, if only where the host can serve it.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.rows().any(|(feature, _)| feature.name == name)
    }

    fn keep_required(&mut self) {
        for (choice, feature) in self.choices.iter_mut().zip(FEATURES) {
            *choice = if REQUIRED.contains(&feature.name) { Choice::Asked } else { Choice::Off };
        }
    }

    fn choose(&mut self, word: &str) -> Result<(), FeatureError> {
        let (on, name) = match word.strip_prefix('-') {
            Some(name) => (false, name),
            None => (true, word.strip_prefix('+').unwrap_or(word)),
        };
        let found = self.choices.iter_mut().zip(FEATURES).find(|(_, feature)| feature.name == name);
        let (choice, feature) = found.ok_or_else(|| FeatureError::Unknown { name: name.to_owned() })?;
        if !on && REQUIRED.contains(&feature.name) {
            return Err(FeatureError::Required(feature.name));
        }
        *choice = if on { Choice::Asked } else { Choice::Off };
        Ok(())
    }

    fn rows(&self) -> impl Iterator<Item = (&'static Feature, Choice)> {
        FEATURES.iter().zip(self.choices.iter().copied()).filter(|(_, choice)| *choice != Choice::Off)
    }
}

impl fmt::Display for HypervFeatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.rows().map(|(feature, _)| feature.name).collect();
        f.write_str(&names.join(","))
    }
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
    use super::*;

    fn everything() -> CpuId {
        CpuId::from_entries(&[
            entry(leaf::FEATURES, [!0; 4]),
            entry(leaf::RECOMMENDATIONS, [!0; 4]),
            entry(leaf::VERSION, [1, 2, 3, 4]),
        ])
        .unwrap()
    }

    fn shown(features: &str) -> Vec<kvm_cpuid_entry2> {
        hypervisor_leaves(&features.parse().unwrap(), &everything(), true, 4).unwrap()
    }

    #[test]
    fn the_default_set_is_what_the_references_recommend() {
        let leaves = shown("");
        assert_eq!((leaves[3].eax, leaves[3].ebx, leaves[3].edx), (0xA7F, 0x30, 0x0008_0510));
        assert_eq!((leaves[4].eax, leaves[4].ebx), (0xE24, 0xFFF));
        assert_eq!((leaves[5].eax, leaves[5].ebx, leaves[5].ecx), (4, 4, 64));
    }

    #[test]
    fn every_interrupt_ended_with_an_exit_on_hosts_without_apicv() {
        let hints = |features: &str, apicv| {
            hypervisor_leaves(&features.parse().unwrap(), &everything(), apicv, 4).unwrap()[4].eax
        };
        assert_eq!((hints("", false), hints("", true)), (0xE2C, 0xE24));
        assert_eq!((hints("-apic-msr", false), hints("apic-msr", true)), (0xE24, 0xE2C));
    }

    #[test]
    fn features_are_chosen_by_name() {
        assert_eq!(shown("default,-stimer-direct")[3].edx, 0x510);
        assert_eq!(shown("+reset")[3].eax, 0xAFF);
        assert_eq!(shown("none,time")[3].eax, 0x266);
        assert_eq!(shown("-reset,+reset")[3].eax, 0xAFF);
    }

    #[test]
    fn a_wrong_name_is_answered_with_the_right_ones() {
        let error = "default,+strimer".parse::<HypervFeatures>().unwrap_err().to_string();
        assert!(error.starts_with("There is no Hyper-V feature \"strimer\""), "{error}");
        assert!(error.contains("stimer-direct"), "{error}");
    }

    #[test]
    fn what_vmbus_stands_on_cannot_be_left_out() {
        assert_eq!("-synic".parse::<HypervFeatures>(), Err(FeatureError::Required("synic")));
        assert!("none".parse::<HypervFeatures>().unwrap().has("vpindex"));
    }

    #[test]
    fn what_the_host_cannot_serve_is_left_out_unless_it_was_asked_for() {
        let supported = CpuId::from_entries(&[
            entry(leaf::FEATURES, [!0, !0, !0, !bit(19)]),
            entry(leaf::RECOMMENDATIONS, [!0; 4]),
        ])
        .unwrap();
        let leaves = hypervisor_leaves(&HypervFeatures::default(), &supported, true, 1).unwrap();
        assert_eq!(leaves[3].edx, 0x510);
        let asked = "stimer-direct".parse().unwrap();
        let refused = hypervisor_leaves(&asked, &supported, true, 1).unwrap_err();
        assert_eq!(refused, FeatureError::Unsupported { name: "stimer-direct" });
        let no_synic = CpuId::from_entries(&[entry(leaf::FEATURES, [!bit(2), !0, !0, !0])]).unwrap();
        let refused = hypervisor_leaves(&HypervFeatures::default(), &no_synic, true, 1).unwrap_err();
        assert_eq!(refused, FeatureError::Unsupported { name: "synic" });
    }

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
