//! The partition's reference time, read together with the host's wall clock.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use devices::ic::timesync::{Moment, ReferenceClock};
use kvm_bindings::KVM_CLOCK_REALTIME;
use kvm_ioctls::VmFd;

/// KVM derives the guest's TIME_REF_COUNT from the clock that KVM_GET_CLOCK reads.
#[derive(Debug)]
pub struct KvmClock(pub Arc<VmFd>);

impl ReferenceClock for KvmClock {
    fn now(&self) -> Moment {
        let clock = self.0.get_clock().unwrap_or_default();
        let wall = if clock.flags & KVM_CLOCK_REALTIME != 0 {
            UNIX_EPOCH + Duration::from_nanos(clock.realtime)
        } else {
            // Kernels before 5.16 do not read both at once.
            SystemTime::now()
        };
        Moment { wall, reference: clock.clock / 100 }
    }
}
