//! The config blob: puts one structure after the other and counts them.
//!
//! [`load`](super::load) fills it for a machine. [`ConfigBlob`] knows the layout and nothing of machines: each method
//! adds one structure, padded with zeros to a multiple of 8 bytes, and [`ConfigBlob::finish`] writes the totals.

use std::ops::Range;

use devices::guid::Guid;
use devices::mem::PAGE_SIZE;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{Immutable, IntoBytes};

use super::protocol::{
    BiosGuid, BiosInformation, Flags, Header, Kind, MemoryRange, MmioRange, ProcessorInformation,
    StructureCount,
};

/// Lengths are multiples of this.
const ALIGN: usize = 8;
/// Random bytes that the firmware takes.
pub const ENTROPY: usize = 64;

/// Structures, in the order in which they were added.
#[derive(Debug)]
pub struct ConfigBlob {
    structures: Vec<u8>,
    count: u32,
}

impl Default for ConfigBlob {
    fn default() -> Self {
        Self::new()
    }
}

impl ConfigBlob {
    /// No structures but the one that counts them.
    #[must_use]
    pub fn new() -> Self {
        ConfigBlob { structures: Vec::new(), count: 1 }
    }

    /// Bytes of the image.
    #[must_use]
    pub fn image_size(self, size: u64) -> Self {
        self.add(Kind::BiosInformation, &BiosInformation { pages: u32_of(pages(size)), flags: U32::ZERO })
    }

    /// Plain RAM, by address.
    #[must_use]
    pub fn memory_map(self, ranges: &[Range<u64>]) -> Self {
        let plain = |range: &Range<u64>| MemoryRange {
            base: U64::new(range.start),
            length: U64::new(range.end - range.start),
            flags: U32::ZERO,
            reserved: U32::ZERO,
        };
        self.add(Kind::MemoryMap, ranges.iter().map(plain).collect::<Vec<_>>().as_slice())
    }

    /// Random bytes, for the guest's own generator.
    #[must_use]
    pub fn entropy(self, bytes: &[u8; ENTROPY]) -> Self {
        self.add(Kind::Entropy, bytes)
    }

    /// The machine's UUID.
    #[must_use]
    pub fn uuid(self, uuid: Guid) -> Self {
        self.add(Kind::BiosGuid, &BiosGuid { uuid })
    }

    /// What the firmware should do and what the machine has.
    #[must_use]
    pub fn flags(self, flags: Flags) -> Self {
        self.add(Kind::Flags, &U64::new(flags.bits()))
    }

    /// Processors: one socket of cores with one thread each.
    #[must_use]
    pub fn processors(self, count: u32) -> Self {
        let [count, one] = [U32::new(count), U32::new(1)];
        let processors = ProcessorInformation { max: count, count, per_socket: count, threads_per_core: one };
        self.add(Kind::ProcessorInformation, &processors)
    }

    /// MMIO below and above 4 GiB, both of whole pages.
    #[must_use]
    pub fn mmio(self, low: Range<u64>, high: Range<u64>) -> Self {
        let ranges = [low, high].map(|range| MmioRange {
            page: U64::new(pages(range.start)),
            pages: U64::new(pages(range.end - range.start)),
        });
        self.add(Kind::MmioRanges, &ranges)
    }

    /// The MADT: the firmware has none of its own.
    #[must_use]
    pub fn madt(self, table: &[u8]) -> Self {
        self.add(Kind::Madt, table)
    }

    /// Another ACPI table; it takes the place of the firmware's own of the same signature.
    #[must_use]
    pub fn acpi_table(self, table: &[u8]) -> Self {
        self.add(Kind::AcpiTable, table)
    }

    /// A text, one of those for SMBIOS; it must have no NUL.
    #[must_use]
    pub fn text(self, kind: Kind, text: &str) -> Self {
        self.add(kind, [text.as_bytes(), &[0]].concat().as_slice())
    }

    /// The whole blob.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        let total = size_of::<Header>() + size_of::<StructureCount>() + self.structures.len();
        let count = StructureCount { count: U32::new(self.count), total: u32_of(total as u64) };
        let first = ConfigBlob::new().add(Kind::StructureCount, &count);
        [first.structures, self.structures].concat()
    }

    fn add(mut self, kind: Kind, body: &(impl IntoBytes + Immutable + ?Sized)) -> Self {
        let body = body.as_bytes();
        let length = (size_of::<Header>() + body.len()).next_multiple_of(ALIGN);
        let header = Header { kind: U32::new(kind as u32), length: u32_of(length as u64) };
        let end = self.structures.len() + length;
        self.structures.extend_from_slice(header.as_bytes());
        self.structures.extend_from_slice(body);
        self.structures.resize(end, 0);
        self.count += 1;
        self
    }
}

fn pages(bytes: u64) -> u64 {
    bytes / PAGE_SIZE as u64
}

/// Everything here is far smaller.
fn u32_of(number: u64) -> U32 {
    U32::new(u32::try_from(number).unwrap_or(u32::MAX))
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
