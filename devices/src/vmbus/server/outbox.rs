//! What the server wants done and the bus has not fetched yet.
//!
//! What the host does comes before what it says, so that no device waits for a guest that does not fetch its
//! messages, and nothing is said before it is done. Among themselves, both keep their order. Messages that a paused
//! guest does not want to hear wait apart.

use std::collections::VecDeque;

use super::action::{Action, HostMessage};
use crate::hvdef::VMBUS_SINT;
use crate::vmbus::protocol::HostBody;

/// Where an answer goes: checked, so that nothing behind the server need trust a guest's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Destination {
    pub vp: u32,
    pub sint: u8,
}

impl Destination {
    /// Where a guest listens that has not said where.
    pub const DEFAULT: Destination = Destination { vp: 0, sint: VMBUS_SINT };
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Everything but messages.
    actions: VecDeque<Action>,
    messages: VecDeque<HostMessage>,
    /// Messages that wait for RESUME.
    held: VecDeque<HostMessage>,
    paused: bool,
}

impl Outbox {
    pub fn push(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    pub fn send<B: HostBody>(&mut self, to: Destination, body: &B) {
        let queue = if self.paused { &mut self.held } else { &mut self.messages };
        queue.push_back(HostMessage::new(to.vp, to.sint, body));
    }

    pub fn next(&mut self) -> Option<Action> {
        self.actions.pop_front().or_else(|| self.messages.pop_front().map(Action::Send))
    }

    pub fn put_back(&mut self, message: HostMessage) {
        self.messages.push_front(message);
    }

    /// What the bus has not fetched, except for what a paused guest does not want to hear.
    pub fn len(&self) -> usize {
        self.actions.len() + self.messages.len()
    }

    /// Messages that wait for RESUME.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    pub fn is_paused(&self) -> bool {
        self.paused
    }

    pub fn pause(&mut self) {
        self.paused = true;
    }

    pub fn resume(&mut self) {
        self.paused = false;
        self.messages.append(&mut self.held);
    }

    /// Drops every message, here and behind the bus.
    pub fn void_messages(&mut self) {
        self.paused = false;
        self.held.clear();
        self.messages.clear();
        self.actions.retain(|action| *action != Action::DropMessages);
        self.actions.push_back(Action::DropMessages);
    }
}
