//! Names of a unit that last, so that a guest knows its disks again: serial number and device identification.

use std::fmt::{self, Write};

use thiserror::Error;

use crate::guid::Guid;

/// A serial number that a user has chosen: 1 to 32 printable ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serial(String);

/// What is wrong with a serial number.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} is no serial number: it must be 1 to 32 printable ASCII characters")]
pub struct SerialError(String);

impl Serial {
    /// Checks a serial number.
    ///
    /// # Errors
    /// [`SerialError`].
    pub fn new(text: &str) -> Result<Self, SerialError> {
        if (1..=32).contains(&text.len()) && text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            Ok(Serial(text.to_owned()))
        } else {
            Err(SerialError(text.to_owned()))
        }
    }
}

/// Who a unit is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    serial: String,
    /// 60 bits that no other unit is likely to have.
    number: u64,
}

impl Identity {
    /// Derives the names from what is there: from the image's id, so that they go with the image; else from the
    /// user's serial number; else from the unit's place. The serial number is the user's in any case.
    #[must_use]
    pub fn new(image: Option<Guid>, serial: Option<Serial>, controller: Guid, lun: u8) -> Self {
        let number = match (image, &serial) {
            (Some(id), _) => hash(b"image", &id.to_bytes()),
            (None, Some(Serial(text))) => hash(b"serial", text.as_bytes()),
            (None, None) => hash(b"place", &[&controller.to_bytes()[..], &[lun]].concat()),
        };
        let serial = match (serial, image) {
            (Some(Serial(text)), _) => text,
            (None, Some(id)) => hex(&id.to_bytes()),
            (None, None) => hex(&number.to_be_bytes()),
        };
        Identity { serial, number }
    }

    /// The serial number, ASCII.
    #[must_use]
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// 60 bits for a locally assigned NAA designator.
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.serial)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// FNV-1a, folded to 60 bits. Guests keep what comes out: it must never change.
fn hash(kind: &[u8], bytes: &[u8]) -> u64 {
    let all = kind.iter().chain(&[0]).chain(bytes);
    let hash = all.fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    (hash ^ hash >> 60) & ((1 << 60) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Guid = Guid::parse("8d4b2e1c-5a6f-4c3d-9e8b-7a6f5e4d3c2b");
    const CONTROLLER: Guid = Guid::parse("e7c4a5b6-1d2e-4f3a-8b9c-0d1e2f3a4b5c");

    #[test]
    fn names_go_with_the_image_wherever_it_is() {
        let here = Identity::new(Some(ID), None, CONTROLLER, 0);
        let there = Identity::new(Some(ID), None, Guid::ZERO, 5);
        assert_eq!(here, there);
        assert_eq!(here.serial().len(), 32);
    }

    #[test]
    fn names_without_an_id_go_with_the_serial_else_with_the_place() {
        let serial = || Some(Serial::new("disk 1").unwrap());
        assert_eq!(
            Identity::new(None, serial(), CONTROLLER, 0),
            Identity::new(None, serial(), Guid::ZERO, 1)
        );
        let place = |lun| Identity::new(None, None, CONTROLLER, lun);
        assert_eq!(place(3), place(3));
        assert_ne!(place(3).number(), place(4).number());
        assert_ne!(place(3).serial(), place(4).serial());
    }

    #[test]
    fn names_are_those_that_guests_have_seen_before() {
        let place = Identity::new(None, None, CONTROLLER, 0);
        let image = Identity::new(Some(ID), Some(Serial::new("x").unwrap()), CONTROLLER, 0);
        assert_eq!((place.serial(), image.serial()), ("0a0e76de9a746bb0", "x"));
        assert_eq!(image.number(), 0x0fc1_f936_7baf_4607);
        assert!(place.number() >> 60 == 0 && image.number() >> 60 == 0);
    }

    #[test]
    fn a_serial_number_is_short_and_printable() {
        for bad in ["", "ä", "tab\t", &"x".repeat(33)] {
            assert_eq!(Serial::new(bad), Err(SerialError(bad.to_owned())));
        }
        assert!(Serial::new(&"~".repeat(32)).is_ok());
    }
}
