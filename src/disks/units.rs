//! A machine's controllers and what is in them.
//!
//! Controllers come with their first unit. A unit that is added while the guest runs is there at once; one that is
//! removed is gone at once, and its image is let go when the last request for it has ended.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use devices::disk::{
    Disk, DiskError, DiskOptions as EngineOptions, Engine, Format, Image, OpenError, OpenOptions,
    ParentRules, Sectors,
};
use devices::storage::scsi::{
    Dvd, Ejected, Identity, Initiator, InsertError, ScsiDisk, Serial, SerialError, Unit as ScsiUnit,
};
use devices::storage::{self, Controller, MAX_TRANSFER, StorageDevice, StorageOptions};
use devices::vmbus::bus::{Bus, BusError};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{DiskOptions, DvdOptions, Place, PlaceError, Unit, UnitConfig};

/// Most sub-channels of a controller: one for each virtual processor after the first, as far as that goes.
const MAX_SUB_CHANNELS: u32 = 15;

/// Time for the guest to let go of a controller's last disk before the controller goes. Linux flushes a disk that is
/// gone, and waits for ever if the controller goes before it has sent that.
const LETTING_GO: Duration = Duration::from_secs(2);

/// Why a disk is not there, or not gone.
#[derive(Debug, Error)]
pub enum UnitError {
    /// Its place.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// Its image.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// What was wished of its image.
    #[error("The disk image {} cannot be used", path.display())]
    Image {
        /// The image.
        path: PathBuf,
        /// Why.
        #[source]
        source: DiskError,
    },
    /// Direct I/O.
    #[error("The disk image {} cannot be used without the host's cache (cache=none)", path.display())]
    Direct {
        /// The image.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its serial number.
    #[error(transparent)]
    Serial(#[from] SerialError),
    /// What was to be put into a drive.
    #[error("The disc {} cannot be put in", path.display())]
    Insert {
        /// The image.
        path: PathBuf,
        /// Why.
        #[source]
        source: InsertError,
    },
    /// Nobody is there.
    #[error("There is no disk at {0}")]
    Absent(Place),
    /// There is a disk.
    #[error("What is at {0} is no DVD drive")]
    NotADrive(Place),
    /// It has disks or drives.
    #[error("The SCSI controller still has what is at {0}: remove that first")]
    InUse(Place),
    /// The guest has hardly seen that the last one is gone.
    #[error("The guest may still be letting go of what was at {0}: try again in {wait} seconds", wait = LETTING_GO.as_secs())]
    LettingGo(Place),
    /// The controller.
    #[error("SCSI controller {number} cannot join the bus")]
    Bus {
        /// Its number.
        number: u8,
        /// Why.
        #[source]
        source: BusError,
    },
}

/// A disk or drive as tables show it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskRow {
    /// Number of the controller.
    pub controller: u8,
    /// LUN.
    pub lun: u8,
    /// disk or dvd.
    pub kind: String,
    /// The image; none in an empty drive.
    pub path: Option<String>,
    /// Bytes; 0 in an empty drive.
    pub size: u64,
    /// Bytes of a sector; 0 in an empty drive.
    pub sector: u32,
    /// The guest may not write to it.
    pub readonly: bool,
    /// Reads that ended well.
    pub reads: u64,
    /// Bytes of them.
    pub bytes_read: u64,
    /// Writes that ended well.
    pub writes: u64,
    /// Bytes of them.
    pub bytes_written: u64,
    /// Flushes that ended well.
    pub flushes: u64,
    /// Requests that failed for the image's or the host's reasons.
    pub errors: u64,
}

/// All of a machine's disks.
#[derive(Debug, Default)]
pub struct Disks {
    sub_channels: u16,
    controllers: BTreeMap<u8, Arc<Controller>>,
    units: BTreeMap<Place, Mounted>,
    /// What was removed lately.
    removed: BTreeMap<Place, Instant>,
}

#[derive(Debug)]
enum Mounted {
    Disk(PathBuf, Arc<Disk>),
    Dvd(Option<PathBuf>, Arc<Dvd>),
}

impl Disks {
    /// No disks, for a machine of so many virtual processors.
    #[must_use]
    pub fn new(cpus: u32) -> Self {
        let sub_channels = cpus.saturating_sub(1).min(MAX_SUB_CHANNELS);
        Disks { sub_channels: u16::try_from(sub_channels).unwrap_or(0), ..Disks::default() }
    }

