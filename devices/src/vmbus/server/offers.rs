//! Offers, rescinds and the ids of channels.
//!
//! An id is the guest's from the offer on until RELID_RELEASED. A channel keeps its id over connections, and ids
//! are given in a stable order, so that the same devices have the same ids in every boot.

use thiserror::Error;
use zerocopy::little_endian::U32;

use super::action::{Action, ChannelId, OfferId};
use super::connection::Session;
use super::limits::{MAX_CHANNELS, MAX_SUB_CHANNELS};
use super::state::{After, Channel, Key, Presence, Run};
use super::{Handled, Refusal, Server, read};
use crate::guest_warn;
use crate::guid::Guid;
use crate::hvdef::VMBUS_SINT;
use crate::vmbus::channel::Offer;
use crate::vmbus::protocol::{ChannelName, DEDICATED_INTERRUPT, OfferChannel, RescindChannelOffer, Status};

/// Why a device cannot offer a channel.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum OfferError {
    /// Interface, instance and sub-channel are another channel's.
    #[error("Channel {sub_channel} of device {instance} (interface {interface}) is already offered")]
    Duplicate {
        /// Kind of device.
        interface: Guid,
        /// The device.
        instance: Guid,
        /// 0 for the device's first channel.
        sub_channel: u16,
    },
    /// A sub-channel of a device whose first channel is not open: the guest may have closed it meanwhile.
    #[error("Device {0} cannot offer a sub-channel while its first channel is not open")]
    NoPrimary(Guid),
    /// Sub-channels are numbered up to [`MAX_SUB_CHANNELS`].
    #[error("A device has at most {MAX_SUB_CHANNELS} sub-channels")]
    TooManySubChannels,
    /// There are [`MAX_CHANNELS`].
    #[error("A machine has at most {MAX_CHANNELS} channels")]
    Full,
}

impl Server {
    /// Adds a channel. A guest that has asked for offers is told of it at once, unless it has yet to release one
    /// with the same interface, instance and sub-channel: then as soon as it has. Sub-channels go when their first
    /// channel closes, and with the connection.
    ///
    /// # Errors
    /// See [`OfferError`].
    pub fn offer(&mut self, offer: Offer) -> Result<OfferId, OfferError> {
        let channel = Channel::new(offer);
        let key @ (interface, instance, sub_channel) = channel.key();
        let find = |key| self.channels.values().find(|other| other.key() == key && !other.is_withdrawn());
        if find(key).is_some() {
            return Err(OfferError::Duplicate { interface, instance, sub_channel });
        }
        let primary = find((interface, instance, 0)).map(|primary| &primary.run);
        if sub_channel > 0 && !matches!(primary, Some(Run::Opening(..) | Run::Open(_))) {
            return Err(OfferError::NoPrimary(instance));
        }
        if sub_channel > MAX_SUB_CHANNELS {
            return Err(OfferError::TooManySubChannels);
        }
        if self.channels.len() >= MAX_CHANNELS {
            return Err(OfferError::Full);
        }
        let offer = OfferId(self.next_offer);
        self.next_offer += 1;
        self.channels.insert(offer, channel);
        self.announce(offer);
        Ok(offer)
    }

    /// Offers the sub-channels 1 to `count` of a device, as it asked for in this opening of its first channel, and
    /// names those that are new, in their order: fewer when the opening is over, some are there already, or there is
    /// no room.
    pub fn offer_sub_channels(&mut self, primary: OfferId, opening: u64, count: u16) -> Vec<OfferId> {
        let open = |channel: &&Channel| matches!(channel.run, Run::Open(_)) && channel.opens == opening;
        let Some(offer) = self.channels.get(&primary).filter(open).map(|channel| channel.offer.clone())
        else {
            return Vec::new();
        };
        let mut offered = Vec::new();
        for sub_channel in 1..=count {
            match self.offer(Offer { sub_channel, ..offer.clone() }) {
                Ok(id) => offered.push(id),
                Err(OfferError::Duplicate { .. }) => {}
                Err(error) => {
                    guest_warn!("{} gets {} of {count} sub-channels: {error}", offer.name, sub_channel - 1);
                    break;
                }
            }
        }
        offered
    }

    /// Removes a channel, and with a device's first channel all of its sub-channels: the guest is told, requests
    /// that wait are answered with failure, and [`Action::Gone`] follows when the device has let go.
    pub fn rescind(&mut self, offer: OfferId) {
        if let Some(channel) = self.channels.get(&offer) {
            self.withdraw_sub_channels(channel.key());
            self.withdraw(offer);
        }
    }

    pub(super) fn withdraw_sub_channels(&mut self, primary: Key) {
        let of_primary = |(_, channel): &(&OfferId, &Channel)| channel.is_sub_channel_of(primary);
        let offers: Vec<OfferId> = self.channels.iter().filter(of_primary).map(|(&offer, _)| offer).collect();
        for offer in offers {
            self.withdraw(offer);
        }
    }

