//! The device: its offer, and what it makes of the opener's wishes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use zerocopy::FromBytes;

use super::protocol::{DEFAULT_MAX_PAYLOAD, Header, INSTANCE, INTERFACE, MAGIC, MAX_PAYLOAD, OpenData};
use super::worker::LoopbackWorker;
use crate::vmbus::channel::{ChannelError, Offer, Opening, RingNeeds, VmbusDevice};

/// What the device would not do.
#[derive(Debug, Default)]
pub struct LoopbackCounters {
    dropped: AtomicU64,
    refused: AtomicU64,
}

impl LoopbackCounters {
    /// Packets that were no requests.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Requests that were answered with a failure.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    pub(super) fn drop_one(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refuse_one(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }
}

/// The device; between two openings nothing of it remains but its counters.
#[derive(Debug, Default)]
pub struct Loopback {
    counters: Arc<LoopbackCounters>,
}

impl Loopback {
    /// The device, and what it counts over all its openings.
    #[must_use]
    pub fn device() -> (Loopback, Arc<LoopbackCounters>) {
        let device = Loopback::default();
        let counters = Arc::clone(&device.counters);
        (device, counters)
    }
}

impl VmbusDevice for Loopback {
    type Worker = LoopbackWorker;

    fn offer(&self) -> Offer {
        Offer::new("loopback", INTERFACE, INSTANCE)
    }

    fn ring_needs(&self, opening: &Opening) -> RingNeeds {
        // What is over the limit is refused by `open`, in better words.
        RingNeeds::of_payload(wish(opening).min(MAX_PAYLOAD) as usize)
    }

    fn open(&mut self, opening: &Opening) -> Result<LoopbackWorker, ChannelError> {
        let max_payload = wish(opening);
        if max_payload > MAX_PAYLOAD {
            let text = format!("payloads of {max_payload} bytes, over the limit of {MAX_PAYLOAD}");
            return Err(ChannelError::Protocol(text));
        }
        LoopbackWorker::new(opening.ram.clone(), max_payload as usize, Arc::clone(&self.counters))
    }

    fn closed(&mut self, _: Option<LoopbackWorker>) {}
}

/// The largest payload of this opening, bytes: a header at least, as every answer has one.
fn wish(opening: &Opening) -> u32 {
    match OpenData::read_from_prefix(&opening.user_data) {
        Ok((data, _)) if data.magic.get() == MAGIC => {
            data.max_payload.get().max(size_of::<Header>().try_into().unwrap_or(MAX_PAYLOAD))
        }
        _ => DEFAULT_MAX_PAYLOAD,
    }
}
