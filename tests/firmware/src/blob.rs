//! The config blob, checked as strictly as the real firmware does, which stops at the first mistake.

use crate::console::{check, value};
use crate::machine::read;
use crate::registers::memory_type;

const BLOB: u64 = 0x70_9000;
const FOUR_GIB: u64 = 1 << 32;
/// Bytes of the structures of fixed length, by type.
const FIXED: [(u32, u32); 7] =
    [(0x00, 16), (0x01, 16), (0x04, 72), (0x05, 24), (0x12, 16), (0x13, 24), (0x14, 40)];
const REQUIRED: [u32; 7] = [0x01, 0x03, 0x04, 0x05, 0x12, 0x13, 0x14];

/// What it says of the machine.
pub struct Blob {
    pub processors: u32,
    pub flags: u64,
    /// First address after the blob, rounded to a page.
    pub end: u64,
    ranges: [(u64, u64); 8],
    range_count: usize,
}

impl Blob {
    /// Ranges of plain RAM: first address, and first address after it.
    pub fn ram(&self) -> &[(u64, u64)] {
        &self.ranges[..self.range_count]
    }

    pub fn check() -> Self {
        let [kind, length, count, total] = read::<[u32; 4]>(BLOB);
        check!(
            [kind, length] == [0, 16] && count > 1,
            "the blob begins with type {kind}, {length} bytes, count {count}"
        );
        let mut blob = Blob {
            processors: 0,
            flags: 0,
            end: (BLOB + u64::from(total)).next_multiple_of(0x1000),
            ranges: [(0, 0); 8],
            range_count: 0,
        };
        let mut seen = 0u64;
        let mut offset = 0;
        for _ in 0..count {
            check!(offset < total, "the blob has more structures than bytes");
            let at = BLOB + u64::from(offset);
            let [kind, length] = read::<[u32; 2]>(at);
            check!(length > 8 && length % 8 == 0, "structure {kind:#x} has {length} bytes");
            let fixed = FIXED.iter().find(|(fixed, _)| *fixed == kind);
            check!(
                fixed.is_none_or(|&(_, wanted)| length == wanted),
                "structure {kind:#x} has {length} bytes"
            );
            blob.structure(kind, at + 8, u64::from(length) - 8);
            seen |= 1 << kind;
            offset += length;
        }
        check!(offset == total, "the blob's structures have {offset} bytes, not {total}");
        let missing = REQUIRED.iter().find(|&&kind| seen & 1 << kind == 0);
        check!(missing.is_none(), "the blob lacks structure {missing:x?}");
        check!(seen & (1 << 0x18 | 1 << 0x16) != 0, "the blob has no MADT");
        blob
    }

    fn structure(&mut self, kind: u32, at: u64, length: u64) {
        match kind {
            0x01 => {
                check!(read::<[u32; 2]>(at) == [0x600, 0], "BIOS information is {:x?}", read::<[u32; 2]>(at))
            }
            0x03 => self.memory_map(at, length),
            0x04 => {
                let words: [u64; 8] = read(at);
                let distinct = (1..8).all(|i| words[i] != 0 && !words[..i].contains(&words[i]));
                check!(distinct, "the entropy is none: {words:x?}");
            }
            0x05 => value!("uuid", "{:02x?}", read::<[u8; 16]>(at)),
            0x12 => {
                let flags: u64 = read(at);
                check!(flags & 1 << 28 != 0, "the host did not set the MTRRs: flags {flags:#x}");
                value!("flags", "{flags:#x}");
                self.flags = flags;
            }
            0x13 => {
                let [max, count, per_socket, threads] = read::<[u32; 4]>(at);
                check!(
                    max >= count && count * per_socket * threads != 0,
                    "processors are {max} {count} {per_socket} {threads}"
                );
                self.processors = count;
            }
            0x14 => mmio(read(at)),
            0x18 => madt(at, length),
            _ => {}
        }
    }

    fn memory_map(&mut self, at: u64, length: u64) {
        check!(length.is_multiple_of(24) && length / 24 <= 8, "the memory map has {length} bytes");
        for entry in 0..length / 24 {
            let [base, size, flags] = read::<[u64; 3]>(at + entry * 24);
            check!(
                flags == 0 && base % 0x1000 == 0 && size % 0x1000 == 0,
                "RAM at {base:#x}, {size:#x}, {flags:#x}"
            );
            check!(base >= FOUR_GIB || base + size <= FOUR_GIB, "RAM at {base:#x} crosses 4 GiB");
            self.ranges[self.range_count] = (base, base + size);
            self.range_count += 1;
            value!("ram", "{base:#x}..{:#x}", base + size);
        }
        let first = self.ranges[0];
        check!(first.0 <= BLOB && first.1 > self.end, "the first RAM is {first:x?}");
    }
}

fn mmio([low, low_pages, high, high_pages]: [u64; 4]) {
    let [low, low_end, high, high_end] =
        [low, low + low_pages, high, high + high_pages].map(|page| page << 12);
    value!("low_mmio", "{low:#x}..{low_end:#x}");
    value!("high_mmio", "{high:#x}..{high_end:#x}");
    check!(low_end <= FOUR_GIB && high >= FOUR_GIB, "the MMIO gaps are on the wrong sides of 4 GiB");
    let covers = |address| (low..low_end).contains(&address);
    check!(
        covers(0xfee0_0000) && covers(0xfec0_0000) && covers(0xfed4_0000),
        "the low gap lacks the chipset"
    );
    for address in [low, low_end - 1, high, high_end - 1] {
        check!(memory_type(address) == 0, "MMIO at {address:#x} has memory type {}", memory_type(address));
    }
}

fn madt(at: u64, length: u64) {
    check!(length >= 44, "the MADT has {length} bytes");
    let bytes = |from: u64, len: u64| (from..from + len).map(move |offset| read::<u8>(at + offset));
    let table = u64::from(read::<u32>(at + 4));
    check!(bytes(0, 4).eq(*b"APIC") && table <= length, "the MADT is none, or longer than its structure");
    check!(bytes(0, table).fold(0u8, u8::wrapping_add) == 0, "the MADT's checksum is wrong");
    check!(read::<u32>(at + 36) == 0xfee0_0000 && read::<u32>(at + 40) == 0, "the MADT's head is wrong");
    let (mut offset, mut processors, mut controllers) = (44, 0, 0);
    while offset < table {
        let [kind, len] = read::<[u8; 2]>(at + offset);
        check!(len > 1, "an entry of the MADT has {len} bytes");
        match kind {
            0 => {
                let [uid, apic] = read::<[u8; 2]>(at + offset + 2);
                check!(
                    u32::from(apic) == processors && uid == apic + 1,
                    "processor {uid} has APIC id {apic}"
                );
                processors += 1;
            }
            1 => {
                check!(read::<u32>(at + offset + 4) == 0xfec0_0000, "the IOAPIC is elsewhere");
                controllers += 1;
            }
            2 => check!(bytes(offset + 2, 8).eq([0, 9, 9, 0, 0, 0, 13, 0]), "the SCI is not as it should be"),
            _ => {}
        }
        offset += u64::from(len);
    }
    check!(controllers == 1, "the MADT has {controllers} IOAPICs");
    value!("madt_processors", "{processors}");
}
