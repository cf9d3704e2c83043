//! A DVD drive: MMC-6. It reads images as CD-ROM or DVD-ROM, by their size.
//!
//! | file | what it holds |
//! |---|---|
//! | `table` | the commands, in one table |
//! | `drive` | the tray: what is in, who has locked it, what guests have not been told yet |
//! | `medium` | commands that read the disc or move the tray |
//! | `disc` | what the disc is: table of contents, disc information, DVD structures |
//! | `about` | what the drive is: INQUIRY, features, events, mode pages |

mod about;
mod disc;
mod drive;
mod medium;
mod table;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thiserror::Error;

use self::drive::Drive;
use super::failure::failure;
use super::gate::{Attention, Gate};
use super::identity::Identity;
use super::protocol::mmc::BLOCK;
use super::protocol::opcode;
use super::requests::Blocks;
use super::unit::{Command, Reply, Reset, Step, Unit};
use crate::disk::{Disk, Geometry, IoError};

/// Why a disc cannot be put in.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InsertError {
    /// Blocks are not made of whole sectors.
    #[error("An image with sectors of {0} bytes cannot be a DVD's, whose blocks have {BLOCK} bytes")]
    Sectors(u32),
    /// There is nothing on it.
    #[error("An image of {0} bytes has not even one block of {BLOCK} bytes")]
    Empty(u64),
    /// The guest does not want the disc that is in to be taken out.
    #[error("The guest has locked the drive; eject its disc first")]
    Locked,
}

/// What came of the wish to eject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ejected {
    /// The drive is empty.
    Done,
    /// The guest has locked the drive; it has been asked to eject the disc itself.
    Asked,
}

/// A DVD drive as its guest sees it.
#[derive(Debug)]
pub struct Dvd {
    identity: Identity,
    gate: Gate,
    /// The gate's own lock may be taken while this is held, not the other way round.
    drive: Mutex<Drive>,
}

impl Dvd {
    /// An empty drive of this name.
    #[must_use]
    pub fn new(identity: Identity) -> Self {
        Dvd { identity, gate: Gate::default(), drive: Mutex::default() }
    }

    /// Puts a disc in, in place of the one that is in. The guest is told.
    ///
    /// # Errors
    /// [`InsertError`]; nothing has changed then.
    pub fn insert(&self, disk: Arc<Disk>) -> Result<(), InsertError> {
        let &Geometry { size, logical_sector: sector, .. } = disk.geometry();
        if sector == 0 || !BLOCK.is_multiple_of(sector) {
            return Err(InsertError::Sectors(sector));
        }
        if size < u64::from(BLOCK) {
            return Err(InsertError::Empty(size));
        }
        let mut drive = self.drive();
        if drive.is_locked() && drive.disc().is_ok() {
            return Err(InsertError::Locked);
        }
        drive.insert(disk);
        self.gate.raise(Attention::MEDIUM_CHANGED, |_| true);
        Ok(())
    }

    /// Takes the disc out. If the guest has locked the drive it is asked to do so, unless `force` is set.
    pub fn eject(&self, force: bool) -> Ejected {
        let mut drive = self.drive();
        if drive.is_locked() && drive.disc().is_ok() && !force {
            drive.ask_for_disc();
            return Ejected::Asked;
        }
        drive.remove();
        Ejected::Done
    }

    /// The disc that is in, as the guest sees it: none while the tray is open.
    #[must_use]
    pub fn disc(&self) -> Option<Arc<Disk>> {
        self.drive().disc().ok().map(|disc| Arc::clone(&disc.disk))
    }

    fn drive(&self) -> MutexGuard<'_, Drive> {
        self.drive.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Unit for Dvd {
    fn start(&self, command: &Command<'_>) -> Step<'_> {
        table::OPERATIONS.start(self, &self.gate, command)
    }

    fn finish(&self, command: &Command<'_>, outcome: Result<(), IoError>) -> Reply {
        if let Err(error) = outcome {
            return Reply::check(failure(command.cdb, &error, BLOCK));
        }
        // Nothing but READ goes through the engine.
        debug_assert!(matches!(command.cdb.first(), Some(&(opcode::READ_10 | opcode::READ_12))));
        let bytes = Blocks::of(command.cdb).map_or(0, |blocks| blocks.count.saturating_mul(BLOCK.into()));
        Reply::moved(u32::try_from(bytes).unwrap_or(u32::MAX).min(command.data_len))
    }

    fn reset(&self, reset: Reset) {
        self.drive().unlock(reset);
        self.gate.reset(reset);
    }
}
