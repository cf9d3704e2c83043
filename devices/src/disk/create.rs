//! New image files.
//!
//! A file grows under a name of its own, `NAME.part`, and gets its real one when it is complete: whoever sees the name
//! sees a whole image, also after an interruption. Nothing is ever replaced that somebody uses.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};
use rustix::io::Errno;
use thiserror::Error;

use super::chain;
use super::format::Format;
use super::image::{Access, DiskError};
use super::lock::lock;
use super::open::{FileError, OpenError, OpenOptions, open_file};
#[cfg(feature = "qcow2")]
use super::qcow2::Qcow2;
use super::space;
use super::vhd::{Vhd, VhdOptions};
use super::vhdx;

/// A new image.
#[derive(Clone, Debug)]
pub struct CreateOptions {
    /// Where.
    pub path: PathBuf,
    /// What; `None`: what its name says.
    pub format: Option<Format>,
    /// Bytes of the disk.
    pub size: u64,
    /// All space is taken at once.
    pub fixed: bool,
    /// Bytes that a dynamic disk takes at once; `None`: what is usual for the format.
    pub block_size: Option<u32>,
    /// The image that it is the difference to, whose size it has; VHDX alone knows that.
    pub parent: Option<OpenOptions>,
    /// Bytes of a sector; `None`: 512.
    pub logical_sector: Option<u32>,
    /// An existing file gives way.
    pub replace: bool,
}

/// Why there is no new image.
#[derive(Debug, Error)]
#[error("Cannot create the disk image {}", path.display())]
pub struct CreateError {
    /// Where it would be.
    pub path: PathBuf,
    /// Why not.
    #[source]
    pub reason: CreateReason,
}

