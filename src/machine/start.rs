//! What the virtual processors start with: kernel or firmware in RAM, and their registers.

use devices::mem::GuestRam;
use kvm_ioctls::VcpuFd;

use super::MachineError;
use crate::boot::processor::{self, Msr};
use crate::boot::{Entry, acpi, linux, uefi};
use crate::config::{Boot, Config};
use crate::hv::cpuid::HypervFeatures;
use crate::hv::kvm::HostError;
use crate::hv::vcpu;
use crate::layout;

/// What the firmware uses of Hyper-V, beyond what every machine has.
const FIRMWARE_NEEDS: [&str; 2] = ["time", "stimer"];

/// How the virtual processors start.
#[derive(Debug)]
pub(super) struct Start {
    /// The first one; the others wait for it.
    entry: Entry,
    /// All of them.
    msrs: Vec<Msr>,
}

impl Start {
    /// Puts what the guest starts with into RAM: the kernel and the tables, or the firmware.
    pub(super) fn load(
        ram: &GuestRam,
        config: &Config,
        features: &HypervFeatures,
        address_bits: u8,
    ) -> Result<Self, MachineError> {
        let &Config { cpus, memory, .. } = config;
        let tpm = config.tpm.is_some();
        match &config.boot {
            Boot::Kernel(source) => {
                acpi::write(ram, &acpi::Machine { cpus, memory, tpm })?;
                let reserved = if tpm { layout::TPM_BUFFERS } else { 0 };
                Ok(Start { entry: linux::load(ram, source, reserved)?, msrs: processor::for_kernel() })
            }
            Boot::Firmware(source) => {
                if let Some(missing) = FIRMWARE_NEEDS.into_iter().find(|name| !features.has(name)) {
                    return Err(MachineError::FirmwareNeeds(missing));
                }
                let entry = uefi::load(ram, source, &uefi::Machine { cpus, memory, tpm })?;
                Ok(Start { entry, msrs: processor::for_firmware(memory, address_bits) })
            }
        }
    }

    /// Sets the registers with which a virtual processor starts.
    pub(super) fn prepare(&self, vcpu: &VcpuFd, vp: u32) -> Result<(), HostError> {
        vcpu::set_msrs(vcpu, &self.msrs)?;
        if vp == 0 { vcpu::set_entry(vcpu, &self.entry) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Options;
    use vm_memory::GuestAddress;

    #[test]
    fn firmware_without_the_features_that_it_stands_on_is_refused() {
        let firmware = std::env::current_exe().ok();
        let config = Options { firmware, ..Options::default() }.check().unwrap();
        let ram = GuestRam::from_ranges(&[(GuestAddress(0), 64 << 20)]).unwrap();
        for (list, missing) in [("none", "time"), ("-stimer", "stimer")] {
            let error = Start::load(&ram, &config, &list.parse().unwrap(), 40).unwrap_err();
            let text = format!(
                "The firmware needs the Hyper-V feature {missing:?}: do not leave it out with --hyperv"
            );
            assert_eq!(error.to_string(), text);
        }
        let error = Start::load(&ram, &config, &HypervFeatures::default(), 40).unwrap_err();
        assert!(error.to_string().contains("cannot be booted as firmware"), "{error}");
    }
}
