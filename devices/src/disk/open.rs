//! Opening an image: the file, its lock, its format.
//!
//! The format is what the user says, else what the file's name says, and the content must agree. Content alone never
//! decides: a guest could write the header of a differencing image into its raw disk, and read at the next start the
//! host's file that it names as the parent.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;
use thiserror::Error;

use super::chain::LinkedVhdx;
use super::format::Format;
use super::image::{Access, DiskError, Image};
use super::lock::{LockError, lock};
use super::parents::{ParentRules, Parents};
#[cfg(feature = "qcow2")]
use super::qcow2::Qcow2;
use super::raw::Raw;
use super::vhd::Vhd;

/// Which image to open, and how.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// The file or block device.
    pub path: PathBuf,
    /// What it is; `None`: what its name says.
    pub format: Option<Format>,
    /// Nobody shall write to it.
    pub read_only: bool,
    /// Where its parents may be, should it have any.
    pub parents: ParentRules,
}

/// Why an image is not open.
#[derive(Debug, Error)]
#[error("Cannot open the disk image {}", path.display())]
pub struct OpenError {
    /// The image.
    pub path: PathBuf,
    /// What is wrong with it.
    #[source]
    pub reason: OpenReason,
}

/// What is wrong with an image.
#[derive(Debug, Error)]
pub enum OpenReason {
    /// The file itself.
    #[error(transparent)]
    File(#[from] FileError),
    /// Nobody said what it is.
    #[error("Its name does not tell its format; say which with format=, one of {list}", list = Format::names())]
    UnknownFormat,
    /// A raw disk by its name, something else by its content.
    #[error(
        "It says {named} by its name but contains {found}; say format={named} if a guest wrote that there, \
         format={found} if it is what the file is"
    )]
    NotRaw {
        /// By its name.
        named: Format,
        /// By its content.
        found: Format,
    },
    /// An image without its signature.
    #[error("It should be {wanted} but {}", found.map_or_else(
        || "contains nothing of the kind".to_owned(),
        |found| format!("contains {found}")
    ))]
    Disagrees {
        /// What the user or the name said.
        wanted: Format,
        /// By its content.
        found: Option<Format>,
    },
    /// The format found something.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// Why a file is not open.
#[derive(Debug, Error)]
pub enum FileError {
    /// Neither file nor block device.
    #[error("It is neither a file nor a block device")]
    NotADisk,
    /// A block device with a mounted file system, or part of something bigger.
    #[error("The host uses it (a file system, LVM or RAID); writing to it would destroy what is there")]
    Busy,
    /// The host lets us read at most.
    #[error("It cannot be written to; open it for reading only, or change its permissions")]
    NotWritable(#[source] io::Error),
    /// Somebody else has it.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Anything else.
    #[error(transparent)]
    Host(#[from] io::Error),
}

impl OpenOptions {
    /// For an image of the format that its name says, to be written to, with parents in its own directory.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        OpenOptions { path: path.into(), format: None, read_only: false, parents: ParentRules::default() }
    }

    /// Opens and locks it.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(&self) -> Result<Box<dyn Image>, OpenError> {
        Ok(self.open_known()?.0.into_image())
    }

    /// Opens and locks it; what it is stays known.
    pub(super) fn open_known(&self) -> Result<(Opened, Format), OpenError> {
        let open = || {
            let (file, format) = self.file()?;
            let parents = Parents::new(&self.path, &self.parents).map_err(FileError::Host)?;
            Ok((Opened::new(format, file, self.read_only, &parents)?, format))
        };
        open().map_err(|reason| OpenError { path: self.path.clone(), reason })
    }

    /// The file, locked, and what it is.
    pub(super) fn file(&self) -> Result<(File, Format), OpenReason> {
        let by_name = Format::of_name(&self.path);
        let media = self.format.or(by_name) == Some(Format::Iso);
        let access = if self.read_only || media { Access::Read } else { Access::Write };
        let file = open_file(&self.path, access)?;
        let device = file.metadata().map_err(FileError::Host)?.file_type().is_block_device();
        let format = self.format.or(by_name).or_else(|| device.then_some(Format::Raw));
        let format = format.ok_or(OpenReason::UnknownFormat)?;
        self.agree(&file, format)?;
        Ok((file, format))
    }

