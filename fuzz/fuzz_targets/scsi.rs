//! Sequences of SCSI commands on a disk and a DVD drive.
//!
//! Bytes become steps: a command of any of three initiators, a reset, a disc put in or taken out. Requests that units
//! make are carried out on memory. They must lie on the medium and in the guest's buffer; what READ and WRITE mean is
//! worked out a second time; no answer may move more than the buffer holds, or claim what its status denies.
//!
//! Run it with `cargo fuzz run scsi` (nightly, or `RUSTC_BOOTSTRAP=1`).

#![no_main]

mod input;

use std::sync::Arc;

use devices::disk::{Disk, DiskError, DiskOptions, Geometry, IoError, Request};
use devices::guid::Guid;
use devices::storage::scsi::{
    Command, Dvd, Identity, Initiator, Reply, Reset, ScsiDisk, ScsiStatus, Step, Unit,
};
use devices::testing::Shape;
use input::Input;
use libfuzzer_sys::fuzz_target;

/// Bytes of a disk's blocks.
const SECTOR: usize = 512;
/// Bytes of a disk and of the smaller disc.
const SIZE: usize = 64 * SECTOR;
/// Most bytes of the guest's buffer.
const MAX_TRANSFER: usize = 16384;

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let flags = input.byte();
    let geometry = Geometry {
        size: SIZE as u64,
        logical_sector: SECTOR as u32,
        physical_sector: 4096,
        read_only: flags & 1 != 0,
        unmap_granularity: (flags & 2 != 0).then_some(4096),
        id: None,
    };
    let mut guest = Guest {
        disk: ScsiDisk::new(disk(geometry.clone()), identity(0), MAX_TRANSFER as u32),
        dvd: Dvd::new(identity(1)),
        medium: (0..SIZE).map(|i| (i / SECTOR) as u8).collect(),
        input,
        read_only: geometry.read_only,
    };
    while !guest.input.0.is_empty() {
        guest.step(&geometry);
    }
});

struct Guest<'a> {
    disk: ScsiDisk,
    dvd: Dvd,
    /// Bytes of the disk.
    medium: Vec<u8>,
    input: Input<'a>,
    read_only: bool,
}

impl Guest<'_> {
    fn step(&mut self, geometry: &Geometry) {
        let step = self.input.byte();
        let initiator = Initiator::new(step % 3).expect("a small number");
        match step {
            0..=199 => self.command(step >= 100, initiator),
            200..=209 => self.disk.reset(Reset::Initiator(initiator)),
            210..=214 => self.disk.reset(Reset::Unit),
            215..=219 => self.dvd.reset(Reset::Unit),
            220..=237 => {
                let size = if step % 2 == 0 { SIZE as u64 } else { 1 << 30 };
                let logical_sector = if step == 237 { 4096 } else { 512 };
                let inserted = self.dvd.insert(disk(Geometry { size, logical_sector, ..geometry.clone() }));
                let is_in = self.dvd.disc().is_some_and(|it| it.geometry().size == size);
                assert!(is_in || inserted.is_err());
            }
            _ => drop(self.dvd.eject(step >= 248)),
        }
    }

    /// One command and what follows from it.
    fn command(&mut self, on_dvd: bool, initiator: Initiator) {
        let len = usize::from(self.input.byte() % 17);
        let cdb = self.input.bytes(len);
        let data_len =
            usize::from(u16::from_le_bytes([self.input.byte(), self.input.byte()])) % (MAX_TRANSFER + 1);
        let given = usize::from(self.input.byte());
        let mut buffer = self.input.bytes(given.min(data_len)).to_vec();
        buffer.resize(data_len, 0);
        let fails = self.input.byte() == 1;

        let mut command = Command { cdb, data_len: data_len as u32, parameters: &[], initiator };
        let unit: &dyn Unit = if on_dvd { &self.dvd } else { &self.disk };
        let parameters;
        let mut step = unit.start(&command);
        if let Step::Parameters(wanted) = step {
            assert!(wanted >= 1 && wanted <= data_len);
            parameters = buffer[..wanted].to_vec();
            command.parameters = &parameters;
            step = unit.start(&command);
        }
        let reply = match step {
            Step::Parameters(_) => panic!("asked twice"),
            Step::Done(reply) => reply,
            Step::Io(disk, request) => {
                check(&disk, &request, data_len);
                assert!(!self.read_only || !changes(&request), "{request:?}");
                if let Some((first, count)) = named(cdb) {
                    let block = if on_dvd { 2048 } else { SECTOR as u64 };
                    let (Request::Read { offset, len } | Request::Write { offset, len, .. }) = request else {
                        panic!("{cdb:02x?}: {request:?}");
                    };
                    assert_eq!((offset, len), (first * block, count * block));
                }
                let moves = request.moves();
                let outcome = match () {
                    () if fails => Err(IoError::Aborted),
                    () if on_dvd => Ok(()),
                    () => carry_out(&mut self.medium, &request, &mut buffer),
                };
                let good = outcome.is_ok();
                let reply = unit.finish(&command, outcome);
                assert_eq!(reply.status == ScsiStatus::GOOD, good);
                assert!(!good || u64::from(reply.moved) >= moves, "{request:?}: {reply:?}");
                reply
            }
        };
        judge(&reply, command.data_len);
    }
}

