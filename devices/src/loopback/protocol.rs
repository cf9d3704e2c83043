//! Loopback packets as they lie in a ring. All numbers are little-endian.
//!
//! The payload of every packet is a [`Header`], then data. An answer has the request's transaction id and header, with
//! the status set; it is a completion if the request asked for one, else an in-band packet. Failures have no data.
//!
//! | operation | answer |
//! |---|---|
//! | [`ECHO`](operation::ECHO) | header and data as they came |
//! | [`SINK`](operation::SINK) | none, or a completion without data if asked for |
//! | [`SOURCE`](operation::SOURCE) | `count` in-band packets of `length` bytes of data each ([`source_byte`]), numbered from 0 in `argument`; then a completion without data if asked for |
//! | [`GPA_SUM`](operation::GPA_SUM) | [`fnv1a`] of the bytes that a GPA direct packet names, in `argument` |
//! | [`GPA_INVERT`](operation::GPA_INVERT) | each bit of these bytes is inverted; their number in `argument` |
//! | [`DELAY`](operation::DELAY) | as ECHO, `argument` microseconds later |
//!
//! The guest's OPEN_CHANNEL carries an [`OpenData`]. Packets that are none of this are dropped and counted; one that
//! asks for a completion gets a bare header with [`BAD_REQUEST`](status::BAD_REQUEST).

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::guid::Guid;

/// Chooses the guest's driver.
pub const INTERFACE: Guid = Guid::parse("40fe4059-b70c-418c-952e-29db11dff3d0");
/// Names the device.
pub const INSTANCE: Guid = Guid::parse("5b7d236c-416f-4266-8456-d0ce207f1a4f");

/// [`OpenData::magic`] of an opener that has a wish: "LOOK".
pub const MAGIC: u32 = 0x4B4F_4F4C;
/// Largest payload of an opener without a wish, bytes.
pub const DEFAULT_MAX_PAYLOAD: u32 = 1024;
/// Largest payload that an opener can wish for, bytes.
pub const MAX_PAYLOAD: u32 = 16384;
/// Most packets of one SOURCE.
pub const MAX_SOURCE_COUNT: u32 = 65536;
/// Most bytes of guest memory that one packet may name.
pub const MAX_GPA_BYTES: usize = 4 << 20;
/// Longest delay, microseconds.
pub const MAX_DELAY: u64 = 10_000_000;
/// Most answers that wait for their time.
pub const MAX_DELAYED: usize = 64;

/// Start of the opener's 120 bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct OpenData {
    /// [`MAGIC`], or anything else of an opener without a wish.
    pub magic: U32,
    /// Largest payload that the opener will send or ask for, bytes with the header; at most [`MAX_PAYLOAD`].
    pub max_payload: U32,
}
const _: () = assert!(size_of::<OpenData>() == 8);

/// Start of every payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    /// One of [`operation`].
    pub operation: U32,
    /// One of [`status`]; 0 in requests.
    pub status: U32,
    /// Depends on the operation.
    pub argument: U64,
    /// Packets that SOURCE is to send.
    pub count: U32,
    /// Bytes of data that SOURCE is to send in each.
    pub length: U32,
}
const _: () = assert!(size_of::<Header>() == 24);

/// What is asked for.
pub mod operation {
    /// Send it back.
    pub const ECHO: u32 = 1;
    /// Drop it.
    pub const SINK: u32 = 2;
    /// Send packets.
    pub const SOURCE: u32 = 3;
    /// Read guest memory.
    pub const GPA_SUM: u32 = 4;
    /// Change guest memory.
    pub const GPA_INVERT: u32 = 5;
    /// Send it back later.
    pub const DELAY: u32 = 6;
}

/// How it went.
pub mod status {
    /// As asked.
    pub const OK: u32 = 0;
    /// No such operation.
    pub const UNKNOWN: u32 = 1;
    /// A length, a number or a type of packet that is not allowed, or too much at a time.
    pub const BAD_REQUEST: u32 = 2;
    /// A page that is not RAM; nothing was changed.
    pub const NO_MEMORY: u32 = 3;
}

/// Byte `i` of the data of SOURCE's packet `number`, when the request had this argument.
#[must_use]
pub const fn source_byte(argument: u64, number: u64, i: usize) -> u8 {
    let [low, ..] = number.wrapping_mul(31).wrapping_add(7 * i as u64).wrapping_add(argument).to_le_bytes();
    low
}

/// Hash of no bytes, see [`fnv1a`].
pub const FNV_OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a, 64 bits: the hash of what was hashed to `hash` so far and of these bytes behind it.
#[must_use]
pub fn fnv1a(hash: u64, bytes: &[u8]) -> u64 {
    const PRIME: u64 = 0x100_0000_01b3;
    bytes.iter().fold(hash, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
}