    /// A place for a unit that comes now.
    ///
    /// # Errors
    /// [`PlaceError`].
    pub fn place(&self, unit: &Unit) -> Result<Place, PlaceError> {
        let (controller, lun) = unit.wish();
        let taken: BTreeSet<Place> = self.units.keys().copied().collect();
        Place::find(controller, lun, &taken)
    }

    /// Adds a disk or drive, and its controller if that is not there.
    ///
    /// # Errors
    /// [`UnitError`]; nothing has changed then, but that the controller may be there.
    pub fn add(&mut self, bus: &mut Bus, config: &UnitConfig) -> Result<(), UnitError> {
        let place = config.place;
        if self.units.contains_key(&place) {
            return Err(PlaceError::Taken(place).into());
        }
        let (unit, mounted): (Arc<dyn ScsiUnit>, _) = match &config.unit {
            Unit::Disk(options) => {
                let disk = open_disk(options)?;
                let serial = options.serial.as_deref().map(Serial::new).transpose()?;
                let identity = identity(place, &disk, serial);
                let unit = Arc::new(ScsiDisk::new(Arc::clone(&disk), identity, MAX_TRANSFER));
                (unit, Mounted::Disk(options.path.clone(), disk))
            }
            Unit::Dvd(DvdOptions { path, .. }) => {
                let drive = Arc::new(Dvd::new(Identity::new(
                    None,
                    None,
                    storage::instance(place.controller),
                    place.lun,
                )));
                if let Some(path) = path {
                    insert(&drive, path)?;
                }
                (Arc::clone(&drive) as _, Mounted::Dvd(path.clone(), drive))
            }
        };
        let controller = self.controller(bus, place.controller)?;
        // Cannot fail: places are checked, and nobody else adds units.
        if controller.add(place.lun, unit).is_err() {
            return Err(PlaceError::Taken(place).into());
        }
        self.units.insert(place, mounted);
        Ok(())
    }

    /// Takes a disk or drive away.
    ///
    /// # Errors
    /// [`UnitError::Absent`].
    pub fn remove(&mut self, place: Place) -> Result<(), UnitError> {
        self.units.remove(&place).ok_or(UnitError::Absent(place))?;
        if let Some(controller) = self.controllers.get(&place.controller) {
            // Cannot fail: it is there.
            let _ = controller.remove(place.lun);
        }
        self.removed.insert(place, Instant::now());
        Ok(())
    }

    /// Puts a disc into a drive, in place of the one that is in.
    ///
    /// # Errors
    /// [`UnitError`]; the old disc is still in then.
    pub fn insert(&mut self, place: Place, path: &Path) -> Result<(), UnitError> {
        let (disc, drive) = self.drive(place)?;
        insert(drive, path)?;
        *disc = Some(path.to_owned());
        Ok(())
    }

    /// Takes the disc out of a drive; with `force`, even if the guest has locked it.
    ///
    /// # Errors
    /// When there is no drive.
    pub fn eject(&mut self, place: Place, force: bool) -> Result<Ejected, UnitError> {
        let (disc, drive) = self.drive(place)?;
        let ejected = drive.eject(force);
        if ejected == Ejected::Done {
            *disc = None;
        }
        Ok(ejected)
    }

    /// Forgets the controller of this name, if there is one, so that it can leave the bus.
    ///
    /// # Errors
    /// [`UnitError::InUse`] while it has disks or drives, [`UnitError::LettingGo`] for a while after the last.
    pub fn release_controller(&mut self, name: &str) -> Result<(), UnitError> {
        let named = |place: &&Place| storage::name(place.controller) == name;
        if let Some(&place) = self.units.keys().find(named) {
            return Err(UnitError::InUse(place));
        }
        self.removed.retain(|_, when| when.elapsed() < LETTING_GO);
        if let Some(&place) = self.removed.keys().find(named) {
            return Err(UnitError::LettingGo(place));
        }
        self.controllers.retain(|&number, _| storage::name(number) != name);
        Ok(())
    }

    /// Every disk and drive.
    #[must_use]
    pub fn rows(&self) -> Vec<DiskRow> {
        self.units.iter().map(|(&place, mounted)| mounted.row(place)).collect()
    }

    /// One disk or drive.
    ///
    /// # Errors
    /// [`UnitError::Absent`].
    pub fn row(&self, place: Place) -> Result<DiskRow, UnitError> {
        self.units.get(&place).map(|mounted| mounted.row(place)).ok_or(UnitError::Absent(place))
    }

