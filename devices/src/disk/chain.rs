//! VHDX files and their parents: from the names in a file to the open parent, and back to names.
//!
//! The format asks for its parent with what it has read; [`Parents`] says what may be opened.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::create::CreateReason;
use super::image::DiskError;
use super::open::{FileError, OpenOptions, Opened};
use super::parents::{ParentError, Parents};
use super::vhdx::{self, Kind, ParentLocator, Vhdx, VhdxError};

/// A VHDX with its chain of parents.
#[derive(Debug)]
pub(super) struct LinkedVhdx {
    pub vhdx: Vhdx,
    /// Where the parent was found.
    pub parent: Option<PathBuf>,
}

impl LinkedVhdx {
    /// Takes a file as a VHDX and opens its parents.
    pub fn open(file: fs::File, read_only: bool, parents: &Parents) -> Result<Self, DiskError> {
        let options = vhdx::OpenOptions { read_only, depth: parents.depth(), data: None };
        let (mut path, mut refused) = (None, None);
        let opened = Vhdx::open(file, options, |locator| match open_parent(locator, parents) {
            Ok((parent, found)) => {
                path = Some(found);
                Ok(parent)
            }
            Err(error) => {
                // The format passes on text alone.
                let text = VhdxError::Parent(error.to_string());
                refused = Some(error);
                Err(text)
            }
        });
        match refused {
            Some(error) => Err(DiskError::Parent(Box::new(error))),
            None => Ok(LinkedVhdx { vhdx: opened?, parent: path }),
        }
    }
}

fn open_parent(locator: &ParentLocator, parents: &Parents) -> Result<(vhdx::Parent, PathBuf), ParentError> {
    let found = parents.open(&names(locator))?;
    let linked = LinkedVhdx::open(found.file, true, &found.parents)
        .map_err(|error| ParentError::Image { path: found.path.clone(), source: Box::new(error) })?;
    let data_write_guid = linked.vhdx.data_write_guid();
    Ok((vhdx::Parent { image: Arc::new(linked.vhdx), data_write_guid }, found.path))
}

/// Where the parent may be: as seen from the child, then beside it under the name that it had on Windows.
fn names(locator: &ParentLocator) -> Vec<PathBuf> {
    let relative = locator.relative_path.iter().map(|path| PathBuf::from(path.replace('\\', "/")));
    let relative = relative.filter(|path| path.is_relative());
    let absolute = locator.absolute_win32_path.iter().chain(&locator.volume_path);
    let beside = absolute.filter_map(|path| path.rsplit('\\').next()).map(PathBuf::from);
    let mut names: Vec<PathBuf> =
        relative.chain(beside).filter(|path| path.file_name().is_some() && path.is_relative()).collect();
    names.dedup();
    names
}

/// What a new image is that is the difference to an existing one.
pub(super) fn child_of(parent: &OpenOptions, child: &Path) -> Result<vhdx::CreateOptions, CreateReason> {
    let (opened, _) = OpenOptions { read_only: true, ..parent.clone() }.open_known()?;
    let Opened::Vhdx(linked) = opened else {
        let path = parent.path.clone();
        return Err(CreateReason::ParentName { path, why: "it is no VHDX; convert it first" });
    };
    let info = linked.vhdx.info();
    let locator = ParentLocator {
        linkage: linked.vhdx.data_write_guid(),
        linkage_2: None,
        relative_path: Some(relative_path(child, &parent.path)?),
        volume_path: None,
        absolute_win32_path: None,
    };
    let mut options = vhdx::CreateOptions::new(Kind::Differencing(locator), info.size);
    options.logical_sector = info.logical_sector;
    options.physical_sector = info.physical_sector;
    Ok(options)
}

