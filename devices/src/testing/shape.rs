//! An image that has a shape and no bytes.

use crate::disk::{DiskError, Geometry, Image, Zeroing};

/// An image that nobody may read or write: SCSI units do no I/O themselves.
#[derive(Debug)]
pub struct Shape(pub Geometry);

impl Image for Shape {
    fn geometry(&self) -> Geometry {
        self.0.clone()
    }

    fn read(&self, _: u64, _: &mut [u8]) -> Result<(), DiskError> {
        panic!("a unit did I/O");
    }

    fn write(&self, _: u64, _: &[u8]) -> Result<(), DiskError> {
        panic!("a unit did I/O");
    }

    fn zero(&self, _: u64, _: u64, _: Zeroing) -> Result<(), DiskError> {
        panic!("a unit did I/O");
    }

    fn flush(&self) -> Result<(), DiskError> {
        panic!("a unit did I/O");
    }
}
