//! Writes a tree of keys as a registry hive, and looks whether a file is one.
//!
//! The same tree gives the same bytes: no time is written.

use thiserror::Error;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::key::{Key, Name, Value};
use super::protocol::{
    BaseBlock, BinHeader, CELL_ALIGN, HASHED_KEYS_MAX, HashedKey, IN_PLACE, KEY_NARROW, KEY_ROOT, KeyNode,
    ListHeader, NOTHING, PAGE, SECURITY, SecurityNode, VALUE_NARROW, VERSION, ValueNode,
};

/// Bytes of the largest hive. A boot loader holds it in memory.
pub const HIVE_MAX: usize = 16 << 20;

/// Why a file is no hive that a machine can be given.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum HiveError {
    /// It does not begin as one.
    #[error("it is not a registry hive; busman imc create makes one from a .reg file")]
    NoHive,
    /// It is cut off, or its header is damaged.
    #[error("the registry hive is damaged")]
    Damaged,
    /// Somebody writes it, or could not finish.
    #[error("the registry hive was not written to its end; what is missing may be in a log beside it")]
    Unfinished,
    /// Too large.
    #[error("the registry hive has more than {} MiB, which is too large", HIVE_MAX >> 20)]
    TooLarge,
}

/// Looks at a file's beginning and size, not at its keys: these are the guest's to judge.
///
/// # Errors
/// What is wrong with it.
pub fn check(bytes: &[u8]) -> Result<(), HiveError> {
    if bytes.len() > HIVE_MAX {
        return Err(HiveError::TooLarge);
    }
    if !bytes.starts_with(b"regf") {
        return Err(HiveError::NoHive);
    }
    let (base, _) = BaseBlock::read_from_prefix(bytes).map_err(|_| HiveError::Damaged)?;
    let size = base.size.get() as usize;
    let whole =
        size > 0 && bytes.get(PAGE..).is_some_and(|bins| bins.starts_with(b"hbin") && bins.len() >= size);
    if !whole || base.checksum.get() != base.sum() {
        return Err(HiveError::Damaged);
    }
    if base.sequences[0] != base.sequences[1] {
        return Err(HiveError::Unfinished);
    }
    Ok(())
}

/// The hive with this root.
///
/// # Errors
/// [`HiveError::TooLarge`].
pub fn write(root: &Key) -> Result<Vec<u8>, HiveError> {
    let mut bins = Bins::default();
    let security = bins.security(count(root));
    let name = Name::from("ROOT");
    let root = bins.key(&name, root, Place { parent: NOTHING, flags: KEY_ROOT, security });
    bins.close();
    let mut base = BaseBlock {
        signature: *b"regf",
        sequences: [U32::new(1); 2],
        written: U64::ZERO,
        version: VERSION.map(U32::new),
        kind: U32::ZERO,
        format: U32::new(1),
        root: U32::new(root),
        size: number(bins.bytes.len()),
        cluster: U32::new(1),
        name: [0; 64],
        reserved: [[0; 36]; 11],
        checksum: U32::ZERO,
    };
    base.checksum = base.sum().into();
    let mut hive = base.as_bytes().to_vec();
    hive.resize(PAGE, 0);
    hive.append(&mut bins.bytes);
    if hive.len() > HIVE_MAX { Err(HiveError::TooLarge) } else { Ok(hive) }
}

fn count(key: &Key) -> usize {
    1 + key.keys.values().map(count).sum::<usize>()
}

/// What is too large for a number is far too large for a hive.
fn number(number: usize) -> U32 {
    U32::new(u32::try_from(number).unwrap_or(u32::MAX))
}

/// Names are checked when they are read.
fn short(number: usize) -> U16 {
    U16::new(u16::try_from(number).unwrap_or(u16::MAX))
}

/// A name's bytes: one for each letter, if that is enough.
fn encode(name: &Name) -> (Vec<u8>, bool) {
    let text = name.text();
    if text.is_ascii() {
        (text.as_bytes().to_vec(), true)
    } else {
        (text.encode_utf16().flat_map(u16::to_le_bytes).collect(), false)
    }
}

/// Bytes that a name would have in UTF-16.
fn wide(name: &Name) -> usize {
    2 * name.text().encode_utf16().count()
}

/// Where a key is.
#[derive(Clone, Copy)]
struct Place {
    parent: u32,
    flags: u16,
    security: u32,
}

/// All bins so far; the last one has room up to `end`.
#[derive(Default)]
struct Bins {
    bytes: Vec<u8>,
    end: usize,
}

impl Bins {
    /// Puts a cell where there is room and gives its place.
    fn cell(&mut self, content: &[u8]) -> u32 {
        let size = (size_of::<i32>() + content.len()).next_multiple_of(CELL_ALIGN);
        if self.bytes.len() + size > self.end {
            self.close();
            let bin = (size_of::<BinHeader>() + size).next_multiple_of(PAGE);
            let header = BinHeader {
                signature: *b"hbin",
                offset: number(self.bytes.len()),
                size: number(bin),
                reserved: [U32::ZERO; 5],
            };
            self.end = self.bytes.len() + bin;
            self.bytes.extend(header.as_bytes());
        }
        let cell = self.bytes.len();
        self.bytes.extend(number(size).get().wrapping_neg().to_le_bytes());
        self.bytes.extend(content);
        self.bytes.resize(cell + size, 0);
        number(cell).get()
    }

