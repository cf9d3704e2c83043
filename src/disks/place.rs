//! Where a disk is: controller and LUN.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use devices::storage::MAX_UNITS;
use devices::storage::scsi::Initiator;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A place for a disk or drive: SCSI controller, and LUN there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// Number of the controller.
    pub controller: u8,
    /// LUN.
    pub lun: u8,
}

/// Why a place cannot be had.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PlaceError {
    /// Not two numbers.
    #[error("{0:?} is no place of a disk; write CONTROLLER:LUN, for instance 0:1")]
    NotAPlace(String),
    /// There is no such controller.
    #[error("There are the controllers 0 to {last}, but no controller {0}", last = Initiator::COUNT - 1)]
    NoController(u8),
    /// There is no such LUN.
    #[error("A controller has the LUNs 0 to {last}, but no LUN {0}", last = MAX_UNITS - 1)]
    NoLun(u8),
    /// Two disks in one place.
    #[error("There cannot be two disks at controller {}, LUN {}", .0.controller, .0.lun)]
    Taken(Place),
    /// No LUN is left.
    #[error("Controller {0} is full")]
    Full(u8),
}

impl Place {
    /// A place that may be.
    ///
    /// # Errors
    /// [`PlaceError::NoController`] and [`PlaceError::NoLun`].
    pub fn new(controller: u8, lun: u8) -> Result<Self, PlaceError> {
        if usize::from(controller) >= Initiator::COUNT {
            return Err(PlaceError::NoController(controller));
        }
        if usize::from(lun) >= MAX_UNITS {
            return Err(PlaceError::NoLun(lun));
        }
        Ok(Place { controller, lun })
    }

    /// Finds a place for a disk: where the user wants it, else the first free LUN of the controller, which is 0 unless
    /// the user says another.
    ///
    /// # Errors
    /// [`PlaceError`].
    pub fn find(
        controller: Option<u8>,
        lun: Option<u8>,
        taken: &BTreeSet<Place>,
    ) -> Result<Self, PlaceError> {
        let controller = controller.unwrap_or(0);
        if let Some(lun) = lun {
            let place = Place::new(controller, lun)?;
            return if taken.contains(&place) { Err(PlaceError::Taken(place)) } else { Ok(place) };
        }
        for lun in 0..=u8::MAX {
            match Place::new(controller, lun) {
                Ok(place) if taken.contains(&place) => {}
                Err(PlaceError::NoLun(_)) => break,
                found => return found,
            }
        }
        Err(PlaceError::Full(controller))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.controller, self.lun)
    }
}

impl FromStr for Place {
    type Err = PlaceError;

    /// `0:1`, or as in an option: `controller=0,lun=1`.
    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let pair = text.split_once(':').or_else(|| {
            let (controller, lun) = text.split_once(',')?;
            Some((controller.strip_prefix("controller=")?, lun.strip_prefix("lun=")?))
        });
        let number = |text: &str| text.parse::<u8>().ok();
        let numbers = pair.and_then(|(controller, lun)| Some((number(controller)?, number(lun)?)));
        let (controller, lun) = numbers.ok_or_else(|| PlaceError::NotAPlace(text.to_owned()))?;
        Place::new(controller, lun)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_written_in_two_ways() {
        let place = Place { controller: 1, lun: 63 };
        assert_eq!(("1:63".parse(), "controller=1,lun=63".parse()), (Ok(place), Ok(place)));
        assert_eq!(place.to_string(), "1:63");
        for text in ["", "1", ":", "1:", "a:1", "1:256", "lun=1,controller=1", "1:2:3"] {
            assert_eq!(text.parse::<Place>(), Err(PlaceError::NotAPlace(text.to_owned())));
        }
        assert_eq!("0:64".parse::<Place>(), Err(PlaceError::NoLun(64)));
        assert_eq!("64:0".parse::<Place>(), Err(PlaceError::NoController(64)));
    }

    #[test]
    fn a_disk_without_a_place_gets_the_first_that_is_free() {
        let mut taken = BTreeSet::new();
        for (controller, lun, found) in [
            (None, None, "0:0"),
            (None, Some(1), "0:1"),
            (None, None, "0:2"),
            (Some(3), None, "3:0"),
            (Some(0), None, "0:3"),
        ] {
            let place = Place::find(controller, lun, &taken).unwrap();
            assert_eq!(place.to_string(), found);
            taken.insert(place);
        }
        let again = Place { controller: 0, lun: 1 };
        assert_eq!(Place::find(Some(0), Some(1), &taken), Err(PlaceError::Taken(again)));
        let full = (0..64).map(|lun| Place { controller: 0, lun }).collect();
        assert_eq!(Place::find(None, None, &full), Err(PlaceError::Full(0)));
        assert_eq!(Place::find(Some(64), None, &full), Err(PlaceError::NoController(64)));
    }
}
