//! What a run was like, as data: written by `--report` when busman ends. [`Counters`] can be asked for at any time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;

use devices::vmbus::table::ChannelRow;
use serde::{Deserialize, Serialize};

use crate::contacts::ContactRow;
use crate::disks::DiskRow;
use crate::hv::counters::ExitCounts;

/// How a machine's life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// The guest turned itself off.
    PowerOff,
    /// The guest asked for a reset.
    Reset,
    /// A virtual processor gave up.
    TripleFault,
    /// Its owner stopped it.
    Stopped,
}

/// The report. Counts are those of the last life of the machine.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Of busman.
    pub version: &'static str,
    /// How it ended.
    pub end: End,
    /// Lives of the machine before this one.
    pub resets: u64,
    /// From the start of this program to the first instruction of the first guest, µs.
    pub start_to_guest_us: u64,
    /// What the guest said of a crash of its own.
    pub crash: Option<String>,
    /// Who made contact with the bus, in all lives: the latest [`KEPT`](crate::contacts::KEPT), the oldest first.
    pub contacts: Vec<ContactRow>,
    /// What was counted.
    #[serde(flatten)]
    pub counters: Counters,
    /// One for each device of the bus.
    pub channels: Vec<ChannelRow>,
    /// Disks and DVD drives.
    pub disks: Vec<DiskRow>,
}

/// What a machine counts, but for its channels.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Counters {
    /// One for each virtual processor.
    pub vcpus: Vec<Vcpu>,
    /// The control plane.
    pub vmbus: Vmbus,
    /// The heartbeat, if that device is on the bus.
    pub heartbeat: Option<HeartbeatReport>,
    /// What the loopback device would not do, if it is on the bus.
    pub loopback: Option<LoopbackReport>,
}

/// A virtual processor.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Vcpu {
    /// Exits to user space, by reason.
    pub exits: ExitCounts,
}

/// The control plane.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Vmbus {
    /// Version of the last connection.
    pub protocol: String,
    /// Messages from the guest.
    pub messages_in: u64,
    /// Messages to the guest.
    pub messages_out: u64,
    /// Times that a guest made contact.
    pub contacts: u64,
    /// Messages of the guest that had no effect or a failure for an answer, by reason.
    pub refusals: BTreeMap<String, u64>,
}

/// The heartbeat.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct HeartbeatReport {
    /// none, alive or lost.
    pub pulse: String,
    /// Answers of the guest.
    pub beats: u64,
}

/// What the loopback device would not do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoopbackReport {
    /// Packets that were no requests.
    pub dropped: u64,
    /// Requests that were answered with a failure.
    pub refused: u64,
}

impl Report {
    /// Writes the report as JSON.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        serde_json::to_writer_pretty(File::create(path)?, self).map_err(io::Error::from)
    }
}
