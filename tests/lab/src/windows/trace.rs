//! Contacts and openings of channels, out of busman's trace (pcapng).
//!
//! The report has a channel's last opening only; the trace has those of the firmware too. What it says comes from a
//! guest, so nothing in here trusts it.

use std::collections::BTreeMap;

use devices::guid::Guid;
use devices::vmbus::protocol::{
    ChannelName, GpadlHeader, Header, InitiateContact, OfferChannel, OpenChannel, OpenChannelResult, Version,
    VersionResponse, message_type,
};
use devices::vmbus::trace::protocol::{Direction, Kind, TraceHeader};
use serde::Serialize;
use zerocopy::FromBytes;
use zerocopy::little_endian::{U16, U32};

/// Type of the block that a packet is in, and where the packet begins in it, behind type and length.
const ENHANCED_PACKET: u32 = 6;
const PACKET: usize = 20;
/// Bytes of a page, which GPADLs are made of.
const PAGE: u32 = 4096;

/// A contact and what followed it, up to the next one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Contact {
    /// The version that was asked for.
    pub version: String,
    /// Whether it was granted; `None` without an answer.
    pub granted: Option<bool>,
    /// Whether the guest unloaded the bus at the end.
    pub unloaded: bool,
    /// Channels that the guest opened, in that order.
    pub openings: Vec<Opening>,
}

/// A channel that a guest opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Opening {
    pub channel: u32,
    pub interface: String,
    pub instance: String,
    pub sub_channel: u16,
    /// Pages of the rings' GPADL, and of those the ones before the ring to the guest.
    pub pages: u32,
    pub offset: u32,
    /// Whether the host opened it; `None` without an answer.
    pub opened: Option<bool>,
    pub closed: bool,
}

/// Reads a whole trace; one that is cut off is read to there.
pub fn read(file: &[u8]) -> Result<Vec<Contact>, String> {
    let mut history = History::default();
    let mut rest = file;
    while let Ok((head, _)) = <[U32; 2]>::read_from_prefix(rest) {
        let [kind, length] = head.map(|number| number.get() as usize);
        if length < 12 || length % 4 != 0 {
            return Err(format!("a block of {length} bytes, at byte {}", file.len() - rest.len()));
        }
        let Some((block, next)) = rest.split_at_checked(length) else { break };
        if kind == ENHANCED_PACKET as usize
            && let Some(record) = packet(&block[8..])
        {
            history.take(record);
        }
        rest = next;
    }
    Ok(history.contacts)
}

/// The bytes of the packet in a block.
fn packet(body: &[u8]) -> Option<&[u8]> {
    let (length, _) = U32::read_from_prefix(body.get(12..)?).ok()?;
    body.get(PACKET..PACKET.checked_add(length.get() as usize)?)
}

#[derive(Default)]
struct History {
    contacts: Vec<Contact>,
    offers: BTreeMap<u32, OfferChannel>,
    /// Pages by channel and GPADL.
    gpadls: BTreeMap<(u32, u32), u32>,
}

impl History {
    /// Takes a record; what is no control message, or cut off, tells nothing.
    fn take(&mut self, record: &[u8]) {
        let Ok((trace, _)) = TraceHeader::read_from_prefix(record) else { return };
        if trace.kind != Kind::Message as u8 {
            return;
        }
        let message = record.get(usize::from(trace.length)..).unwrap_or_default();
        let Ok((header, body)) = Header::read_from_prefix(message) else { return };
        let from_guest = trace.direction == Direction::FromGuest as u8;
        let _ = if from_guest {
            self.take_from_guest(header.message_type.get(), body)
        } else {
            self.take_to_guest(header.message_type.get(), body)
        };
    }

    fn take_from_guest(&mut self, kind: u32, body: &[u8]) -> Option<()> {
        match kind {
            message_type::INITIATE_CONTACT => {
                let contact: InitiateContact = start(body)?;
                let version = Version(contact.version.get()).to_string();
                (self.offers, self.gpadls) = (BTreeMap::new(), BTreeMap::new());
                self.contacts.push(Contact { version, ..Contact::default() });
            }
            message_type::UNLOAD => self.contacts.last_mut()?.unloaded = true,
            message_type::GPADL_HEADER => {
                let (header, ranges) = GpadlHeader::read_from_prefix(body).ok()?;
                let [bytes, offset] = start::<[U32; 2]>(ranges)?.map(U32::get);
                let pages = bytes.checked_add(offset)?.div_ceil(PAGE);
                self.gpadls.insert((header.channel.get(), header.gpadl.get()), pages);
            }
            message_type::OPEN_CHANNEL => self.open(&start(body)?)?,
            message_type::CLOSE_CHANNEL => {
                let channel = start::<ChannelName>(body)?.channel.get();
                self.opening(channel)?.closed = true;
            }
            _ => {}
        }
        Some(())
    }

