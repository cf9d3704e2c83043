//! One direction of a channel: packets from one writer to one reader, in pages that the guest donated.
//!
//! ```text
//!        control page                                data pages, `size` bytes
//!        ┌──────────────────────┬─ ─ ─ ─ ─┐          ┌──────────┬─────────────────────────┬──────────────┐
//!   word │  0 write index       │ 64      │          │  free    │ packet, packet, packet  │  free        │
//!        │  4 read index        │ feature │          └──────────┴─────────────────────────┴──────────────┘
//!        │  8 interrupt mask    │ bits    │                     ▲ read index              ▲ write index
//!        │ 12 pending send size │         │
//!        └──────────────────────┴─ ─ ─ ─ ─┘          packet:  descriptor │ extension │ payload │ trailer
//! ```
//!
//! The writer owns the write index, the pending send size and the feature bits; the reader owns the read index
//! and the interrupt mask. Indices are multiples of 8 below `size`. Equal indices mean empty, so the writer
//! always leaves 8 bytes free. Packets wrap at `size`, which need not be a power of two.
//!
//! Who wakes whom:
//!
//! * Data: the writer interrupts the reader when it publishes into a ring that was empty to the reader and whose
//!   mask is clear ([`Outgoing::commit`]). So the reader drains the ring, clears the mask, and looks once more
//!   ([`Incoming::unmask`]).
//! * Room: a writer that found no room publishes how much it needs and looks once more
//!   ([`Outgoing::wait_for_room`]). The reader signals it when the free bytes cross that number, once per
//!   crossing ([`Incoming::commit`]); only of writers that said by feature bit 0 that they use the word.
//!
//! The channel owns an [`Incoming`] and an [`Outgoing`]; `testing` plays the guest with the same two types over
//! the same pages. The other side is hostile: it may write anything anywhere at any moment. Each index of its is
//! read once and checked, each packet is copied once and the copy is checked. What is wrong becomes a
//! [`RingError`], upon which the channel is closed; nothing in here panics, waits or signals by itself.

mod incoming;
mod layout;
mod outgoing;
mod packet;
pub mod protocol;
#[cfg(test)]
mod tests;

use thiserror::Error;

pub use incoming::Incoming;
pub use layout::{RingMemory, RingPages};
pub use outgoing::{Outgoing, WriteError};
pub use packet::{
    GpaRange, GpaRanges, Packet, PacketBuffer, PacketError, PacketOut, TransferPages, gpa_direct_extension,
    packet_bytes, pipe_message, transfer_page_extension,
};
use protocol::ControlWord;

use crate::mem::MemError;

/// What the ring's memory or the other side of the ring did wrong. The ring is of no more use.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum RingError {
    /// Too few pages for a control page and data, or more bytes than an index can name.
    #[error("A ring of {bytes} bytes; it needs 2 pages at least and less than 4 GiB")]
    Size {
        /// Bytes in all pages, control page included.
        bytes: usize,
    },
    /// An index past the data, or not a multiple of 8.
    #[error("{word:?} is {value:#x}, not a multiple of 8 below {size:#x}")]
    Index {
        /// Which index.
        word: ControlWord,
        /// What it held.
        value: u32,
        /// Bytes of the ring's data.
        size: u32,
    },
    /// A packet whose descriptor contradicts itself.
    #[error("Packet at {at:#x} says {header} bytes of header in {len} bytes")]
    Descriptor {
        /// Where in the data it starts.
        at: u32,
        /// Bytes before the payload, as the descriptor says.
        header: u32,
        /// Bytes of header and payload, as the descriptor says.
        len: u32,
    },
    /// A packet that ends behind the write index.
    #[error("Packet at {at:#x} takes {need} bytes of the {used} bytes in the ring")]
    Truncated {
        /// Where in the data it starts.
        at: u32,
        /// Bytes that it takes with its trailer.
        need: u32,
        /// Bytes between the indices.
        used: u32,
    },
    /// The ring's pages could not be accessed.
    #[error("The ring's memory failed")]
    Memory(#[from] MemError),
}

/// What went through one side of a ring since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingCounters {
    /// Packets read or written.
    pub packets: u64,
    /// Bytes of them: descriptors, extensions and padded payloads.
    pub bytes: u64,
    /// How often the other side had to be signalled.
    pub signals: u64,
    /// How often the writer found no room; 0 of a reader.
    pub full: u64,
}
