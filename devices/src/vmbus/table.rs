//! What the bus shows of its channels: one [`ChannelRow`] each, as text for people and as data for reports.
//!
//! "Outgoing" and "incoming" are the guest's words here: its outgoing ring is the one that the host reads.

use std::fmt;
use std::sync::atomic::Ordering;

use serde::Serialize;

use super::channel::ChannelCounters;
use super::server::{OfferInfo, OpenRequest};
use crate::mem::PAGE_SIZE;

/// The rings of a channel as the guest chose them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rings {
    outgoing_pages: usize,
    incoming_pages: usize,
}

impl Rings {
    pub(super) fn of(request: &OpenRequest) -> Self {
        let (outgoing, incoming) = request.ring_pfns();
        Rings { outgoing_pages: outgoing.len(), incoming_pages: incoming.len() }
    }
}

/// A device's channel, as tables and reports show it. The rings and counts of a closed channel are those of its
/// last opening.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ChannelRow {
    /// The device's short name.
    pub device: String,
    /// Interface GUID.
    pub interface: String,
    /// Instance GUID.
    pub instance: String,
    /// Channel id, 0 while the guest has none for it.
    pub id: u32,
    /// State of the channel.
    pub state: String,
    /// Version of the connection, empty without one.
    pub version: String,
    /// Times that the guest opened the channel.
    pub opens: u64,
    /// Pages of the rings' GPADL.
    pub gpadl_pages: usize,
    /// Pages of the guest's outgoing ring, its control page included.
    pub outgoing_pages: usize,
    /// Pages of the guest's incoming ring, its control page included.
    pub incoming_pages: usize,
    /// Data bytes of the guest's outgoing ring.
    pub outgoing_bytes: usize,
    /// Data bytes of the guest's incoming ring.
    pub incoming_bytes: usize,
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
    pub(super) fn new(info: &OfferInfo<'_>, opens: u64) -> Self {
        ChannelRow {
            device: info.offer.name.clone(),
            interface: info.offer.interface.to_string(),
            instance: info.offer.instance.to_string(),
            id: info.channel.map_or(0, |channel| channel.0),
            state: info.state.to_string(),
            version: info.version.map(|version| version.to_string()).unwrap_or_default(),
            opens,
            ..ChannelRow::default()
        }
    }

    pub(super) fn fill(&mut self, rings: Rings, counters: &ChannelCounters, exits: u64) {
        let data_bytes = |pages: usize| pages.saturating_sub(1) * PAGE_SIZE;
        self.gpadl_pages = rings.outgoing_pages + rings.incoming_pages;
        self.outgoing_pages = rings.outgoing_pages;
        self.incoming_pages = rings.incoming_pages;
        self.outgoing_bytes = data_bytes(rings.outgoing_pages);
        self.incoming_bytes = data_bytes(rings.incoming_pages);
        self.packets_in = counters.packets_in.load(Ordering::Relaxed);
        self.bytes_in = counters.bytes_in.load(Ordering::Relaxed);
        self.packets_out = counters.packets_out.load(Ordering::Relaxed);
        self.bytes_out = counters.bytes_out.load(Ordering::Relaxed);
        self.signals_in = counters.signals_in.load(Ordering::Relaxed);
        self.signals_out = counters.signals_out.load(Ordering::Relaxed);
        self.exits = exits;
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
            "device", "id", "state", "opens", "pages", "data bytes", "packets in/out", "bytes in/out", "signals", "exits"
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
