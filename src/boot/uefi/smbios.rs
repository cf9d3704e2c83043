//! What the guest finds of its machine in SMBIOS, besides the UUID, as users write it: `serial=TEXT,asset-tag=TEXT,...` on
//! the command line, a table in TOML.
//!
//! The firmware makes the tables. What it is not told of it calls `None`, or says what Hyper-V's machines say:
//! manufacturer "Microsoft Corporation", product "Virtual Machine".

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::protocol::Kind;

/// Bytes of the longest text that the firmware takes: it cuts what is longer (`BiosInterfaceSmbiosStringMax`).
const TEXT_MAX: usize = 32;

/// The words, and what each of them is to the firmware.
const FIELDS: [(&str, Kind); 9] = [
    ("serial", Kind::SystemSerial),
    ("board-serial", Kind::BoardSerial),
    ("chassis-serial", Kind::ChassisSerial),
    ("asset-tag", Kind::ChassisAssetTag),
    ("manufacturer", Kind::SystemManufacturer),
    ("product", Kind::SystemProduct),
    ("version", Kind::SystemVersion),
    ("sku", Kind::SystemSku),
    ("family", Kind::SystemFamily),
];

/// Texts by their words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>")]
pub struct Smbios(BTreeMap<String, String>);

/// What is wrong with the words.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SmbiosError {
    /// A word that means nothing.
    #[error("{0:?} is nothing of SMBIOS; there are {list}", list = FIELDS.map(|(word, _)| word).join(", "))]
    Unknown(String),
    /// A word without a text.
    #[error("{0} has no text; write {0}=TEXT")]
    NoText(String),
    /// A word that is there twice.
    #[error("{0} is given twice")]
    Twice(String),
    /// A text that the firmware would not take as it is.
    #[error(
        "{word}={text:?} cannot be in SMBIOS: a text has {TEXT_MAX} characters at most, printable ones of ASCII"
    )]
    Text {
        /// The word.
        word: String,
        /// What it should be.
        text: String,
    },
}

impl Smbios {
    /// The texts that there are.
    pub fn strings(&self) -> impl Iterator<Item = (Kind, &str)> {
        FIELDS.into_iter().filter_map(|(word, kind)| Some((kind, self.0.get(word)?.as_str())))
    }
}

impl TryFrom<BTreeMap<String, String>> for Smbios {
    type Error = SmbiosError;

    fn try_from(texts: BTreeMap<String, String>) -> Result<Self, SmbiosError> {
        for (word, text) in &texts {
            if !FIELDS.iter().any(|(known, _)| known == word) {
                return Err(SmbiosError::Unknown(word.clone()));
            }
            if text.is_empty() {
                return Err(SmbiosError::NoText(word.clone()));
            }
            let printable = text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
            if text.len() > TEXT_MAX || !printable {
                return Err(SmbiosError::Text { word: word.clone(), text: text.clone() });
            }
        }
        Ok(Smbios(texts))
    }
}

impl FromStr for Smbios {
    type Err = SmbiosError;

    fn from_str(text: &str) -> Result<Self, SmbiosError> {
        // In a text a comma is written twice, as in paths of disks.
        let text = text.replace(",,", "\0");
        let mut texts = BTreeMap::new();
        for part in text.split(',').map(|part| part.replace('\0', ",")) {
            let (word, text) = part.split_once('=').unwrap_or((&part, ""));
            if texts.insert(word.to_owned(), text.to_owned()).is_some() {
                return Err(SmbiosError::Twice(word.to_owned()));
            }
        }
        texts.try_into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_texts_or_a_sentence() {
        let smbios: Smbios = "asset-tag=IT,, 7,serial=a=b".parse().unwrap();
        let strings: Vec<_> = smbios.strings().collect();
        assert_eq!(strings, [(Kind::SystemSerial, "a=b"), (Kind::ChassisAssetTag, "IT, 7")]);
        let fail = |text: &str| text.parse::<Smbios>().unwrap_err().to_string();
        assert!(
            fail("colour=red").starts_with("\"colour\" is nothing of SMBIOS; there are serial, board-serial")
        );
        assert_eq!(fail("serial"), "serial has no text; write serial=TEXT");
        assert_eq!(fail("serial=1,serial=2"), "serial is given twice");
        assert!(format!("serial={}", "x".repeat(32)).parse::<Smbios>().is_ok());
        for text in ["x".repeat(33), "ü".into(), "a\tb".into()] {
            assert!(fail(&format!("serial={text}")).contains("32 characters at most"), "{text}");
        }
    }
}
