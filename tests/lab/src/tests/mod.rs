//! The whole-VM tests, by family. A test boots guests in the lab and fails with a sentence.

mod api;
mod boot;
mod bus;
pub mod display;
mod generation;
mod guest;
mod imc;
mod platform;
mod rings;
mod services;
mod storage;
mod tpm;
pub mod viewers;
mod windows;

use anyhow::{Result, ensure};

use crate::lab::Lab;
use crate::vm::Outcome;
use crate::vmm::Vmm;

pub use rings::SIZES as RING_SIZES;

/// One whole-VM test.
pub struct Test {
    /// What it tests, in words.
    pub name: &'static str,
    /// Runs it.
    pub run: fn(&mut Lab) -> Result<()>,
}

/// A family of tests.
pub struct Family {
    /// The word for the command line.
    pub name: &'static str,
    /// Its tests, in order.
    pub tests: &'static [Test],
    /// Those that take minutes: they run only when the family is named, and are named when they are left out.
    pub slow: &'static [Test],
}

/// All families.
pub const FAMILIES: &[Family] = &[
    Family { name: "boot", tests: boot::TESTS, slow: &[] },
    Family { name: "platform", tests: platform::TESTS, slow: &[] },
    Family { name: "bus", tests: bus::TESTS, slow: &[] },
    Family { name: "services", tests: services::TESTS, slow: &[] },
    Family { name: "guest", tests: guest::TESTS, slow: &[] },
    Family { name: "rings", tests: rings::TESTS, slow: &[] },
    Family { name: "api", tests: api::TESTS, slow: &[] },
    Family { name: "storage", tests: storage::TESTS, slow: storage::SLOW },
    Family { name: "windows", tests: windows::TESTS, slow: &[] },
];

/// Warnings that guests rightly have; anything else is a finding. Linux misses PCI, which a generation 2 machine
/// does not have, unless UEFI started it; and it warns of modules that are not its own, as the ring probe is. Timers
/// are late where the machine is emulated and has much to do. A SCSI disk that was reset says so once (SPC-4, unit
/// attention 29h/00h), and one that was taken away takes no flush any more (invalid LUN, with sense data). With VMBus
/// 2.4, Linux leaves the backup service alone.
const KNOWN_WARNINGS: &[&str] = &[
    "PCI: Fatal: No config space access function found",
    "PCI: System does not support PCI",
    "ring_probe: loading out-of-tree module taints kernel",
    "hrtimer: interrupt took",
    "Power-on or device reset occurred",
    "cmd 0x35 status: scsi 0x2 srb 0xa0",
    "Integration service 'Backup (volume snapshot)' not supported on this host version",
    "probe failed for device 2450ee40-33bf-4fbd-892e-9fb06e9214cf (-19)",
];

/// Compares what facts.sh said with what a guest of busman must see.
fn check_facts(lab: &Lab, outcome: &Outcome, cpus: u32) -> Result<()> {
    let fact = |name: &str, expected: &str| -> Result<()> {
        let value = outcome.value(name)?;
        ensure!(value == expected, "the guest's {name} is {value:?} instead of {expected:?}");
        Ok(())
    };
    fact("cpus", &cpus.to_string())?;
    fact("clocksource", "hyperv_clocksource_tsc_page")?;
    fact("hypervisor", "Microsoft Hyper-V")?;
    fact("hyperv_leaf", "Microsoft Hv")?;
    let kvm_leaf = outcome.value("kvm_leaf")?;
    ensure!(!kvm_leaf.contains("KVM"), "the guest sees a KVM leaf: {kvm_leaf:?}");
    if lab.wishes.vmm == Vmm::Busman {
        fact("vmbus", "5.3")?;
    }
    check_warnings(outcome)
}

/// Fails when the guest's kernel logged a warning that is not known.
fn check_warnings(outcome: &Outcome) -> Result<()> {
    let unknown: Vec<&str> = outcome
        .said("warning")
        .filter(|line| !KNOWN_WARNINGS.iter().any(|known| line.contains(known)))
        .collect();
    ensure!(unknown.is_empty(), "the guest's kernel warns: {}", unknown.join(" | "));
    Ok(())
}
