//! A store as bytes: what the file has.
//!
//! ```text
//! header      magic, version, CRC-32C of all that follows, count, generation
//! machine     its UUID, zero if it has none; since version 2
//! variables   each: a fixed part, the name (UTF-16, no NUL), the data
//! ```
//!
//! The length is exact: nothing follows the last variable.

use thiserror::Error;
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::protocol::Attributes;
use super::store::{STORE_MAX, Store};
use super::variable::{DATA_MAX, Name, Variable, VariableId};
use crate::firmware::protocol::EfiTime;
use crate::guid::Guid;

/// The format that is written; all earlier ones are read.
pub const VERSION: u32 = 2;
/// The first one, which has no UUID.
const VERSION_1: u32 = 1;
/// Bytes of the largest file that is looked at.
pub const FILE_MAX: usize = 4 * STORE_MAX;

const MAGIC: [u8; 8] = *b"BUSMANNV";

#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
struct Header {
    magic: [u8; 8],
    version: U32,
    /// CRC-32C of everything after this field.
    checksum: U32,
    count: U32,
    generation: Guid,
}
const _: () = assert!(size_of::<Header>() == 36);

/// Bytes of the header that the checksum does not cover.
const UNCOVERED: usize = 16;

#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
struct Entry {
    vendor: Guid,
    attributes: U32,
    name_bytes: U32,
    data_bytes: U32,
    time: EfiTime,
    owner: [u8; 32],
}
const _: () = assert!(size_of::<Entry>() == 76);

/// Why bytes are no store.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum FormatError {
    /// Anything else.
    #[error("It is no NVRAM file of busman")]
    Foreign,
    /// Made by a later version of this program.
    #[error("Its format is version {0}, and this busman knows version {VERSION} at most")]
    Version(u32),
    /// Cut, changed or mixed up.
    #[error("It is damaged: {0}")]
    Damaged(&'static str),
}

/// The file's bytes.
#[must_use]
pub fn encode(store: &Store) -> Vec<u8> {
    let number = |n: usize| U32::new(u32::try_from(n).unwrap_or(u32::MAX));
    let mut header = Header {
        magic: MAGIC,
        version: U32::new(VERSION),
        checksum: U32::new(0),
        count: number(store.iter().len()),
        generation: store.generation,
    };
    let mut entries = Vec::new();
    for (id, variable) in store.iter() {
        let name = id.name.to_bytes();
        let entry = Entry {
            vendor: id.vendor,
            attributes: U32::new(variable.attributes.bits()),
            name_bytes: number(name.len()),
            data_bytes: number(variable.data.len()),
            time: variable.time,
            owner: variable.owner,
        };
        entries.extend(entry.as_bytes());
        entries.extend(name);
        entries.extend(&variable.data);
    }
    let machine = store.machine.unwrap_or(Guid::ZERO);
    let mut bytes = [header.as_bytes(), machine.as_bytes(), &entries].concat();
    header.checksum = U32::new(crc32c::crc32c(bytes.get(UNCOVERED..).unwrap_or_default()));
    // As long as it is.
    let _ = header.write_to_prefix(&mut bytes);
    bytes
}

/// The store of a file's bytes.
///
/// # Errors
/// What is wrong with them.
pub fn decode(bytes: &[u8]) -> Result<Store, FormatError> {
    let (header, mut rest) = Header::read_from_prefix(bytes).map_err(|_| FormatError::Foreign)?;
    if header.magic != MAGIC {
        return Err(FormatError::Foreign);
    }
    if !(VERSION_1..=VERSION).contains(&header.version.get()) {
        return Err(FormatError::Version(header.version.get()));
    }
    if crc32c::crc32c(bytes.get(UNCOVERED..).unwrap_or_default()) != header.checksum.get() {
        return Err(FormatError::Damaged("its checksum is wrong"));
    }
    let mut store = Store::new(header.generation);
    if header.version.get() != VERSION_1 {
        let (machine, after) =
            Guid::read_from_prefix(rest).map_err(|_| FormatError::Damaged("it ends too early"))?;
        store.machine = (machine != Guid::ZERO).then_some(machine);
        rest = after;
    }
    for _ in 0..header.count.get() {
        let (id, variable, after) =
            decode_entry(rest).ok_or(FormatError::Damaged("a variable makes no sense"))?;
        let twice = store.replace(&id, Some(variable)).map_err(|_| FormatError::Damaged("it is too full"))?;
        if twice.is_some() {
            return Err(FormatError::Damaged("a variable is there twice"));
        }
        rest = after;
    }
    if rest.is_empty() { Ok(store) } else { Err(FormatError::Damaged("something follows the last variable")) }
}

