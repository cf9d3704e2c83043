//! What happens when a virtual processor leaves the guest for something that KVM does not do.
//!
//! Called by [`super::vcpu`] on the VP's own thread. Nothing in here waits for the guest or for another thread of
//! the machine: port and memory accesses go to register files, hypercalls to queues.

use std::io;
use std::sync::Arc;

use devices::hvdef::{HvStatus, msr};
use devices::legacy::{MmioBus, PortBus};
use devices::mem::GuestRam;
use devices::vmbus::bus::MessagePort;
use kvm_bindings::{KVM_SYSTEM_EVENT_RESET, KVM_SYSTEM_EVENT_SHUTDOWN, Msrs, kvm_msr_entry};
use kvm_ioctls::{ReadMsrExit, VcpuExit, VcpuFd, WriteMsrExit};

use super::counters::ExitCounters;
use super::crash::{CrashRegisters, CrashWrite};
use super::hypercall::{self, Hypercall};
use super::ioctl::{self, HypervExit};
use super::synic::KvmSynic;
use crate::events::{EventSender, MachineEvent};

/// Where the exits of one virtual processor go.
#[derive(Debug)]
pub struct ExitHandler {
    /// Index of the virtual processor.
    pub vp: u32,
    /// Port devices.
    pub ports: Arc<PortBus>,
    /// Memory-mapped devices.
    pub mmio: Arc<MmioBus>,
    /// Messages and doorbells.
    pub synic: Arc<KvmSynic>,
    /// The way to the bus.
    pub messages: MessagePort,
    /// Crash registers; `None` if the guest is shown none.
    pub crash: Option<Arc<CrashRegisters>>,
    /// The guest's RAM.
    pub ram: GuestRam,
    /// The way to the control loop.
    pub events: EventSender,
    /// Counts every exit.
    pub counters: Arc<ExitCounters>,
}

/// Whether the virtual processor goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Back into the guest.
    Run,
    /// The thread ends; the control loop knows why.
    Stop,
}

/// What is left to do when the exit no longer borrows the virtual processor.
enum Rest {
    Nothing,
    Hyperv,
    Port,
    Crash(CrashWrite),
    Send(MachineEvent),
}

impl ExitHandler {
    /// Runs the guest until it comes out, and serves what it came out for.
    pub fn run_once(&self, vcpu: &mut VcpuFd) -> Next {
        let rest = match vcpu.run() {
            Ok(exit) => self.serve(exit),
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {
                self.counters.kick.count();
                vcpu.set_kvm_immediate_exit(0);
                Rest::Nothing
            }
            Err(error) => Rest::Send(MachineEvent::Failed(format!(
                "KVM cannot run VP {}: {}",
                self.vp,
                io::Error::from(error)
            ))),
        };
        match rest {
            Rest::Nothing => Next::Run,
            Rest::Hyperv => self.serve_hyperv(vcpu),
            Rest::Port => self.serve_port(vcpu),
            Rest::Crash(write) => {
                let report =
                    self.crash.as_ref().map(|crash| crash.report(write, &self.ram, guest_os_id(vcpu)));
                if let Some(report) = report {
                    self.events.send(MachineEvent::Crashed(report));
                }
                Next::Run
            }
            Rest::Send(event) => {
                self.events.send(event);
                Next::Stop
            }
        }
    }