/// First block and number of blocks of a READ or a WRITE.
fn named(cdb: &[u8]) -> Option<(u64, u64)> {
    let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
    match *cdb.first()? {
        0x08 | 0x0A => Some((number(&cdb[1..4]) & 0x1F_FFFF, if cdb[4] == 0 { 256 } else { cdb[4].into() })),
        0x28 | 0x2A => Some((number(&cdb[2..6]), number(&cdb[7..9]))),
        0xA8 | 0xAA => Some((number(&cdb[2..6]), number(&cdb[6..10]))),
        0x88 | 0x8A => Some((number(&cdb[2..10]), number(&cdb[10..14]))),
        _ => None,
    }
}

/// What must be true of each answer.
fn judge(reply: &Reply, data_len: u32) {
    assert!(reply.moved <= data_len);
    assert!(reply.data.is_empty() || reply.data.len() == reply.moved as usize);
    assert_eq!(reply.sense.is_some(), reply.status == ScsiStatus::CHECK_CONDITION);
    assert!(reply.status == ScsiStatus::GOOD || reply.moved == 0);
}

/// What must be true of each request.
fn check(disk: &Disk, request: &Request, data_len: usize) {
    let geometry = disk.geometry();
    let ranges = match request {
        Request::Unmap(ranges) => ranges.clone(),
        Request::Flush => vec![],
        &Request::Read { offset, len }
        | &Request::Write { offset, len, .. }
        | &Request::Zero { offset, len, .. }
        | &Request::Compare { offset, len } => vec![(offset, len)],
        Request::Fill { offset, len, pattern } => {
            assert_eq!(pattern.len(), SECTOR);
            vec![(*offset, *len)]
        }
    };
    let sector = u64::from(geometry.logical_sector);
    for (offset, len) in ranges {
        assert!(len > 0 && offset % sector == 0 && len % sector == 0, "{request:?}");
        geometry.check(offset, len).expect("on the disk");
    }
    assert!(request.moves() <= data_len as u64);
}

fn changes(request: &Request) -> bool {
    !matches!(request, Request::Read { .. } | Request::Compare { .. } | Request::Flush)
}

/// Does what the engine would.
fn carry_out(medium: &mut [u8], request: &Request, buffer: &mut [u8]) -> Result<(), IoError> {
    let at = |offset: u64, len: u64| offset as usize..(offset + len) as usize;
    match request {
        &Request::Read { offset, len } => buffer[..len as usize].copy_from_slice(&medium[at(offset, len)]),
        &Request::Write { offset, len, .. } => {
            medium[at(offset, len)].copy_from_slice(&buffer[..len as usize])
        }
        &Request::Zero { offset, len, .. } => medium[at(offset, len)].fill(0),
        Request::Unmap(ranges) => ranges.iter().for_each(|&(offset, len)| medium[at(offset, len)].fill(0)),
        Request::Fill { offset, len, pattern } => {
            medium[at(*offset, *len)]
                .chunks_mut(pattern.len())
                .for_each(|block| block.copy_from_slice(pattern));
        }
        &Request::Compare { offset, len } => {
            let differs = medium[at(offset, len)].iter().zip(&*buffer).position(|(one, other)| one != other);
            if let Some(at) = differs {
                return Err(IoError::Miscompare(at as u64));
            }
        }
        Request::Flush => {}
    }
    Ok(())
}

fn identity(lun: u8) -> Identity {
    Identity::new(None, None, Guid::ZERO, lun)
}

fn disk(geometry: Geometry) -> Arc<Disk> {
    let image = Box::new(Shape(geometry));
    Arc::new(Disk::new("disk".to_owned(), image, &DiskOptions::default()).expect("a disk"))
}
