//! The partition: a KVM VM with in-kernel interrupt controllers, the guest's RAM and its virtual processors.
//!
//! Built by [`machine`](crate::machine). A host that cannot run the machine is told so in one sentence, before
//! anything starts.
#![expect(unsafe_code, reason = "KVM_SET_USER_MEMORY_REGION takes addresses of this process")]

use std::io;
use std::path::Path;
use std::sync::Arc;

use devices::hvdef::{SINT_COUNT, VMBUS_SINT, msr::CRASH_P0};
use devices::mem::GuestRam;
use kvm_bindings::{
    CpuId, KVM_CAP_HYPERV_ENFORCE_CPUID, KVM_CAP_HYPERV_EVENTFD, KVM_CAP_HYPERV_SYNIC2,
    KVM_CAP_HYPERV_VP_INDEX, KVM_CAP_SYS_HYPERV_CPUID, KVM_CAP_X86_MSR_FILTER, KVM_CAP_X86_USER_SPACE_MSR,
    KVM_IRQ_ROUTING_HV_SINT, KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQCHIP_IOAPIC, KVM_MAX_CPUID_ENTRIES,
    KvmIrqRouting, kvm_enable_cap, kvm_irq_routing_entry, kvm_irq_routing_hv_sint, kvm_irq_routing_irqchip,
    kvm_userspace_memory_region,
};
use kvm_ioctls::{
    Kvm, MsrExitReason, MsrFilterDefaultAction, MsrFilterRange, MsrFilterRangeFlags, VcpuFd, VmFd,
};
use thiserror::Error;
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};
use vmm_sys_util::eventfd::EventFd;

use super::cpuid::{self, FeatureError, HypervFeatures};
use super::ioctl;
use crate::layout;

/// Pins of the in-kernel IOAPIC; their GSIs have the same numbers.
const IOAPIC_PINS: u32 = 24;
/// GSIs of one virtual processor: one for event flags, then one for the messages of each SINT.
const GSIS_PER_VP: u32 = 1 + SINT_COUNT as u32;
/// Entries of KVM's table of GSIs (`KVM_MAX_IRQ_ROUTES`).
const IRQ_ROUTES: u32 = 4096;
/// Most virtual processors that KVM's table of GSIs has room for.
pub const MAX_VPS: u32 = (IRQ_ROUTES - IOAPIC_PINS) / GSIS_PER_VP;

#[expect(clippy::cast_possible_truncation, reason = "hosts have 64 bits")]
const TSS_ADDRESS: usize = layout::KVM_TSS as usize;

