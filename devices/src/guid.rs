//! GUIDs in the mixed-endian layout of the wire: the first three groups little-endian, the last eight bytes in
//! order. Every GUID constant of the project is made with [`Guid::parse`] at compile time, in the module of the
//! device that owns it.

use std::str::FromStr;
use std::{fmt, io};

use rustix::rand::GetRandomFlags;
use thiserror::Error;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A GUID, 16 bytes as they lie in guest memory.
#[repr(transparent)]
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
pub struct Guid([u8; 16]);

const _: () = assert!(size_of::<Guid>() == 16);

/// Where in the text form each byte of the wire form starts.
const TEXT_OFFSETS: [usize; 16] = [6, 4, 2, 0, 11, 9, 16, 14, 19, 21, 24, 26, 28, 30, 32, 34];

impl Guid {
    /// The GUID of all zeros.
    pub const ZERO: Guid = Guid([0; 16]);

    /// Makes a GUID from its 16 bytes on the wire.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Guid(bytes)
    }

    /// The 16 bytes on the wire.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// Makes a GUID that nothing else has (version 4).
    ///
    /// # Errors
    /// When the host has no random numbers.
    pub fn random() -> io::Result<Self> {
        let mut bytes = [0; 16];
        let filled = rustix::rand::getrandom(&mut bytes, GetRandomFlags::empty())?;
        if filled != bytes.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let [.., version, variant, _, _, _, _, _, _, _] = &mut bytes;
        *version = *version & 0x0f | 0x40;
        *variant = *variant & 0x3f | 0x80;
        Ok(Guid(bytes))
    }

    /// Reads the text form `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`.
    ///
    /// For constants: text of any other form fails the build (or, at run time, panics).
    #[must_use]
    #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, on literals")]
    pub const fn parse(text: &str) -> Self {
        let text = text.as_bytes();
        assert!(text.len() == 36, "a GUID's text has 36 characters");
        assert!(text[8] == b'-' && text[13] == b'-' && text[18] == b'-' && text[23] == b'-');
        let mut bytes = [0; 16];
        let mut i = 0;
        while i < 16 {
            let at = TEXT_OFFSETS[i];
            bytes[i] = nibble(text[at]) << 4 | nibble(text[at + 1]);
            i += 1;
        }
        Guid(bytes)
    }
}

#[expect(clippy::panic, reason = "evaluated by the compiler, on literals")]
const fn nibble(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        b'A'..=b'F' => digit - b'A' + 10,
        _ => panic!("a GUID's text has hexadecimal digits"),
    }
}

/// Text that is no GUID.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} is no GUID; it looks like xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx, in hexadecimal digits")]
pub struct GuidError(String);

impl FromStr for Guid {
    type Err = GuidError;

    fn from_str(text: &str) -> Result<Self, GuidError> {
        let valid = text.len() == 36
            && text.bytes().enumerate().all(|(at, byte)| match at {
                8 | 13 | 18 | 23 => byte == b'-',
                _ => byte.is_ascii_hexdigit(),
            });
        if valid { Ok(Guid::parse(text)) } else { Err(GuidError(text.to_owned())) }
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a3, a2, a1, a0, b1, b0, c1, c0, d @ ..] = self.0;
        write!(f, "{a0:02x}{a1:02x}{a2:02x}{a3:02x}-{b0:02x}{b1:02x}-{c0:02x}{c1:02x}-")?;
        for (i, byte) in d.iter().enumerate() {
            if i == 2 {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{self}}}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCSI: Guid = Guid::parse("ba6163d9-04a1-4d29-b605-72e2ffb1dc7f");

    #[test]
    fn the_first_three_groups_are_little_endian() {
        assert_eq!(
            SCSI.to_bytes(),
            [0xd9, 0x63, 0x61, 0xba, 0xa1, 0x04, 0x29, 0x4d, 0xb6, 0x05, 0x72, 0xe2, 0xff, 0xb1, 0xdc, 0x7f]
        );
    }

    #[test]
    fn random_guids_differ_and_say_so() {
        let (first, second) = (Guid::random().unwrap(), Guid::random().unwrap());
        assert_ne!(first, second);
        let text = first.to_string();
        assert!(text[14..].starts_with('4') && text[19..].starts_with(['8', '9', 'a', 'b']), "{text}");
    }

    #[test]
    fn text_of_another_form_is_refused() {
        for text in
            ["", "ba6163d9", "ba6163d9-04a1-4d29-b605-72e2ffb1dc7g", "ba6163d9-04a1-4d29-b605472e2ffb1dc7f"]
        {
            assert_eq!(text.parse::<Guid>(), Err(GuidError(text.to_owned())));
        }
        assert!("ä".repeat(18).parse::<Guid>().is_err());
    }

    #[test]
    fn text_survives_a_round_trip() {
        assert_eq!(SCSI.to_string(), "ba6163d9-04a1-4d29-b605-72e2ffb1dc7f");
        assert_eq!("BA6163D9-04a1-4d29-b605-72e2ffb1dc7f".parse(), Ok(SCSI));
        assert_eq!(format!("{SCSI:?}"), "{ba6163d9-04a1-4d29-b605-72e2ffb1dc7f}");
    }
}
