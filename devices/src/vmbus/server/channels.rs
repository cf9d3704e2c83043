//! Opening, closing and moving channels.
//!
//! Only what can be told without guest memory is checked here; whether the pages are RAM and large enough for the
//! device is the bus' to say.

use zerocopy::FromBytes;

use super::action::{Action, ChannelId, OfferId, OpenRequest};
use super::connection::Session;
use super::offers::connection_id;
use super::outbox::Destination;
use super::state::{After, Link, OpenAnswer, Opening, Presence, Run};
use super::{Handled, Refusal, Server, Version, read};
use crate::hvdef::EVENT_FLAG_COUNT;
use crate::vmbus::gpadl::GpadlId;
use crate::vmbus::protocol::{
    ChannelName, CloseReservedResponse, FeatureFlags, ModifyChannel, ModifyChannelResponse, OpenChannel,
    OpenChannel2, OpenChannelResult, Status, VP_NONE,
};
/// Pages of the smallest ring: one for control, one for data.
const MIN_RING_PAGES: u32 = 2;

/// Connection ids that a guest may choose for its doorbell: 24 bits, less what the message, event and monitor
/// ports of the bus use.
const GUEST_CONNECTION_IDS: std::ops::RangeInclusive<u32> = 5..=0x00FF_FFFF;

impl Server {
    pub(super) fn on_open_channel(&mut self, session: Session, body: &[u8]) -> Handled {
        let (open, _) = read::<OpenChannel>(body)?;
        let chosen = session.features.contains(FeatureFlags::GUEST_SPECIFIED_SIGNAL_PARAMETERS);
        let open2 = OpenChannel2::read_from_prefix(body).ok().filter(|_| chosen);
        let opening = Opening {
            answer: OpenAnswer { to: session.destination, open_id: open.open_id.get() },
            ring: GpadlId(open.ring_gpadl.get()),
            downstream_page_offset: open.downstream_page_offset.get(),
            target_vp: open.target_vp.get(),
            signal: open2.map(|(open, _)| (open.connection_id.get(), open.event_flag.get())),
            user_data: open.user_data,
            reserved: false,
        };
        match self.lookup(open.channel) {
            Some((offer, Presence::Offered)) => self.open_in_turn(offer, opening),
            // The RESCIND that is on its way wakes the guest up.
            Some((_, Presence::Revoked)) => Err(Refusal::WrongState),
            _ => {
                let id = ChannelId(open.channel.get());
                self.send_open_result(id, opening.answer, Refusal::NoChannel.status());
                Err(Refusal::NoChannel)
            }
        }
    }

    /// Opens an offered channel: now, or when it has closed.
    pub(super) fn open_in_turn(&mut self, offer: OfferId, opening: Opening) -> Handled {
        let Some(channel) = self.channels.get_mut(&offer) else { return Err(Refusal::NoChannel) };
        match &mut channel.run {
            Run::Closed => self.open(offer, &opening),
            Run::Closing(_, after @ After::Nothing) => {
                *after = After::Reopen(Box::new(opening));
                Ok(())
            }
            Run::Closing(_, After::Answer(_)) => {
                self.answer_open(offer, opening.answer, Refusal::WrongState.status());
                Err(Refusal::WrongState)
            }
            // Whoever asked first is answered.
            Run::Opening(..) | Run::Open(_) | Run::Closing(_, After::Reopen(_)) => Err(Refusal::WrongState),
        }
    }

    fn open(&mut self, offer: OfferId, opening: &Opening) -> Handled {
        match self.check_open(offer, opening) {
            Ok((request, link)) => {
                if let Some(channel) = self.channels.get_mut(&offer) {
                    channel.run = Run::Opening(link, Some(opening.answer));
                    self.outbox.push(Action::Open(offer, Box::new(request)));
                }
                Ok(())
            }
            Err(refusal) => {
                self.answer_open(offer, opening.answer, refusal.status());
                Err(refusal)
            }
        }
    }