    fn serve(&self, exit: VcpuExit<'_>) -> Rest {
        let counter = match &exit {
            VcpuExit::IoIn(..) | VcpuExit::IoOut(..) => &self.counters.io,
            VcpuExit::MmioRead(..) | VcpuExit::MmioWrite(..) => &self.counters.mmio,
            VcpuExit::X86Rdmsr(..) | VcpuExit::X86Wrmsr(..) => &self.counters.msr,
            VcpuExit::SystemEvent(..) => &self.counters.system_event,
            // Counted by what it turns out to be.
            VcpuExit::Hyperv => return Rest::Hyperv,
            _ => &self.counters.other,
        };
        counter.count();
        match exit {
            VcpuExit::IoIn(..) | VcpuExit::IoOut(..) => return Rest::Port,
            VcpuExit::MmioRead(address, data) => self.mmio.read(address, data),
            VcpuExit::MmioWrite(address, data) => self.mmio.write(address, data),
            VcpuExit::X86Rdmsr(mut exit) => self.read_msr(&mut exit),
            VcpuExit::X86Wrmsr(mut exit) => return self.write_msr(&mut exit),
            VcpuExit::Shutdown => return Rest::Send(MachineEvent::TripleFault),
            VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_RESET, _) => return Rest::Send(MachineEvent::Reset),
            VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_SHUTDOWN, _) => return Rest::Send(MachineEvent::PowerOff),
            VcpuExit::Intr | VcpuExit::Hlt | VcpuExit::IrqWindowOpen => {}
            other => {
                let text = format!("VP {} cannot go on: {other:?}", self.vp);
                return Rest::Send(MachineEvent::Failed(text));
            }
        }
        Rest::Nothing
    }

    fn serve_port(&self, vcpu: &mut VcpuFd) -> Next {
        if let Some(exit) = ioctl::port_exit(vcpu) {
            for access in exit.data.chunks_mut(exit.size) {
                if exit.is_write {
                    self.ports.write(exit.port, access);
                } else {
                    self.ports.read(exit.port, access);
                }
            }
        }
        Next::Run
    }

    fn read_msr(&self, exit: &mut ReadMsrExit<'_>) {
        match self.crash.as_ref().and_then(|crash| crash.read(exit.index)) {
            Some(value) => {
                *exit.data = value;
                *exit.error = 0;
            }
            None => *exit.error = 1,
        }
    }

    fn write_msr(&self, exit: &mut WriteMsrExit<'_>) -> Rest {
        match self.crash.as_ref().and_then(|crash| crash.write(exit.index, exit.data)) {
            Some(write) => {
                *exit.error = 0;
                if write.reports { Rest::Crash(write) } else { Rest::Nothing }
            }
            None => {
                *exit.error = 1;
                Rest::Nothing
            }
        }
    }

    fn serve_hyperv(&self, vcpu: &mut VcpuFd) -> Next {
        match ioctl::hyperv_exit(vcpu) {
            Some(HypervExit::Synic { event_page, message_page, .. }) => {
                self.counters.synic.count();
                self.synic.set_pages(self.vp, event_page, message_page);
            }
            Some(HypervExit::Hypercall { control, parameter }) => {
                let status = self.hypercall(vcpu, control, parameter);
                ioctl::set_hypercall_result(vcpu, status as u64);
            }
            Some(HypervExit::Other(_)) | None => self.counters.other.count(),
        }
        Next::Run
    }

    fn hypercall(&self, vcpu: &VcpuFd, control: u64, parameter: u64) -> HvStatus {
        match Hypercall::decode(control, parameter) {
            Hypercall::PostMessage(address) => {
                self.counters.post_message.count();
                self.messages.introduce(guest_os_id(vcpu));
                hypercall::post_message(&self.ram, address, &self.messages)
            }
            Hypercall::SignalEvent(connection_id) => {
                self.counters.signal_event.count();
                if self.synic.doorbell_exit(connection_id) {
                    HvStatus::Success
                } else {
                    HvStatus::InvalidConnectionId
                }
            }
            Hypercall::Refused(status) => {
                self.counters.other.count();
                status
            }
        }
    }
}

/// Who the guest says that it is; 0 if it does not say.
fn guest_os_id(vcpu: &VcpuFd) -> u64 {
    let entry = kvm_msr_entry { index: msr::GUEST_OS_ID, ..Default::default() };
    let Ok(mut msrs) = Msrs::from_entries(&[entry]) else { return 0 };
    match vcpu.get_msrs(&mut msrs) {
        Ok(1) => msrs.as_slice().first().map_or(0, |entry| entry.data),
        _ => 0,
    }
}