/// The way from a child, which need not be there yet, to its parent, as Windows writes it.
fn relative_path(child: &Path, parent: &Path) -> Result<String, CreateReason> {
    let host = |error: io::Error| CreateReason::File(FileError::Host(error));
    let directory = match child.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    let from = fs::canonicalize(directory).map_err(host)?;
    let to = fs::canonicalize(parent).map_err(host)?;
    let common = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let mut words = vec![".."; from.components().count() - common];
    if words.is_empty() {
        words.push(".");
    }
    let refused = |why| CreateReason::ParentName { path: parent.to_owned(), why };
    for component in to.components().skip(common) {
        if let Component::Normal(word) = component {
            let word = word.to_str().ok_or_else(|| refused("its path is no UTF-8"))?;
            if word.contains('\\') {
                return Err(refused("its path has a backslash"));
            }
            words.push(word);
        }
    }
    Ok(words.join("\\"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::create::CreateOptions;
    use crate::disk::image::Image;
    use crate::disk::info::Layout;
    use crate::disk::parents::ParentRules;
    use vmm_sys_util::tempdir::TempDir;

    fn child(parent: &Path, path: &Path) -> Result<(), String> {
        let parent = OpenOptions::new(parent);
        let options = CreateOptions { parent: Some(parent), ..CreateOptions::new(path, 0) };
        options.create().map_err(|error| error.reason.to_string())
    }

    fn sector(image: &dyn Image, offset: u64) -> u8 {
        let mut bytes = [0xee; 512];
        image.read(offset, &mut bytes).unwrap();
        assert!(bytes.iter().all(|byte| *byte == bytes[0]));
        bytes[0]
    }

    #[test]
    fn a_chain_is_read_through_and_only_its_end_is_written_to() {
        let directory = TempDir::new_with_prefix("/tmp/busman-chain").unwrap();
        let path = |name: &str| directory.as_path().join(name);
        CreateOptions::new(path("base.vhdx"), 64 << 20).create().unwrap();
        OpenOptions::new(path("base.vhdx")).open().unwrap().write(0, &[1; 4096]).unwrap();
        child(&path("base.vhdx"), &path("middle.avhdx")).unwrap();
        OpenOptions::new(path("middle.avhdx")).open().unwrap().write(512, &[2; 512]).unwrap();
        fs::create_dir(path("vm")).unwrap();
        child(&path("middle.avhdx"), &path("vm/end.avhdx")).unwrap();
        let error = OpenOptions::new(path("vm/end.avhdx")).open().unwrap_err();
        let text = format!("{:?}", error.reason);
        assert!(text.contains("Forbidden"), "{text}");
        let rules = ParentRules { directories: vec![directory.as_path().to_owned()] };
        let options = OpenOptions { parents: rules, ..OpenOptions::new(path("vm/end.avhdx")) };
        let end = options.open().unwrap();
        end.write(1024, &[3; 512]).unwrap();
        assert_eq!([0, 512, 1024, 1536, 4096].map(|at| sector(&*end, at)), [1, 2, 3, 1, 0]);
        // Parents may be read together, and nobody writes to them.
        OpenOptions { read_only: true, ..OpenOptions::new(path("base.vhdx")) }.open().unwrap();
        assert!(OpenOptions::new(path("base.vhdx")).open().is_err());
        drop(end);
        let info = options.info().unwrap();
        assert_eq!(info.layout, Layout::Differencing);
        assert_eq!(info.parent, Some(fs::canonicalize(path("middle.avhdx")).unwrap()));
        assert!(options.check().unwrap().is_empty());
        OpenOptions::new(path("base.vhdx")).open().unwrap().write(0, &[9; 512]).unwrap();
        let error = options.open().unwrap_err();
        assert!(format!("{:?}", error.reason).contains("not as it was"), "{error:?}");
    }

    #[test]
    fn a_parent_is_found_under_the_names_that_windows_wrote() {
        let locator = ParentLocator {
            linkage: crate::guid::Guid::ZERO,
            linkage_2: None,
            relative_path: Some("..\\base\\a.vhdx".to_owned()),
            volume_path: Some("\\\\?\\Volume{26a21bda-a627-11d7-9931-806e6f6e6963}\\x\\b.vhdx".to_owned()),
            absolute_win32_path: Some("\\\\?\\c:\\x\\a.vhdx".to_owned()),
        };
        assert_eq!(names(&locator), ["../base/a.vhdx", "a.vhdx", "b.vhdx"].map(PathBuf::from));
        for path in ["/etc/passwd", "\\etc\\passwd", "c:\\x\\/etc/passwd", "..", ""] {
            let locator = ParentLocator {
                relative_path: Some(path.to_owned()),
                volume_path: None,
                absolute_win32_path: Some(path.to_owned()),
                ..locator.clone()
            };
            assert!(
                names(&locator).iter().all(|name| name.is_relative() && name.file_name().is_some()),
                "{path}"
            );
        }
    }
}
