//! Video memory: host memory that KVM shows to the guest where its driver wants it, with a log of written pages.
//!
//! [`machine`](crate::machine) makes it; the video device asks for the rest.
#![expect(unsafe_code, reason = "KVM_SET_USER_MEMORY_REGION takes addresses of this process")]

use std::fmt::{self, Debug};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use devices::mem::GuestRam;
use devices::video::VideoMemory;
use kvm_bindings::{KVM_MEM_LOG_DIRTY_PAGES, kvm_userspace_memory_region};
use kvm_ioctls::VmFd;
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

/// KVM's number for this piece of memory; RAM has the lowest. A machine has one video device at a time, and one that
/// goes has its memory taken from the guest before the next is made.
const SLOT: u32 = 64;

/// Video memory on KVM.
pub struct KvmVideoMemory {
    vm: Arc<VmFd>,
    bytes: GuestRam,
    mapped: Mutex<bool>,
}

impl Debug for KvmVideoMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KvmVideoMemory").field("mapped", &self.mapped).finish_non_exhaustive()
    }
}

impl KvmVideoMemory {
    /// So many bytes, whole pages, which the guest sees nowhere yet; they cost host memory once somebody touches them.
    ///
    /// # Errors
    /// When the host has no room.
    pub fn new(vm: Arc<VmFd>, size: usize) -> io::Result<Self> {
        let bytes = GuestRam::from_ranges(&[(GuestAddress(0), size)]).map_err(io::Error::other)?;
        Ok(KvmVideoMemory { vm, bytes, mapped: Mutex::new(false) })
    }

    fn mapped(&self) -> MutexGuard<'_, bool> {
        self.mapped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn size(&self) -> u64 {
        self.bytes.iter().map(GuestMemoryRegion::len).sum()
    }

    /// Shows so many bytes at an address; none takes them away.
    fn set(&self, address: u64, size: u64) -> io::Result<()> {
        let Some(region) = self.bytes.iter().next() else { return Ok(()) };
        let region = kvm_userspace_memory_region {
            slot: SLOT,
            flags: KVM_MEM_LOG_DIRTY_PAGES,
            guest_phys_addr: address,
            memory_size: size,
            userspace_addr: region.get_mmap().as_ptr() as u64,
        };
        // SAFETY: the mapping is at least this long. It lives until `drop` has taken it from the guest, and nothing in
        // this process takes a reference into it.
        unsafe { self.vm.set_user_memory_region(region) }.map_err(io::Error::from)
    }

    fn take_away(&self, mapped: &mut bool) -> io::Result<()> {
        if *mapped {
            self.set(0, 0)?;
        }
        *mapped = false;
        Ok(())
    }
}

impl VideoMemory for KvmVideoMemory {
    fn bytes(&self) -> &GuestRam {
        &self.bytes
    }

    fn map(&self, address: u64) -> io::Result<()> {
        let mut mapped = self.mapped();
        self.take_away(&mut mapped)?;
        self.set(address, self.size())?;
        *mapped = true;
        Ok(())
    }

    fn unmap(&self) {
        if let Err(error) = self.take_away(&mut self.mapped()) {
            log::error!("Video memory stays where it is: {error}");
        }
    }

    fn written(&self) -> io::Result<Vec<u64>> {
        if !*self.mapped() {
            return Ok(Vec::new());
        }
        // An address space on x86-64 has room for every size there is.
        let size = usize::try_from(self.size()).unwrap_or(usize::MAX);
        self.vm.get_dirty_log(SLOT, size).map_err(io::Error::from)
    }
}

impl Drop for KvmVideoMemory {
    fn drop(&mut self) {
        let mapped = self.mapped.get_mut().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::take(mapped) {
            return;
        }
        if let Err(error) = self.set(0, 0) {
            log::error!("Video memory is not given back: {error}");
            // What the guest may still write to must never become something else.
            std::mem::forget(self.bytes.clone());
        }
    }
}
