//! Reserved channels: opened with a virtual processor and a SINT of their own for the answers, they raise no
//! interrupts and outlive UNLOAD. Windows writes crash dumps and hibernation files through them.
//!
//! Only a new contact, a rescind or a reset closes them without being asked to.

use super::action::ChannelId;
use super::outbox::Destination;
use super::state::{After, OpenAnswer, Opening, Presence, Run};
use super::{Handled, Refusal, Server, Version, read};
use crate::vmbus::gpadl::GpadlId;
use crate::vmbus::protocol::{
    CloseReservedChannel, CloseReservedResponse, OpenReservedChannel, VP_NONE, message_type,
};

impl Server {
    pub(super) fn on_open_reserved_channel(&mut self, body: &[u8]) -> Handled {
        let (open, _) = read::<OpenReservedChannel>(body)?;
        let session = self.session_for(message_type::OPEN_RESERVED_CHANNEL);
        let target = self.destination(open.target_vp.get(), open.target_sint.get());
        // A SINT that there is not cannot be answered on; where messages usually go, the guest may see it.
        let fallback = session.map_or(Destination::DEFAULT, |session| session.destination);
        let answer = OpenAnswer { to: target.unwrap_or(fallback), open_id: 0 };
        let opening = Opening {
            answer,
            ring: GpadlId(open.ring_gpadl.get()),
            downstream_page_offset: open.downstream_page_offset.get(),
            target_vp: VP_NONE,
            signal: None,
            user_data: [0; 120],
            reserved: true,
        };
        // The ring is a GPADL of the connection: without one there is nothing to open.
        let refusal = match (session, target, self.lookup(open.channel)) {
            (Err(refusal), ..) => refusal,
            (_, None, _) => Refusal::BadTarget,
            (Ok(_), Some(_), Some((offer, Presence::Offered))) => return self.open_in_turn(offer, opening),
            (Ok(_), Some(_), Some((_, Presence::Revoked))) => return Err(Refusal::WrongState),
            _ => Refusal::NoChannel,
        };
        self.send_open_result(ChannelId(open.channel.get()), answer, refusal.status());
        Err(refusal)
    }

    /// Welcome without a connection too.
    pub(super) fn on_close_reserved_channel(&mut self, body: &[u8]) -> Handled {
        let (close, _) = read::<CloseReservedChannel>(body)?;
        if self.connection.session().is_some_and(|session| session.version < Version::V4_0) {
            return Err(Refusal::NotNegotiated);
        }
        let Some(to) = self.destination(close.target_vp.get(), close.target_sint.get()) else {
            return Err(Refusal::BadTarget);
        };
        let offer = self.ids.get(&ChannelId(close.channel.get())).copied();
        let channel = offer.and_then(|offer| Some((offer, self.channels.get_mut(&offer)?)));
        match channel.map(|(offer, channel)| (offer, &mut channel.run)) {
            Some((offer, &mut Run::Open(link))) if link.reserved => {
                self.close(offer, link, After::Answer(to));
                Ok(())
            }
            // Already closing, for a rescind say: the answer must still wait for the end.
            Some((_, Run::Closing(link, after @ After::Nothing))) if link.reserved => {
                *after = After::Answer(to);
                Ok(())
            }
            Some((_, Run::Opening(..) | Run::Open(_) | Run::Closing(..))) => Err(Refusal::WrongState),
            Some((_, Run::Closed)) | None => {
                self.send(to, &CloseReservedResponse { channel: close.channel });
                Err(Refusal::WrongState)
            }
        }
    }
}