    /// Checks that a file contains what it should.
    fn agree(&self, file: &File, format: Format) -> Result<(), OpenReason> {
        let found = || Format::of_content(file).map_err(FileError::Host);
        match format {
            Format::Raw | Format::Iso if self.format.is_some() => Ok(()),
            Format::Raw | Format::Iso => match found()? {
                Some(found) => Err(OpenReason::NotRaw { named: format, found }),
                None => Ok(()),
            },
            _ if format.signs(file).map_err(FileError::Host)? => Ok(()),
            _ => Err(OpenReason::Disagrees { wanted: format, found: found()? }),
        }
    }
}

/// An image whose format is still known.
#[derive(Debug)]
pub(super) enum Opened {
    Raw(Raw),
    Vhd(Vhd),
    Vhdx(Box<LinkedVhdx>),
    #[cfg(feature = "qcow2")]
    Qcow2(Box<Qcow2>),
}

impl Opened {
    /// Takes a file, which is locked, as an image of some format.
    pub fn new(format: Format, file: File, read_only: bool, parents: &Parents) -> Result<Self, DiskError> {
        Ok(match format {
            Format::Raw => Opened::Raw(Raw::disk(file, read_only)?),
            Format::Iso => Opened::Raw(Raw::medium(file)?),
            Format::Vhd => Opened::Vhd(Vhd::open(file, read_only)?),
            Format::Vhdx => Opened::Vhdx(Box::new(LinkedVhdx::open(file, read_only, parents)?)),
            #[cfg(feature = "qcow2")]
            Format::Qcow2 => Opened::Qcow2(Box::new(Qcow2::open(file, read_only, parents)?)),
            #[cfg(not(feature = "qcow2"))]
            Format::Qcow2 => return Err(without_qcow2()),
        })
    }

    pub fn image(&self) -> &dyn Image {
        match self {
            Opened::Raw(raw) => raw,
            Opened::Vhd(vhd) => vhd,
            Opened::Vhdx(linked) => &linked.vhdx,
            #[cfg(feature = "qcow2")]
            Opened::Qcow2(qcow2) => &**qcow2,
        }
    }

    fn into_image(self) -> Box<dyn Image> {
        match self {
            Opened::Raw(raw) => Box::new(raw),
            Opened::Vhd(vhd) => Box::new(vhd),
            Opened::Vhdx(linked) => Box::new(linked.vhdx),
            #[cfg(feature = "qcow2")]
            Opened::Qcow2(qcow2) => qcow2,
        }
    }

    /// Ends writing, with the failures that dropping would not report.
    pub fn close(self) -> Result<(), DiskError> {
        match self {
            Opened::Raw(_) | Opened::Vhd(_) => Ok(()),
            Opened::Vhdx(linked) => linked.vhdx.close(),
            #[cfg(feature = "qcow2")]
            Opened::Qcow2(qcow2) => qcow2.flush(),
        }
    }
}

/// What a program says that was built without the format.
#[cfg(not(feature = "qcow2"))]
pub(super) fn without_qcow2() -> DiskError {
    DiskError::Unsupported(
        "QCOW2 was left out of this program; \"qemu-img convert -O vhdx\" makes a VHDX of it".to_owned(),
    )
}

