//! GPADLs of the connection: header, body, teardown.
//!
//! ```text
//!                          all units are there          TEARDOWN, rescind, reset
//!   (header) ──▶ Partial ─────────────────────▶ Lent ─────────────────────────────▶ Unmapping ──▶ (torn down)
//!                                                │                                     ▲    unmapped
//!                                                │ the same, while it is an open ring  │
//!                                                └──────────▶ Waiting ─────────────────┘
//!                                                                        channel closed
//! ```
//!
//! Names are per channel, as on Hyper-V; but a body says no channel, so that no two GPADLs of one name can be
//! partial at a time.

use std::collections::BTreeMap;

use super::action::{Action, ChannelId, OfferId};
use super::connection::Session;
use super::limits::{MAX_GPADL_UNITS, MAX_GPADLS, MAX_PARTIAL_GPADLS};
use super::state::Presence;
use super::{Handled, Refusal, Server, read};
use crate::vmbus::gpadl::{Gpadl, GpadlError, GpadlId, GpadlParser};
use crate::vmbus::protocol::{GpadlBody, GpadlCreated, GpadlHeader, GpadlTeardown, GpadlTorndown, Status};

#[derive(Debug)]
pub(super) struct Gpadls {
    complete: BTreeMap<(OfferId, GpadlId), Entry>,
    partial: BTreeMap<GpadlId, Partial>,
    /// Units that the guest may still lend.
    budget: usize,
}

#[derive(Debug)]
struct Partial {
    offer: OfferId,
    channel: ChannelId,
    parser: GpadlParser,
}

#[derive(Debug)]
struct Entry {
    gpadl: Gpadl,
    cost: usize,
    hold: Hold,
    /// The guest waits for GPADL_TORNDOWN.
    answer: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    Lent,
    /// To be unmapped when the channel whose ring it is has closed.
    Waiting,
    Unmapping,
}

impl Default for Gpadls {
    fn default() -> Self {
        Gpadls { complete: BTreeMap::new(), partial: BTreeMap::new(), budget: MAX_GPADL_UNITS }
    }
}

impl Gpadls {
    /// A GPADL that may become a ring.
    pub fn lent(&self, offer: OfferId, gpadl: GpadlId) -> Option<&Gpadl> {
        self.complete.get(&(offer, gpadl)).filter(|entry| entry.hold == Hold::Lent).map(|entry| &entry.gpadl)
    }

    /// Units that are held or promised.
    #[cfg(test)]
    pub fn units(&self) -> usize {
        MAX_GPADL_UNITS - self.budget
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.complete.is_empty() && self.partial.is_empty()
    }

    #[cfg(test)]
    pub fn is_partial(&self, gpadl: GpadlId) -> bool {
        self.partial.contains_key(&gpadl)
    }

    fn names(&self, offer: OfferId) -> Vec<GpadlId> {
        let all = (offer, GpadlId(0))..=(offer, GpadlId(u32::MAX));
        self.complete.range(all).map(|(&(_, gpadl), _)| gpadl).collect()
    }

    fn drop_partial(&mut self, gpadl: GpadlId) -> Option<ChannelId> {
        let partial = self.partial.remove(&gpadl)?;
        self.budget += partial.parser.cost();
        Some(partial.channel)
    }
}

impl Server {
    pub(super) fn on_gpadl_header(&mut self, session: Session, body: &[u8]) -> Handled {
        let (header, units) = read::<GpadlHeader>(body)?;
        let (channel, gpadl) = (ChannelId(header.channel.get()), GpadlId(header.gpadl.get()));
        let outcome = self.start_gpadl(&header, units);
        self.answer_created(session, (channel, gpadl), outcome)
    }

