//! What is left of a machine's life, and the report of it.

use devices::vmbus::table::ChannelRow;

use super::Outside;
use crate::disks::DiskRow;
use crate::hv::crash::CrashReport;
use crate::report::{Counters, End, Report};

/// A machine's life. Channels that the guest had open are open: that they were stopped is not the guest's doing.
#[derive(Debug)]
pub(super) struct Ended {
    pub end: End,
    pub crash: Option<CrashReport>,
    pub counters: Counters,
    pub channels: Vec<ChannelRow>,
    pub disks: Vec<DiskRow>,
}

impl Ended {
    pub fn report(self, outside: &Outside, start_to_guest_us: u64) -> Report {
        Report {
            version: env!("CARGO_PKG_VERSION"),
            end: self.end,
            resets: outside.resets,
            start_to_guest_us,
            crash: self.crash.as_ref().map(ToString::to_string),
            contacts: outside.contacts.rows(),
            counters: self.counters,
            channels: self.channels,
            disks: self.disks,
        }
    }
}
