//! The bus as the real firmware begins and ends with it: contact by version 6.0, offers, unload.

use core::ops::Range;

use crate::console::{check, value};
use crate::machine::write;
use crate::synic::{self, BUS_SINT, INPUT, hypercall, message};
use crate::vmbfs;

const POST_MESSAGE: u64 = 0x5c;
/// Messages: type, and bytes where the real firmware insists on them.
const OFFER: (u32, u8) = (1, 196);
const REQUEST_OFFERS: u32 = 3;
const ALL_OFFERS_DELIVERED: (u32, u8) = (4, 8);
const INITIATE_CONTACT: u32 = 14;
const VERSION_RESPONSE: (u32, u8) = (15, 20);
const UNLOAD: u32 = 16;
const UNLOAD_RESPONSE: (u32, u8) = (17, 8);
const VERSION_6_0: u32 = 6 << 16;
const FEATURE_CLIENT_ID: u32 = 8;
/// Words of an offer that have the interface, the channel's id and the connection id of its doorbell.
const INTERFACE: Range<usize> = 2..6;
const CHANNEL_ID: usize = 46;
const CONNECTION_ID: usize = 48;
/// The interface of vmbfs, c376c1c3-d276-48d2-90a9-c04748072c60.
const VMBFS: [u32; 4] = [0xc376_c1c3, 0x48d2_d276, 0x47c0_a990, 0x602c_0748];

/// A channel that is offered.
#[derive(Clone, Copy)]
pub struct Offer {
    pub channel: u32,
    pub connection: u32,
}

pub fn check() {
    // Type, version, processor; SINT and level zero, features; no monitor pages; who we are.
    let contact: [u32; 14] =
        [INITIATE_CONTACT, 0, VERSION_6_0, 0, 0, FEATURE_CLIENT_ID, 0, 0, 0, 0, 1, 2, 3, 4];
    post(&contact);
    let (answer, [_, _, supported, _, features, ..]) = receive();
    check!(answer == VERSION_RESPONSE, "the contact is answered with {answer:?}");
    check!(supported & 0xffff == 1, "the bus refuses version 6.0");
    check!(features & !FEATURE_CLIENT_ID == 0, "the bus has features that nobody asked for: {features:#x}");
    let (count, files) = offers();
    value!("offers", "{count}");
    if let Some(offer) = files {
        vmbfs::check(offer);
    }
    post(&[UNLOAD, 0]);
    let (answer, _) = receive();
    check!(answer == UNLOAD_RESPONSE, "the unload is answered with {answer:?}");
    synic::leave();
    value!("vmbus", "6.0");
}

/// Asks for offers, counts them, and gives that of vmbfs.
fn offers() -> (u32, Option<Offer>) {
    post(&[REQUEST_OFFERS, 0]);
    let mut count = 0;
    let mut files = None;
    loop {
        let (message, offer) = receive();
        if message == ALL_OFFERS_DELIVERED {
            return (count, files);
        }
        check!(message == OFFER, "among the offers is {message:?}");
        let channel = offer[CHANNEL_ID];
        check!((1..2048).contains(&channel), "a channel has the id {channel:#x}");
        if offer[INTERFACE] == VMBFS {
            files = Some(Offer { channel, connection: offer[CONNECTION_ID] });
        }
        count += 1;
    }
}

/// HvPostMessage to connection 1, message type 1.
pub fn post(words: &[u32]) {
    let head = [1, 0, 1, words.len() as u32 * 4];
    for (index, &word) in (0..).zip(head.iter().chain(words)) {
        write(INPUT + index * 4, word);
    }
    let status = hypercall(POST_MESSAGE, INPUT, 0);
    check!(status & 0xffff == 0, "HvPostMessage answers {status:#x}");
}

/// The bus's next message: its type and bytes, and its words.
pub fn receive() -> ((u32, u8), [u32; 60]) {
    let found = message(BUS_SINT);
    check!(found.is_some(), "the bus says nothing");
    let (kind, size, payload) =
        found.map_or((0, 0, [0; 60]), |found| (found.kind, found.size, found.payload));
    check!(kind == 1, "a message of the bus has type {kind}");
    ((payload[0], size), payload)
}
