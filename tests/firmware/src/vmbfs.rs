//! The guest's initial configuration, read over the bus as the real firmware's VmbfsDxe does: rings of four pages each,
//! messages of 12288 bytes at most, one file in pieces.

use crate::console::{check, value};
use crate::machine::{read, wait_for, write};
use crate::synic::{self, hypercall};
use crate::vmbus::{self, Offer};

const SIGNAL_EVENT: u64 = 0x5d | 1 << 16;
/// Messages of the bus, and the bytes of answers.
const OPEN_CHANNEL: u32 = 5;
const OPEN_RESULT: (u32, u8) = (6, 20);
const CLOSE_CHANNEL: u32 = 7;
const GPADL_HEADER: u32 = 8;
const GPADL_CREATED: (u32, u8) = (10, 20);
const GPADL_TEARDOWN: u32 = 11;
const GPADL_TORNDOWN: (u32, u8) = (12, 12);

/// Both rings, each a page of control and four of data. A control page begins with the indices of writer and reader.
const OUTGOING: u64 = 0xb0_0000;
const INCOMING: u64 = OUTGOING + DOWNSTREAM * PAGE as u64;
const PAGES: u64 = 10;
const DOWNSTREAM: u64 = 5;
const PAGE: u32 = 4096;
const DATA: u32 = 4 * PAGE;
const GPADL: u32 = 0x51;
const PACKET_HEADER: u32 = 16;
const PIPE_HEADER: u32 = 8;

/// Messages of vmbfs: type and zero, then the body.
const HEADER: u32 = 8;
const MESSAGE_MAX: u32 = 12288;
const READ_HEADER: u32 = HEADER + 4;
const PATH: usize = 8;
const FILE: &[u8; PATH] = b"\\imc.hiv";

pub fn check(offer: Offer) {
    let channel = Channel::open(offer);
    let answer = channel.ask(1, &[&0x1_0000u32.to_le_bytes()]);
    check!(answer.is(2, HEADER + 4) && answer.word(8) == 0, "version 1.0 of vmbfs is refused");
    let answer = channel.ask(3, &[&wide(b"\\no_.hiv")]);
    check!(answer.is(4, HEADER + 16) && answer.word(8) == 1, "there is a file that is not there");
    let answer = channel.ask(3, &[&wide(FILE)]);
    check!(answer.is(4, HEADER + 16), "the question about a file is answered with {} bytes", answer.length);
    let [status, flags, size, high] = [8, 12, 16, 20].map(|at| answer.word(at));
    check!(
        [status, flags, high] == [0; 3],
        "the file has status {status}, flags {flags:#x}, size {high:x}:{size:x}"
    );
    let (mut offset, mut sum) = (0, 0x811c_9dc5u32);
    while offset < size {
        let count = MESSAGE_MAX - READ_HEADER;
        let answer = channel.ask(5, &[&count.to_le_bytes(), &u64::from(offset).to_le_bytes(), &wide(FILE)]);
        let bytes = answer.length.saturating_sub(READ_HEADER);
        let wanted = count.min(size - offset);
        check!(
            answer.word(0) == 6 && answer.word(8) == 0 && bytes == wanted,
            "{bytes} bytes are read at {offset}"
        );
        for at in READ_HEADER..answer.length {
            sum = (sum ^ u32::from(answer.byte(at))).wrapping_mul(0x0100_0193);
        }
        offset += bytes;
    }
    channel.close();
    value!("imc_bytes", "{size}");
    value!("imc_sum", "{sum:#x}");
}

/// A path in UTF-16, without an end.
fn wide(path: &[u8; PATH]) -> [u8; 2 * PATH] {
    let mut units = [0; 2 * PATH];
    (0..PATH).for_each(|at| units[2 * at] = path[at]);
    units
}

/// The open channel.
struct Channel {
    offer: Offer,
}

