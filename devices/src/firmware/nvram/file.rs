//! The file with a machine's variables.
//!
//! Each change writes a whole new file beside the old one, syncs it, renames it over the old one and syncs the
//! directory; only then the guest is told. Whenever the process or the host dies, the name leads to one of the two,
//! complete. A log would write less, but a store is half a megabyte at most and changes a few times in a boot; in
//! return there is nothing to replay, to compact or to repair.
//!
//! A machine holds a lock on its file. Since the file is replaced, the lock moves: the new file is locked before it
//! gets the name, and who has locked a file looks whether it still has the name. Readers need no lock: what they have
//! opened is complete and does not change.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use thiserror::Error;

use super::format::{self, FILE_MAX, FormatError, VERSION};
use super::services::Keep;
use super::store::Store;
use crate::disk::{Access, LockError, lock};
use crate::guest_warn;
use crate::guid::Guid;

/// Why there are no variables.
#[derive(Debug, Error)]
pub enum NvramError {
    /// The host does not let it be read or made.
    #[error("Cannot {what} the NVRAM file {}", path.display())]
    Host {
        /// What it was about.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the host said.
        #[source]
        source: io::Error,
    },
    /// Another machine has it.
    #[error("Cannot use the NVRAM file {}: each machine needs its own", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
        /// Who has it.
        #[source]
        source: LockError,
    },
    /// It is not what it should be.
    #[error(
        "Cannot use the NVRAM file {}, which is left as it is: name another, restore it from a copy, or start over \
         with: busman nvram reset --force --file {}", path.display(), path.display()
    )]
    Contents {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: FormatError,
    },
    /// Nothing is wrong with it.
    #[error(
        "Cannot use the NVRAM file {}: its format is version {version}, and this busman knows version {VERSION} at \
         most; use the one that made it", path.display()
    )]
    Later {
        /// The file.
        path: PathBuf,
        /// Its format.
        version: u32,
    },
}

/// A part of the way to a new file; tests cut it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Create,
    Write,
    Sync,
    Rename,
    SyncDirectory,
}

/// A file of variables that this process alone writes.
#[derive(Debug)]
pub struct NvramFile {
    path: PathBuf,
    /// What has the name; its lock is ours.
    file: File,
}

impl NvramFile {
    /// Opens a file and locks it.
    ///
    /// # Errors
    /// See [`NvramError`]; the file is as it was.
    pub fn open(path: &Path) -> Result<(Self, Store), NvramError> {
        let this = Self::lock_existing(path)?;
        let store = decode(&this.file, path)?;
        Ok((this, store))
    }

    /// Opens a file, or makes one without variables if there is none.
    ///
    /// # Errors
    /// See [`NvramError`].
    pub fn open_or_create(path: &Path) -> Result<(Self, Store), NvramError> {
        match Self::open(path) {
            Err(NvramError::Host { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                let store = new_store(path)?;
                // Under another name first, so that nobody ever sees half of it; a link does not replace.
                let part = path.with_extension(format!("{}.new", std::process::id()));
                let make = |what| move |source| NvramError::Host { what, path: path.to_owned(), source };
                let mut file = create(&part).map_err(make("create"))?;
                let made = file
                    .write_all(&format::encode(&store))
                    .and_then(|()| file.sync_all())
                    .and_then(|()| fs::hard_link(&part, path));
                let _ = fs::remove_file(&part);
                match made {
                    Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                        Err(make("create")(source))
                    }
                    _ => {
                        sync_directory(path).map_err(make("create"))?;
                        Self::open(path)
                    }
                }
            }
            opened => opened,
        }
    }

    /// Reads a file that may be another machine's.
    ///
    /// # Errors
    /// See [`NvramError`].
    pub fn read(path: &Path) -> Result<Store, NvramError> {
        decode(&open(path)?, path)
    }

    /// Makes a file without variables in the place of one that is there or not. The machine's UUID stays. One that is
    /// damaged goes only with `force`.
    ///
    /// # Errors
    /// See [`NvramError`].
    pub fn reset(path: &Path, force: bool) -> Result<(), NvramError> {
        let (mut this, old) = match Self::open_or_create(path) {
            Err(NvramError::Contents { .. }) if force => (Self::lock_existing(path)?, new_store(path)?),
            opened => opened?,
        };
        let mut store = new_store(path)?;
        store.machine = old.machine;
        this.write("reset", &store)
    }

