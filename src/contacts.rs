//! Who made contact with the bus over all lives of a machine: firmware, operating systems, crash kernels.
//!
//! The control loop adds what a life has seen when it ends; the report shows it.

use std::collections::VecDeque;

use devices::vmbus::contacts::{Contact, Contacts};
use serde::Serialize;

use crate::hv::guest_os::GuestOs;

/// Contacts that a report has, over all lives of the machine.
pub const KEPT: usize = 256;

/// Who made contact in all lives of the machine.
#[derive(Debug, Default)]
pub struct History(VecDeque<ContactRow>);

impl History {
    /// Keeps who made contact in the life that came after so many resets.
    pub fn add(&mut self, resets: u64, contacts: &Contacts) {
        self.0.extend(contacts.iter().map(|contact| ContactRow::new(resets, contact)));
        let excess = self.0.len().saturating_sub(KEPT);
        self.0.drain(..excess);
    }

    /// All of them, the oldest first.
    #[must_use]
    pub fn rows(&self) -> Vec<ContactRow> {
        self.0.iter().cloned().collect()
    }
}

/// One contact of a guest with the bus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ContactRow {
    /// Lives of the machine before that one.
    pub resets: u64,
    /// GUEST_OS_ID at that time, in hexadecimal.
    pub guest_os_id: String,
    /// The same in words.
    pub guest: String,
    /// The version that was asked for.
    pub version: String,
    /// Whether it was granted.
    pub granted: bool,
    /// Feature flags that were asked for, 0 before 6.0.
    pub features: u32,
    /// Who the guest's client says it is.
    pub client_id: Option<String>,
    /// Virtual processor that was to get the host's messages.
    pub message_vp: u32,
}

impl ContactRow {
    fn new(resets: u64, contact: &Contact) -> Self {
        ContactRow {
            resets,
            guest_os_id: format!("{:#018x}", contact.guest_os_id),
            guest: GuestOs(contact.guest_os_id).to_string(),
            version: contact.version.to_string(),
            granted: contact.granted,
            features: contact.features,
            client_id: contact.client_id.map(|id| id.to_string()),
            message_vp: contact.message_vp,
        }
    }
}
