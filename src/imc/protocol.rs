//! A registry hive as it lies in a file ("regf", version 1.5).
//!
//! A base block, then bins of whole pages; in a bin lie cells, each behind a number: its bytes with the number in it,
//! negative if the cell is in use. Cells name each other by their distance from the first bin, and `NOTHING` is none.
//!
//! Source: the descriptions of libregf (Joachim Metz) and of Maxim Suhanov; the hive of OpenVMM's petri agrees.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of the base block, and the unit of bins.
pub const PAGE: usize = 4096;
/// Names no cell.
pub const NOTHING: u32 = u32::MAX;
/// Cells lie at multiples of this.
pub const CELL_ALIGN: usize = 8;
/// In a value's size: the data are where their place would be.
pub const IN_PLACE: u32 = 1 << 31;
/// Version.
pub const VERSION: [u32; 2] = [1, 5];

/// The beginning of the base block; zeros follow.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
pub struct BaseBlock {
    /// `regf`.
    pub signature: [u8; 4],
    /// Counted up before and after a write: they are the same if the last one came to its end.
    pub sequences: [U32; 2],
    /// When, in 100 ns since 1601.
    pub written: U64,
    /// [`VERSION`].
    pub version: [U32; 2],
    /// 0: a hive, no log of one.
    pub kind: U32,
    /// 1: cells as they lie in memory.
    pub format: U32,
    /// Cell of the root key.
    pub root: U32,
    /// Bytes of all bins.
    pub size: U32,
    /// 1: sectors of 512 bytes.
    pub cluster: U32,
    /// UTF-16.
    pub name: [u8; 64],
    /// Zero.
    pub reserved: [[u8; 36]; 11],
    /// Of all before.
    pub checksum: U32,
}
const _: () = assert!(size_of::<BaseBlock>() == 512);

impl BaseBlock {
    /// The checksum that it should have: the words' exclusive or, but neither 0 nor all ones.
    #[must_use]
    pub fn sum(&self) -> u32 {
        let words = self.as_bytes().chunks_exact(4).take(127);
        let sum = words
            .fold(0, |sum, word| sum ^ word.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte)));
        match sum {
            0 => 1,
            u32::MAX => u32::MAX - 1,
            sum => sum,
        }
    }
}

/// At the beginning of a bin.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
pub struct BinHeader {
    /// `hbin`.
    pub signature: [u8; 4],
    /// Distance from the first bin.
    pub offset: U32,
    /// Bytes, header included.
    pub size: U32,
    /// Zero.
    pub reserved: [U32; 5],
}
const _: () = assert!(size_of::<BinHeader>() == 32);

/// A key (`nk`); its name follows.
#[repr(C)]
#[derive(Clone, Copy, Debug, Immutable, IntoBytes)]
pub struct KeyNode {
    /// `nk`.
    pub signature: [u8; 2],
    /// `KEY_*`.
    pub flags: U16,
    /// When it was written.
    pub written: [U32; 2],
    /// Zero.
    pub access: U32,
    /// Cell of the key above.
    pub parent: U32,
    /// Keys below: those in the file, and those that are only in memory.
    pub key_counts: [U32; 2],
    /// Cells of their lists.
    pub key_lists: [U32; 2],
    /// Values.
    pub value_count: U32,
    /// Cell of their list.
    pub value_list: U32,
    /// Cell of the security descriptor.
    pub security: U32,
    /// Cell of the class name.
    pub class: U32,
    /// Most bytes of the name of a key below, in UTF-16.
    pub key_name_max: U32,
    /// Most bytes of a class name below.
    pub class_max: U32,
    /// Most bytes of the name of a value, in UTF-16.
    pub value_name_max: U32,
    /// Most bytes of a value.
    pub data_max: U32,
    /// Zero.
    pub reserved: U32,
    /// Bytes of the name.
    pub name_length: U16,
    /// Bytes of the class name.
    pub class_length: U16,
}
const _: () = assert!(size_of::<KeyNode>() == 76);

/// The root of a hive, which nobody may delete.
pub const KEY_ROOT: u16 = 1 << 2 | 1 << 3;
/// The name has one byte for each letter.
pub const KEY_NARROW: u16 = 1 << 5;