fn decode_entry(bytes: &[u8]) -> Option<(VariableId, Variable, &[u8])> {
    let (entry, rest) = Entry::read_from_prefix(bytes).ok()?;
    let (name, rest) = rest.split_at_checked(usize::try_from(entry.name_bytes.get()).ok()?)?;
    let (data, rest) = rest.split_at_checked(usize::try_from(entry.data_bytes.get()).ok()?)?;
    let (units, odd) = name.as_chunks();
    let units: Vec<u16> = units.iter().map(|&unit| u16::from_le_bytes(unit)).collect();
    let name = Name::new(&units).filter(|_| odd.is_empty() && data.len() <= DATA_MAX)?;
    let variable = Variable {
        attributes: Attributes::from_bits(entry.attributes.get())?,
        time: entry.time,
        owner: entry.owner,
        data: data.to_vec(),
    };
    Some((VariableId { vendor: entry.vendor, name }, variable, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the variables begin.
    const ENTRIES: usize = size_of::<Header>() + size_of::<Guid>();

    fn example() -> Store {
        let mut store = Store::new(Guid::from_bytes([7; 16]));
        for (name, len) in [("BootOrder", 2), ("Boot0000", 300), ("Ünï", 0)] {
            let id = VariableId::new(Guid::from_bytes([9; 16]), name).unwrap();
            let mut variable = Variable::new(Attributes::LASTING, vec![0xab; len]);
            variable.owner = [3; 32];
            store.replace(&id, Some(variable)).unwrap();
        }
        store
    }

    #[test]
    fn a_store_survives_a_round_trip() {
        let mut named = example();
        named.machine = Some(Guid::from_bytes([8; 16]));
        for store in [Store::new(Guid::ZERO), example(), named] {
            assert_eq!(decode(&encode(&store)), Ok(store));
        }
    }

    #[test]
    fn a_file_of_version_1_is_read() {
        let mut old = encode(&example());
        old.drain(size_of::<Header>()..ENTRIES);
        old[8] = 1;
        assert_eq!(decode(&sealed(old)), Ok(example()));
    }

    #[test]
    fn no_changed_byte_and_no_cut_goes_unnoticed() {
        let good = encode(&example());
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert!(decode(&bad).is_err(), "byte {at}");
            assert!(decode(&good[..at]).is_err(), "cut at {at}");
        }
        assert!(decode(&[good.as_slice(), &[0]].concat()).is_err());
    }

    /// The checksum of what was changed deliberately.
    fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
        let checksum = crc32c::crc32c(&bytes[UNCOVERED..]);
        bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    #[test]
    fn what_has_a_good_checksum_is_still_not_trusted() {
        let good = encode(&example());
        let first = ENTRIES;
        for (at, value, what) in [
            (16, 2, "fewer variables"),
            (16, 4, "more variables"),
            (first + 17, 1, "unknown attributes"),
            (first + 20, 0, "no name"),
            (first + 20, 3, "half a unit"),
            (first + 23, 0xff, "a name past the end"),
            (first + 27, 0xff, "data past the end"),
            (first + 77, 0, "a NUL in the name"),
        ] {
            let mut bad = good.clone();
            bad[at] = value;
            if what == "a NUL in the name" {
                bad[at - 1] = 0;
            }
            assert!(matches!(decode(&sealed(bad)), Err(FormatError::Damaged(_))), "{what}");
        }
        let one = &good[first..first + 76 + 16 + 300];
        let mut twice = [&good[..first], one, one].concat();
        twice[16] = 2;
        assert_eq!(decode(&sealed(twice)), Err(FormatError::Damaged("a variable is there twice")));
        assert_eq!(decode(&sealed(good.clone())), Ok(example()));
        let mut later = good;
        later[8] = 3;
        assert_eq!(decode(&later), Err(FormatError::Version(3)));
    }
}
