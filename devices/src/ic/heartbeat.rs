//! Heartbeat service: a number every two seconds, which the guest answers with the next one.
//!
//! The machine's owner reads [`HeartbeatStatus`]: never heard, alive, or lost.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::device::{IcDevice, Service};
use super::protocol::{Heartbeat as Message, IcVersion, application_state, message_type};
use crate::guid::Guid;
use crate::{guest_info, guest_warn};

/// Time between two heartbeats; Hyper-V's.
const PERIOD: Duration = Duration::from_secs(2);
/// Periods without an answer after which the guest counts as lost.
const LOST_AFTER: u32 = 3;

/// How the guest's heart beats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pulse {
    /// The guest has not answered yet, or has closed the device.
    None,
    /// The guest answers.
    Alive,
    /// The guest has answered before, but does not any more.
    Lost,
}

impl fmt::Display for Pulse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Pulse::None => "none",
            Pulse::Alive => "alive",
            Pulse::Lost => "lost",
        })
    }
}

/// What the host knows from the heartbeat; shared with the machine's owner.
#[derive(Debug, Default)]
pub struct HeartbeatStatus {
    pulse: AtomicU8,
    application_state: AtomicU32,
    beats: AtomicU64,
}

impl HeartbeatStatus {
    /// How the guest's heart beats.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        match self.pulse.load(Ordering::Relaxed) {
            1 => Pulse::Alive,
            2 => Pulse::Lost,
            _ => Pulse::None,
        }
    }

    /// What the guest says of its applications, see [`application_state`].
    #[must_use]
    pub fn application_state(&self) -> u32 {
        self.application_state.load(Ordering::Relaxed)
    }

    /// Answers so far.
    #[must_use]
    pub fn beats(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }

    fn set(&self, pulse: Pulse) {
        self.pulse.store(pulse as u8, Ordering::Relaxed);
    }
}

/// The service.
#[derive(Debug)]
pub struct Heartbeat {
    status: Arc<HeartbeatStatus>,
    sequence: u64,
    due: bool,
    missed: u32,
}

impl Heartbeat {
    /// The device, and what the machine's owner reads.
    #[must_use]
    pub fn device() -> (IcDevice<Heartbeat>, Arc<HeartbeatStatus>) {
        let status = Arc::new(HeartbeatStatus::default());
        (IcDevice::new(Heartbeat::new(Arc::clone(&status))), status)
    }

    pub(super) fn new(status: Arc<HeartbeatStatus>) -> Self {
        Heartbeat { status, sequence: 0, due: false, missed: 0 }
    }
}

impl Service for Heartbeat {
    const NAME: &'static str = "heartbeat";
    const INTERFACE: Guid = Guid::parse("57164f39-9115-4e78-ab55-382f3bd5422d");
    const INSTANCE: Guid = Guid::parse("fd149e91-82e0-4a7d-afa6-2a4166cbd7c0");
    const MESSAGE_TYPE: u16 = message_type::HEARTBEAT;
    const VERSIONS: &'static [IcVersion] = &[IcVersion::new(1, 0), IcVersion::new(3, 0)];
    const BODY_MAX: usize = size_of::<Message>();

    fn ready(&mut self, _: IcVersion) {
        self.due = true;
        self.missed = 0;
    }

    fn closed(&mut self) {
        self.due = false;
        self.status.set(Pulse::None);
        self.status.application_state.store(application_state::UNKNOWN, Ordering::Relaxed);
    }

    fn request(&mut self) -> Option<Vec<u8>> {
        if !std::mem::take(&mut self.due) {
            return None;
        }
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = Message::new_zeroed();
        message.sequence = self.sequence.into();
        Some(message.as_bytes().to_vec())
    }

    fn answer(&mut self, status: u32, body: &[u8]) {
        let answered = Message::read_from_prefix(body).ok().map(|(message, _)| message);
        let Some(message) = answered.filter(|_| status == 0) else {
            guest_warn!("heartbeat: an answer with status {status:#x} and {} bytes", body.len());
            return;
        };
        self.missed = 0;
        if message.sequence.get() != self.sequence.wrapping_add(1) {
            guest_warn!("heartbeat: {} is not the answer to {}", message.sequence, self.sequence);
            return;
        }
        self.status.beats.fetch_add(1, Ordering::Relaxed);
        self.status.application_state.store(message.application_state.get(), Ordering::Relaxed);
        if self.status.pulse() != Pulse::Alive {
            guest_info!("The guest's heart beats");
            self.status.set(Pulse::Alive);
        }
    }

    fn period(&self) -> Option<Duration> {
        Some(PERIOD)
    }

    fn tick(&mut self, waiting: bool) {
        if !waiting {
            self.due = true;
            return;
        }
        self.missed = self.missed.saturating_add(1);
        if self.missed >= LOST_AFTER && self.status.pulse() == Pulse::Alive {
            guest_warn!("The guest's heartbeat is lost");
            self.status.set(Pulse::Lost);
        }
    }
}