/// A value (`vk`); its name follows.
#[repr(C)]
#[derive(Clone, Copy, Debug, Immutable, IntoBytes)]
pub struct ValueNode {
    /// `vk`.
    pub signature: [u8; 2],
    /// Bytes of the name.
    pub name_length: U16,
    /// Bytes of the data, perhaps [`IN_PLACE`].
    pub size: U32,
    /// Cell of the data, or up to four bytes of them.
    pub data: [u8; 4],
    /// What the data are.
    pub kind: U32,
    /// [`VALUE_NARROW`].
    pub flags: U16,
    /// Zero.
    pub reserved: U16,
}
const _: () = assert!(size_of::<ValueNode>() == 20);

/// The name has one byte for each letter.
pub const VALUE_NARROW: u16 = 1;

/// A security descriptor (`sk`), which follows.
#[repr(C)]
#[derive(Clone, Copy, Debug, Immutable, IntoBytes)]
pub struct SecurityNode {
    /// `sk`.
    pub signature: [u8; 2],
    /// Zero.
    pub reserved: U16,
    /// Cells of the next and of the one before; they are a ring.
    pub neighbours: [U32; 2],
    /// Keys that have it.
    pub uses: U32,
    /// Bytes of the descriptor.
    pub length: U32,
}
const _: () = assert!(size_of::<SecurityNode>() == 20);

/// A list of keys in the order of their names (`lh`), whose [`HashedKey`]s follow; or of such lists (`ri`), whose cells
/// follow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Immutable, IntoBytes)]
pub struct ListHeader {
    /// `lh` or `ri`.
    pub signature: [u8; 2],
    /// Entries.
    pub count: U16,
}
const _: () = assert!(size_of::<ListHeader>() == 4);

/// Entries of an `lh` list that still leave it in one page.
pub const HASHED_KEYS_MAX: usize = 507;

/// A key in a list.
#[repr(C)]
#[derive(Clone, Copy, Debug, Immutable, IntoBytes)]
pub struct HashedKey {
    /// Its cell.
    pub key: U32,
    /// Of its name in capitals.
    pub hash: U32,
}
const _: () = assert!(size_of::<HashedKey>() == 8);

/// Who may do what (MS-DTYP 2.4.6, self-relative): administrators own it; they and the system may do everything, users
/// may read; all of it counts for keys below too.
pub const SECURITY: [u8; 0x80] = {
    const HEAD: [u8; 20] = [1, 0, 4, 0x80, 0x60, 0, 0, 0, 0x70, 0, 0, 0, 0, 0, 0, 0, 0x14, 0, 0, 0];
    /// Revision 2, 76 bytes, three entries.
    const LIST: [u8; 8] = [2, 0, 0x4c, 0, 3, 0, 0, 0];
    const FULL: [u8; 4] = [0x3f, 0, 0x0f, 0];
    const READ: [u8; 4] = [0x19, 0, 2, 0];
    const SYSTEM: [u8; 12] = [1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0];
    const ADMINISTRATORS: [u8; 16] = [1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 0x20, 2, 0, 0];
    const USERS: [u8; 16] = [1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 0x21, 2, 0, 0];
    const ALLOW: [u8; 2] = [0, 2];
    const fn put<const N: usize>(bytes: &mut [u8; 0x80], at: usize, part: [u8; N]) -> usize {
        let mut index = 0;
        while index < N {
            bytes[at + index] = part[index];
            index += 1;
        }
        at + N
    }
    let mut bytes = [0; 0x80];
    let mut at = put(&mut bytes, 0, HEAD);
    at = put(&mut bytes, at, LIST);
    at = put(&mut bytes, at, ALLOW);
    at = put(&mut bytes, at, [20, 0]);
    at = put(&mut bytes, at, FULL);
    at = put(&mut bytes, at, SYSTEM);
    at = put(&mut bytes, at, ALLOW);
    at = put(&mut bytes, at, [24, 0]);
    at = put(&mut bytes, at, FULL);
    at = put(&mut bytes, at, ADMINISTRATORS);
    at = put(&mut bytes, at, ALLOW);
    at = put(&mut bytes, at, [24, 0]);
    at = put(&mut bytes, at, READ);
    at = put(&mut bytes, at, USERS);
    assert!(at == 0x60);
    at = put(&mut bytes, at, ADMINISTRATORS);
    at = put(&mut bytes, at, ADMINISTRATORS);
    assert!(at == bytes.len());
    bytes
};
