//! Sizes as users write them: a whole number and a unit.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Bytes of memory: at least what boots a current kernel, at most what is far above any host.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct MemorySize(pub u64);

/// Bytes of a file: at least what is worth a file.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct FileSize(pub u64);

/// Bytes of a disk: at most what VHDX can hold.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct DiskSize(pub u64);

/// Bytes that a disk image takes at once; formats have opinions of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSize(pub u32);

/// Bytes a second.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct Bandwidth(pub u64);

/// Why a size is none.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SizeError {
    /// A bare number.
    #[error("{0} has no unit; write {0}M or {0}G")]
    NoUnit(u64),
    /// Anything else.
    #[error("{0:?} is no size; write a whole number with K, M, G or T, for instance 512M or 2G")]
    NotASize(String),
    /// Less than makes sense.
    #[error("{0} is too little; the least is {1}")]
    TooSmall(String, &'static str),
    /// More than makes sense.
    #[error("{0} is too much; the most is {1}")]
    TooLarge(String, &'static str),
}

/// The least and the most, with the texts for them.
type Limits = [(u64, &'static str); 2];

const MEMORY: Limits = [(64 * MIB, "64M"), (4 << 40, "4T")];
const FILE: Limits = [(MIB, "1M"), (4 << 40, "4T")];
const DISK: Limits = [(MIB, "1M"), (64 << 40, "64T")];
const BANDWIDTH: Limits = [(64 * KIB, "64K"), (1 << 40, "1T")];
const BLOCK: Limits = [(KIB, "1K"), (256 * MIB, "256M")];

fn parse(text: &str, [(least, least_text), (most, most_text)]: Limits) -> Result<u64, SizeError> {
    let not_a_size = || SizeError::NotASize(text.to_owned());
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let number: u64 = digits.parse().map_err(|_| not_a_size())?;
    let unit = match unit.to_ascii_uppercase().as_str() {
        "" => return Err(SizeError::NoUnit(number)),
        "K" | "KB" | "KIB" => KIB,
        "M" | "MB" | "MIB" => MIB,
        "G" | "GB" | "GIB" => 1 << 30,
        "T" | "TB" | "TIB" => 1 << 40,
        _ => return Err(not_a_size()),
    };
    match number.checked_mul(unit) {
        Some(bytes) if bytes < least => Err(SizeError::TooSmall(text.to_owned(), least_text)),
        Some(bytes) if bytes <= most => Ok(bytes),
        _ => Err(SizeError::TooLarge(text.to_owned(), most_text)),
    }
}

impl FromStr for MemorySize {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        parse(text, MEMORY).map(MemorySize)
    }
}

impl FromStr for FileSize {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        parse(text, FILE).map(FileSize)
    }
}

impl FromStr for DiskSize {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        parse(text, DISK).map(DiskSize)
    }
}

impl FromStr for Bandwidth {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        parse(text, BANDWIDTH).map(Bandwidth)
    }
}

impl FromStr for BlockSize {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let bytes = parse(text, BLOCK)?;
        let [_, (_, most)] = BLOCK;
        u32::try_from(bytes).map(BlockSize).map_err(|_| SizeError::TooLarge(text.to_owned(), most))
    }
}

impl TryFrom<String> for MemorySize {
    type Error = SizeError;

    fn try_from(text: String) -> Result<Self, SizeError> {
        text.parse()
    }
}

impl TryFrom<String> for Bandwidth {
    type Error = SizeError;

    fn try_from(text: String) -> Result<Self, SizeError> {
        text.parse()
    }
}

impl TryFrom<String> for DiskSize {
    type Error = SizeError;

    fn try_from(text: String) -> Result<Self, SizeError> {
        text.parse()
    }
}

impl TryFrom<String> for FileSize {
    type Error = SizeError;

    fn try_from(text: String) -> Result<Self, SizeError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_and_limits() {
        for (text, bytes) in
            [("64M", 64 * MIB), ("512m", 512 * MIB), ("2G", 2 << 30), ("2GiB", 2 << 30), ("4T", 4 << 40)]
        {
            assert_eq!(text.parse(), Ok(MemorySize(bytes)), "{text}");
        }
        let error = |text: &str| text.parse::<MemorySize>().unwrap_err().to_string();
        assert_eq!(error("512"), "512 has no unit; write 512M or 512G");
        assert_eq!(error("63M"), "63M is too little; the least is 64M");
        assert_eq!(error("5T"), "5T is too much; the most is 4T");
        assert_eq!(error("99999999999999G"), "99999999999999G is too much; the most is 4T");
        for text in ["", "G", "1.5G", "-1G", "2 G", "2X", "99999999999999999999G", "2Gé"] {
            assert!(error(text).contains("is no size"), "{text}");
        }
        assert_eq!("1M".parse(), Ok(FileSize(MIB)));
        assert_eq!("64T".parse(), Ok(DiskSize(64 << 40)));
        assert_eq!("65T".parse::<DiskSize>().unwrap_err().to_string(), "65T is too much; the most is 64T");
        assert_eq!("512K".parse(), Ok(BlockSize(512 << 10)));
        assert_eq!("0G".parse::<FileSize>().unwrap_err().to_string(), "0G is too little; the least is 1M");
    }
}