    /// Whether the GPADL is there, or its bodies are awaited.
    fn start_gpadl(&mut self, header: &GpadlHeader, units: &[u8]) -> Result<bool, Refusal> {
        let gpadl = GpadlId(header.gpadl.get());
        let (offer, presence) = self.lookup(header.channel).ok_or(Refusal::NoChannel)?;
        match presence {
            // The guest is cleaning up and will not use it.
            Presence::Revoked => return Ok(true),
            Presence::Offered => {}
            _ => return Err(Refusal::NoChannel),
        }
        let gpadls = &mut self.gpadls;
        if gpadls.complete.contains_key(&(offer, gpadl)) || gpadls.partial.contains_key(&gpadl) {
            return Err(Refusal::GpadlExists);
        }
        if gpadls.complete.len() + gpadls.partial.len() >= MAX_GPADLS {
            return Err(Refusal::TooManyGpadls);
        }
        let parser = GpadlParser::new(header.range_count.get(), header.range_buflen.get())?;
        let partial = Partial { offer, channel: ChannelId(header.channel.get()), parser };
        gpadls.partial.insert(gpadl, partial);
        let complete = self.continue_gpadl(gpadl, units)?;
        if !complete && self.gpadls.partial.len() > MAX_PARTIAL_GPADLS {
            self.gpadls.drop_partial(gpadl);
            return Err(Refusal::TooManyPartial);
        }
        Ok(complete)
    }

    pub(super) fn on_gpadl_body(&mut self, session: Session, body: &[u8]) -> Handled {
        let (body, units) = read::<GpadlBody>(body)?;
        let gpadl = GpadlId(body.gpadl.get());
        let channel = self.gpadls.partial.get(&gpadl).ok_or(Refusal::NoGpadl)?.channel;
        let outcome = self.continue_gpadl(gpadl, units);
        self.answer_created(session, (channel, gpadl), outcome)
    }

    /// Feeds a partial GPADL; it is dropped when it makes no sense.
    fn continue_gpadl(&mut self, gpadl: GpadlId, units: &[u8]) -> Result<bool, Refusal> {
        let gpadls = &mut self.gpadls;
        let partial = gpadls.partial.get_mut(&gpadl).ok_or(Refusal::NoGpadl)?;
        match partial.parser.push(units, &mut gpadls.budget) {
            Ok(false) => return Ok(false),
            Ok(true) => {}
            Err(error) => {
                gpadls.drop_partial(gpadl);
                return Err(error.into());
            }
        }
        let Partial { offer, parser, .. } = gpadls.partial.remove(&gpadl).ok_or(Refusal::NoGpadl)?;
        let cost = parser.cost();
        let complete = parser.finish();
        let entry = Entry { gpadl: complete.clone(), cost, hold: Hold::Lent, answer: false };
        gpadls.complete.insert((offer, gpadl), entry);
        self.outbox.push(Action::Map(offer, gpadl, complete));
        Ok(true)
    }

    fn answer_created(
        &mut self,
        session: Session,
        (channel, gpadl): (ChannelId, GpadlId),
        outcome: Result<bool, Refusal>,
    ) -> Handled {
        let status = match outcome {
            Ok(false) => return Ok(()),
            Ok(true) => Status::SUCCESS,
            Err(refusal) => refusal.status(),
        };
        let created =
            GpadlCreated { channel: channel.0.into(), gpadl: gpadl.0.into(), status: status.0.into() };
        self.send(session.destination, &created);
        outcome.map(drop)
    }

    pub(super) fn on_gpadl_teardown(&mut self, session: Session, body: &[u8]) -> Handled {
        let (teardown, _) = read::<GpadlTeardown>(body)?;
        let gpadl = GpadlId(teardown.gpadl.get());
        // Not `lookup`: a guest that released a channel too early must still wait for its device.
        let offer = self.ids.get(&ChannelId(teardown.channel.get())).copied();
        let entry = offer.and_then(|offer| self.gpadls.complete.get_mut(&(offer, gpadl)));
        match (offer, entry) {
            // One request has one answer.
            (_, Some(entry)) if entry.answer => Err(Refusal::WrongState),
            (Some(offer), Some(entry)) => {
                entry.answer = true;
                self.release(offer, gpadl);
                Ok(())
            }
            _ => {
                let partial = self.gpadls.partial.get(&gpadl).filter(|partial| Some(partial.offer) == offer);
                let known = partial.is_some();
                if known {
                    self.gpadls.drop_partial(gpadl);
                }
                // Linux waits for this answer for ever, even of a name that nobody knows.
                self.send(session.destination, &GpadlTorndown { gpadl: gpadl.0.into() });
                if known { Ok(()) } else { Err(Refusal::NoGpadl) }
            }
        }
    }