    fn check_open(&self, offer: OfferId, opening: &Opening) -> Result<(OpenRequest, Link), Refusal> {
        let session = self.connection.session().ok_or(Refusal::NotConnected)?;
        let known = self.channels.get(&offer).and_then(|channel| Some((channel.id?, channel.opens + 1)));
        let (channel, number) = known.ok_or(Refusal::NoChannel)?;
        let ring = self.gpadls.lent(offer, opening.ring).ok_or(Refusal::NoGpadl)?;
        let pages =
            ring.whole_pages().and_then(|pages| u32::try_from(pages.len()).ok()).ok_or(Refusal::BadRing)?;
        let outgoing_pages = opening.downstream_page_offset;
        let incoming_pages = pages.checked_sub(outgoing_pages).ok_or(Refusal::BadRing)?;
        if outgoing_pages < MIN_RING_PAGES || incoming_pages < MIN_RING_PAGES {
            return Err(Refusal::BadRing);
        }
        let target_vp = Some(opening.target_vp).filter(|&vp| vp != VP_NONE);
        if target_vp.is_some_and(|vp| !self.has_vp(vp)) {
            return Err(Refusal::BadTarget);
        }
        let (connection_id, event_flag) = self.check_signal(channel, target_vp, opening.signal)?;
        let request = OpenRequest {
            channel,
            opening: number,
            version: session.version,
            ring: ring.clone(),
            ring_gpadl: opening.ring,
            downstream_page_offset: outgoing_pages,
            target_vp,
            connection_id,
            event_flag,
            user_data: opening.user_data,
        };
        let link = Link {
            ring: opening.ring,
            outgoing_pages,
            incoming_pages,
            target_vp,
            connection_id,
            event_flag,
            reserved: opening.reserved,
        };
        Ok((request, link))
    }

    /// The connection id and event flag of a channel: its own, or what the guest chose if nobody has them.
    fn check_signal(
        &self,
        channel: ChannelId,
        target_vp: Option<u32>,
        chosen: Option<(u32, u16)>,
    ) -> Result<(u32, u16), Refusal> {
        let own_flag = u16::try_from(channel.0).map_err(|_| Refusal::BadSignal)?;
        let (connection_id, event_flag) = chosen.unwrap_or_else(|| (connection_id(channel), own_flag));
        let in_range =
            GUEST_CONNECTION_IDS.contains(&connection_id) && (1..EVENT_FLAG_COUNT).contains(&event_flag);
        let id_taken = self.links().any(|link| link.connection_id == connection_id);
        if !in_range || id_taken || self.flag_taken(target_vp, event_flag) {
            return Err(Refusal::BadSignal);
        }
        Ok((connection_id, event_flag))
    }

    /// Whether another channel interrupts this virtual processor with this event flag.
    fn flag_taken(&self, target_vp: Option<u32>, event_flag: u16) -> bool {
        target_vp.is_some()
            && self.links().any(|link| link.target_vp == target_vp && link.event_flag == event_flag)
    }

    fn links(&self) -> impl Iterator<Item = &Link> {
        self.channels.values().filter_map(|channel| channel.link())
    }

    /// The bus has done what [`Action::Open`] asked for, or says with which status the guest is refused.
    pub fn opened(&mut self, offer: OfferId, outcome: Result<(), Status>) {
        let Some(channel) = self.channels.get_mut(&offer) else { return };
        let Run::Opening(link, answer) = channel.run else { return };
        match (outcome, answer) {
            (Ok(()), Some(answer)) => {
                channel.run = Run::Open(link);
                channel.latest = Some(link);
                channel.opens += 1;
                self.answer_open(offer, answer, Status::SUCCESS);
            }
            (Ok(()), None) => {
                channel.run = Run::Closing(link, After::Nothing);
                self.outbox.push(Action::Close(offer));
            }
            (Err(status), answer) => {
                channel.run = Run::Closed;
                self.counters.refuse(Refusal::Device);
                if let Some(answer) = answer {
                    // Success would leave the guest with a channel that nobody serves.
                    let failed = if status == Status::SUCCESS { Status::UNSUCCESSFUL } else { status };
                    self.answer_open(offer, answer, failed);
                }
                self.after_close(offer);
            }
        }
    }

