//! Packets outside of a ring: read ones, checked and at rest in a [`PacketBuffer`], and ones to be written.
//!
//! Devices use this: they look at a [`Packet`]'s payload, and at the guest memory that its extension names, and
//! build a [`PacketOut`]. A packet that breaks its own format is a [`PacketError`]; the ring goes on, and the
//! device decides whether it answers with a failure or gives up. Nothing in here touches the ring's memory.

use thiserror::Error;
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, IntoBytes};

use super::protocol::{
    DESCRIPTOR_SIZE, FLAG_COMPLETION_REQUESTED, GpaDirectHeader, GpaRangeHeader, PacketDescriptor,
    PacketTrailer, PacketType, PipeHeader, PipeMessageType, TransferPageHeader, TransferPageRange, UNIT,
};
use crate::mem::{GuestRam, PAGE_SIZE, Pieces};

const TRAILER: usize = size_of::<PacketTrailer>();

/// Why what a packet carries cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PacketError {
    /// A packet of another type came where one with ranges was needed.
    #[error("Packet of type {0:?} carries no such ranges")]
    Type(PacketType),
    /// The ranges end behind the packet's header.
    #[error("{count} ranges do not fit into the {len} bytes of the packet's header")]
    Ranges {
        /// How many the packet says there are.
        count: u32,
        /// Bytes of the header behind the descriptor.
        len: usize,
    },
    /// A pipe's packet shorter than its header says.
    #[error("Pipe message of {length} bytes in a packet with {len} bytes of payload")]
    Pipe {
        /// Bytes of data, as the header says; 0 if there is not even a header.
        length: u32,
        /// Bytes of payload, header included.
        len: usize,
    },
}

/// Holds one packet at a time; a worker keeps one and reads all packets into it.
///
/// It grows to the largest packet read, hence never past what the ring can hold nor past 512 KiB.
#[derive(Debug, Default)]
pub struct PacketBuffer {
    bytes: Vec<u8>,
}

impl PacketBuffer {
    /// An empty buffer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Room for `len` bytes.
    pub(super) fn take(&mut self, len: usize) -> &mut [u8] {
        if self.bytes.len() < len {
            self.bytes.resize(len, 0);
        }
        self.bytes.split_at_mut(len).0
    }
}

/// A packet that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// What it is; any number can come.
    pub kind: PacketType,
    /// Goes back unchanged in the completion.
    pub transaction_id: u64,
    /// Whether the sender waits for a completion.
    pub completion_requested: bool,
    /// What the type puts between descriptor and payload.
    pub extension: &'a [u8],
    /// The payload, padded by the sender to a multiple of 8 bytes: how much of it counts, it says itself.
    pub payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// A checked descriptor and the bytes behind it.
    pub(super) fn new(descriptor: &PacketDescriptor, body: &'a [u8]) -> Self {
        let (header, _) = packet_extent(descriptor);
        let (extension, payload) = body.split_at(body.len().min((header - DESCRIPTOR_SIZE) as usize));
        Self {
            kind: PacketType(descriptor.kind.get()),
            transaction_id: descriptor.transaction_id.get(),
            completion_requested: descriptor.flags.get() & FLAG_COMPLETION_REQUESTED != 0,
            extension,
            payload,
        }
    }

    /// The ranges of guest memory of a [`PacketType::GPA_DIRECT`] packet. All of them are whole; whether their
    /// pages are RAM is yet to be looked up.
    ///
    /// # Errors
    /// [`PacketError`] of another packet, or if the header ends before the last range.
    pub fn gpa_ranges(&self) -> Result<GpaRanges<'a>, PacketError> {
        let (header, ranges): (&GpaDirectHeader, _) = self.header(PacketType::GPA_DIRECT)?;
        let ranges = GpaRanges { count: header.range_count.get(), rest: ranges };
        let mut check = ranges.clone();
        while check.count > 0 {
            check.parse_next().ok_or_else(|| self.bad_ranges(header.range_count.get()))?;
        }
        Ok(ranges)
    }

    /// The ranges of the shared buffer of a [`PacketType::TRANSFER_PAGES`] packet. Whether they are within the
    /// buffer only its owner knows.
    ///
    /// # Errors
    /// [`PacketError`] of another packet, or if the header ends before the last range.
    pub fn transfer_ranges(&self) -> Result<TransferPages<'a>, PacketError> {
        let (header, ranges): (&TransferPageHeader, _) = self.header(PacketType::TRANSFER_PAGES)?;
        let bad = || self.bad_ranges(header.range_count.get());
        let count = usize::try_from(header.range_count.get()).map_err(|_| bad())?;
        let (ranges, _) =
            <[TransferPageRange]>::ref_from_prefix_with_elems(ranges, count).map_err(|_| bad())?;
        Ok(TransferPages { pageset_id: header.pageset_id.get(), ranges })
    }

    fn header<T>(&self, kind: PacketType) -> Result<(&'a T, &'a [u8]), PacketError>
    where
        T: FromBytes + zerocopy::KnownLayout + zerocopy::Immutable + zerocopy::Unaligned,
    {
        if self.kind != kind {
            return Err(PacketError::Type(self.kind));
        }
        T::ref_from_prefix(self.extension).map_err(|_| self.bad_ranges(0))
    }

    fn bad_ranges(&self, count: u32) -> PacketError {
        PacketError::Ranges { count, len: self.extension.len() }
    }
}

