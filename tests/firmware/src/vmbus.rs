//! The bus, as far as the real firmware's first and last words to it: contact by version 6.0, and unload.

use crate::console::{check, value};
use crate::machine::{cpuid, write};
use crate::synic::{self, BUS_SINT, INPUT, hypercall, message};

const POST_MESSAGE: u64 = 0x5c;
const INITIATE_CONTACT: u32 = 14;
const VERSION_RESPONSE: u32 = 15;
const UNLOAD: u32 = 16;
const UNLOAD_RESPONSE: u32 = 17;
const VERSION_6_0: u32 = 6 << 16;
const FEATURE_CLIENT_ID: u32 = 8;

pub fn check() {
    // Type, version, processor; SINT and level zero, features; no monitor pages; who we are.
    let contact: [u32; 14] =
        [INITIATE_CONTACT, 0, VERSION_6_0, 0, 0, FEATURE_CLIENT_ID, 0, 0, 0, 0, 1, 2, 3, 4];
    post(&contact);
    let Some((1, [VERSION_RESPONSE, _, supported, ..])) = message(BUS_SINT) else { no_answer("contact") };
    check!(supported & 0xff == 1, "the bus refuses version 6.0");
    post(&[UNLOAD, 0]);
    let Some((1, [UNLOAD_RESPONSE, ..])) = message(BUS_SINT) else { no_answer("unload") };
    synic::leave();
    value!("vmbus", "6.0");
}

/// HvPostMessage to connection 1, message type 1.
fn post(words: &[u32]) {
    let head = [1, 0, 1, words.len() as u32 * 4];
    for (index, &word) in (0..).zip(head.iter().chain(words)) {
        write(INPUT + index * 4, word);
    }
    let status = hypercall(POST_MESSAGE, INPUT, 0);
    check!(status & 0xffff == 0, "HvPostMessage answers {status:#x}");
}

fn no_answer(to: &str) -> ! {
    // CPUID is only to say in the log which hypervisor this was.
    check!(false, "the bus does not answer {to}; hypervisor leaf {:x?}", cpuid(0x4000_0000));
    unreachable!()
}
