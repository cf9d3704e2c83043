//! A disk: SBC-3.
//!
//! | file | commands |
//! |---|---|
//! | `table` | all of them, in one table |
//! | `io` | those that move blocks, and what is said of them when they have ended |
//! | `provision` | UNMAP, WRITE SAME |
//! | `pages` | INQUIRY, READ CAPACITY |
//! | `mode` | MODE SENSE, MODE SELECT |
//! | `persistent` | PERSISTENT RESERVE IN, OUT |
//! | `admin` | all others |
//!
//! READ and WRITE take no lock and allocate nothing: what they need is fixed but for the write cache's bit, and the
//! gate is a word for those who may pass.

mod admin;
mod io;
mod mode;
mod pages;
mod persistent;
mod provision;
mod table;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::failure::failure;
use super::gate::Gate;
use super::identity::Identity;
use super::requests::Blocks;
use super::sense::{self, Sense};
use super::unit::{Command, Reply, Reset, Step, Unit};
use crate::disk::{Disk, IoError, Request};

/// A disk as its guest sees it.
#[derive(Debug)]
pub struct ScsiDisk {
    disk: Arc<Disk>,
    identity: Identity,
    /// Bytes of a logical block.
    block: u32,
    /// Logical blocks.
    blocks: u64,
    /// Logical blocks that make a physical one; a power of 2.
    physical: u32,
    read_only: bool,
    /// Blocks that are unmapped together, if any can be.
    unmap_granularity: Option<u32>,
    /// Most bytes of a command.
    max_transfer: u32,
    /// Writes may end before they are safe from a loss of power. The guest can change it.
    write_cache: AtomicBool,
    gate: Gate,
}

impl ScsiDisk {
    /// A disk of this name. `max_transfer` is what the controller takes at most in one command, bytes.
    #[must_use]
    pub fn new(disk: Arc<Disk>, identity: Identity, max_transfer: u32) -> Self {
        let geometry = disk.geometry().clone();
        let block = geometry.logical_sector.max(1);
        ScsiDisk {
            identity,
            block,
            blocks: geometry.size / u64::from(block),
            physical: (geometry.physical_sector / block).max(1).next_power_of_two(),
            read_only: geometry.read_only,
            unmap_granularity: geometry
                .unmap_granularity
                .filter(|_| !geometry.read_only)
                .map(|bytes| (bytes / block).max(1)),
            max_transfer,
            write_cache: AtomicBool::new(true),
            gate: Gate::default(),
            disk,
        }
    }

    /// What the engine is to do.
    fn io(&self, request: Request) -> Step<'_> {
        Step::Io(Cow::Borrowed(&self.disk), request)
    }

    /// Bytes of these blocks: where they start and how many. The blocks are on the disk.
    fn bytes(&self, blocks: Blocks) -> (u64, u64) {
        (blocks.lba * u64::from(self.block), blocks.count * u64::from(self.block))
    }

    /// Refuses to write to a disk that is read-only.
    fn check_writable(&self) -> Result<(), Sense> {
        if self.read_only { Err(sense::WRITE_PROTECTED) } else { Ok(()) }
    }

    /// Blocks can be unmapped.
    fn is_thin(&self) -> bool {
        self.unmap_granularity.is_some()
    }

    fn write_cache(&self) -> bool {
        self.write_cache.load(Ordering::Acquire)
    }
}

impl Unit for ScsiDisk {
    fn start(&self, command: &Command<'_>) -> Step<'_> {
        table::OPERATIONS.start(self, &self.gate, command)
    }

    fn finish(&self, command: &Command<'_>, outcome: Result<(), IoError>) -> Reply {
        match outcome {
            Ok(()) => Reply::moved(self.moved(command).min(command.data_len)),
            Err(error) => Reply::check(failure(command.cdb, &error, self.block)),
        }
    }

    fn reset(&self, reset: Reset) {
        if reset == Reset::Unit {
            self.write_cache.store(true, Ordering::Release);
        }
        self.gate.reset(reset);
    }
}
