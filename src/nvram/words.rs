//! Names, attributes and bytes as people write them.

use std::str::FromStr;

use devices::firmware::nvram::VariableId;
use devices::firmware::nvram::protocol::{Attributes, vendor};
use devices::guid::Guid;
use thiserror::Error;

/// Characters of a GUID.
const GUID_LEN: usize = 36;

/// What is not understood.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum WordError {
    /// No name.
    #[error("{0:?} is no name of a variable; write NAME-GUID, with a name of 1 to 1023 characters")]
    Name(String),
    /// No attribute.
    #[error(
        "{0:?} is no attribute; they are nv (it lasts), bs (seen by boot services), rt (seen at run time) and at \
         (changes are signed), separated by commas"
    )]
    Attribute(String),
    /// No bytes.
    #[error("{0:?} is not made of pairs of hexadecimal digits")]
    Hex(String),
}

/// A variable, as `NAME-GUID` or, of UEFI's own, `NAME`: the form of Linux's efivarfs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VariableName(pub VariableId);

impl FromStr for VariableName {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let at = text.len().checked_sub(GUID_LEN);
        let vendor = at.and_then(|at| text.get(at..)).and_then(|guid| guid.parse::<Guid>().ok());
        let name = vendor.and_then(|_| text.get(..at?)?.strip_suffix('-'));
        let id = match (vendor, name) {
            (Some(vendor), Some(name)) => VariableId::new(vendor, name),
            _ => VariableId::new(vendor_of(text), text),
        };
        id.map(VariableName).ok_or_else(|| WordError::Name(text.to_owned()))
    }
}

/// The vendor of a name that UEFI gives.
fn vendor_of(name: &str) -> Guid {
    let image = ["db", "dbx", "dbt", "dbr"].contains(&name);
    if image { vendor::IMAGE_SECURITY } else { vendor::GLOBAL }
}

/// Attributes, separated by commas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttributeList(pub Attributes);

/// Words for attributes.
pub const ATTRIBUTES: [(&str, Attributes); 4] = [
    ("nv", Attributes::NON_VOLATILE),
    ("bs", Attributes::BOOT_SERVICE),
    ("rt", Attributes::RUNTIME),
    ("at", Attributes::TIME_AUTHENTICATED),
];

impl FromStr for AttributeList {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let find = |word: &str| ATTRIBUTES.iter().find(|(name, _)| word.trim() == *name).map(|(_, bit)| *bit);
        let bits =
            text.split(',').map(|word| find(word).ok_or_else(|| WordError::Attribute(word.to_owned())));
        bits.collect::<Result<Vec<Attributes>, WordError>>()
            .map(|bits| AttributeList(bits.into_iter().collect()))
    }
}

/// Bytes in hexadecimal digits; spaces and colons between them say nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HexBytes(pub Vec<u8>);

impl FromStr for HexBytes {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let wrong = || WordError::Hex(text.to_owned());
        let digits = text.chars().filter(|c| !c.is_whitespace() && *c != ':');
        let digits: Vec<u8> = digits
            .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()).ok_or_else(wrong))
            .collect::<Result<_, _>>()?;
        let (pairs, odd) = digits.as_chunks();
        if !odd.is_empty() || pairs.is_empty() {
            return Err(wrong());
        }
        Ok(HexBytes(pairs.iter().map(|[high, low]| high << 4 | low).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_its_vendor_or_is_uefis_own() {
        let parse =
            |text: &str| text.parse::<VariableName>().map(|name| (name.0.vendor, name.0.name.to_string()));
        let guid = "77fa9abd-0359-4d32-bd60-28f4e78f784b";
        assert_eq!(parse("BootOrder"), Ok((vendor::GLOBAL, "BootOrder".to_owned())));
        assert_eq!(parse("dbx"), Ok((vendor::IMAGE_SECURITY, "dbx".to_owned())));
        assert_eq!(parse(&format!("a-b-{guid}")), Ok((guid.parse().unwrap(), "a-b".to_owned())));
        assert_eq!(parse(&format!("Ünï-{guid}")), Ok((guid.parse().unwrap(), "Ünï".to_owned())));
        // Too few parts for a vendor: a name, if an odd one.
        assert_eq!(parse(guid), Ok((vendor::GLOBAL, guid.to_owned())));
        for text in ["", &format!("-{guid}"), &"x".repeat(1024)] {
            assert_eq!(parse(text), Err(WordError::Name(text.to_owned())));
        }
        assert!(parse(&"ä".repeat(19)).is_ok(), "no GUID starts within a character");
    }

    #[test]
    fn bytes_and_attributes_are_understood() {
        let hex = |text: &str| text.parse::<HexBytes>().map(|hex| hex.0);
        assert_eq!(hex("00 fF:a0"), Ok(vec![0, 0xff, 0xa0]));
        for text in ["", "0", "0x00", "fg", "é0"] {
            assert!(hex(text).is_err(), "{text}");
        }
        assert_eq!("nv, bs,rt".parse(), Ok(AttributeList(Attributes::LASTING)));
        assert!(
            "nv,xx".parse::<AttributeList>().unwrap_err().to_string().starts_with("\"xx\" is no attribute")
        );
    }
}