impl Channel {
    /// Lends the pages of both rings and opens the channel on them.
    fn open(offer: Offer) -> Self {
        (0..PAGES * 512).for_each(|word| write(OUTGOING + word * 8, 0u64));
        // Bytes and number of the ranges; then the range: bytes, offset, pages.
        let mut gpadl = [0; 8 + 2 * PAGES as usize];
        gpadl[..8].copy_from_slice(&[
            GPADL_HEADER,
            0,
            offer.channel,
            GPADL,
            1 << 16 | (8 + 8 * PAGES as u32),
            PAGES as u32 * PAGE,
            0,
            (OUTGOING >> 12) as u32,
        ]);
        (1..PAGES).for_each(|page| gpadl[7 + 2 * page as usize] = (OUTGOING >> 12) as u32 + page as u32);
        vmbus::post(&gpadl[..7 + 2 * PAGES as usize]);
        let (answer, [.., status]) = first_words(vmbus::receive());
        check!(
            answer == GPADL_CREATED && status == 0,
            "the GPADL is answered with {answer:?}, status {status:#x}"
        );
        // The tail with connection and event flag is there, and zero.
        let mut open = [0; 39];
        open[..7].copy_from_slice(&[OPEN_CHANNEL, 0, offer.channel, 1, GPADL, 0, DOWNSTREAM as u32]);
        vmbus::post(&open);
        let (answer, [.., status]) = first_words(vmbus::receive());
        check!(
            answer == OPEN_RESULT && status == 0,
            "the open is answered with {answer:?}, status {status:#x}"
        );
        Channel { offer }
    }

    /// Gives everything back.
    fn close(self) {
        vmbus::post(&[CLOSE_CHANNEL, 0, self.offer.channel]);
        vmbus::post(&[GPADL_TEARDOWN, 0, self.offer.channel, GPADL]);
        let (answer, _) = vmbus::receive();
        check!(answer == GPADL_TORNDOWN, "the teardown is answered with {answer:?}");
    }

    /// Sends a message of this type and body, and waits for the next that comes.
    fn ask(&self, kind: u32, body: &[&[u8]]) -> Answer {
        let length = HEADER + body.iter().map(|part| part.len() as u32).sum::<u32>();
        let packet = (PACKET_HEADER + PIPE_HEADER + length).next_multiple_of(8);
        let start: u32 = read(OUTGOING);
        let mut at = start;
        let mut put = |bytes: &[u8]| {
            for &byte in bytes {
                write(OUTGOING + u64::from(PAGE + at), byte);
                at = (at + 1) % DATA;
            }
        };
        // In-band, lengths in units of 8 bytes, no flags; a pipe's data.
        put(&(u64::from(packet / 8) << 32 | 2 << 16 | 6).to_le_bytes());
        put(&1u64.to_le_bytes());
        put(&(u64::from(length) << 32 | 1).to_le_bytes());
        put(&u64::from(kind).to_le_bytes());
        body.iter().for_each(|part| put(part));
        let padding = packet - PACKET_HEADER - PIPE_HEADER - length;
        put(&[0; 8][..padding as usize]);
        put(&(u64::from(start) << 32).to_le_bytes());
        write(OUTGOING, at);
        let status = hypercall(SIGNAL_EVENT, self.offer.connection.into(), 0);
        check!(status & 0xffff == 0, "HvSignalEvent answers {status:#x}");
        self.answer()
    }

    /// The host's next message. It stays where it is until the host writes again.
    fn answer(&self) -> Answer {
        let start: u32 = read(INCOMING + 4);
        let came = wait_for(|| read::<u32>(INCOMING) != start);
        check!(came, "vmbfs does not answer");
        check!(synic::signalled(self.offer.channel), "an answer of vmbfs comes without a signal");
        let packet = Answer { start, length: PACKET_HEADER + PIPE_HEADER };
        let [kind, length] = [packet.word(0), packet.word(4) & 0xffff];
        let [pipe, data] = [packet.word(16), packet.word(20)];
        check!(kind == 2 << 16 | 6 && pipe == 1, "an answer is packet {kind:#x}, pipe message {pipe}");
        check!(
            data <= MESSAGE_MAX && length * 8 >= PACKET_HEADER + PIPE_HEADER + data,
            "an answer has {data} bytes"
        );
        write(INCOMING + 4, (start + length * 8 + 8) % DATA);
        Answer { start: (start + PACKET_HEADER + PIPE_HEADER) % DATA, length: data }
    }
}

/// A message in the host's ring.
struct Answer {
    start: u32,
    length: u32,
}

impl Answer {
    fn is(&self, kind: u32, length: u32) -> bool {
        self.word(0) == kind && self.word(4) == 0 && self.length == length
    }

    fn byte(&self, at: u32) -> u8 {
        read(INCOMING + u64::from(PAGE + (self.start + at) % DATA))
    }

    fn word(&self, at: u32) -> u32 {
        u32::from_le_bytes([0, 1, 2, 3].map(|byte| self.byte(at + byte)))
    }
}

/// The first words of a message of the bus; the last of them is a status.
fn first_words((message, words): ((u32, u8), [u32; 60])) -> ((u32, u8), [u32; 5]) {
    (message, [0, 1, 2, 3, 4].map(|at| words[at]))
}