    fn withdraw(&mut self, offer: OfferId) {
        let Some(channel) = self.channels.get_mut(&offer).filter(|channel| !channel.is_withdrawn()) else {
            return;
        };
        let waiting = match &mut channel.run {
            Run::Closed => None,
            Run::Opening(_, answer) => answer.take(),
            Run::Open(link) => {
                channel.run = Run::Closing(*link, After::Nothing);
                self.outbox.push(Action::Close(offer));
                None
            }
            Run::Closing(_, after @ After::Reopen(_)) => match std::mem::replace(after, After::Nothing) {
                After::Reopen(opening) => Some(opening.answer),
                _ => None,
            },
            Run::Closing(..) => None,
        };
        let (id, offered) = (channel.id, channel.presence == Presence::Offered);
        channel.presence = if offered { Presence::Revoked } else { Presence::Gone };
        if let Some(answer) = waiting {
            self.answer_open(offer, answer, Status::UNSUCCESSFUL);
        }
        self.fail_partial(offer);
        self.take_back(offer);
        if let (true, Some(id), Some(session)) = (offered, id, self.connection.session()) {
            self.send(session.destination, &RescindChannelOffer { channel: id.0.into() });
        }
        self.settle(offer);
    }

    pub(super) fn on_relid_released(&mut self, _session: Session, body: &[u8]) -> Handled {
        let (name, _) = read::<ChannelName>(body)?;
        let (offer, _) = self.lookup(name.channel).ok_or(Refusal::NoChannel)?;
        let channel = self.channels.get_mut(&offer).ok_or(Refusal::NoChannel)?;
        match (channel.presence, &channel.run) {
            (Presence::Revoked, _) => channel.presence = Presence::Gone,
            (Presence::Offered, Run::Closed | Run::Closing(_, After::Nothing)) => {
                channel.presence = Presence::Released;
            }
            _ => return Err(Refusal::WrongState),
        }
        self.settle(offer);
        Ok(())
    }

    /// Answers REQUEST_OFFERS; new ids are given in the order of the channels' keys.
    pub(super) fn offer_all(&mut self) {
        let mut offers: Vec<(Key, OfferId)> =
            self.channels.iter().map(|(&offer, channel)| (channel.key(), offer)).collect();
        offers.sort_unstable();
        for (_, offer) in offers {
            self.announce(offer);
        }
    }

    /// Offers a hidden channel to a guest that has asked for offers.
    fn announce(&mut self, offer: OfferId) {
        let Some(session) = self.connection.session().filter(|session| session.offers_requested) else {
            return;
        };
        let Some(channel) = self.channels.get(&offer) else { return };
        let key = channel.key();
        let key_taken = self.channels.values().any(|other| other.key() == key && other.is_withdrawn());
        if channel.presence != Presence::Hidden || key_taken {
            return;
        }
        let Some(id) = channel.id.or_else(|| self.free_id()) else { return };
        self.ids.insert(id, offer);
        let Some(channel) = self.channels.get_mut(&offer) else { return };
        channel.id = Some(id);
        channel.presence = Presence::Offered;
        let message = offer_channel(&channel.offer, id);
        self.send(session.destination, &message);
    }

    fn free_id(&self) -> Option<ChannelId> {
        // At most MAX_CHANNELS channels exist, so one of as many ids is free.
        (1..).map(ChannelId).take(MAX_CHANNELS).find(|id| !self.ids.contains_key(id))
    }

    /// Lets go of a withdrawn channel once its device has.
    pub(super) fn settle(&mut self, offer: OfferId) {
        let settled = |channel: &&mut Channel| channel.is_withdrawn() && channel.is_closed();
        if self.has_gpadls(offer) {
            return;
        }
        let Some(channel) = self.channels.get_mut(&offer).filter(settled) else { return };
        if !std::mem::replace(&mut channel.gone_told, true) {
            self.outbox.push(Action::Gone(offer));
        }
        if channel.presence != Presence::Gone {
            return;
        }
        let (id, key) = (channel.id, channel.key());
        self.channels.remove(&offer);
        if let Some(id) = id {
            self.ids.remove(&id);
        }
        let heir = self.channels.iter().find(|(_, other)| other.key() == key && !other.is_withdrawn());
        if let Some((&heir, _)) = heir {
            self.announce(heir);
        }
    }

    /// A channel that the guest knows of by this id; never `Hidden` or `Gone`.
    pub(super) fn lookup(&self, id: U32) -> Option<(OfferId, Presence)> {
        let offer = *self.ids.get(&ChannelId(id.get()))?;
        let presence = self.channels.get(&offer)?.presence;
        match presence {
            Presence::Offered | Presence::Released | Presence::Revoked => Some((offer, presence)),
            Presence::Hidden | Presence::Gone => None,
        }
    }
}

/// Connection id of a channel's doorbell, as Hyper-V forms it: the SINT above the channel's id.
pub(super) fn connection_id(id: ChannelId) -> u32 {
    u32::from(VMBUS_SINT) << 12 | id.0
}

fn offer_channel(offer: &Offer, id: ChannelId) -> OfferChannel {
    OfferChannel {
        interface: offer.interface,
        instance: offer.instance,
        reserved: [0; 16],
        flags: offer.flags.bits().into(),
        mmio_megabytes: offer.mmio_megabytes.into(),
        user_data: offer.user_data,
        sub_channel: offer.sub_channel.into(),
        mmio_megabytes_optional: 0.into(),
        channel: id.0.into(),
        monitor_id: 0,
        monitor_allocated: 0,
        dedicated_interrupt: DEDICATED_INTERRUPT.into(),
        connection_id: connection_id(id).into(),
    }
}