    /// Makes what is left of the last bin a cell that nobody uses.
    fn close(&mut self) {
        let rest = self.end - self.bytes.len();
        if rest > 0 {
            self.bytes.extend(number(rest).get().to_le_bytes());
            self.bytes.resize(self.end, 0);
        }
    }

    /// Writes a cell's content once more, now that it is known.
    fn complete(&mut self, cell: u32, content: &(impl IntoBytes + Immutable)) {
        let (content, start) = (content.as_bytes(), cell as usize + size_of::<i32>());
        if let Some(bytes) = self.bytes.get_mut(start..start + content.len()) {
            bytes.copy_from_slice(content);
        }
    }

    /// The one descriptor that all keys have.
    fn security(&mut self, uses: usize) -> u32 {
        let mut node = SecurityNode {
            signature: *b"sk",
            reserved: U16::ZERO,
            neighbours: [U32::ZERO; 2],
            uses: number(uses),
            length: number(SECURITY.len()),
        };
        let cell = self.cell(&[node.as_bytes(), &SECURITY].concat());
        node.neighbours = [U32::new(cell); 2];
        self.complete(cell, &node);
        cell
    }

    /// A key and all below it: the key first, since those below name it.
    fn key(&mut self, name: &Name, key: &Key, place: Place) -> u32 {
        let (encoded, narrow) = encode(name);
        let longest = |names: &mut dyn Iterator<Item = &Name>| number(names.map(wide).max().unwrap_or(0));
        let mut node = KeyNode {
            signature: *b"nk",
            flags: U16::new(place.flags | if narrow { KEY_NARROW } else { 0 }),
            written: [U32::ZERO; 2],
            access: U32::ZERO,
            parent: U32::new(place.parent),
            key_counts: [number(key.keys.len()), U32::ZERO],
            key_lists: [U32::new(NOTHING); 2],
            value_count: number(key.values.len()),
            value_list: U32::new(NOTHING),
            security: U32::new(place.security),
            class: U32::new(NOTHING),
            key_name_max: longest(&mut key.keys.keys()),
            class_max: U32::ZERO,
            value_name_max: longest(&mut key.values.keys()),
            data_max: number(key.values.values().map(|value| value.data.len()).max().unwrap_or(0)),
            reserved: U32::ZERO,
            name_length: short(encoded.len()),
            class_length: U16::ZERO,
        };
        let cell = self.cell(&[node.as_bytes(), &encoded].concat());
        if !key.values.is_empty() {
            let values: Vec<U32> =
                key.values.iter().map(|(name, value)| self.value(name, value).into()).collect();
            node.value_list = self.cell(values.as_bytes()).into();
        }
        if !key.keys.is_empty() {
            let below = Place { parent: cell, flags: 0, ..place };
            let keys: Vec<HashedKey> = key
                .keys
                .iter()
                .map(|(name, key)| HashedKey {
                    key: self.key(name, key, below).into(),
                    hash: hash(name).into(),
                })
                .collect();
            node.key_lists[0] = self.list(&keys).into();
        }
        self.complete(cell, &node);
        cell
    }

    fn list(&mut self, keys: &[HashedKey]) -> u32 {
        let head = |signature: &[u8; 2], count| ListHeader { signature: *signature, count: short(count) };
        let lists: Vec<U32> = keys
            .chunks(HASHED_KEYS_MAX)
            .map(|keys| self.cell(&[head(b"lh", keys.len()).as_bytes(), keys.as_bytes()].concat()).into())
            .collect();
        match lists.as_slice() {
            [list] => list.get(),
            lists => self.cell(&[head(b"ri", lists.len()).as_bytes(), lists.as_bytes()].concat()),
        }
    }

    fn value(&mut self, name: &Name, value: &Value) -> u32 {
        let (encoded, narrow) = encode(name);
        let (length, in_place) = (number(value.data.len()).get(), value.data.len() <= size_of::<u32>());
        let mut data = [0; 4];
        if in_place {
            data.iter_mut().zip(&value.data).for_each(|(to, from)| *to = *from);
        } else {
            data = self.cell(&value.data).to_le_bytes();
        }
        let node = ValueNode {
            signature: *b"vk",
            name_length: short(encoded.len()),
            size: U32::new(if in_place { length | IN_PLACE } else { length }),
            data,
            kind: U32::new(value.kind.0),
            flags: U16::new(if narrow { VALUE_NARROW } else { 0 }),
            reserved: U16::ZERO,
        };
        self.cell(&[node.as_bytes(), &encoded].concat())
    }
}

/// By which readers find a name in a list.
fn hash(name: &Name) -> u32 {
    name.upper().iter().fold(0, |hash: u32, &unit| hash.wrapping_mul(37).wrapping_add(unit.into()))
}
