//! What the bus shows of its channels: one [`ChannelRow`] each, as text for people and as data for reports.
//!
//! "Outgoing" and "incoming" are the guest's words here: its outgoing ring is the one that the host reads.

use std::fmt;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use super::channel::{ChannelCounters, Offer};
use super::server::{ChannelInfo, Version};
use crate::mem::PAGE_SIZE;

/// A device's channel, as tables and reports show it. The rings and counts of a closed channel are those of its
/// last opening.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelRow {
    /// The device's short name, with the number of a sub-channel behind it.
    pub device: String,
    /// Interface GUID.
    pub interface: String,
    /// Instance GUID.
    pub instance: String,
    /// Channel id, 0 while the guest has none for it.
    pub id: u32,
    /// State of the channel.
    pub state: String,
    /// Version of the latest connection, empty before the first.
    pub version: String,
    /// Version of the device's own protocol that its driver chose at the last opening, empty before and where there is
    /// none.
    pub protocol: String,
    /// Times that the guest opened the channel.
    pub opens: u64,
    /// Pages of the rings' GPADL.
    pub gpadl_pages: u32,
    /// Pages of the guest's outgoing ring, its control page included.
    pub outgoing_pages: u32,
    /// Pages of the guest's incoming ring, its control page included.
    pub incoming_pages: u32,
    /// Data bytes of the guest's outgoing ring.
    pub outgoing_bytes: u64,
    /// Data bytes of the guest's incoming ring.
    pub incoming_bytes: u64,
    /// Bytes that wait in the guest's outgoing ring now, 0 while the channel is closed.
    pub outgoing_used: u32,
    /// Bytes that wait in the guest's incoming ring now, 0 while the channel is closed.
    pub incoming_used: u32,
    /// Packets from the guest.
    pub packets_in: u64,
    /// Their bytes in the ring.
    pub bytes_in: u64,
    /// Packets to the guest.
    pub packets_out: u64,
    /// Their bytes in the ring.
    pub bytes_out: u64,
    /// Doorbells from the guest.
    pub signals_in: u64,
    /// Interrupts to the guest.
    pub signals_out: u64,
    /// Doorbells that came through user space.
    pub exits: u64,
}

impl ChannelRow {
    pub(super) fn new(info: &ChannelInfo, offer: &Offer, version: Option<Version>) -> Self {
        let mut row = ChannelRow {
            device: offer.label(),
            interface: offer.interface.to_string(),
            instance: offer.instance.to_string(),
            id: info.channel.map_or(0, |channel| channel.0),
            state: info.state.name().to_owned(),
            version: version.map(|version| version.to_string()).unwrap_or_default(),
            opens: info.opens,
            ..ChannelRow::default()
        };
        if let Some(ring) = info.ring {
            let data_bytes = |pages: u32| u64::from(pages.saturating_sub(1)) * PAGE_SIZE as u64;
            row.gpadl_pages = ring.outgoing.saturating_add(ring.incoming);
            row.outgoing_pages = ring.outgoing;
            row.incoming_pages = ring.incoming;
            row.outgoing_bytes = data_bytes(ring.outgoing);
            row.incoming_bytes = data_bytes(ring.incoming);
        }
        row
    }

    pub(super) fn count(&mut self, counters: &ChannelCounters, exits: u64) {
        self.packets_in = counters.packets_in.load(Ordering::Relaxed);
        self.bytes_in = counters.bytes_in.load(Ordering::Relaxed);
        self.packets_out = counters.packets_out.load(Ordering::Relaxed);
        self.bytes_out = counters.bytes_out.load(Ordering::Relaxed);
        self.signals_in = counters.signals_in.load(Ordering::Relaxed);
        self.signals_out = counters.signals_out.load(Ordering::Relaxed);
        self.exits = exits;
        self.protocol = counters.protocol();
    }
}

/// Rows as text, under a heading.
#[derive(Debug)]
pub struct ChannelTable<'a>(pub &'a [ChannelRow]);

impl fmt::Display for ChannelTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<10} {:>4} {:<9} {:>5} {:>11} {:>13} {:>17} {:>17} {:>13} {:>5}",
            "device",
            "id",
            "state",
            "opens",
            "pages",
            "data bytes",
            "packets in/out",
            "bytes in/out",
            "signals",
            "exits"
        )?;
        for row in self.0 {
            writeln!(
                f,
                "{:<10} {:>4} {:<9} {:>5} {:>11} {:>13} {:>17} {:>17} {:>13} {:>5}",
                row.device,
                row.id,
                row.state,
                row.opens,
                format!("{}={}+{}", row.gpadl_pages, row.outgoing_pages, row.incoming_pages),
                format!("{}+{}", row.outgoing_bytes, row.incoming_bytes),
                format!("{}/{}", row.packets_in, row.packets_out),
                format!("{}/{}", row.bytes_in, row.bytes_out),
                format!("{}/{}", row.signals_in, row.signals_out),
                row.exits,
            )?;
        }
        Ok(())
    }
}
