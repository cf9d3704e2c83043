//! Who made contact: the control plane fills it in, the bus adds who the guest says that it is, reports show it.
//!
//! Firmware, operating system and crash kernel each make contact by themselves, and ask for one version after the other
//! until one is granted.

use std::collections::VecDeque;

use super::protocol::Version;
use crate::guid::Guid;

/// Contacts that are kept, the latest; a client asks for nine versions at most.
pub const CONTACTS_KEPT: usize = 32;

/// One INITIATE_CONTACT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contact {
    /// GUEST_OS_ID at that time; 0 if the guest did not say.
    pub guest_os_id: u64,
    /// The version that was asked for.
    pub version: Version,
    /// Whether it was granted.
    pub granted: bool,
    /// Feature flags that were asked for; before 6.0 the bits are something else, and this is 0.
    pub features: u32,
    /// Who the guest's client says it is.
    pub client_id: Option<Guid>,
    /// Virtual processor that is to get the host's messages.
    pub message_vp: u32,
}

/// The latest contacts.
#[derive(Debug, Default)]
pub struct Contacts(VecDeque<Contact>);

impl Contacts {
    pub(super) fn add(&mut self, contact: Contact) {
        if self.0.len() == CONTACTS_KEPT {
            self.0.pop_front();
        }
        self.0.push_back(contact);
    }

    /// All of them, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Contact> {
        self.0.iter()
    }
}
