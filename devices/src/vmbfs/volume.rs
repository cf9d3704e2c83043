//! Files, and paths as guests write them.
//!
//! A path is names between backslashes or slashes. What the guest wrote comes to a [`Volume`] as a list of names in
//! which none is empty, `.` or `..`: no path leads out of it.

use std::fmt::Debug;
use std::sync::Arc;

use super::protocol::{MESSAGE_MAX, Status};

/// Files that a guest may read, and nothing else. Each opening of the channel has a clone of its own.
pub trait Volume: Clone + Debug + Send + 'static {
    /// What a path names; the root has no names.
    ///
    /// # Errors
    /// [`FileError::NotFound`], or that it cannot be told.
    fn entry(&mut self, path: &[String]) -> Result<Entry, FileError>;

    /// Reads a file from `offset` on and gives the number of bytes, fewer than the buffer takes only at its end.
    ///
    /// # Errors
    /// [`FileError::NotFound`], or that it cannot be read.
    fn read(&mut self, path: &[String], offset: u64, buffer: &mut [u8]) -> Result<usize, FileError>;
}

/// What a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A directory.
    Directory,
    /// A file of so many bytes.
    File(u64),
}

/// Why a file cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileError {
    /// It is not there.
    NotFound,
    /// It is a directory, or the host cannot read it.
    Unreadable,
}

impl From<FileError> for Status {
    fn from(error: FileError) -> Self {
        match error {
            FileError::NotFound => Status::NotFound,
            FileError::Unreadable => Status::Error,
        }
    }
}

/// A volume of one file in memory, below its root. Letters' case does not matter, as on the file systems that EFI
/// programs know.
#[derive(Clone, Debug)]
pub struct File {
    name: String,
    bytes: Arc<[u8]>,
}

impl File {
    /// The file of this name.
    #[must_use]
    pub fn new(name: &str, bytes: Arc<[u8]>) -> Self {
        File { name: name.to_owned(), bytes }
    }

    fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

impl Volume for File {
    fn entry(&mut self, path: &[String]) -> Result<Entry, FileError> {
        match path {
            [] => Ok(Entry::Directory),
            [name] if self.is(name) => Ok(Entry::File(self.bytes.len() as u64)),
            _ => Err(FileError::NotFound),
        }
    }

    fn read(&mut self, path: &[String], offset: u64, buffer: &mut [u8]) -> Result<usize, FileError> {
        if self.entry(path)? == Entry::Directory {
            return Err(FileError::Unreadable);
        }
        let rest = usize::try_from(offset).ok().and_then(|offset| self.bytes.get(offset..));
        let rest = rest.unwrap_or_default();
        let read = rest.iter().zip(&mut *buffer).map(|(from, to)| *to = *from).count();
        Ok(read)
    }
}

/// The names of a path, from its UTF-16. `None`: it is no text, or leads out of the volume.
pub(super) fn names(path: &[u8]) -> Option<Vec<String>> {
    let (units, []) = path.as_chunks() else { return None };
    if path.len() > MESSAGE_MAX {
        return None;
    }
    let units: Vec<u16> = units.iter().copied().map(u16::from_le_bytes).collect();
    let text = String::from_utf16(&units).ok().filter(|text| !text.contains('\0'))?;
    let mut names = Vec::new();
    for name in text.split(['\\', '/']) {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()?),
            _ => names.push(name.to_owned()),
        }
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names_of(path: &str) -> Option<Vec<String>> {
        let bytes: Vec<u8> = path.encode_utf16().flat_map(u16::to_le_bytes).collect();
        names(&bytes)
    }

    #[test]
    fn a_path_is_the_names_in_it() {
        for (path, wanted) in [
            ("", &[] as &[&str]),
            ("\\", &[]),
            ("imc.hiv", &["imc.hiv"]),
            ("\\EFI\\Boot\\bootx64.efi", &["EFI", "Boot", "bootx64.efi"]),
            ("/EFI//.\\Boot/", &["EFI", "Boot"]),
            ("EFI\\..\\x\\...", &["x", "..."]),
            ("Größe\\💾", &["Größe", "💾"]),
        ] {
            assert_eq!(names_of(path).unwrap(), wanted, "{path}");
        }
    }

    #[test]
    fn paths_that_lead_out_or_are_no_text_name_nothing() {
        for path in ["..", "\\..\\etc\\passwd", "a\\..\\..\\b", "imc.hiv\0", "a\0b"] {
            assert_eq!(names_of(path), None, "{path}");
        }
        assert_eq!(names(b"a"), None, "half a unit");
        assert_eq!(names(&[0x00, 0xd8]), None, "half a pair");
        assert_eq!(names(&vec![b'.'; MESSAGE_MAX + 2]), None);
    }
}
