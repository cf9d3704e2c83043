//! One thread for each virtual processor.
//!
//! [`machine`](crate::machine) starts them, [`vmm`](crate::vmm) stops them. The order of a round matters: first
//! `immediate_exit` is clear (see [`super::kick`]), then the thread looks whether it is to stop or to pause and
//! whether messages wait, then it enters the guest. Whoever kicks stores first and kicks then, so nothing is missed.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};

use kvm_bindings::{Msrs, kvm_msr_entry};
use kvm_ioctls::VcpuFd;

use super::exits::{ExitHandler, Next};
use super::kick::Kick;
use super::kvm::{HostError, Refused};
use super::pause::Gate;
use crate::boot::Entry;
use crate::boot::processor::Msr;
use crate::events::MachineEvent;

/// Sets the registers with which the first virtual processor starts; the others wait for it (SIPI).
///
/// # Errors
/// When KVM refuses a register.
pub fn set_entry(vcpu: &VcpuFd, entry: &Entry) -> Result<(), HostError> {
    let mut sregs = vcpu.get_sregs().refused("read registers")?;
    let mut regs = vcpu.get_regs().refused("read registers")?;
    entry.apply(&mut sregs, &mut regs);
    vcpu.set_sregs(&sregs).refused("set registers")?;
    vcpu.set_regs(&regs).refused("set registers")
}

/// Sets registers that reset alone does not give a virtual processor.
///
/// # Errors
/// When KVM refuses a register.
pub fn set_msrs(vcpu: &VcpuFd, msrs: &[Msr]) -> Result<(), HostError> {
    let entry = |&(index, data): &Msr| kvm_msr_entry { index, data, ..Default::default() };
    let entries: Vec<_> = msrs.iter().map(entry).collect();
    let msrs = Msrs::from_entries(&entries)
        .map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))
        .refused("set registers")?;
    let set = vcpu.set_msrs(&msrs).refused("set registers")?;
    if set == entries.len() {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(libc::EINVAL)).refused("set the registers of a processor")
    }
}

/// A virtual processor's running thread.
#[derive(Debug)]
pub struct VcpuThread {
    stop: Arc<AtomicBool>,
    kick: Arc<Kick>,
    gate: Arc<Gate>,
    thread: JoinHandle<()>,
}

impl VcpuThread {
    /// Starts to run the virtual processor.
    ///
    /// # Errors
    /// When the host gives no thread.
    pub fn start(
        mut vcpu: VcpuFd,
        handler: ExitHandler,
        kick: Arc<Kick>,
        gate: Arc<Gate>,
    ) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = Builder::new().name(format!("vp{}", handler.vp)).stack_size(256 << 10).spawn({
            let (stop, kick, gate) = (Arc::clone(&stop), Arc::clone(&kick), Arc::clone(&gate));
            move || {
                if let Err(error) = run(&mut vcpu, &handler, &kick, (&stop, &gate)) {
                    let text = format!("VP {} cannot start: {error}", handler.vp);
                    handler.events.send(MachineEvent::Failed(text));
                }
            }
        })?;
        Ok(VcpuThread { stop, kick, gate, thread })
    }

    /// Asks the thread to stop; it does so soon.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.gate.wake();
        self.kick.kick();
    }

    /// Makes the thread come out of the guest and pass its [`Gate`] again.
    pub fn kick(&self) {
        self.kick.kick();
    }

    /// Waits for the thread to end, after [`VcpuThread::stop`].
    pub fn join(self) {
        // A kick before the thread attached itself went nowhere, but then it has not looked at `stop` yet.
        if self.thread.join().is_err() {
            log::error!("The thread of a virtual processor panicked");
        }
    }
}

fn run(
    vcpu: &mut VcpuFd,
    handler: &ExitHandler,
    kick: &Kick,
    (stop, gate): (&AtomicBool, &Gate),
) -> io::Result<()> {
    let on_thread = kick.attach(vcpu)?;
    loop {
        gate.hold(stop, || handler.events.send(MachineEvent::Paused));
        if stop.load(Ordering::Acquire) {
            break;
        }
        handler.synic.deliver(handler.vp);
        if handler.run_once(on_thread.vcpu) == Next::Stop {
            break;
        }
    }
    Ok(())
}
