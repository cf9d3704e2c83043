//! Where the parents of differencing images may be, and the one way to them.
//!
//! A differencing image names its parent. Who made the image chose the name, so it decides nothing by itself: a parent
//! is opened for reading only, and only in the image's own directory or in one that the user allowed, whatever
//! symbolic links say. Formats with parents hand the names that they found to [`Parents::open`].

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::image::{Access, DiskError};
use super::open::{FileError, open_file};

/// Longest chain of images, so that one that bites its own tail ends.
const CHAIN_MAX: usize = super::vhdx::MAX_CHAIN;

/// Directories that a user allows, besides that of each image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParentRules {
    /// Parents may be in or below them.
    pub directories: Vec<PathBuf>,
}

/// What an image needs to reach its parent.
#[derive(Clone, Debug)]
pub struct Parents {
    /// Where the image itself is, all links resolved.
    directory: PathBuf,
    rules: ParentRules,
    depth: usize,
}

/// A parent, open for reading and locked against writers.
#[derive(Debug)]
pub struct Parent {
    /// Its file.
    pub file: File,
    /// Its name, all links resolved.
    pub path: PathBuf,
    /// The way to its own parent.
    pub parents: Parents,
}

/// Why a parent is out of reach.
#[derive(Debug, Error)]
pub enum ParentError {
    /// No file of any of these names.
    #[error("Its parent is missing; looked for {}", list(.0))]
    Missing(Vec<PathBuf>),
    /// The user has not allowed it.
    #[error(
        "Its parent {} is outside of {}; if it is the right one, allow its directory (parents=DIRECTORY, --parents DIRECTORY)",
        path.display(),
        list(allowed)
    )]
    Forbidden {
        /// The parent.
        path: PathBuf,
        /// Where it might be.
        allowed: Vec<PathBuf>,
    },
    /// Parents of parents without end.
    #[error("More than {CHAIN_MAX} images stand behind each other")]
    TooDeep,
    /// It is not sound, or its own parent is not.
    #[error("Cannot use its parent {}", path.display())]
    Image {
        /// The parent.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<DiskError>,
    },
    /// It cannot be read, or somebody writes to it.
    #[error("Cannot open its parent {}", path.display())]
    File {
        /// The parent.
        path: PathBuf,
        /// Why.
        #[source]
        source: FileError,
    },
}

impl Parents {
    /// For the image at a path, which exists.
    pub(super) fn new(image: &Path, rules: &ParentRules) -> io::Result<Self> {
        let image = fs::canonicalize(image)?;
        Ok(Parents { directory: directory_of(&image), rules: rules.clone(), depth: 0 })
    }

    /// For an image that has none.
    pub(super) fn none() -> Self {
        Parents { directory: PathBuf::new(), rules: ParentRules::default(), depth: CHAIN_MAX }
    }

    /// How many images are in front of the one that this is for.
    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// Opens the first of these names that is there. Relative ones are seen from the image's directory.
    ///
    /// # Errors
    /// [`ParentError`]; also when the first that is there is forbidden or locked, since the next would be another
    /// disk.
    pub fn open(&self, names: &[PathBuf]) -> Result<Parent, ParentError> {
        if self.depth == CHAIN_MAX {
            return Err(ParentError::TooDeep);
        }
        let found = names.iter().find_map(|name| fs::canonicalize(self.directory.join(name)).ok());
        let path = found.ok_or_else(|| ParentError::Missing(names.to_vec()))?;
        if !self.allow(&path) {
            let mut allowed = vec![self.directory.clone()];
            allowed.extend(self.rules.directories.iter().cloned());
            return Err(ParentError::Forbidden { path, allowed });
        }
        let file = open_file(&path, Access::Read)
            .map_err(|source| ParentError::File { path: path.clone(), source })?;
        let parents =
            Parents { directory: directory_of(&path), rules: self.rules.clone(), depth: self.depth + 1 };
        Ok(Parent { file, path, parents })
    }

    fn allow(&self, path: &Path) -> bool {
        let below = |directory: &PathBuf| fs::canonicalize(directory).is_ok_and(|d| path.starts_with(d));
        directory_of(path) == self.directory || self.rules.directories.iter().any(below)
    }
}

fn directory_of(path: &Path) -> PathBuf {
    path.parent().unwrap_or_else(|| Path::new("/")).to_owned()
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use vmm_sys_util::tempdir::TempDir;

    #[test]
    fn a_parent_is_in_the_images_directory_or_in_one_that_the_user_allowed() {
        let directory = TempDir::new_with_prefix("/tmp/busman-parents").unwrap();
        let root = fs::canonicalize(directory.as_path()).unwrap();
        for name in ["vm", "vm/below", "base"] {
            fs::create_dir(root.join(name)).unwrap();
        }
        for name in ["vm/child", "vm/parent", "vm/below/parent", "base/parent", "secret"] {
            fs::write(root.join(name), "x").unwrap();
        }
        symlink(root.join("secret"), root.join("vm/link")).unwrap();
        let open = |rules: &[&str], name: &str| {
            let rules = ParentRules { directories: rules.iter().map(|name| root.join(name)).collect() };
            let parents = Parents::new(&root.join("vm/child"), &rules).unwrap();
            parents.open(&[PathBuf::from("nowhere"), PathBuf::from(name)]).map(|parent| parent.path)
        };
        assert_eq!(open(&[], "parent").unwrap(), root.join("vm/parent"));
        assert_eq!(open(&[], "../vm/parent").unwrap(), root.join("vm/parent"));
        for name in ["below/parent", "../base/parent", "../secret", "link", "/etc/hostname"] {
            let error = open(&[], name).unwrap_err();
            assert!(matches!(error, ParentError::Forbidden { .. }), "{name}: {error}");
        }
        assert_eq!(open(&["base"], "../base/parent").unwrap(), root.join("base/parent"));
        assert_eq!(open(&["vm"], "below/parent").unwrap(), root.join("vm/below/parent"));
        assert!(open(&["base"], "link").is_err());
        assert!(matches!(open(&[""], "gone").unwrap_err(), ParentError::Missing(names) if names.len() == 2));
    }

    #[test]
    fn a_parent_that_somebody_writes_to_is_refused_and_a_chain_ends() {
        let directory = TempDir::new_with_prefix("/tmp/busman-parents").unwrap();
        let path = directory.as_path().join("image");
        fs::write(&path, "x").unwrap();
        let names = [PathBuf::from("image")];
        let first = Parents::new(&path, &ParentRules::default()).unwrap();
        let writer = open_file(&path, Access::Write).unwrap();
        assert!(matches!(first.open(&names), Err(ParentError::File { source: FileError::Lock(_), .. })));
        drop(writer);
        let mut parents = first;
        for _ in 0..CHAIN_MAX {
            parents = parents.open(&names).unwrap().parents;
        }
        assert!(matches!(parents.open(&names), Err(ParentError::TooDeep)));
    }
}
