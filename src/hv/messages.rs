//! Messages that wait for one virtual processor, and the slots that they go into.
//!
//! Pure but for guest memory: [`super::synic`] calls [`MessageQueues::fill_slots`] on the VP's own thread and does
//! the rest (interrupts, waiting for a slot to be freed). A slot belongs to the guest while its message type is
//! not 0: bytes 4 and up are written first, the type last; a slot in use is never written, only its MessagePending
//! flag is set, which makes the guest write EOM when it frees the slot.

use std::collections::VecDeque;
use std::sync::atomic::{Ordering, fence};

use devices::hvdef::{
    MESSAGE_FLAG_PENDING, MESSAGE_FLAGS_OFFSET, MESSAGE_PAYLOAD_MAX, MESSAGE_TYPE_NONE, MESSAGE_TYPE_VMBUS,
    MessageHeader, SINT_COUNT, SLOT_SIZE,
};
use devices::mem::{MemError, Pages};
use devices::vmbus::synic::{MESSAGE_QUEUE_LEN, PostError};
use zerocopy::IntoBytes;

/// The word of a slot's header that holds length and flags.
const FLAGS_WORD: usize = MESSAGE_FLAGS_OFFSET / 4 * 4;

/// Messages of one virtual processor, in order for each SINT.
#[derive(Debug, Default)]
pub(super) struct MessageQueues {
    queues: [VecDeque<Message>; SINT_COUNT as usize],
    len: usize,
}

#[derive(Debug)]
struct Message {
    payload: [u8; MESSAGE_PAYLOAD_MAX],
    len: u8,
}

/// What [`MessageQueues::fill_slots`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Filled {
    /// SINTs whose slot has a new message, one bit each: interrupt these.
    pub sints: u16,
    /// Messages wait for the guest to free a slot; it will write EOM.
    pub blocked: bool,
}

impl MessageQueues {
    /// Messages that wait.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// SINTs that messages wait for, one bit each.
    pub(super) fn sints(&self) -> u16 {
        let waiting = |(sint, queue): (usize, &VecDeque<Message>)| u16::from(!queue.is_empty()) << sint;
        self.queues.iter().enumerate().map(waiting).fold(0, |sints, sint| sints | sint)
    }

    /// Queues a message for VP `vp`, whose queues these are.
    pub(super) fn push(&mut self, vp: u32, sint: u8, payload: &[u8]) -> Result<(), PostError> {
        let message = Message::new(payload).ok_or(PostError::TooLong(payload.len()))?;
        let queue = self.queues.get_mut(usize::from(sint)).ok_or(PostError::NoSint(sint))?;
        if self.len >= MESSAGE_QUEUE_LEN {
            return Err(PostError::Full(vp));
        }
        queue.push_back(message);
        self.len += 1;
        Ok(())
    }

    /// Drops all messages.
    pub(super) fn clear(&mut self) {
        self.queues.iter_mut().for_each(VecDeque::clear);
        self.len = 0;
    }

    /// Writes the first message of each SINT whose slot is free.
    pub(super) fn fill_slots(&mut self, page: &Pages) -> Result<Filled, MemError> {
        let mut filled = Filled::default();
        for (sint, queue) in self.queues.iter_mut().enumerate() {
            let Some(message) = queue.front() else { continue };
            let slot = sint * SLOT_SIZE;
            let more = queue.len() > 1;
            if is_free(page, slot)? {
                message.write(page, slot, more)?;
                queue.pop_front();
                self.len -= 1;
                filled.sints |= 1 << sint;
                filled.blocked |= more;
            } else {
                filled.blocked = true;
            }
        }
        Ok(filled)
    }
}

/// Whether a slot is free; one that is not will be announced by an EOM.
fn is_free(page: &Pages, slot: usize) -> Result<bool, MemError> {
    if page.load(slot, Ordering::Acquire)? == MESSAGE_TYPE_NONE {
        return Ok(true);
    }
    let pending = u32::from(MESSAGE_FLAG_PENDING) << (8 * (MESSAGE_FLAGS_OFFSET - FLAGS_WORD));
    page.fetch_or(slot + FLAGS_WORD, pending, Ordering::SeqCst)?;
    // The guest frees the slot, then looks at the flag; we set the flag, then look at the slot.
    fence(Ordering::SeqCst);
    Ok(page.load(slot, Ordering::Acquire)? == MESSAGE_TYPE_NONE)
}

impl Message {
    fn new(bytes: &[u8]) -> Option<Self> {
        let mut payload = [0; MESSAGE_PAYLOAD_MAX];
        payload.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(Message { payload, len: u8::try_from(bytes.len()).ok()? })
    }