    /// The UUID of the machine whose file this is: the one that is wanted, else the file's own, else a new one. The
    /// file has it from now on.
    ///
    /// # Errors
    /// See [`NvramError`].
    pub fn identify(&mut self, store: &mut Store, wanted: Option<Guid>) -> Result<Guid, NvramError> {
        let random = || Guid::random().map_err(|source| self.failed("write", source));
        let uuid = wanted.or(store.machine).map_or_else(random, Ok)?;
        if store.machine != Some(uuid) {
            store.machine = Some(uuid);
            self.write("write", store)?;
        }
        Ok(uuid)
    }

    fn write(&mut self, what: &'static str, store: &Store) -> Result<(), NvramError> {
        self.keep(store).map_err(|source| self.failed(what, source))
    }

    fn failed(&self, what: &'static str, source: io::Error) -> NvramError {
        NvramError::Host { what, path: self.path.clone(), source }
    }

    fn lock_existing(path: &Path) -> Result<Self, NvramError> {
        let host = |source| NvramError::Host { what: "open", path: path.to_owned(), source };
        loop {
            // A link stays a link: what it leads to is replaced.
            let target = path.canonicalize().map_err(host)?;
            let file = open(path)?;
            lock(&file, Access::Write)
                .map_err(|source| NvramError::Locked { path: path.to_owned(), source })?;
            let (mine, named) = (file.metadata().map_err(host)?, fs::metadata(&target).map_err(host)?);
            if (mine.dev(), mine.ino()) == (named.dev(), named.ino()) {
                return Ok(NvramFile { path: target, file });
            }
        }
    }

    /// Replaces the file; `cut` is asked before each step.
    pub(super) fn replace(
        &mut self,
        store: &Store,
        cut: &mut dyn FnMut(Step) -> io::Result<()>,
    ) -> io::Result<()> {
        let part = part(&self.path);
        cut(Step::Create)?;
        let mut file = create(&part)?;
        // Who owned the file still does, whoever changes it: not everybody may give files away.
        if let Ok(old) = self.file.metadata() {
            let _ = fchown(&file, Some(old.uid()), Some(old.gid()));
            let _ = file.set_permissions(old.permissions());
        }
        lock(&file, Access::Write).map_err(io::Error::other)?;
        for piece in format::encode(store).chunks(64 << 10) {
            cut(Step::Write)?;
            file.write_all(piece)?;
        }
        cut(Step::Sync)?;
        file.sync_all()?;
        cut(Step::Rename)?;
        fs::rename(&part, &self.path)?;
        self.file = file;
        cut(Step::SyncDirectory)?;
        // The file has its name: to say that nothing changed would be wrong now.
        if let Err(error) = sync_directory(&self.path) {
            guest_warn!("{} may be as before after a crash of the host: {error}", self.path.display());
        }
        Ok(())
    }
}

impl Keep for NvramFile {
    fn keep(&mut self, store: &Store) -> io::Result<()> {
        self.replace(store, &mut |_| Ok(())).inspect_err(|_| {
            // A full disk needs the room; nobody would miss it.
            let _ = fs::remove_file(part(&self.path));
        })
    }
}

fn new_store(path: &Path) -> Result<Store, NvramError> {
    let host = |source| NvramError::Host { what: "create", path: path.to_owned(), source };
    Ok(Store::new(Guid::random().map_err(host)?))
}

fn open(path: &Path) -> Result<File, NvramError> {
    let host = |source| NvramError::Host { what: "open", path: path.to_owned(), source };
    // A pipe must not wait for its other end.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(host)?;
    let regular = file.metadata().map_err(host)?.is_file();
    if regular { Ok(file) } else { Err(host(io::Error::other("it is not a file"))) }
}

/// The same name, and what nobody else calls a file.
fn part(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

/// For its owner alone: keys may be in it.
fn create(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW.bits().cast_signed();
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).custom_flags(flags).open(path)
}

fn decode(file: &File, path: &Path) -> Result<Store, NvramError> {
    let mut bytes = Vec::new();
    let limit = FILE_MAX as u64 + 1;
    file.take(limit).read_to_end(&mut bytes).map_err(|source| NvramError::Host {
        what: "read",
        path: path.to_owned(),
        source,
    })?;
    let contents = |source| NvramError::Contents { path: path.to_owned(), source };
    if bytes.len() > FILE_MAX {
        return Err(contents(FormatError::Foreign));
    }
    format::decode(&bytes).map_err(|error| match error {
        FormatError::Version(version) => NvramError::Later { path: path.to_owned(), version },
        error => contents(error),
    })
}

fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or_else(|| Path::new(".")))?.sync_all()
}