    /// The bus has let go of a GPADL, as [`Action::Unmap`] asked for.
    pub fn unmapped(&mut self, offer: OfferId, gpadl: GpadlId) {
        let key = (offer, gpadl);
        let Some(entry) = self.gpadls.complete.get(&key).filter(|entry| entry.hold == Hold::Unmapping) else {
            return;
        };
        let answer = entry.answer;
        self.gpadls.budget += entry.cost;
        self.gpadls.complete.remove(&key);
        if let (true, Some(session)) = (answer, self.connection.session()) {
            self.send(session.destination, &GpadlTorndown { gpadl: gpadl.0.into() });
        }
        self.settle(offer);
        self.finish_reset();
    }

    /// Has the bus let go of a GPADL: now, or when the channel has closed whose ring it is.
    fn release(&mut self, offer: OfferId, gpadl: GpadlId) {
        let in_use = self.channels.get(&offer).is_some_and(|channel| channel.uses_ring(gpadl));
        let Some(entry) = self.gpadls.complete.get_mut(&(offer, gpadl)) else { return };
        match (entry.hold, in_use) {
            (Hold::Lent | Hold::Waiting, true) => entry.hold = Hold::Waiting,
            (Hold::Lent | Hold::Waiting, false) => {
                entry.hold = Hold::Unmapping;
                self.outbox.push(Action::Unmap(offer, gpadl));
            }
            (Hold::Unmapping, _) => {}
        }
    }

    /// Releases what waited for a channel to close.
    pub(super) fn release_waiting(&mut self, offer: OfferId) {
        for gpadl in self.gpadls.names(offer) {
            let entry = self.gpadls.complete.get(&(offer, gpadl));
            if entry.is_some_and(|entry| entry.hold == Hold::Waiting) {
                self.release(offer, gpadl);
            }
        }
    }

    /// Releases every GPADL of a channel; whoever waits for its teardown is still answered.
    pub(super) fn take_back(&mut self, offer: OfferId) {
        for gpadl in self.gpadls.names(offer) {
            self.release(offer, gpadl);
        }
    }

    /// Drops what a channel's guest was still describing, with a failure for an answer.
    pub(super) fn fail_partial(&mut self, offer: OfferId) {
        let of_channel = |(_, partial): &(&GpadlId, &Partial)| partial.offer == offer;
        let names: Vec<GpadlId> =
            self.gpadls.partial.iter().filter(of_channel).map(|(&gpadl, _)| gpadl).collect();
        for gpadl in names {
            let Some(channel) = self.gpadls.drop_partial(gpadl) else { continue };
            let status = Status::UNSUCCESSFUL.0.into();
            let created = GpadlCreated { channel: channel.0.into(), gpadl: gpadl.0.into(), status };
            if let Some(session) = self.connection.session() {
                self.send(session.destination, &created);
            }
        }
    }

    /// Releases every GPADL of the connection; without one, nobody is answered. The rings of reserved channels may
    /// stay.
    pub(super) fn take_back_all(&mut self, keep_reserved: bool) {
        while let Some((&gpadl, _)) = self.gpadls.partial.first_key_value() {
            self.gpadls.drop_partial(gpadl);
        }
        let names: Vec<(OfferId, GpadlId)> = self.gpadls.complete.keys().copied().collect();
        for (offer, gpadl) in names {
            if !(keep_reserved && self.is_reserved_ring(offer, gpadl)) {
                self.release(offer, gpadl);
            }
        }
    }

    /// Whether nothing is left of what [`Server::take_back_all`] released.
    pub(super) fn all_taken_back(&self, keep_reserved: bool) -> bool {
        let mut names = self.gpadls.complete.keys();
        names.all(|&(offer, gpadl)| keep_reserved && self.is_reserved_ring(offer, gpadl))
    }

    pub(super) fn has_gpadls(&self, offer: OfferId) -> bool {
        !self.gpadls.names(offer).is_empty()
    }

    fn is_reserved_ring(&self, offer: OfferId, gpadl: GpadlId) -> bool {
        self.channels.get(&offer).is_some_and(|channel| channel.is_reserved() && channel.uses_ring(gpadl))
    }
}

impl From<GpadlError> for Refusal {
    fn from(error: GpadlError) -> Self {
        match error {
            GpadlError::Budget(_) => Refusal::TooManyPages,
            GpadlError::Empty | GpadlError::Range { .. } | GpadlError::Length { .. } => Refusal::BadGpadl,
        }
    }
}