/// Why this host cannot run the machine.
#[derive(Debug, Error)]
pub enum HostError {
    /// /dev/kvm is not there.
    #[error(
        "There is no /dev/kvm: load KVM (modprobe kvm-intel or kvm-amd) and see that the firmware allows virtualization"
    )]
    NoKvm,
    /// /dev/kvm may not be opened.
    #[error(
        "This user may not open /dev/kvm: add it to the group kvm (usermod -aG kvm NAME, then log in again)"
    )]
    NoPermission,
    /// KVM lacks something that the machine stands on.
    #[error(
        "This host's KVM lacks {0}: use Linux 5.14 or newer, built with Hyper-V emulation (CONFIG_KVM_HYPERV)"
    )]
    Lacks(&'static str),
    /// More virtual processors than KVM runs.
    #[error("{asked} virtual processors are more than the {max} that this host runs: lower --cpus")]
    TooManyVps {
        /// What the user asked for.
        asked: u32,
        /// What can be had.
        max: u32,
    },
    /// A Hyper-V feature that cannot be had.
    #[error(transparent)]
    Feature(#[from] FeatureError),
    /// A call to KVM failed.
    #[error("KVM refused to {what}")]
    Kvm {
        /// What was asked of it.
        what: &'static str,
        /// Its answer.
        #[source]
        source: io::Error,
    },
}

/// Turns KVM's errors into [`HostError::Kvm`].
pub(super) trait Refused<T> {
    /// Says what KVM was asked to do.
    fn refused(self, what: &'static str) -> Result<T, HostError>;
}

impl<T, E: Into<io::Error>> Refused<T> for Result<T, E> {
    fn refused(self, what: &'static str) -> Result<T, HostError> {
        self.map_err(|source| HostError::Kvm { what, source: source.into() })
    }
}

/// Opens /dev/kvm and checks that it can run the machine.
///
/// # Errors
/// A sentence that names what is missing and the fix.
pub fn open() -> Result<Kvm, HostError> {
    let kvm = Kvm::new().map_err(|error| match error.errno() {
        libc::ENOENT | libc::ENXIO | libc::ENODEV => HostError::NoKvm,
        libc::EACCES | libc::EPERM => HostError::NoPermission,
        _ => HostError::Kvm { what: "open /dev/kvm", source: error.into() },
    })?;
    for (cap, name) in [
        (KVM_CAP_HYPERV_SYNIC2, "Hyper-V's interrupt controller (KVM_CAP_HYPERV_SYNIC2)"),
        (KVM_CAP_HYPERV_VP_INDEX, "Hyper-V's VP index (KVM_CAP_HYPERV_VP_INDEX)"),
        (KVM_CAP_HYPERV_EVENTFD, "Hyper-V's doorbells (KVM_CAP_HYPERV_EVENTFD)"),
        (KVM_CAP_SYS_HYPERV_CPUID, "the list of its Hyper-V features (KVM_CAP_SYS_HYPERV_CPUID)"),
        (KVM_CAP_X86_USER_SPACE_MSR, "registers served by programs (KVM_CAP_X86_USER_SPACE_MSR)"),
        (KVM_CAP_X86_MSR_FILTER, "register filters (KVM_CAP_X86_MSR_FILTER)"),
    ] {
        if kvm.check_extension_raw(cap.into()) <= 0 {
            return Err(HostError::Lacks(name));
        }
    }
    Ok(kvm)
}

/// A VM whose virtual processors exist and show their CPUID, but do not run yet.
#[derive(Debug)]
pub struct Partition {
    /// The VM, for interrupts and doorbells.
    pub vm: Arc<VmFd>,
    /// The virtual processors; index, APIC id and VP index are the same number.
    pub vcpus: Vec<VcpuFd>,
}

impl Partition {
    /// Makes the VM, gives it its RAM, and makes `vp_count` virtual processors.
    ///
    /// # Errors
    /// When the host cannot serve what is asked for.
    pub fn new(ram: &GuestRam, vp_count: u32, features: &HypervFeatures) -> Result<Self, HostError> {
        let kvm = open()?;
        let max = u32::try_from(kvm.get_max_vcpus()).unwrap_or(MAX_VPS).min(MAX_VPS);
        if vp_count > max {
            return Err(HostError::TooManyVps { asked: vp_count, max });
        }
        let vm = Arc::new(kvm.create_vm().refused("make a VM")?);
        vm.set_identity_map_address(layout::KVM_IDENTITY_MAP).refused("place its identity map")?;
        vm.set_tss_address(TSS_ADDRESS).refused("place its task state segment")?;
        vm.create_irq_chip().refused("make the interrupt controllers")?;
        map_ram(&vm, ram)?;
        serve_crash_registers(&vm)?;

        let host = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).refused("list the processor's features")?;
        let supported = ioctl::supported_hv_cpuid(&kvm).refused("list its Hyper-V features")?;
        let hypervisor = cpuid::hypervisor_leaves(features, &supported, virtualizes_apics(), vp_count)?;
        let nested = features.has("nested");
        // In order of their ids: KVM finds a VP by its index at once only if that is its place in the list.
        let vcpus = (0..vp_count)
            .map(|vp| {
                let mut leaves = cpuid::processor_leaves(&host, vp, vp_count, nested);
                leaves.extend_from_slice(&hypervisor);
                make_vcpu(&kvm, &vm, vp, &leaves)
            })
            .collect::<Result<Vec<_>, _>>()?;
        // A route to a SINT is refused until its VP has a SynIC.
        route_interrupts(&vm, vp_count)?;
        Ok(Partition { vm, vcpus })
    }

    /// An eventfd that raises an interrupt line of the IOAPIC.
    ///
    /// # Errors
    /// When KVM refuses the GSI.
    pub fn irq(&self, gsi: u32) -> Result<EventFd, HostError> {
        irqfd(&self.vm, gsi)
    }
}

/// Whether this host's processors virtualize APICs and KVM lets them (Intel's APICv, AMD's AVIC).
fn virtualizes_apics() -> bool {
    ["kvm_intel/parameters/enable_apicv", "kvm_amd/parameters/avic"].iter().any(|parameter| {
        let value = std::fs::read_to_string(Path::new("/sys/module").join(parameter));
        value.is_ok_and(|value| matches!(value.trim(), "Y" | "1"))
    })
}

/// GSI that raises the interrupt of a VP's event flags.
pub(super) fn event_gsi(vp: u32) -> u32 {
    IOAPIC_PINS + vp * GSIS_PER_VP
}

/// GSI that raises the interrupt of a VP's message slot. KVM reports a slot's EOM on the highest GSI that is
/// routed to its SINT, so these come after [`event_gsi`].
pub(super) fn message_gsi(vp: u32, sint: u8) -> u32 {
    event_gsi(vp) + 1 + u32::from(sint)
}

/// An eventfd that raises `gsi`.
pub(super) fn irqfd(vm: &VmFd, gsi: u32) -> Result<EventFd, HostError> {
    let eventfd = EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC).refused("make an eventfd")?;
    vm.register_irqfd(&eventfd, gsi).refused("bind an interrupt to an eventfd")?;
    Ok(eventfd)
}