    /// The bus has stopped a channel, as [`Action::Close`] asked for.
    pub fn closed(&mut self, offer: OfferId) {
        let Some(channel) = self.channels.get_mut(&offer) else { return };
        if !matches!(channel.run, Run::Closing(..)) {
            return;
        }
        let run = std::mem::replace(&mut channel.run, Run::Closed);
        self.release_waiting(offer);
        match run {
            Run::Closing(_, After::Reopen(opening)) => {
                if let Err(refusal) = self.open(offer, &opening) {
                    self.counters.refuse(refusal);
                }
            }
            Run::Closing(_, After::Answer(to)) => self.send_close_reserved_response(offer, to),
            _ => {}
        }
        self.after_close(offer);
    }

    fn after_close(&mut self, offer: OfferId) {
        self.release_waiting(offer);
        let unknown = |presence| matches!(presence, Presence::Hidden | Presence::Gone);
        if self.channels.get(&offer).is_some_and(|channel| unknown(channel.presence)) {
            // Nobody is left who could tear them down.
            self.take_back(offer);
        }
        self.settle(offer);
        self.finish_reset();
    }

    pub(super) fn on_close_channel(&mut self, _session: Session, body: &[u8]) -> Handled {
        let (name, _) = read::<ChannelName>(body)?;
        let (offer, presence) = self.lookup(name.channel).ok_or(Refusal::NoChannel)?;
        if presence == Presence::Revoked {
            // It is closed, or about to be.
            return Ok(());
        }
        let channel = self.channels.get(&offer).ok_or(Refusal::NoChannel)?;
        let key = channel.key();
        match channel.run {
            Run::Open(link) if !link.reserved => {
                // The device starts over with its first channel, and offers the others anew when it is asked to.
                self.withdraw_sub_channels(key);
                self.close(offer, link, After::Nothing);
                Ok(())
            }
            _ => Err(Refusal::WrongState),
        }
    }

    pub(super) fn close(&mut self, offer: OfferId, link: Link, after: After) {
        if let Some(channel) = self.channels.get_mut(&offer) {
            channel.run = Run::Closing(link, after);
            self.outbox.push(Action::Close(offer));
        }
    }

    pub(super) fn on_modify_channel(&mut self, session: Session, body: &[u8]) -> Handled {
        let (modify, _) = read::<ModifyChannel>(body)?;
        let outcome = self.modify(&modify);
        if session.version >= Version::V5_3 {
            let status = outcome.err().map_or(Status::SUCCESS, Refusal::status).0.into();
            self.send(session.destination, &ModifyChannelResponse { channel: modify.channel, status });
        }
        outcome
    }

    fn modify(&mut self, modify: &ModifyChannel) -> Handled {
        let (offer, presence) = self.lookup(modify.channel).ok_or(Refusal::NoChannel)?;
        let target_vp = modify.target_vp.get();
        let has_vp = self.has_vp(target_vp);
        let run = self.channels.get(&offer).map(|channel| &channel.run);
        let link = match run {
            Some(Run::Open(link)) if presence == Presence::Offered && !link.reserved => *link,
            _ => return Err(Refusal::WrongState),
        };
        let moves = link.target_vp != Some(target_vp);
        if !has_vp || moves && self.flag_taken(Some(target_vp), link.event_flag) {
            return Err(Refusal::BadTarget);
        }
        if let Some(channel) = self.channels.get_mut(&offer) {
            channel.run = Run::Open(Link { target_vp: Some(target_vp), ..link });
            self.outbox.push(Action::Retarget(offer, Some(target_vp)));
        }
        Ok(())
    }

    pub(super) fn answer_open(&mut self, offer: OfferId, answer: OpenAnswer, status: Status) {
        if let Some(id) = self.channels.get(&offer).and_then(|channel| channel.id) {
            self.send_open_result(id, answer, status);
        }
    }

    pub(super) fn send_open_result(&mut self, id: ChannelId, answer: OpenAnswer, status: Status) {
        let result = OpenChannelResult {
            channel: id.0.into(),
            open_id: answer.open_id.into(),
            status: status.0.into(),
        };
        self.send(answer.to, &result);
    }

    fn send_close_reserved_response(&mut self, offer: OfferId, to: Destination) {
        if let Some(id) = self.channels.get(&offer).and_then(|channel| channel.id) {
            self.send(to, &CloseReservedResponse { channel: id.0.into() });
        }
    }
}
