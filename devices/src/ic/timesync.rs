//! Time synchronisation service: the host's time once after negotiation, to set the guest's clock, then samples.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use zerocopy::{FromZeros, IntoBytes};

use super::device::{IcDevice, Service};
use super::protocol::{IcVersion, TIME_SYNC_SAMPLE, TIME_SYNC_SYNC, TimeSyncV3, TimeSyncV4, message_type};
use crate::guest_warn;
use crate::guid::Guid;

/// Time between two samples; Hyper-V's, as OpenVMM has it.
const PERIOD: Duration = Duration::from_secs(5);
/// From 1601-01-01, where Windows starts to count, to 1970-01-01.
const EPOCH_DISTANCE: Duration = Duration::from_secs(11_644_473_600);
const VERSION_4: IcVersion = IcVersion::new(4, 0);

/// The same moment on two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The host's wall clock.
    pub wall: SystemTime,
    /// The partition's reference time (TIME_REF_COUNT), 100 ns units.
    pub reference: u64,
}

/// Reads both clocks; the hypervisor's part.
pub trait ReferenceClock: Debug + Send + Sync {
    /// The present moment.
    fn now(&self) -> Moment;
}

/// The service.
#[derive(Debug)]
pub struct TimeSync {
    clock: Arc<dyn ReferenceClock>,
    version: IcVersion,
    /// Flags of the message that is due.
    due: Option<u8>,
}

impl TimeSync {
    /// The device.
    #[must_use]
    pub fn device(clock: Arc<dyn ReferenceClock>) -> IcDevice<TimeSync> {
        IcDevice::new(TimeSync::new(clock))
    }

    pub(super) fn new(clock: Arc<dyn ReferenceClock>) -> Self {
        TimeSync { clock, version: VERSION_4, due: None }
    }
}

/// Wall clock time in 100 ns units since 1601-01-01 UTC.
fn file_time(wall: SystemTime) -> u64 {
    let since_1970 = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from((EPOCH_DISTANCE + since_1970).as_nanos() / 100).unwrap_or(u64::MAX)
}

impl Service for TimeSync {
    const NAME: &'static str = "timesync";
    const INTERFACE: Guid = Guid::parse("9527e630-d0ae-497b-adce-e80ab0175caf");
    const INSTANCE: Guid = Guid::parse("2dd1ce17-079e-403c-b352-a1921ee207ee");
    const MESSAGE_TYPE: u16 = message_type::TIME_SYNC;
    const VERSIONS: &'static [IcVersion] = &[IcVersion::new(1, 0), IcVersion::new(3, 0), VERSION_4];
    const BODY_MAX: usize = size_of::<TimeSyncV3>();

    fn ready(&mut self, version: IcVersion) {
        self.version = version;
        self.due = Some(TIME_SYNC_SYNC);
    }

    fn closed(&mut self) {
        self.due = None;
    }

    fn request(&mut self) -> Option<Vec<u8>> {
        let flags = self.due.take()?;
        let now = self.clock.now();
        if self.version == VERSION_4 {
            let mut message = TimeSyncV4::new_zeroed();
            message.parent_time = file_time(now.wall).into();
            message.vm_reference_time = now.reference.into();
            message.flags = flags;
            Some(message.as_bytes().to_vec())
        } else {
            let mut message = TimeSyncV3::new_zeroed();
            message.parent_time = file_time(now.wall).into();
            message.flags = flags;
            Some(message.as_bytes().to_vec())
        }
    }

    fn answer(&mut self, status: u32, _: &[u8]) {
        if status != 0 {
            guest_warn!("timesync: the guest answered with status {status:#x}");
        }
    }

    fn period(&self) -> Option<Duration> {
        Some(PERIOD)
    }

    fn tick(&mut self, waiting: bool) {
        if !waiting {
            self.due = Some(TIME_SYNC_SAMPLE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_times_count_from_1601() {
        // 2021-01-01 00:00:00 UTC is 132539328000000000 as a FILETIME.
        let wall = UNIX_EPOCH + Duration::from_secs(1_609_459_200);
        assert_eq!(file_time(wall), 132_539_328_000_000_000);
    }
}
