//! Makes a virtual processor's thread leave the guest, so that it looks at what waits for it.
//!
//! A kick is a signal whose handler sets `immediate_exit` in the thread's own `kvm_run`: whether the signal comes
//! before, during or after the entry into the guest, the next KVM_RUN returns at once. Whoever kicks first stores
//! what the thread is to see, then kicks; the thread clears `immediate_exit` first, then looks.
#![expect(unsafe_code, reason = "signal handler, tgkill, and a pointer to kvm_run")]

use std::cell::Cell;
use std::io;
use std::marker::PhantomData;
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicI32, Ordering};

use kvm_bindings::kvm_run;
use kvm_ioctls::VcpuFd;
use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler};

thread_local! {
    static RUN: Cell<*mut kvm_run> = const { Cell::new(ptr::null_mut()) };
}

extern "C" fn handle_kick(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // Thread-locals without a destructor and with a constant start value are plain memory: safe in a handler.
    let run = RUN.get();
    if !run.is_null() {
        // SAFETY: `Kickable` keeps the pointer here only while the vCPU that it belongs to is alive, and this
        // handler runs on the vCPU's own thread. The kernel reads the byte concurrently, hence volatile.
        unsafe { ptr::write_volatile(&raw mut (*run).immediate_exit, 1) };
    }
}

/// The address of one virtual processor's thread.
#[derive(Debug, Default)]
pub struct Kick {
    /// Thread id; 0 while there is no thread.
    thread: AtomicI32,
}

impl Kick {
    /// Makes the thread leave the guest soon; without effect while there is no thread.
    pub fn kick(&self) {
        let thread = self.thread.load(Ordering::Acquire);
        if thread != 0 {
            // SAFETY: tgkill takes no pointers. A thread that ended meanwhile makes it fail, which is fine.
            unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, SIGRTMIN()) };
        }
    }

    /// Makes the calling thread the one to kick, for as long as the returned value lives.
    ///
    /// # Errors
    /// When the signal handler cannot be registered.
    pub fn attach<'a>(&'a self, vcpu: &'a mut VcpuFd) -> io::Result<Kickable<'a>> {
        static REGISTER: Once = Once::new();
        let mut registered = Ok(());
        REGISTER.call_once(|| registered = register_signal_handler(SIGRTMIN(), handle_kick));
        registered?;
        RUN.set(vcpu.get_kvm_run());
        // SAFETY: gettid has no arguments and cannot fail.
        self.thread.store(unsafe { libc::gettid() }, Ordering::Release);
        Ok(Kickable { kick: self, vcpu, not_send: PhantomData })
    }
}

/// A virtual processor on the thread that runs it.
#[derive(Debug)]
pub struct Kickable<'a> {
    kick: &'a Kick,
    /// The virtual processor.
    pub vcpu: &'a mut VcpuFd,
    not_send: PhantomData<*const ()>,
}

impl Drop for Kickable<'_> {
    fn drop(&mut self) {
        self.kick.thread.store(0, Ordering::Release);
        RUN.set(ptr::null_mut());
    }
}
