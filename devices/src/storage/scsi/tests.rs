//! A guest's commands and what it is answered.

mod any;
mod boot;
mod disk;
mod dvd;
mod luns;
mod mode;
mod reservations;
mod sg3;

use std::sync::Arc;

use super::sense::SenseKey;
use super::*;
use crate::disk::{Disk, DiskError, DiskOptions, Geometry, IoError, Request, Zeroing};
use crate::guid::Guid;
use crate::testing::Shape;

pub const CONTROLLER: Guid = Guid::parse("e7c4a5b6-1d2e-4f3a-8b9c-0d1e2f3a4b5c");
pub const MAX_TRANSFER: u32 = 1 << 20;

/// 1000 blocks of 512 bytes, 8 of them make a physical one and can be unmapped together.
pub fn geometry() -> Geometry {
    Geometry {
        size: 512_000,
        logical_sector: 512,
        physical_sector: 4096,
        read_only: false,
        unmap_granularity: Some(4096),
        id: None,
    }
}

pub fn disk_of(geometry: Geometry) -> Arc<Disk> {
    let image = Box::new(Shape(geometry));
    Arc::new(Disk::new("disk".to_owned(), image, &DiskOptions::default()).unwrap())
}

pub fn unit_of(geometry: Geometry) -> ScsiDisk {
    let identity = Identity::new(geometry.id, Some(Serial::new("S/N 1").unwrap()), CONTROLLER, 0);
    let unit = ScsiDisk::new(disk_of(geometry), identity, MAX_TRANSFER);
    unit.reset(Reset::Unit);
    unit
}

/// A disk that was reset, which the first initiator was told.
pub fn unit() -> ScsiDisk {
    ready(unit_of(geometry()))
}

pub fn ready<U: Unit>(unit: U) -> U {
    told_of_reset(&unit);
    unit
}

pub fn told_of_reset(unit: &impl Unit) {
    unit.reset(Reset::Unit);
    assert_eq!(checked(&done(unit, &[0; 6], 0)), (SenseKey::UnitAttention, 0x29, 0x00));
}

pub fn initiator(number: u8) -> Initiator {
    Initiator::new(number).unwrap()
}

pub fn command<'a>(cdb: &'a [u8], data_len: u32, parameters: &'a [u8]) -> Command<'a> {
    Command { cdb, data_len, parameters, initiator: initiator(0) }
}

pub fn answer(step: Step<'_>) -> Reply {
    match step {
        Step::Done(reply) => reply,
        other => panic!("no answer: {other:?}"),
    }
}

pub fn request(step: Step<'_>) -> Request {
    match step {
        Step::Io(_, request) => request,
        other => panic!("no request: {other:?}"),
    }
}

/// The answer to a command without parameters that needs no I/O.
pub fn done(unit: &impl Unit, cdb: &[u8], data_len: u32) -> Reply {
    answer(unit.start(&command(cdb, data_len, &[])))
}

/// The next step of a command once its parameters are here, which it asks for first.
pub fn with<'u>(unit: &'u impl Unit, cdb: &[u8], parameters: &[u8]) -> Step<'u> {
    let len = parameters.len() as u32;
    match unit.start(&command(cdb, len, &[])) {
        Step::Parameters(wanted) => assert_eq!(wanted, parameters.len()),
        other => return other,
    }
    unit.start(&command(cdb, len, parameters))
}

/// Key and codes of a command that went wrong.
pub fn checked(reply: &Reply) -> (SenseKey, u8, u8) {
    assert_eq!((reply.status, reply.moved, &reply.data[..]), (ScsiStatus::CHECK_CONDITION, 0, &[][..]));
    let sense = reply.sense.expect("sense data");
    (sense.key(), sense.code().0, sense.code().1)
}

/// Data of a command that went well.
pub fn data(reply: Reply) -> Vec<u8> {
    assert_eq!((reply.status, reply.sense), (ScsiStatus::GOOD, None));
    assert_eq!(reply.moved as usize, reply.data.len());
    reply.data
}
