//! The formats of disk images: their names, the file names that go with them, the signatures that they have.
//!
//! The one list of formats. What a file is opened as is decided in `open`, never here.

use std::fmt;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::str::FromStr;

use thiserror::Error;

/// A format of disk images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Nothing but the disk's bytes, in a file or block device.
    Raw,
    /// The bytes of an optical medium, read-only.
    Iso,
    /// Hyper-V's format: fixed, dynamic or differencing.
    Vhdx,
    /// The format before it: fixed or dynamic.
    Vhd,
    /// QEMU's format.
    Qcow2,
}

/// What there is to know about a format without opening an image.
struct Row {
    format: Format,
    name: &'static str,
    extensions: &'static [&'static str],
    signature: Option<Signature>,
}

/// Bytes by which a format is known.
struct Signature {
    bytes: &'static [u8],
    /// Where they are; distances from the end are those of VHD's footer, which is all that a fixed one has.
    at: &'static [SeekFrom],
}

const START: SeekFrom = SeekFrom::Start(0);

const FORMATS: [Row; 5] = [
    Row { format: Format::Raw, name: "raw", extensions: &["raw", "img"], signature: None },
    Row { format: Format::Iso, name: "iso", extensions: &["iso"], signature: None },
    Row {
        format: Format::Vhdx,
        name: "vhdx",
        extensions: &["vhdx", "avhdx"],
        signature: Some(Signature { bytes: b"vhdxfile", at: &[START] }),
    },
    Row {
        format: Format::Vhd,
        name: "vhd",
        extensions: &["vhd"],
        signature: Some(Signature { bytes: b"conectix", at: &[SeekFrom::End(-512), START] }),
    },
    Row {
        format: Format::Qcow2,
        name: "qcow2",
        extensions: &["qcow2"],
        signature: Some(Signature { bytes: b"QFI\xfb", at: &[START] }),
    },
];

/// A word that is no format.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} is no disk format; formats are {list}", list = Format::names())]
pub struct UnknownFormat(String);

impl Format {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Format> {
        FORMATS.iter().map(|row| row.format)
    }

    /// Its word on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        FORMATS.iter().find(|row| row.format == self).map_or("", |row| row.name)
    }

    /// All words, for messages.
    #[must_use]
    pub fn names() -> String {
        FORMATS.map(|row| row.name).join(", ")
    }

    /// The format that a file has by its name.
    #[must_use]
    pub fn of_name(path: &Path) -> Option<Format> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        FORMATS.iter().find(|row| row.extensions.contains(&extension.as_str())).map(|row| row.format)
    }

    /// Whether a file has this format's signature; of no file if the format has none.
    pub(super) fn signs(self, file: &File) -> io::Result<bool> {
        let row = FORMATS.iter().find(|row| row.format == self);
        let Some(signature) = row.and_then(|row| row.signature.as_ref()) else {
            return Ok(false);
        };
        for &at in signature.at {
            if has(file, signature.bytes, at)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A format whose signature a file has.
    ///
    /// Never a reason to open it so: whoever writes to a raw disk can write a signature there.
    pub(super) fn of_content(file: &File) -> io::Result<Option<Format>> {
        for format in Format::all() {
            if format.signs(file)? {
                return Ok(Some(format));
            }
        }
        Ok(None)
    }
}

/// Whether bytes are at a place of a file.
fn has(mut file: &File, bytes: &[u8], at: SeekFrom) -> io::Result<bool> {
    let size = file.seek(SeekFrom::End(0))?;
    let offset = match at {
        SeekFrom::End(distance) => size.checked_add_signed(distance),
        SeekFrom::Start(offset) => Some(offset),
        SeekFrom::Current(_) => None,
    };
    let Some(offset) = offset.filter(|offset| offset.saturating_add(bytes.len() as u64) <= size) else {
        return Ok(false);
    };
    let mut found = vec![0; bytes.len()];
    file.read_exact_at(&mut found, offset)?;
    Ok(found == bytes)
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(word: &str) -> Result<Self, UnknownFormat> {
        let row = FORMATS.iter().find(|row| row.name.eq_ignore_ascii_case(word));
        row.map(|row| row.format).ok_or_else(|| UnknownFormat(word.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmm_sys_util::tempfile::TempFile;

    #[test]
    fn names_tell_formats() {
        for (name, format) in [
            ("a.vhdx", Some(Format::Vhdx)),
            ("a.AVHDX", Some(Format::Vhdx)),
            ("/x/a.b.vhd", Some(Format::Vhd)),
            ("a.qcow2", Some(Format::Qcow2)),
            ("a.img", Some(Format::Raw)),
            ("a.raw", Some(Format::Raw)),
            ("a.iso", Some(Format::Iso)),
            ("vhdx", None),
            ("a.vmdk", None),
        ] {
            assert_eq!(Format::of_name(Path::new(name)), format, "{name}");
        }
        assert!(Format::all().all(|format| format.name().parse() == Ok(format)));
        let error = "vmdk".parse::<Format>().unwrap_err();
        assert_eq!(error.to_string(), "\"vmdk\" is no disk format; formats are raw, iso, vhdx, vhd, qcow2");
    }

    #[test]
    fn signatures_are_found_at_the_start_and_the_end() {
        let file = TempFile::new().unwrap().into_file();
        assert_eq!(Format::of_content(&file).unwrap(), None);
        file.write_all_at(b"vhdx", 0).unwrap();
        assert_eq!(Format::of_content(&file).unwrap(), None);
        file.set_len(4096).unwrap();
        for (bytes, at, format) in [
            (b"conectix".as_slice(), 4096 - 512, Format::Vhd),
            (b"conectix", 0, Format::Vhd),
            (b"vhdxfile", 0, Format::Vhdx),
            (b"QFI\xfb", 0, Format::Qcow2),
        ] {
            file.write_all_at(&[0; 4096], 0).unwrap();
            file.write_all_at(bytes, at).unwrap();
            assert_eq!(Format::of_content(&file).unwrap(), Some(format), "{at}");
        }
    }
}