/// Opens a file or block device and locks it.
pub(super) fn open_file(path: &Path, access: Access) -> Result<File, FileError> {
    // Asked before it is opened: opening a pipe waits for its writer, opening a tape winds it.
    let kind = fs::metadata(path)?.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        return Err(FileError::NotADisk);
    }
    let mut options = File::options();
    options.read(true).write(access == Access::Write);
    if kind.is_block_device() && access == Access::Write {
        // The host's own users of a device claim it so.
        options.custom_flags(OFlags::EXCL.bits().cast_signed());
    }
    let file = options.open(path).map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::BUSY) => FileError::Busy,
        Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) if access == Access::Write => {
            FileError::NotWritable(error)
        }
        _ => FileError::Host(error),
    })?;
    lock(&file, access)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error;
    use std::os::unix::net::UnixListener;
    use vmm_sys_util::tempdir::TempDir;

    struct Directory(TempDir);

    impl Directory {
        fn new() -> Self {
            Directory(TempDir::new_with_prefix("/tmp/busman-open").unwrap())
        }

        fn file(&self, name: &str, start: &[u8]) -> PathBuf {
            let path = self.0.as_path().join(name);
            let mut bytes = vec![0; 1 << 20];
            bytes[..start.len()].copy_from_slice(start);
            fs::write(&path, bytes).unwrap();
            path
        }
    }

    /// All sentences of an error.
    fn sentences(error: &OpenError) -> String {
        let mut text = error.to_string();
        let mut next = error.source();
        while let Some(error) = next {
            text += &format!(": {error}");
            next = error.source();
        }
        text
    }

    fn open(path: &Path, format: Option<Format>) -> Result<Box<dyn Image>, String> {
        OpenOptions { format, ..OpenOptions::new(path) }.open().map_err(|error| sentences(&error))
    }

    #[test]
    fn a_raw_disk_that_its_guest_made_look_like_an_image_stays_raw() {
        let directory = Directory::new();
        for (name, start, word) in [
            ("a.img", b"vhdxfile".as_slice(), "vhdx"),
            ("b.raw", b"QFI\xfb", "qcow2"),
            ("c.img", b"conectix", "vhd"),
        ] {
            let path = directory.file(name, start);
            let error = open(&path, None).unwrap_err();
            assert!(error.contains(&path.display().to_string()), "{error}");
            assert!(
                error.contains(&format!("says raw by its name but contains {word}; say format=raw")),
                "{error}"
            );
            let disk = open(&path, Some(Format::Raw)).unwrap();
            let mut sector = [0; 512];
            disk.read(0, &mut sector).unwrap();
            assert!(sector.starts_with(start));
        }
    }

    #[test]
    fn content_never_decides() {
        let directory = Directory::new();
        let error = open(&directory.file("disk", b"vhdxfile"), None).unwrap_err();
        assert!(error.contains("does not tell its format"), "{error}");
        let error = open(&directory.file("a.vhdx", b"QFI\xfb"), None).unwrap_err();
        assert!(error.ends_with("It should be vhdx but contains qcow2"), "{error}");
        let error = open(&directory.file("b.img", b""), Some(Format::Vhdx)).unwrap_err();
        assert!(error.ends_with("It should be vhdx but contains nothing of the kind"), "{error}");
    }

    #[test]
    fn a_medium_is_read_only_and_shared() {
        let directory = Directory::new();
        let path = directory.file("a.iso", b"");
        let (first, second) = (open(&path, None).unwrap(), open(&path, None).unwrap());
        assert!(first.geometry().read_only && second.geometry().logical_sector == 2048);
        let error = open(&path, Some(Format::Raw)).unwrap_err();
        assert!(error.contains("in use by"), "{error}");
    }

    #[test]
    fn one_writer_excludes_everybody() {
        let directory = Directory::new();
        let path = directory.file("a.img", b"");
        let writer = open(&path, None).unwrap();
        assert!(open(&path, None).is_err());
        let reader = || OpenOptions { read_only: true, ..OpenOptions::new(&path) }.open();
        assert!(reader().is_err());
        drop(writer);
        let readers = (reader().unwrap(), reader().unwrap());
        assert!(open(&path, None).is_err());
        drop(readers);
        assert!(open(&path, None).is_ok());
    }

    #[test]
    fn what_is_no_disk_is_refused() {
        let directory = Directory::new();
        let root = directory.0.as_path();
        let socket = root.join("a.img");
        let _listener = UnixListener::bind(&socket).unwrap();
        for path in [root, &socket, Path::new("/dev/null")] {
            let error = open(path, Some(Format::Raw)).unwrap_err();
            assert!(error.ends_with("neither a file nor a block device"), "{error}");
        }
        let error = open(&root.join("gone.img"), None).unwrap_err();
        assert!(error.contains("gone.img") && error.contains("No such file"), "{error}");
    }
}
