//! A disk or DVD drive as users write it: `path=win.vhdx,cache=none` on the command line and on the terminal, a
//! `[[disk]]` table in TOML, an object in JSON. The names are the same everywhere.

use std::fmt;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::str::FromStr;

use devices::disk::{CacheMode, Format, UnknownFormat};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Place;
use crate::size::Bandwidth;

/// A disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskOptions {
    /// Image file or block device.
    pub path: PathBuf,
    /// Controller; 0 unless it is said.
    #[serde(default, skip_serializing)]
    pub controller: Option<u8>,
    /// LUN; the first free one unless it is said.
    #[serde(default, skip_serializing)]
    pub lun: Option<u8>,
    /// The guest may not write to it.
    #[serde(default)]
    pub readonly: bool,
    /// What stands between it and the host's storage.
    #[serde(default)]
    pub cache: Cache,
    /// What the image is; what its name says unless it is said.
    #[serde(default)]
    pub format: Option<FormatName>,
    /// Most requests a second.
    #[serde(default)]
    pub iops: Option<NonZeroU64>,
    /// Most bytes a second.
    #[serde(default)]
    pub bandwidth: Option<Bandwidth>,
    /// Serial number that the guest sees.
    #[serde(default)]
    pub serial: Option<String>,
    /// Bytes of a sector, 512 or 4096; the image's own unless it is said.
    #[serde(default)]
    pub sector: Option<u32>,
    /// Directories that parents of the image may be in, besides its own.
    #[serde(default)]
    pub parents: Vec<PathBuf>,
}

/// A DVD drive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DvdOptions {
    /// Image of the disc that is in, if there is one.
    #[serde(default)]
    pub path: Option<PathBuf>,
    /// Controller; 0 unless it is said.
    #[serde(default, skip_serializing)]
    pub controller: Option<u8>,
    /// LUN; the first free one unless it is said.
    #[serde(default, skip_serializing)]
    pub lun: Option<u8>,
}

/// A disk or a drive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Unit {
    /// A disk.
    Disk(DiskOptions),
    /// A DVD drive.
    Dvd(DvdOptions),
}

/// A disk or a drive in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnitConfig {
    /// Where it is.
    #[serde(flatten)]
    pub place: Place,
    /// What it is.
    #[serde(flatten)]
    pub unit: Unit,
}

impl Unit {
    /// The controller and LUN that the user wants.
    #[must_use]
    pub fn wish(&self) -> (Option<u8>, Option<u8>) {
        match self {
            Unit::Disk(disk) => (disk.controller, disk.lun),
            Unit::Dvd(dvd) => (dvd.controller, dvd.lun),
        }
    }
}

/// The word for a way of caching.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cache {
    /// The host's page cache.
    #[default]
    Writeback,
    /// None: direct I/O.
    None,
    /// The page cache, and flushes do nothing.
    Unsafe,
}

impl From<Cache> for CacheMode {
    fn from(cache: Cache) -> Self {
        match cache {
            Cache::Writeback => CacheMode::Writeback,
            Cache::None => CacheMode::None,
            Cache::Unsafe => CacheMode::Unsafe,
        }
    }
}

/// The word for an image's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FormatName(pub Format);

impl TryFrom<String> for FormatName {
    type Error = UnknownFormat;

    fn try_from(word: String) -> Result<Self, UnknownFormat> {
        word.parse().map(FormatName)
    }
}

impl From<FormatName> for String {
    fn from(FormatName(format): FormatName) -> Self {
        format.name().to_owned()
    }
}

/// What is wrong with the words for a disk.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum OptionError {
    /// A word that means nothing.
    #[error("{0:?} is no option of {1}")]
    Unknown(String, Known),
    /// A word without a value.
    #[error("{0:?} has no value; write {0}=VALUE")]
    NoValue(String),
    /// A word that is there twice.
    #[error("{0} is given twice")]
    Twice(String),
    /// A value that makes no sense.
    #[error("{key}={value} makes no sense: {why}")]
    Value {
        /// The word.
        key: String,
        /// Its value.
        value: String,
        /// What is wrong.
        why: String,
    },
    /// A disk without an image.
    #[error("A disk needs an image: write path=FILE")]
    NoPath,
}

