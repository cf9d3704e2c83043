//! What passes through a channel: written by its thread, read by the bus for tables and reports.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use vmm_sys_util::eventfd::EventFd;

use super::ring::{Incoming, Outgoing, RingPages};

/// What has passed through a channel since it was opened.
#[derive(Debug, Default)]
pub struct ChannelCounters {
    /// Packets from the guest.
    pub packets_in: AtomicU64,
    /// Bytes of these in the ring, headers and trailers included.
    pub bytes_in: AtomicU64,
    /// Packets to the guest.
    pub packets_out: AtomicU64,
    /// Bytes of these in the ring, headers and trailers included.
    pub bytes_out: AtomicU64,
    /// Times that the guest rang.
    pub signals_in: AtomicU64,
    /// Times that the guest was interrupted.
    pub signals_out: AtomicU64,
    /// Version of the device's own protocol that its driver chose: major in the upper half, minor in the lower; 0
    /// before.
    protocol: AtomicU32,
}

impl ChannelCounters {
    pub(super) fn agree(&self, version: u32) {
        self.protocol.store(version, Ordering::Relaxed);
    }

    /// Version of the device's own protocol, in words; empty before it is agreed upon.
    pub(super) fn protocol(&self) -> String {
        match self.protocol.load(Ordering::Relaxed) {
            0 => String::new(),
            version => format!("{}.{}", version >> 16, version & 0xffff),
        }
    }

    pub(super) fn note(&self, incoming: &Incoming<RingPages>, outgoing: &Outgoing<RingPages>) {
        let (from_guest, to_guest) = (incoming.counters(), outgoing.counters());
        self.packets_in.store(from_guest.packets, Ordering::Relaxed);
        self.bytes_in.store(from_guest.bytes, Ordering::Relaxed);
        self.packets_out.store(to_guest.packets, Ordering::Relaxed);
        self.bytes_out.store(to_guest.bytes, Ordering::Relaxed);
    }

    /// Takes the rings of the guest's doorbell since the last time.
    pub(super) fn note_doorbell(&self, doorbell: &EventFd) {
        let rings = doorbell.read().unwrap_or(0);
        self.signals_in.fetch_add(rings, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_shown_once_it_is_agreed_upon() {
        let counters = ChannelCounters::default();
        assert_eq!(counters.protocol(), "");
        counters.agree(6 << 16 | 2);
        assert_eq!(counters.protocol(), "6.2");
    }
}
