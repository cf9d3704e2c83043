//! The guest memory of one command.

use super::initialisation::MAX_TRANSFER;
use super::protocol::{DATA_FROM_GUEST, ShortSrb};
use super::requests::SrbEnd;
use crate::mem::{GuestRam, MemError, Piece, Pieces};
use crate::vmbus::ring::protocol::PacketType;
use crate::vmbus::ring::{GpaRange, Packet};

/// A command's buffer: bytes of pages that a packet names. Nothing is looked up before it is used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Data<'p> {
    range: Option<GpaRange<'p>>,
    /// Bytes: as many as both the range and the SRB say there are.
    pub len: u32,
    from_guest: bool,
}

impl<'p> Data<'p> {
    /// Finds it in the packet; an error is how the SRB ends.
    pub fn of(packet: &Packet<'p>, srb: &ShortSrb) -> Result<Self, SrbEnd> {
        let from_guest = srb.data_in == DATA_FROM_GUEST;
        let range = match packet.kind {
            PacketType::GPA_DIRECT => {
                let mut ranges = packet.gpa_ranges().map_err(|_| SrbEnd::INVALID)?;
                let range = ranges.next().filter(|_| ranges.len() == 0);
                Some(range.ok_or(SrbEnd::INVALID)?)
            }
            _ => None,
        };
        let len = range.map_or(0, |range| range.len.min(srb.data_transfer_length.get()));
        if len > MAX_TRANSFER {
            return Err(SrbEnd::INVALID);
        }
        Ok(Data { range, len, from_guest })
    }

    /// Whether a command may move bytes in this direction.
    pub fn goes(&self, from_guest: bool) -> bool {
        self.len == 0 || self.from_guest == from_guest
    }

    /// Its first bytes; an error where they end or are no RAM.
    pub fn pieces<'r>(
        &self,
        ram: &'r GuestRam,
        len: usize,
    ) -> impl Iterator<Item = Result<Piece<'r>, MemError>> + use<'p, 'r> {
        let (offset, pfns) = match self.range {
            Some(range) => (range.offset as usize, Some(range.pfns())),
            None => (0, None),
        };
        Pieces::new(ram, pfns.into_iter().flatten(), offset, len)
    }

    /// Copies its first bytes.
    pub fn read(&self, ram: &GuestRam, mut bytes: &mut [u8]) -> Result<(), MemError> {
        for piece in self.pieces(ram, bytes.len()) {
            let piece = piece?;
            let (part, rest) = bytes.split_at_mut(piece.size().min(bytes.len()));
            piece.read(part);
            bytes = rest;
        }
        Ok(())
    }

    /// Writes over its first bytes.
    pub fn write(&self, ram: &GuestRam, mut bytes: &[u8]) -> Result<(), MemError> {
        for piece in self.pieces(ram, bytes.len()) {
            let piece = piece?;
            let (part, rest) = bytes.split_at(piece.size().min(bytes.len()));
            piece.write(part);
            bytes = rest;
        }
        Ok(())
    }
}
