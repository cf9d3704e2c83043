//! Hyper-V's leaves for features as users choose them.

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