/// What is in the way of a new image.
#[derive(Debug, Error)]
pub enum CreateReason {
    /// There is something of that name.
    #[error("It exists; --force replaces it")]
    Exists,
    /// Nobody said what it should be.
    #[error("Its name does not tell its format; say which with --format, one of {list}", list = Format::names())]
    UnknownFormat,
    /// A format that is read only.
    #[error("Images of the format {0} are only read, not made")]
    NotMade(Format),
    /// The format does not know what was asked for.
    #[error("A {format} image has no {what}")]
    NoSuchThing {
        /// The format.
        format: Format,
        /// What it lacks.
        what: &'static str,
    },
    /// A directory, a device or a link in a file's place.
    #[error("It exists and is no file")]
    NotAFile,
    /// The parent.
    #[error(transparent)]
    Parent(#[from] OpenError),
    /// The parent's path cannot be in the image.
    #[error("The parent {} cannot be named in an image: {why}", path.display())]
    ParentName {
        /// The parent.
        path: PathBuf,
        /// Why not.
        why: &'static str,
    },
    /// The file, or the one that it would replace.
    #[error(transparent)]
    File(#[from] FileError),
    /// The format refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl CreateOptions {
    /// A dynamic image of the format that its name says.
    pub fn new(path: impl Into<PathBuf>, size: u64) -> Self {
        CreateOptions {
            path: path.into(),
            format: None,
            size,
            fixed: false,
            block_size: None,
            parent: None,
            logical_sector: None,
            replace: false,
        }
    }

    /// Makes it. It reads as 0.
    ///
    /// # Errors
    /// [`CreateError`]; then there is no new file.
    pub fn create(&self) -> Result<(), CreateError> {
        let create = || self.start()?.0.finish();
        create().map_err(|reason| CreateError { path: self.path.clone(), reason })
    }

    /// Makes it under its preliminary name.
    pub(super) fn start(&self) -> Result<(NewFile, Format), CreateReason> {
        let format =
            self.format.or_else(|| Format::of_name(&self.path)).ok_or(CreateReason::UnknownFormat)?;
        let new = NewFile::start(&self.path, self.replace)?;
        self.fill(format, &new.file)?;
        Ok((new, format))
    }

    fn fill(&self, format: Format, file: &File) -> Result<(), CreateReason> {
        let &CreateOptions { size, fixed, block_size, logical_sector, .. } = self;
        if format != Format::Vhdx && logical_sector.is_some_and(|sector| sector != 512) {
            return Err(CreateReason::NoSuchThing {
                format,
                what: "sectors of other sizes than 512 bytes; VHDX has",
            });
        }
        if format != Format::Vhdx && self.parent.is_some() {
            return Err(CreateReason::NoSuchThing { format, what: "parent" });
        }
        match format {
            Format::Vhdx => self.fill_vhdx(file),
            Format::Raw if block_size.is_some() => Err(CreateReason::NoSuchThing { format, what: "blocks" }),
            Format::Raw => Ok(fill_raw(file, size, fixed)?),
            Format::Vhd => Ok(Vhd::create(file, &VhdOptions { size, fixed, block_size })?),
            Format::Iso => Err(CreateReason::NotMade(format)),
            Format::Qcow2 if fixed => Err(CreateReason::NoSuchThing { format, what: "fixed size" }),
            #[cfg(feature = "qcow2")]
            Format::Qcow2 => Ok(Qcow2::create(file, size, block_size)?),
            #[cfg(not(feature = "qcow2"))]
            Format::Qcow2 => Err(super::open::without_qcow2().into()),
        }
    }

    fn fill_vhdx(&self, file: &File) -> Result<(), CreateReason> {
        let mut options = match &self.parent {
            Some(parent) => chain::child_of(parent, &self.path)?,
            None if self.fixed => vhdx::CreateOptions::new(vhdx::Kind::Fixed, self.size),
            None => vhdx::CreateOptions::new(vhdx::Kind::Dynamic, self.size),
        };
        options.block_size = self.block_size.unwrap_or(options.block_size);
        if self.parent.is_none() {
            options.logical_sector = self.logical_sector.unwrap_or(options.logical_sector);
        }
        Ok(vhdx::create(file, &options).map_err(DiskError::from)?)
    }
}

fn fill_raw(file: &File, size: u64, fixed: bool) -> Result<(), DiskError> {
    if size == 0 || !size.is_multiple_of(512) {
        return Err(DiskError::Unsupported(format!(
            "A disk has sectors of 512 bytes; {size} bytes are none"
        )));
    }
    if fixed {
        space::allocate(file, 0, size)?;
    } else {
        file.set_len(size)?;
    }
    Ok(())
}

/// A file on its way to its name.
#[derive(Debug)]
pub(super) struct NewFile {
    /// Empty, locked.
    pub file: File,
    part: PathBuf,
    path: PathBuf,
    /// What it replaces, locked so that nobody opens it meanwhile.
    old: Option<File>,
    /// It has its real name.
    named: bool,
}

impl NewFile {
    fn start(path: &Path, replace: bool) -> Result<Self, CreateReason> {
        let old = match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(FileError::Host(error).into()),
            Ok(_) if !replace => return Err(CreateReason::Exists),
            Ok(metadata) if !metadata.is_file() => return Err(CreateReason::NotAFile),
            Ok(_) => Some(open_file(path, Access::Write)?),
        };
        let mut part = path.file_name().map_or_else(OsString::new, OsString::from);
        part.push(".part");
        let part = path.with_file_name(part);
        // One that an interruption left behind is nobody's.
        let file = loop {
            let file = open_part(&part).map_err(FileError::Host)?;
            if claim(&file, &part)? {
                break file;
            }
        };
        file.set_len(0).map_err(FileError::Host)?;
        Ok(NewFile { file, part, path: path.to_owned(), old, named: false })
    }

    /// Gives the file its name, when all of it is safe.
    pub fn finish(mut self) -> Result<(), CreateReason> {
        self.file.sync_all().map_err(FileError::Host)?;
        let renamed = if self.old.is_some() {
            fs::rename(&self.part, &self.path)
        } else {
            rename_new(&self.part, &self.path)
        };
        match renamed {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(CreateReason::Exists),
            done => {
                done.map_err(FileError::Host)?;
                self.named = true;
                Ok(())
            }
        }
    }
}

fn open_part(part: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    options.open(part)
}

/// Takes a file to fill it, unless somebody else does. Whether it still has its preliminary name: while this waited for
/// its turn, who filled it may have given it its real one, and then it is a whole image of somebody's.
fn claim(file: &File, part: &Path) -> Result<bool, FileError> {
    lock(file, Access::Write).map_err(FileError::Lock)?;
    let mine = file.metadata().map_err(FileError::Host)?;
    match fs::symlink_metadata(part) {
        Ok(named) => Ok((mine.dev(), mine.ino()) == (named.dev(), named.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(FileError::Host(error)),
    }
}

/// Renames to a name that nothing may have.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // A file system that cannot promise it.
        Err(Errno::INVAL | Errno::NOSYS) if !to.exists() => fs::rename(from, to),
        done => Ok(done?),
    }
}

impl Drop for NewFile {
    /// What has its real name by now has left the other one to whoever comes next.
    fn drop(&mut self) {
        if !self.named {
            let _ = fs::remove_file(&self.part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmm_sys_util::tempdir::TempDir;

    #[test]
    fn what_exists_stays_unless_it_is_to_be_replaced_and_nobody_uses_it() {
        let directory = TempDir::new_with_prefix("/tmp/busman-create").unwrap();
        let path = directory.as_path().join("disk.vhd");
        let options = CreateOptions::new(&path, 4 << 20);
        options.create().unwrap();
        assert!(matches!(options.create().unwrap_err().reason, CreateReason::Exists));
        let used = OpenOptions::new(&path).open().unwrap();
        used.write(0, &[7; 512]).unwrap();
        let replace = CreateOptions { size: 8 << 20, replace: true, ..options };
        assert!(matches!(replace.create().unwrap_err().reason, CreateReason::File(FileError::Lock(_))));
        drop(used);
        replace.create().unwrap();
        assert_eq!(OpenOptions::new(&path).open().unwrap().geometry().size, 8 << 20);
        let names: Vec<_> =
            fs::read_dir(directory.as_path()).unwrap().map(|name| name.unwrap().file_name()).collect();
        assert_eq!(names, ["disk.vhd"]);
    }

    #[test]
    fn what_cannot_be_made_leaves_nothing() {
        let directory = TempDir::new_with_prefix("/tmp/busman-create").unwrap();
        let root = directory.as_path();
        let reason = |name: &str, size, block_size| {
            let options = CreateOptions { block_size, ..CreateOptions::new(root.join(name), size) };
            options.create().unwrap_err().reason.to_string()
        };
        assert!(reason("disk", 1 << 20, None).contains("does not tell its format"));
        assert!(reason("a.iso", 1 << 20, None).contains("only read"));
        assert!(reason("a.img", 1000, None).contains("1000 bytes"));
        assert!(reason("a.img", 1 << 20, Some(4096)).contains("no blocks"));
        assert!(reason("a.vhd", 1 << 20, Some(4096)).contains("512 KiB or 2 MiB"));
        assert!(reason("gone/a.img", 1 << 20, None).contains("No such file"));
        assert_eq!(fs::read_dir(root).unwrap().count(), 0);
    }

    #[test]
    fn what_an_interruption_left_gives_way() {
        let directory = TempDir::new_with_prefix("/tmp/busman-create").unwrap();
        let path = directory.as_path().join("disk.img");
        fs::write(directory.as_path().join("disk.img.part"), [7; 4096]).unwrap();
        CreateOptions::new(&path, 1024).create().unwrap();
        assert_eq!(fs::read(&path).unwrap(), [0; 1024]);
    }

    #[test]
    fn a_second_creator_that_comes_just_too_late_leaves_the_finished_image_alone() {
        let directory = TempDir::new_with_prefix("/tmp/busman-create").unwrap();
        let path = directory.as_path().join("disk.img");
        let part = directory.as_path().join("disk.img.part");
        let (first, _) = CreateOptions::new(&path, 1024).start().unwrap();
        // It opens the file before the first one is done with it, and locks it after.
        let second = open_part(&part).unwrap();
        assert!(matches!(claim(&second, &part), Err(FileError::Lock(_))));
        first.finish().unwrap();
        assert!(!claim(&second, &part).unwrap());
        // Nor does somebody else's file of that name make it its own.
        fs::write(&part, "third").unwrap();
        assert!(!claim(&second, &part).unwrap());
        assert_eq!(fs::read(&path).unwrap(), [0; 1024]);
    }
}
