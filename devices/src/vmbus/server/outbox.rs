//! What the server wants done and the bus has not fetched yet.
//!
//! Messages that a paused guest does not want to hear wait in a queue of their own: everything else goes on, so a
//! pause never stops a device from closing.

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
    actions: VecDeque<Action>,
    /// Messages that wait for RESUME.
    held: VecDeque<HostMessage>,
    paused: bool,
}

impl Outbox {
    pub fn push(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    pub fn send<B: HostBody>(&mut self, to: Destination, body: &B) {
        let message = HostMessage::new(to.vp, to.sint, body);
        if self.paused {
            self.held.push_back(message);
        } else {
            self.actions.push_back(Action::Send(message));
        }
    }

    pub fn next(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    pub fn put_back(&mut self, message: HostMessage) {
        self.actions.push_front(Action::Send(message));
    }

    /// Actions that the bus has not fetched.
    pub fn len(&self) -> usize {
        self.actions.len()
    }

    pub fn is_paused(&self) -> bool {
        self.paused
    }

    pub fn pause(&mut self) {
        self.paused = true;
    }

    pub fn resume(&mut self) {
        self.paused = false;
        self.actions.extend(self.held.drain(..).map(Action::Send));
    }

    /// Drops every message, here and behind the bus.
    pub fn void_messages(&mut self) {
        self.paused = false;
        self.held.clear();
        self.actions.retain(|action| !matches!(action, Action::Send(_) | Action::DropMessages));
        self.actions.push_back(Action::DropMessages);
    }
}