    /// Hands the message to the guest; the type, which does that, goes last.
    fn write(&self, page: &Pages, slot: usize, more: bool) -> Result<(), MemError> {
        let header = MessageHeader {
            message_type: MESSAGE_TYPE_NONE.into(),
            payload_size: self.len,
            flags: if more { MESSAGE_FLAG_PENDING } else { 0 },
            reserved: [0; 2],
            origin: 0.into(),
        };
        let payload = self.payload.get(..usize::from(self.len)).unwrap_or_default();
        page.write(slot + size_of::<MessageHeader>(), payload)?;
        page.write(slot + FLAGS_WORD, header.as_bytes().get(FLAGS_WORD..).unwrap_or_default())?;
        page.store(slot, MESSAGE_TYPE_VMBUS, Ordering::Release)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use devices::mem::{GuestRam, PAGE_SIZE};
    use vm_memory::GuestAddress;

    const SINT: u8 = 2;
    const SLOT: usize = 2 * SLOT_SIZE;

    fn page() -> Pages {
        let ram = GuestRam::from_ranges(&[(GuestAddress(0), PAGE_SIZE)]).unwrap();
        Pages::resolve(&ram, &[0]).unwrap()
    }

    /// Payload length, flags and first payload byte of the slot, then frees it.
    fn take(page: &Pages) -> (u8, u8, u8) {
        assert_eq!(page.load(SLOT, Ordering::SeqCst), Ok(MESSAGE_TYPE_VMBUS));
        let mut slot = [0; 17];
        page.read(SLOT, &mut slot).unwrap();
        page.store(SLOT, 0, Ordering::SeqCst).unwrap();
        (slot[4], slot[5], slot[16])
    }

    #[test]
    fn messages_arrive_one_at_a_time_in_order() {
        let (mut queues, page) = (MessageQueues::default(), page());
        for byte in 1..=3 {
            queues.push(0, SINT, &[byte; 20]).unwrap();
        }
        let interrupt = 1 << SINT;
        assert_eq!(queues.fill_slots(&page), Ok(Filled { sints: interrupt, blocked: true }));
        assert_eq!(take(&page), (20, 1, 1));
        assert_eq!(queues.fill_slots(&page), Ok(Filled { sints: interrupt, blocked: true }));
        assert_eq!(take(&page), (20, 1, 2));
        assert_eq!(queues.fill_slots(&page), Ok(Filled { sints: interrupt, blocked: false }));
        assert_eq!(take(&page), (20, 0, 3));
        assert_eq!((queues.len(), queues.fill_slots(&page)), (0, Ok(Filled::default())));
    }

    #[test]
    fn a_slot_in_use_is_marked_and_left_alone() {
        let (mut queues, page) = (MessageQueues::default(), page());
        // A synthetic timer's message, say.
        page.store(SLOT, 0x8000_0010, Ordering::SeqCst).unwrap();
        page.write(SLOT + 4, &[24, 0, 0, 0, 9, 9]).unwrap();
        queues.push(0, SINT, &[7; 8]).unwrap();
        assert_eq!(queues.fill_slots(&page), Ok(Filled { sints: 0, blocked: true }));
        let mut slot = [0; 10];
        page.read(SLOT, &mut slot).unwrap();
        assert_eq!(slot, [0x10, 0, 0, 0x80, 24, 1, 0, 0, 9, 9]);
        page.store(SLOT, 0, Ordering::SeqCst).unwrap();
        assert_eq!(queues.fill_slots(&page), Ok(Filled { sints: 1 << SINT, blocked: false }));
        assert_eq!(take(&page), (8, 0, 7));
    }

    #[test]
    fn the_sints_do_not_wait_for_each_other() {
        let (mut queues, page) = (MessageQueues::default(), page());
        queues.push(0, 2, &[1]).unwrap();
        queues.push(0, 5, &[2]).unwrap();
        page.store(SLOT, MESSAGE_TYPE_VMBUS, Ordering::SeqCst).unwrap();
        assert_eq!(queues.sints(), 1 << 5 | 1 << SINT);
        assert_eq!(queues.fill_slots(&page), Ok(Filled { sints: 1 << 5, blocked: true }));
        assert_eq!(queues.sints(), 1 << SINT);
    }

    #[test]
    fn a_guest_that_never_reads_fills_a_queue_and_no_more() {
        let mut queues = MessageQueues::default();
        for _ in 0..MESSAGE_QUEUE_LEN {
            queues.push(3, SINT, &[0; 240]).unwrap();
        }
        assert_eq!(queues.push(3, SINT, &[]), Err(PostError::Full(3)));
        assert_eq!(queues.push(3, 16, &[]), Err(PostError::NoSint(16)));
        assert_eq!(queues.push(3, SINT, &[0; 241]), Err(PostError::TooLong(241)));
        queues.clear();
        assert_eq!(queues.push(3, SINT, &[]), Ok(()));
    }
}