/// The checked ranges of a [`PacketType::GPA_DIRECT`] packet, in order.
#[derive(Clone, Debug)]
pub struct GpaRanges<'a> {
    count: u32,
    rest: &'a [u8],
}

impl<'a> GpaRanges<'a> {
    fn parse_next(&mut self) -> Option<GpaRange<'a>> {
        let (header, rest) = GpaRangeHeader::ref_from_prefix(self.rest).ok()?;
        let (offset, len) = (header.byte_offset.get(), header.byte_count.get());
        let pages = usize::try_from((u64::from(offset) + u64::from(len)).div_ceil(PAGE_SIZE as u64)).ok()?;
        let (pfns, rest) = <[U64]>::ref_from_prefix_with_elems(rest, pages).ok()?;
        self.rest = rest;
        self.count = self.count.checked_sub(1)?;
        Some(GpaRange { offset, len, pfns })
    }
}

impl<'a> Iterator for GpaRanges<'a> {
    type Item = GpaRange<'a>;

    fn next(&mut self) -> Option<GpaRange<'a>> {
        if self.count == 0 { None } else { self.parse_next() }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let count = self.count as usize;
        (count, Some(count))
    }
}

impl ExactSizeIterator for GpaRanges<'_> {}

/// A run of bytes in pages of the guest. There are as many pages as offset and length need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpaRange<'a> {
    /// Where the bytes start in the pages. Senders stay within the first page, but need not.
    pub offset: u32,
    /// How many bytes.
    pub len: u32,
    pfns: &'a [U64],
}

impl<'a> GpaRange<'a> {
    /// The numbers of the pages.
    pub fn pfns(&self) -> impl ExactSizeIterator<Item = u64> + Clone + use<'a> {
        self.pfns.iter().map(|pfn| pfn.get())
    }

    /// The bytes themselves, page by page.
    pub fn pieces<'r>(
        &self,
        ram: &'r GuestRam,
    ) -> Pieces<'r, impl ExactSizeIterator<Item = u64> + Clone + use<'a>> {
        Pieces::new(ram, self.pfns(), self.offset as usize, self.len as usize)
    }
}

/// What a [`PacketType::TRANSFER_PAGES`] packet refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferPages<'a> {
    /// Names the buffer.
    pub pageset_id: u16,
    /// Pieces of it.
    pub ranges: &'a [TransferPageRange],
}

/// A packet to be written.
#[derive(Clone, Copy, Debug)]
pub struct PacketOut<'a> {
    /// What it is.
    pub kind: PacketType,
    /// The request's in a completion; otherwise the sender's choice.
    pub transaction_id: u64,
    /// Whether a completion is waited for.
    pub completion_requested: bool,
    /// What the type puts between descriptor and payload; padded to 8 bytes.
    pub extension: &'a [u8],
    /// The payload in pieces; padded to 8 bytes after the last.
    pub payload: &'a [&'a [u8]],
}

