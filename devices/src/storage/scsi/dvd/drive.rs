//! The tray: open or closed, what lies on it, who has locked it, and what guests have not been told yet.
//!
//! ```text
//!            insert                          START STOP: eject
//!  empty ──────────────► disc in, closed ──────────────────────► disc on the open tray
//!    ▲                     │        ▲                                  │      │
//!    └─────── remove ──────┘        └──────── START STOP: load ────────┘      │
//!    └──────────────────────────────── remove ────────────────────────────────┘
//! ```
//!
//! An empty tray can be open as well. The host does not need an open tray: it inserts and removes at any time.

use std::sync::Arc;

use super::super::protocol::mmc::{BLOCK, LONGEST_CD, MEDIA_PRESENT, MEDIA_TRAY_OPEN, media_event, profile};
use super::super::sense::{self, Sense};
use super::super::unit::{Initiator, Reset};
use crate::disk::Disk;

/// A disc.
#[derive(Clone, Debug)]
pub(super) struct Disc {
    pub disk: Arc<Disk>,
    /// Whole blocks of 2048 bytes.
    pub blocks: u64,
}

impl Disc {
    /// What a drive with it behaves like.
    pub fn profile(&self) -> u16 {
        if self.blocks > LONGEST_CD { profile::DVD_ROM } else { profile::CD_ROM }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Drive {
    disc: Option<Disc>,
    open: bool,
    /// A bit for each initiator that has locked it.
    locks: u64,
    /// A disc was put in or taken out: the last of these events.
    changed: Option<u8>,
    /// The host wants the disc.
    wanted: bool,
}

impl Drive {
    /// The disc that can be read.
    pub fn disc(&self) -> Result<&Disc, Sense> {
        match &self.disc {
            _ if self.open => Err(sense::MEDIUM_NOT_PRESENT_TRAY_OPEN),
            Some(disc) => Ok(disc),
            None => Err(sense::MEDIUM_NOT_PRESENT_TRAY_CLOSED),
        }
    }

    pub fn insert(&mut self, disk: Arc<Disk>) {
        let blocks = disk.geometry().size / u64::from(BLOCK);
        self.disc = Some(Disc { disk, blocks });
        self.open = false;
        self.changed(media_event::NEW_MEDIA);
    }

    pub fn remove(&mut self) {
        let was_there = self.disc().is_ok();
        self.disc = None;
        if was_there {
            self.changed(media_event::MEDIA_REMOVAL);
        }
    }

    /// Opens the tray.
    pub fn eject(&mut self) -> Result<(), Sense> {
        if self.is_locked() {
            return Err(sense::MEDIUM_REMOVAL_PREVENTED);
        }
        if self.disc().is_ok() {
            self.changed(media_event::MEDIA_REMOVAL);
        }
        self.open = true;
        self.wanted = false;
        Ok(())
    }

    /// Closes the tray; says whether a disc has come in by that.
    pub fn load(&mut self) -> bool {
        let was_open = std::mem::take(&mut self.open);
        let comes_in = was_open && self.disc.is_some();
        if comes_in {
            self.changed(media_event::NEW_MEDIA);
        }
        comes_in
    }

    fn changed(&mut self, event: u8) {
        self.changed = Some(event);
        self.wanted = false;
    }

    /// The guest will be asked to eject.
    pub fn ask_for_disc(&mut self) {
        self.wanted = true;
    }

    pub fn lock(&mut self, initiator: Initiator, locks: bool) {
        let bit = 1 << initiator.number();
        self.locks = if locks { self.locks | bit } else { self.locks & !bit };
    }

    pub fn unlock(&mut self, reset: Reset) {
        match reset {
            Reset::Initiator(initiator) => self.lock(initiator, false),
            Reset::Unit => self.locks = 0,
        }
    }

    pub fn is_locked(&self) -> bool {
        self.locks != 0
    }

    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Takes the next event that guests must be told; 0 if there is none.
    pub fn take_event(&mut self) -> u8 {
        if let Some(event) = self.changed.take() {
            return event;
        }
        if std::mem::take(&mut self.wanted) { media_event::EJECT_REQUEST } else { 0 }
    }

    /// Status that comes with each event.
    pub fn media_status(&self) -> u8 {
        match self.disc() {
            Ok(_) => MEDIA_PRESENT,
            Err(_) if self.open => MEDIA_TRAY_OPEN,
            Err(_) => 0,
        }
    }

    /// What the drive behaves like now.
    pub fn profile(&self) -> u16 {
        self.disc().map_or(profile::NONE, Disc::profile)
    }
}
