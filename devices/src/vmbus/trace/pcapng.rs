//! The blocks of a pcapng file that a trace is made of, appended to a buffer.
//!
//! Source: "PCAP Now Generic (pcapng) Capture File Format" (draft-ietf-opsawg-pcapng), sections 4.1 to 4.4 and 4.6.
//! Four kinds of block, all little-endian: one section header, a description of each interface before its first
//! packet, packets, and statistics of each interface when no more comes. Nothing in here knows VMBus.

/// Which way a packet went, seen from this machine (option `epb_flags`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Inbound.
    In = 1,
    /// Outbound.
    Out = 2,
}

const SECTION_HEADER: u32 = 0x0A0D_0D0A;
const INTERFACE_DESCRIPTION: u32 = 1;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;

/// Says in which order the bytes of numbers are.
const BYTE_ORDER_MAGIC: u32 = 0x1A2B_3C4D;
/// Length of a section that is not known in advance.
const UNKNOWN_LENGTH: u64 = u64::MAX;

/// Option numbers; a number's meaning depends on the block that it is in.
mod option {
    pub const END: u16 = 0;
    pub const SECTION_APPLICATION: u16 = 4;
    pub const INTERFACE_NAME: u16 = 2;
    pub const INTERFACE_ABOUT: u16 = 3;
    pub const INTERFACE_TIME_UNIT: u16 = 9;
    pub const PACKET_FLAGS: u16 = 2;
    pub const PACKET_DROPS: u16 = 4;
    pub const STATISTICS_RECEIVED: u16 = 4;
    pub const STATISTICS_DROPPED: u16 = 5;
}

/// Time stamps count 10^-9 s.
const NANOSECONDS: u8 = 9;

/// Bytes of a packet's block beside those of the packet, at most.
pub const PACKET_OVERHEAD: usize = 60;
/// Bytes of an interface's statistics.
pub const STATISTICS_SIZE: usize = 52;

/// An interface, as the file describes it.
#[derive(Clone, Copy, Debug)]
pub struct Interface<'a> {
    /// What its packets are.
    pub link_type: u16,
    /// Most bytes that are kept of one packet.
    pub snap_len: u32,
    /// Short name.
    pub name: &'a str,
    /// One line about it.
    pub about: &'a str,
}

/// Where a packet belongs.
#[derive(Clone, Copy, Debug)]
pub struct PacketInfo {
    /// Index of its interface, in the order in which the file describes them.
    pub interface: u32,
    /// Nanoseconds since 1970-01-01 UTC.
    pub time: u64,
    /// Which way it went.
    pub way: Way,
    /// Packets of this interface that were lost since the last one.
    pub drops: u64,
    /// Bytes that are kept of it.
    pub captured: usize,
    /// Bytes that it had.
    pub original: usize,
}

/// Starts the file.
pub fn section_header(out: &mut Vec<u8>, application: &str) {
    block(out, SECTION_HEADER, |out| {
        put_u32(out, BYTE_ORDER_MAGIC);
        // Version 1.0.
        out.extend_from_slice(&[1, 0, 0, 0]);
        put_u64(out, UNKNOWN_LENGTH);
        put_option(out, option::SECTION_APPLICATION, application.as_bytes());
        put_option(out, option::END, &[]);
    });
}

/// Describes the next interface.
pub fn interface_description(out: &mut Vec<u8>, interface: &Interface<'_>) {
    block(out, INTERFACE_DESCRIPTION, |out| {
        put_u32(out, interface.link_type.into());
        put_u32(out, interface.snap_len);
        put_option(out, option::INTERFACE_NAME, interface.name.as_bytes());
        put_option(out, option::INTERFACE_ABOUT, interface.about.as_bytes());
        put_option(out, option::INTERFACE_TIME_UNIT, &[NANOSECONDS]);
        put_option(out, option::END, &[]);
    });
}

/// Adds a packet, the pieces of it that add up to `info.captured` bytes.
pub fn packet<'a>(out: &mut Vec<u8>, info: &PacketInfo, pieces: impl Iterator<Item = &'a [u8]>) {
    block(out, ENHANCED_PACKET, |out| {
        put_u32(out, info.interface);
        put_time(out, info.time);
        put_u32(out, u32::try_from(info.captured).unwrap_or(u32::MAX));
        put_u32(out, u32::try_from(info.original).unwrap_or(u32::MAX));
        let mut left = info.captured;
        for piece in pieces {
            let (kept, _) = piece.split_at(piece.len().min(left));
            out.extend_from_slice(kept);
            left -= kept.len();
        }
        pad(out, info.captured);
        put_option(out, option::PACKET_FLAGS, &(info.way as u32).to_le_bytes());
        if info.drops > 0 {
            put_option(out, option::PACKET_DROPS, &info.drops.to_le_bytes());
        }
        put_option(out, option::END, &[]);
    });
}

/// Says how many packets came on an interface, and how many of these were lost.
pub fn interface_statistics(out: &mut Vec<u8>, interface: u32, time: u64, received: u64, dropped: u64) {
    block(out, INTERFACE_STATISTICS, |out| {
        put_u32(out, interface);
        put_time(out, time);
        put_option(out, option::STATISTICS_RECEIVED, &received.to_le_bytes());
        put_option(out, option::STATISTICS_DROPPED, &dropped.to_le_bytes());
        put_option(out, option::END, &[]);
    });
}

/// A block: its type, its length, its body, and once more its length for readers that go backwards.
fn block(out: &mut Vec<u8>, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    put_u32(out, kind);
    let length_at = out.len();
    put_u32(out, 0);
    body(out);
    let length = u32::try_from(out.len() - start + size_of::<u32>()).unwrap_or(u32::MAX).to_le_bytes();
    if let Some(place) = out.get_mut(length_at..length_at + length.len()) {
        place.copy_from_slice(&length);
    }
    out.extend_from_slice(&length);
}

fn put_option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    let (value, _) = value.split_at(value.len().min(u16::MAX.into()));
    out.extend_from_slice(&code.to_le_bytes());
    out.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend_from_slice(value);
    pad(out, value.len());
}

/// Fills up to a multiple of 4 what `len` bytes were put for.
fn pad(out: &mut Vec<u8>, len: usize) {
    out.resize(out.len() + len.wrapping_neg() % 4, 0);
}

/// The high half comes first, whatever the order of bytes.
fn put_time(out: &mut Vec<u8>, time: u64) {
    put_u32(out, (time >> 32) as u32);
    put_u32(out, (time & 0xFFFF_FFFF) as u32);
}

fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}
