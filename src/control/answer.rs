//! What a command brings: a value that the terminal shows as text and the control socket as JSON.

use std::fmt;

use devices::ic::fcopy::CopyStatus;
use devices::ic::kvp::{IpInfo, Pair};
use devices::ic::shutdown::ShutdownKind;
use devices::vmbus::table::{ChannelRow, ChannelTable};
use serde::{Deserialize, Serialize};

use super::{Addresses, HELP, text};
use crate::config::Config;
use crate::disks::DiskRow;
use crate::display::{DisplayRow, Picture};
use crate::hv::pause::RunState;
use crate::report::Counters;

/// The outcome of a command that was carried out.
#[derive(Clone, Debug)]
pub enum Answer {
    /// It is so.
    Done,
    /// The guest was asked, and does it in its own time.
    Asked(ShutdownKind),
    /// The machine's generation from now on.
    Generation(Generation),
    /// How the machine is.
    State(Status),
    /// What it was built from.
    Config(Box<Config>),
    /// The table of channels.
    Channels(Vec<ChannelRow>),
    /// What was counted.
    Counters(Counters),
    /// The devices that there are.
    Devices(Vec<DeviceRow>),
    /// The disks and drives that there are.
    Disks(Vec<DiskRow>),
    /// The disk or drive that was added.
    Disk(Box<DiskRow>),
    /// The screen; whoever asked looks what the guest shows.
    Display(Picture),
    /// The same; whoever asked makes the photograph.
    Screen(Picture),
    /// The guest was asked to let the disc go, and does it in its own time.
    AskedToEject,
    /// The guest was asked for another resolution, and may follow.
    AskedToResize,
    /// What the guest says of itself, or was told.
    Pairs(Vec<Pair>),
    /// One of these.
    Pair(Pair),
    /// All addresses of the guest.
    Addresses(Addresses),
    /// What a network adapter of the guest is set to.
    Ip(IpInfo),
    /// How a copy goes.
    Copy(CopyStatus),
    /// [`HELP`].
    Help,
}

/// How a machine is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Whether the guest runs.
    pub state: RunState,
    /// Of busman.
    pub version: String,
    /// Of busman's process.
    pub pid: u32,
    /// Since the machine started or was last reset, ms; pauses included.
    pub uptime_ms: u64,
    /// How often it was reset.
    pub resets: u64,
    /// Virtual processors.
    pub cpus: u32,
    /// RAM, bytes.
    pub memory: u64,
    /// Version of the guest's latest VMBus connection, empty before the first.
    pub protocol: String,
    /// The guest's heartbeat: none, alive or lost; absent without that device. It is lost while paused.
    pub heartbeat: Option<String>,
    /// What the guest said of a crash of its own.
    pub crash: Option<String>,
}

/// Which generation of itself a machine is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// As in `--generation-id`.
    pub generation_id: String,
}

/// A device that the bus can have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRow {
    /// As in `--devices`.
    pub name: String,
    /// One line for people.
    pub about: String,
    /// Whether it is on the bus.
    pub on_bus: bool,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The log tells of these.
            Answer::Done
            | Answer::Asked(_)
            | Answer::AskedToEject
            | Answer::AskedToResize
            | Answer::Screen(_) => Ok(()),
            Answer::Generation(generation) => text::write(f, generation),
            Answer::State(status) => text::write(f, status),
            Answer::Config(config) => text::write(f, config),
            Answer::Channels(rows) => ChannelTable(rows).fmt(f),
            Answer::Counters(counters) => text::write(f, counters),
            Answer::Devices(rows) => text::write(f, rows),
            Answer::Disks(rows) => text::write(f, rows),
            Answer::Disk(row) => text::write(f, row),
            Answer::Pairs(pairs) => text::write(f, pairs),
            Answer::Pair(pair) => text::write(f, pair),
            Answer::Addresses(addresses) => text::write(f, addresses),
            Answer::Ip(info) => text::write(f, info),
            Answer::Copy(status) => text::write(f, status),
            Answer::Display(Picture(screen)) => text::write(f, &DisplayRow::of(&**screen)),
            Answer::Help => writeln!(f, "{HELP}"),
        }
    }
}