/// The words that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    what: &'static str,
    words: &'static [&'static str],
}

const DISK: Known = Known {
    what: "a disk",
    words: &[
        "path",
        "controller",
        "lun",
        "readonly",
        "cache",
        "format",
        "iops",
        "bandwidth",
        "serial",
        "sector",
        "parents",
    ],
};
const DVD: Known = Known { what: "a DVD drive", words: &["path", "controller", "lun"] };

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; options are {}", self.what, self.words.join(", "))
    }
}

impl FromStr for DiskOptions {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Self, OptionError> {
        let mut disk = DiskOptions::default();
        for item in items(text, DISK)? {
            match item.key.as_str() {
                "path" => disk.path = item.value.into(),
                "controller" => disk.controller = Some(item.parse()?),
                "lun" => disk.lun = Some(item.parse()?),
                "readonly" => disk.readonly = item.one_of(&[("on", true), ("off", false)])?,
                "cache" => disk.cache = item.one_of(&CACHES)?,
                "format" => disk.format = Some(FormatName(item.parse()?)),
                "iops" => disk.iops = Some(item.parse()?),
                "bandwidth" => disk.bandwidth = Some(item.parse()?),
                "serial" => disk.serial = Some(item.value),
                "sector" => disk.sector = Some(item.one_of(&[("512", 512), ("4096", 4096)])?),
                _ => disk.parents.push(item.value.into()),
            }
        }
        if disk.path.as_os_str().is_empty() { Err(OptionError::NoPath) } else { Ok(disk) }
    }
}

const CACHES: [(&str, Cache); 3] =
    [("writeback", Cache::Writeback), ("none", Cache::None), ("unsafe", Cache::Unsafe)];

impl FromStr for DvdOptions {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Self, OptionError> {
        let mut dvd = DvdOptions::default();
        for item in items(text, DVD)? {
            match item.key.as_str() {
                "path" => dvd.path = Some(item.value.into()),
                "controller" => dvd.controller = Some(item.parse()?),
                _ => dvd.lun = Some(item.parse()?),
            }
        }
        Ok(dvd)
    }
}

/// A word with its value.
struct Item {
    key: String,
    value: String,
}

impl Item {
    fn parse<T: FromStr<Err: fmt::Display>>(self) -> Result<T, OptionError> {
        self.value.parse().map_err(|error: T::Err| self.wrong(&error.to_string()))
    }

    fn one_of<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, OptionError> {
        let found = words.iter().find(|(word, _)| *word == self.value).map(|(_, value)| *value);
        found.ok_or_else(|| {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.wrong(&format!("it must be {}", words.join(" or ")))
        })
    }

    fn wrong(&self, why: &str) -> OptionError {
        OptionError::Value { key: self.key.clone(), value: self.value.clone(), why: why.to_owned() }
    }
}

/// The items of a list of words. In a value a comma is written twice; what comes first may be a path without its word.
fn items(text: &str, known: Known) -> Result<Vec<Item>, OptionError> {
    let mut items: Vec<Item> = Vec::new();
    // No path has a zero byte.
    let text = text.replace(",,", "\0");
    for part in text.split(',').map(|part| part.replace('\0', ",")) {
        let item = match part.split_once('=') {
            Some((key, value)) if known.words.contains(&key) => {
                Item { key: key.to_owned(), value: value.to_owned() }
            }
            Some((key, _)) if !items.is_empty() || !key.contains('/') => {
                return Err(OptionError::Unknown(key.to_owned(), known));
            }
            None if !items.is_empty() || known.words.contains(&part.as_str()) => {
                return Err(OptionError::NoValue(part));
            }
            _ => Item { key: "path".to_owned(), value: part },
        };
        if item.key != "parents" && items.iter().any(|other| other.key == item.key) {
            return Err(OptionError::Twice(item.key));
        }
        items.push(item);
    }
    Ok(items)
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
