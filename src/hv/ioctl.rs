//! What KVM offers for Hyper-V and kvm-ioctls does not wrap: two ioctls and the payload of two exits.
//!
//! Called by the rest of [`hv`](super) only.
#![expect(unsafe_code, reason = "raw ioctls and a union that the kernel filled")]

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::{ptr, slice};

use kvm_bindings::{
    CpuId, KVM_EXIT_HYPERV, KVM_EXIT_HYPERV_HCALL, KVM_EXIT_HYPERV_SYNIC, KVM_EXIT_IO, KVM_EXIT_IO_OUT,
    KVM_HYPERV_EVENTFD_DEASSIGN, KVM_MAX_CPUID_ENTRIES, kvm_hyperv_eventfd, kvm_run,
};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use vmm_sys_util::errno;
use vmm_sys_util::ioctl::{ioctl_with_mut_ptr, ioctl_with_ref};

const KVMIO: u32 = 0xAE;

/// Request numbers; see linux/kvm.h.
mod request {
    use kvm_bindings::{kvm_cpuid2, kvm_hyperv_eventfd};
    use vmm_sys_util::{ioctl_iow_nr, ioctl_iowr_nr};

    ioctl_iow_nr!(KVM_HYPERV_EVENTFD, super::KVMIO, 0xbd, kvm_hyperv_eventfd);
    ioctl_iowr_nr!(KVM_GET_SUPPORTED_HV_CPUID, super::KVMIO, 0xc1, kvm_cpuid2);
}

/// The Hyper-V CPUID leaves that this host's KVM can serve (KVM_GET_SUPPORTED_HV_CPUID on /dev/kvm).
///
/// # Errors
/// ENOTTY from kernels before 5.11.
pub fn supported_hv_cpuid(kvm: &Kvm) -> io::Result<CpuId> {
    let mut cpuid =
        CpuId::new(KVM_MAX_CPUID_ENTRIES).map_err(|_| io::Error::from_raw_os_error(libc::ENOMEM))?;
    // SAFETY: the descriptor is KVM's, and the struct holds as many entries as its `nent` says, which the
    // kernel respects and then lowers to what it filled.
    let result = unsafe {
        ioctl_with_mut_ptr(kvm, request::KVM_GET_SUPPORTED_HV_CPUID(), cpuid.as_mut_fam_struct_ptr())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(cpuid) }
}

/// Has HvSignalEvent on `connection_id` signal an eventfd inside of the kernel.
///
/// # Errors
/// EEXIST when the id is bound already.
pub fn assign_event(vm: &VmFd, connection_id: u32, eventfd: RawFd) -> io::Result<()> {
    hyperv_eventfd(vm, &kvm_hyperv_eventfd { conn_id: connection_id, fd: eventfd, ..Default::default() })
}

/// Undoes [`assign_event`].
///
/// # Errors
/// ENOENT when the id is not bound.
pub fn deassign_event(vm: &VmFd, connection_id: u32) -> io::Result<()> {
    let flags = KVM_HYPERV_EVENTFD_DEASSIGN;
    hyperv_eventfd(vm, &kvm_hyperv_eventfd { conn_id: connection_id, fd: -1, flags, ..Default::default() })
}

fn hyperv_eventfd(vm: &VmFd, event: &kvm_hyperv_eventfd) -> io::Result<()> {
    // SAFETY: the descriptor is a VM's and the kernel only reads the struct.
    let result = unsafe { ioctl_with_ref(&vm.as_raw_fd(), request::KVM_HYPERV_EVENTFD(), event) };
    if result < 0 { Err(errno::Error::last().into()) } else { Ok(()) }
}

/// What a KVM_EXIT_HYPERV is about.
#[derive(Clone, Copy, Debug)]
pub enum HypervExit {
    /// The guest wrote SCONTROL, SIEFP or SIMP; these are their values now.
    Synic {
        /// SCONTROL.
        control: u64,
        /// SIEFP.
        event_page: u64,
        /// SIMP.
        message_page: u64,
    },
    /// A hypercall for user space; answer it with [`set_hypercall_result`].
    Hypercall {
        /// Control word: code, form, counts.
        control: u64,
        /// First parameter, or guest-physical address of the input.
        parameter: u64,
    },
    /// Something that this program did not ask KVM for.
    Other(u32),
}

/// Reads the payload of the exit that `run` returned last.
///
/// Returns `None` if that was no KVM_EXIT_HYPERV.
pub fn hyperv_exit(vcpu: &mut VcpuFd) -> Option<HypervExit> {
    let run = vcpu.get_kvm_run();
    if run.exit_reason != KVM_EXIT_HYPERV {
        return None;
    }
    // SAFETY: the exit reason says that the kernel filled this member; all its fields are plain integers.
    let exit = unsafe { run.__bindgen_anon_1.hyperv };
    Some(match exit.type_ {
        KVM_EXIT_HYPERV_SYNIC => {
            // SAFETY: the type says that the kernel filled this member; all its fields are plain integers.
            let synic = unsafe { exit.u.synic };
            HypervExit::Synic {
                control: synic.control,
                event_page: synic.evt_page,
                message_page: synic.msg_page,
            }
        }
        KVM_EXIT_HYPERV_HCALL => {
            // SAFETY: the type says that the kernel filled this member; all its fields are plain integers.
            let hcall = unsafe { exit.u.hcall };
            HypervExit::Hypercall { control: hcall.input, parameter: hcall.params[0] }
        }
        other => HypervExit::Other(other),
    })
}

/// Answers a hypercall exit; the guest sees it in RAX after the next `run`.
pub fn set_hypercall_result(vcpu: &mut VcpuFd, result: u64) {
    vcpu.get_kvm_run().__bindgen_anon_1.hyperv.u.hcall.result = result;
}

/// A KVM_EXIT_IO. A string instruction accesses the same port several times in one exit.
#[derive(Debug)]
pub struct PortExit<'a> {
    /// The port.
    pub port: u16,
    /// Bytes of one access.
    pub size: usize,
    /// Whether the guest writes.
    pub is_write: bool,
    /// All accesses, one after the other: what the guest wrote, or room for what it reads.
    pub data: &'a mut [u8],
}

/// Reads the payload of the port exit that `run` returned last; kvm-ioctls drops the size of one access.
///
/// Returns `None` if that was no KVM_EXIT_IO.
pub fn port_exit(vcpu: &mut VcpuFd) -> Option<PortExit<'_>> {
    let run = vcpu.get_kvm_run();
    if run.exit_reason != KVM_EXIT_IO {
        return None;
    }
    // SAFETY: the exit reason says that the kernel filled this member; all its fields are plain integers.
    let io = unsafe { run.__bindgen_anon_1.io };
    let size = usize::from(io.size).max(1);
    let start = ptr::from_mut::<kvm_run>(run).cast::<u8>();
    let offset = usize::try_from(io.data_offset).ok()?;
    // SAFETY: the kernel placed this many bytes at this offset of the vCPU's mapping, which kvm-ioctls maps
    // whole and which lives as long as `vcpu`; nothing else refers to these bytes while `vcpu` is borrowed.
    let data = unsafe { slice::from_raw_parts_mut(start.add(offset), size * io.count as usize) };
    Some(PortExit { port: io.port, size, is_write: u32::from(io.direction) == KVM_EXIT_IO_OUT, data })
}