    fn take_to_guest(&mut self, kind: u32, body: &[u8]) -> Option<()> {
        match kind {
            message_type::VERSION_RESPONSE => {
                self.contacts.last_mut()?.granted = Some(start::<VersionResponse>(body)?.supported != 0);
            }
            message_type::OFFER_CHANNEL => {
                let offer: OfferChannel = start(body)?;
                self.offers.insert(offer.channel.get(), offer);
            }
            message_type::OPEN_CHANNEL_RESULT => {
                let result: OpenChannelResult = start(body)?;
                self.opening(result.channel.get())?.opened = Some(result.status.get() == 0);
            }
            _ => {}
        }
        Some(())
    }

    fn open(&mut self, open: &OpenChannel) -> Option<()> {
        let channel = open.channel.get();
        let offer = self.offers.get(&channel);
        let text = |guid: Option<Guid>| guid.map(|guid| guid.to_string()).unwrap_or_default();
        let opening = Opening {
            channel,
            interface: text(offer.map(|offer| offer.interface)),
            instance: text(offer.map(|offer| offer.instance)),
            sub_channel: offer.map(|offer| offer.sub_channel).map_or(0, U16::get),
            pages: self.gpadls.get(&(channel, open.ring_gpadl.get())).copied().unwrap_or_default(),
            offset: open.downstream_page_offset.get(),
            opened: None,
            closed: false,
        };
        self.contacts.last_mut()?.openings.push(opening);
        Some(())
    }

    /// The last opening of a channel.
    fn opening(&mut self, channel: u32) -> Option<&mut Opening> {
        self.contacts.last_mut()?.openings.iter_mut().rev().find(|opening| opening.channel == channel)
    }
}

fn start<T: FromBytes>(bytes: &[u8]) -> Option<T> {
    T::read_from_prefix(bytes).ok().map(|(value, _)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A block with a message behind a trace header.
    fn block(direction: Direction, message: &[u32]) -> Vec<u8> {
        let mut record = vec![1, 36, Kind::Message as u8, direction as u8];
        record.resize(36, 0);
        record.extend(message.iter().flat_map(|word| word.to_le_bytes()));
        let bytes = u32::try_from(record.len()).unwrap();
        let length = 8 + 20 + bytes + 4;
        let head = [ENHANCED_PACKET, length, 0, 0, 0, bytes, bytes];
        let mut block: Vec<u8> = head.iter().flat_map(|number| number.to_le_bytes()).collect();
        block.extend(record);
        block.extend(length.to_le_bytes());
        block
    }

    fn firmware() -> Vec<u8> {
        let mut offer = vec![1, 0];
        offer.resize(2 + 188 / 4, 0);
        (offer[2], offer[48 - 2]) = (0xba61_63d9, 7);
        let mut open = vec![5, 0, 7, 1, 9, 0, 11];
        open.resize(2 + 140 / 4, 0);
        [
            block(Direction::FromGuest, &[14, 0, 0x6_0000, 0, 0, 8, 0, 0, 0, 0]),
            block(Direction::ToGuest, &[15, 0, 1, 4]),
            block(Direction::ToGuest, &offer),
            block(Direction::FromGuest, &[8, 0, 7, 9, 1 << 16, 22 * PAGE, 0]),
            block(Direction::FromGuest, &open),
            block(Direction::ToGuest, &[6, 0, 7, 1, 0]),
            block(Direction::FromGuest, &[7, 0, 7]),
            block(Direction::FromGuest, &[16, 0]),
        ]
        .concat()
    }

    #[test]
    fn a_firmwares_contact_is_read_with_its_rings() {
        let contacts = read(&firmware()).unwrap();
        let [contact] = &contacts[..] else { panic!("{contacts:?}") };
        assert_eq!((contact.version.as_str(), contact.granted, contact.unloaded), ("6.0", Some(true), true));
        let [opening] = &contact.openings[..] else { panic!("{contact:?}") };
        assert_eq!((opening.pages, opening.offset), (22, 11));
        assert_eq!((opening.opened, opening.closed), (Some(true), true));
        assert!(opening.interface.starts_with("ba6163d9"), "{}", opening.interface);
    }

    #[test]
    fn a_trace_that_is_cut_off_is_read_to_there_and_noise_is_refused() {
        let whole = firmware();
        for length in 0..whole.len() {
            let _ = read(&whole[..length]);
        }
        assert_eq!(read(&whole[..whole.len() - 1]).unwrap().len(), 1);
        assert!(read(b"no trace at all").is_err());
    }

    #[test]
    fn no_byte_of_a_trace_is_trusted() {
        let whole = firmware();
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut trace = whole.clone();
                trace[at] = value;
                let _ = read(&trace);
            }
        }
    }
}
