//! A variable and its name.
//!
//! Names are 16-bit units without NUL. They are compared as they are: whatever they mean as text is for people.

use std::fmt;

use zerocopy::IntoBytes;

use super::protocol::Attributes;
use crate::firmware::protocol::EfiTime;
use crate::guid::Guid;

/// Bytes of the longest name with its NUL (`EFI_MAX_VARIABLE_NAME_SIZE` of the firmware).
pub const NAME_MAX: usize = 2048;
/// Bytes of the largest variable (`EFI_MAX_VARIABLE_DATA_SIZE` of the firmware).
pub const DATA_MAX: usize = 32 << 10;

/// A variable's name: at least one unit, no NUL, at most [`NAME_MAX`] bytes with the NUL that ends it on the wire.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<[u16]>);

impl Name {
    /// A name of these units.
    #[must_use]
    pub fn new(units: &[u16]) -> Option<Self> {
        let fits = !units.is_empty() && (units.len() + 1) * 2 <= NAME_MAX;
        (fits && !units.contains(&0)).then(|| Name(units.into()))
    }

    /// A name as people write it.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        Self::new(&text.encode_utf16().collect::<Vec<u16>>())
    }

    /// Little-endian bytes without the NUL: what a signature covers and a file has.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|unit| unit.to_le_bytes()).collect()
    }

    /// Little-endian bytes with the NUL: what the guest gets.
    #[must_use]
    pub fn to_wire(&self) -> Vec<u8> {
        [self.to_bytes().as_slice(), &[0, 0]].concat()
    }

    /// Bytes with the NUL.
    #[must_use]
    pub fn wire_len(&self) -> usize {
        (self.0.len() + 1) * 2
    }

    pub(super) fn is(&self, text: &str) -> bool {
        self.0.iter().copied().eq(text.encode_utf16())
    }

    pub(super) fn starts_with(&self, text: &str) -> bool {
        let mut units = self.0.iter().copied();
        text.encode_utf16().all(|unit| units.next() == Some(unit))
    }
}

/// The units of a guest's buffer up to the first NUL; `None` without one.
#[must_use]
pub fn until_nul(bytes: &[u8]) -> Option<Vec<u16>> {
    let units: Vec<u16> = bytes.as_chunks().0.iter().map(|&unit| u16::from_le_bytes(unit)).collect();
    let end = units.iter().position(|&unit| unit == 0)?;
    units.get(..end).map(<[u16]>::to_vec)
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf16_lossy(&self.0))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf16_lossy(&self.0))
    }
}

/// What a variable is found by: two vendors may use one name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VariableId {
    /// Whose it is.
    pub vendor: Guid,
    /// What they call it.
    pub name: Name,
}

impl VariableId {
    /// A variable with a name of ours. `None` for a text that is no name.
    #[must_use]
    pub fn new(vendor: Guid, name: &str) -> Option<Self> {
        Name::from_text(name).map(|name| VariableId { vendor, name })
    }

    pub(super) fn is(&self, vendor: Guid, name: &str) -> bool {
        self.vendor == vendor && self.name.is(name)
    }
}

impl fmt::Display for VariableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", String::from_utf16_lossy(&self.name.0).escape_debug(), self.vendor)
    }
}

/// A variable's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Without APPEND.
    pub attributes: Attributes,
    /// When its signature was made; zero without one.
    pub time: EfiTime,
    /// SHA-256 of the certificate that may sign updates of a private authenticated variable; zero for all others.
    pub owner: [u8; 32],
    /// At most [`DATA_MAX`] bytes.
    pub data: Vec<u8>,
}

impl Variable {
    /// One without a signature.
    #[must_use]
    pub fn new(attributes: Attributes, data: Vec<u8>) -> Self {
        Variable { attributes, time: NO_TIME, owner: [0; 32], data }
    }

    /// Bytes that it and its name take in a store.
    pub(super) fn cost(&self, id: &VariableId) -> usize {
        OVERHEAD + id.name.wire_len() + self.data.len()
    }
}

/// Bytes that a variable takes besides name and data: what keeps tiny ones from being countless.
const OVERHEAD: usize = 96;

/// The time of what was not signed.
pub const NO_TIME: EfiTime = zerocopy::transmute!([0u8; 16]);

/// A time as a number that grows with it.
pub(super) fn order(time: &EfiTime) -> (u16, [u8; 5], u32) {
    let EfiTime { year, month, day, hour, minute, second, nanosecond, .. } = time;
    (year.get(), [*month, *day, *hour, *minute, *second], nanosecond.get())
}

/// What a signature covers (UEFI 2.10, 8.2.2): everything but the NUL of the name.
pub(super) fn signed_message(
    id: &VariableId,
    attributes: Attributes,
    time: &EfiTime,
    data: &[u8],
) -> Vec<u8> {
    let mut message = id.name.to_bytes();
    message.extend(id.vendor.as_bytes());
    message.extend(attributes.bits().to_le_bytes());
    message.extend(time.as_bytes());
    message.extend(data);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_limits() {
        assert!(Name::new(&[]).is_none());
        assert!(Name::new(&[b'a'.into(), 0]).is_none());
        assert!(Name::new(&vec![1; NAME_MAX / 2 - 1]).is_some());
        assert!(Name::new(&vec![1; NAME_MAX / 2]).is_none());
        let name = Name::from_text("Bööt").unwrap();
        assert_eq!((name.wire_len(), name.to_wire().len()), (10, 10));
        assert!(name.is("Bööt") && name.starts_with("Bö") && !name.starts_with("Bööt0"));
    }

    #[test]
    fn a_name_on_the_wire_ends_at_its_nul() {
        assert_eq!(until_nul(b"a\0\0\0junk"), Some(vec![97]));
        assert_eq!(until_nul(b"\0\0"), Some(vec![]));
        for endless in [&b""[..], b"\0", b"a\0b\0", b"a\0b\0\0"] {
            assert_eq!(until_nul(endless), None, "{endless:?}");
        }
    }
}