impl<'a> PacketOut<'a> {
    /// A packet that is its payload.
    #[must_use]
    pub fn in_band(transaction_id: u64, payload: &'a [&'a [u8]]) -> Self {
        let kind = PacketType::IN_BAND;
        Self { kind, transaction_id, completion_requested: false, extension: &[], payload }
    }

    /// The answer to the packet with that transaction id.
    #[must_use]
    pub fn completion(transaction_id: u64, payload: &'a [&'a [u8]]) -> Self {
        let kind = PacketType::COMPLETION;
        Self { kind, transaction_id, completion_requested: false, extension: &[], payload }
    }

    /// Bytes that it takes in a ring, trailer included.
    #[must_use]
    pub fn ring_bytes(&self) -> usize {
        self.header_len().saturating_add(pad(self.payload_len())).saturating_add(TRAILER)
    }

    pub(super) fn payload_len(&self) -> usize {
        self.payload.iter().fold(0, |len: usize, piece| len.saturating_add(piece.len()))
    }

    fn header_len(&self) -> usize {
        pad(self.extension.len()).saturating_add(DESCRIPTOR_SIZE as usize)
    }

    /// The descriptor and the bytes in the ring; `None` if 16 bits cannot tell the packet's length.
    pub(super) fn descriptor(&self) -> Option<(PacketDescriptor, u32)> {
        let units = |bytes: usize| u16::try_from(bytes / UNIT as usize).ok();
        let data_offset8 = units(self.header_len())?;
        let length8 = units(self.ring_bytes() - TRAILER)?;
        let descriptor = PacketDescriptor {
            kind: self.kind.0.into(),
            data_offset8: data_offset8.into(),
            length8: length8.into(),
            flags: if self.completion_requested { FLAG_COMPLETION_REQUESTED } else { 0 }.into(),
            transaction_id: self.transaction_id.into(),
        };
        Some((descriptor, (u32::from(length8) + 1) * UNIT))
    }
}

/// Bytes that a packet without extension takes in a ring, descriptor, padding and trailer included.
#[must_use]
pub const fn packet_bytes(payload: usize) -> usize {
    DESCRIPTOR_SIZE as usize + payload.next_multiple_of(UNIT as usize) + TRAILER
}

/// Bytes of header and of the whole packet without its trailer, as the descriptor says.
pub(super) fn packet_extent(descriptor: &PacketDescriptor) -> (u32, u32) {
    (u32::from(descriptor.data_offset8.get()) * UNIT, u32::from(descriptor.length8.get()) * UNIT)
}

/// The next multiple of 8; the largest below 2^64 of what has none.
fn pad(len: usize) -> usize {
    len.checked_next_multiple_of(UNIT as usize).unwrap_or(usize::MAX - TRAILER + 1)
}

/// Zeros that fill a piece of `len` bytes up to a multiple of 8.
pub(super) fn padding(len: usize) -> &'static [u8] {
    const ZEROS: &[u8] = &[0; UNIT as usize];
    ZEROS.split_at(len.wrapping_neg() % UNIT as usize).0
}

/// Splits a pipe's payload into what it is and its data.
///
/// # Errors
/// [`PacketError::Pipe`] if the payload is shorter than its header says.
pub fn pipe_message(payload: &[u8]) -> Result<(PipeMessageType, &[u8]), PacketError> {
    let bad = |length| PacketError::Pipe { length, len: payload.len() };
    let (header, rest) = PipeHeader::ref_from_prefix(payload).map_err(|_| bad(0))?;
    let length = header.length.get();
    let data = usize::try_from(length).ok().and_then(|len| rest.split_at_checked(len));
    let (data, _) = data.ok_or_else(|| bad(length))?;
    Ok((PipeMessageType(header.kind.get()), data))
}

/// Builds the extension of a [`PacketType::TRANSFER_PAGES`] packet, replacing what the buffer held.
pub fn transfer_page_extension(pageset_id: u16, ranges: &[TransferPageRange], extension: &mut Vec<u8>) {
    let header = TransferPageHeader {
        pageset_id: pageset_id.into(),
        sender_owns_set: 0,
        reserved: 0,
        range_count: u32::try_from(ranges.len()).unwrap_or(u32::MAX).into(),
    };
    extension.clear();
    extension.extend_from_slice(header.as_bytes());
    extension.extend_from_slice(ranges.as_bytes());
}

/// Builds the extension of a [`PacketType::GPA_DIRECT`] packet of (offset, length, page numbers), replacing
/// what the buffer held.
pub fn gpa_direct_extension(ranges: &[(u32, u32, &[u64])], extension: &mut Vec<u8>) {
    let range_count = u32::try_from(ranges.len()).unwrap_or(u32::MAX).into();
    extension.clear();
    extension.extend_from_slice(GpaDirectHeader { reserved: 0.into(), range_count }.as_bytes());
    for &(offset, len, pfns) in ranges {
        let header = GpaRangeHeader { byte_count: len.into(), byte_offset: offset.into() };
        extension.extend_from_slice(header.as_bytes());
        for &pfn in pfns {
            extension.extend_from_slice(U64::new(pfn).as_bytes());
        }
    }
}
