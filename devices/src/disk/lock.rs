//! Locks on image files: two writers never have one image, nor a writer and readers.
//!
//! The lock is `flock`'s. It belongs to the open file, so it lives as long as the image and ends with the process,
//! however that ends. Locks of `fcntl` would be lost as soon as anything in the process closed the same file, and
//! their better kind (open file description locks) is out of reach without unsafe code.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;

use rustix::fs::{FlockOperation, flock, major, minor};
use rustix::io::Errno;
use thiserror::Error;

use super::image::Access;

/// Why a file was not locked.
#[derive(Debug, Error)]
pub enum LockError {
    /// Somebody else has it.
    #[error("It is in use by {}", holder.as_ref().map_or_else(|| "another process".to_owned(), Holder::to_string))]
    InUse {
        /// Who, if the host tells.
        holder: Option<Holder>,
    },
    /// The host refused.
    #[error("It cannot be locked")]
    Host(#[source] io::Error),
}

/// A process that has locked a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its number.
    pub pid: u32,
    /// Its program's name, if the host tells.
    pub command: Option<String>,
    /// What it does with the file.
    pub access: Access,
}

/// Locks a file for as long as it is open: exclusively to write, together with other readers to read.
///
/// A file system without locks gets a warning in the log: refusing it would leave its user without disks.
pub(crate) fn lock(file: &File, access: Access) -> Result<(), LockError> {
    let operation = match access {
        Access::Read => FlockOperation::NonBlockingLockShared,
        Access::Write => FlockOperation::NonBlockingLockExclusive,
    };
    match rustix::io::retry_on_intr(|| flock(file, operation)) {
        Ok(()) => Ok(()),
        Err(Errno::WOULDBLOCK) => Err(LockError::InUse { holder: holder(file) }),
        Err(error @ (Errno::OPNOTSUPP | Errno::NOLCK)) => {
            log::warn!("a file is on a file system without locks ({error}): nothing else may write to it");
            Ok(())
        }
        Err(error) => Err(LockError::Host(error.into())),
    }
}

/// Looks for the process in the kernel's table of locks.
fn holder(file: &File) -> Option<Holder> {
    let metadata = file.metadata().ok()?;
    let table = fs::read_to_string("/proc/locks").ok()?;
    let (pid, access) = find(&table, metadata.dev(), metadata.ino())?;
    let command = fs::read_to_string(format!("/proc/{pid}/comm")).ok();
    Some(Holder { pid, command: command.map(|name| name.trim().escape_default().to_string()), access })
}

/// A line of it: `5: FLOCK  ADVISORY  WRITE 4711 fe:00:1234 0 EOF`.
fn find(table: &str, device: u64, inode: u64) -> Option<(u32, Access)> {
    let wanted = format!("{:02x}:{:02x}:{inode}", major(device), minor(device));
    table.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (kind, _, access) = (words.next()?, words.next()?, words.next()?);
        let (pid, place) = (words.next()?.parse().ok()?, words.next()?);
        let access = if access == "WRITE" { Access::Write } else { Access::Read };
        (kind == "FLOCK" && place == wanted).then_some((pid, access))
    })
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pid == std::process::id() {
            f.write_str("this very process")?;
        } else {
            write!(f, "process {}", self.pid)?;
            if let Some(command) = &self.command {
                write!(f, " ({command})")?;
            }
        }
        f.write_str(match self.access {
            Access::Read => ", which reads it",
            Access::Write => ", which writes to it",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmm_sys_util::tempfile::TempFile;

    #[test]
    fn many_may_read_and_one_may_write() {
        let temporary = TempFile::new().unwrap();
        let open = || File::open(temporary.as_path()).unwrap();
        let (first, second, third) = (open(), open(), open());
        lock(&first, Access::Read).unwrap();
        lock(&second, Access::Read).unwrap();
        let refused = lock(&third, Access::Write).unwrap_err();
        assert!(matches!(refused, LockError::InUse { .. }), "{refused}");
        drop(first);
        assert!(lock(&third, Access::Write).is_err());
        drop(second);
        lock(&third, Access::Write).unwrap();
        assert!(lock(&open(), Access::Read).is_err());
    }

    #[test]
    fn the_kernels_table_names_the_process() {
        let table = "1: FLOCK  ADVISORY  WRITE 13 fe:00:28 0 EOF\n1: -> FLOCK  ADVISORY  READ 9 fe:00:28 0 EOF\n\
                     2: POSIX  ADVISORY  WRITE 14 fe:00:29 0 EOF\n3: FLOCK  ADVISORY  READ 15 fe:00:29 0 EOF\n";
        let device = rustix::fs::makedev(0xfe, 0);
        assert_eq!(find(table, device, 28), Some((13, Access::Write)));
        assert_eq!(find(table, device, 29), Some((15, Access::Read)));
        assert_eq!(find(table, device, 30), None);
        let holder = Holder { pid: u32::MAX, command: Some("busman".into()), access: Access::Write };
        let error = LockError::InUse { holder: Some(holder) };
        assert_eq!(error.to_string(), "It is in use by process 4294967295 (busman), which writes to it");
    }
}