fn map_ram(vm: &VmFd, ram: &GuestRam) -> Result<(), HostError> {
    for (slot, region) in (0u32..).zip(ram.iter()) {
        let mapping = region.get_mmap();
        let region = kvm_userspace_memory_region {
            slot,
            flags: 0,
            guest_phys_addr: region.start_addr().0,
            memory_size: region.len(),
            userspace_addr: mapping.as_ptr() as u64,
        };
        // SAFETY: the mapping is exactly this long. The machine keeps the RAM until the VM's descriptors are
        // closed, and nothing in this process takes a reference into guest memory.
        unsafe { vm.set_user_memory_region(region) }.refused("map the guest's RAM")?;
    }
    Ok(())
}

/// Has reads and writes of the six crash registers come to user space, see [`super::crash`].
fn serve_crash_registers(vm: &VmFd) -> Result<(), HostError> {
    let mut cap = kvm_enable_cap { cap: KVM_CAP_X86_USER_SPACE_MSR, ..Default::default() };
    cap.args[0] = MsrExitReason::Filter.bits().into();
    vm.enable_cap(&cap).refused("let programs serve registers")?;
    let range = MsrFilterRange {
        flags: MsrFilterRangeFlags::READ | MsrFilterRangeFlags::WRITE,
        base: CRASH_P0,
        msr_count: 6,
        // A clear bit takes the register away from KVM.
        bitmap: &[0],
    };
    vm.set_msr_filter(MsrFilterDefaultAction::ALLOW, &[range]).refused("hand over the crash registers")
}

fn make_vcpu(
    kvm: &Kvm,
    vm: &VmFd,
    vp: u32,
    leaves: &[kvm_bindings::kvm_cpuid_entry2],
) -> Result<VcpuFd, HostError> {
    let vcpu = vm.create_vcpu(vp.into()).refused("make a virtual processor")?;
    let cpuid = CpuId::from_entries(leaves)
        .map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))
        .refused("show this many CPUID leaves")?;
    vcpu.set_cpuid2(&cpuid).refused("show the processor's features")?;
    let synic = kvm_enable_cap { cap: KVM_CAP_HYPERV_SYNIC2, ..Default::default() };
    vcpu.enable_cap(&synic).refused("make a SynIC")?;
    if kvm.check_extension_raw(KVM_CAP_HYPERV_ENFORCE_CPUID.into()) > 0 {
        let mut enforce = kvm_enable_cap { cap: KVM_CAP_HYPERV_ENFORCE_CPUID, ..Default::default() };
        enforce.args[0] = 1;
        vcpu.enable_cap(&enforce).refused("hold the guest to the features shown")?;
    }
    Ok(vcpu)
}

fn route_interrupts(vm: &VmFd, vp_count: u32) -> Result<(), HostError> {
    let mut routes: Vec<_> = (0..IOAPIC_PINS).map(ioapic_route).collect();
    for vp in 0..vp_count {
        routes.push(sint_route(event_gsi(vp), vp, VMBUS_SINT));
        routes.extend((0..SINT_COUNT).map(|sint| sint_route(message_gsi(vp, sint), vp, sint)));
    }
    let routes = KvmIrqRouting::from_entries(&routes)
        .map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))
        .refused("route this many interrupts")?;
    vm.set_gsi_routing(&routes).refused("route the interrupts")
}

fn ioapic_route(pin: u32) -> kvm_irq_routing_entry {
    let mut route = kvm_irq_routing_entry { gsi: pin, type_: KVM_IRQ_ROUTING_IRQCHIP, ..Default::default() };
    route.u.irqchip = kvm_irq_routing_irqchip { irqchip: KVM_IRQCHIP_IOAPIC, pin };
    route
}

fn sint_route(gsi: u32, vp: u32, sint: u8) -> kvm_irq_routing_entry {
    let mut route = kvm_irq_routing_entry { gsi, type_: KVM_IRQ_ROUTING_HV_SINT, ..Default::default() };
    route.u.hv_sint = kvm_irq_routing_hv_sint { vcpu: vp, sint: sint.into() };
    route
}