    fn drive(&mut self, place: Place) -> Result<(&mut Option<PathBuf>, &Arc<Dvd>), UnitError> {
        match self.units.get_mut(&place) {
            None => Err(UnitError::Absent(place)),
            Some(Mounted::Disk(..)) => Err(UnitError::NotADrive(place)),
            Some(Mounted::Dvd(path, drive)) => Ok((path, drive)),
        }
    }

    fn controller(&mut self, bus: &mut Bus, number: u8) -> Result<Arc<Controller>, UnitError> {
        if let Some(controller) = self.controllers.get(&number) {
            return Ok(Arc::clone(controller));
        }
        let controller = Controller::new(Initiator::new(number).ok_or(PlaceError::NoController(number))?);
        let options = StorageOptions { sub_channels: self.sub_channels, engine: Engine::Auto };
        let device = StorageDevice::new(Arc::clone(&controller), options);
        bus.add(device).map_err(|source| UnitError::Bus { number, source })?;
        self.controllers.insert(number, Arc::clone(&controller));
        Ok(controller)
    }
}

impl Mounted {
    fn row(&self, Place { controller, lun }: Place) -> DiskRow {
        let (kind, path, disk) = match self {
            Mounted::Disk(path, disk) => ("disk", Some(path), Some(Arc::clone(disk))),
            Mounted::Dvd(path, drive) => ("dvd", path.as_ref(), drive.disc()),
        };
        let counter = |read: fn(&Disk) -> u64| disk.as_deref().map_or(0, read);
        let geometry = disk.as_ref().map(|disk| disk.geometry());
        DiskRow {
            controller,
            lun,
            kind: kind.to_owned(),
            path: path.filter(|_| disk.is_some()).map(|path| path.display().to_string()),
            size: geometry.map_or(0, |geometry| geometry.size),
            sector: geometry.map_or(0, |geometry| geometry.logical_sector),
            readonly: geometry.is_none_or(|geometry| geometry.read_only),
            reads: counter(|disk| disk.counters().reads.load(Ordering::Relaxed)),
            bytes_read: counter(|disk| disk.counters().bytes_read.load(Ordering::Relaxed)),
            writes: counter(|disk| disk.counters().writes.load(Ordering::Relaxed)),
            bytes_written: counter(|disk| disk.counters().bytes_written.load(Ordering::Relaxed)),
            flushes: counter(|disk| disk.counters().flushes.load(Ordering::Relaxed)),
            errors: counter(|disk| disk.counters().errors.load(Ordering::Relaxed)),
        }
    }
}

fn identity(place: Place, disk: &Disk, serial: Option<Serial>) -> Identity {
    Identity::new(disk.geometry().id, serial, storage::instance(place.controller), place.lun)
}

fn open_disk(options: &DiskOptions) -> Result<Arc<Disk>, UnitError> {
    let path = options.path.clone();
    let open = OpenOptions {
        path: path.clone(),
        format: options.format.map(|format| format.0),
        read_only: options.readonly,
        parents: ParentRules { directories: options.parents.clone() },
    };
    let mut image: Box<dyn Image> = open.open()?;
    if let Some(sector) = options.sector {
        image = Box::new(
            Sectors::new(image, sector).map_err(|source| UnitError::Image { path: path.clone(), source })?,
        );
    }
    let engine = EngineOptions {
        cache: options.cache.into(),
        iops: options.iops,
        bytes_per_second: options.bandwidth.and_then(|bandwidth| NonZeroU64::new(bandwidth.0)),
    };
    let disk = Disk::new(name(&path), image, &engine).map_err(|source| UnitError::Direct { path, source })?;
    Ok(Arc::new(disk))
}

fn insert(drive: &Dvd, path: &Path) -> Result<(), UnitError> {
    let open = OpenOptions { format: Some(Format::Iso), read_only: true, ..OpenOptions::new(path) };
    let disk = Disk::new(name(path), open.open()?, &EngineOptions::default())
        .map_err(|source| UnitError::Direct { path: path.to_owned(), source })?;
    drive.insert(Arc::new(disk)).map_err(|source| UnitError::Insert { path: path.to_owned(), source })
}

/// A disk's name in logs.
fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
#[path = "units_tests.rs"]
mod tests;
