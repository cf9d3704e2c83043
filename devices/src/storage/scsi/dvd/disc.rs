//! What the disc is: one session of one data track, whatever is on it.

use zerocopy::{FromZeros, IntoBytes};

use super::super::operation::Handled;
use super::super::protocol::cdb::{MSF, ReadDiscInformation, ReadDvdStructure, ReadToc};
use super::super::protocol::mmc::{DiscInformation, FIRST_SECTOR, PhysicalFormat, profile, structure};
use super::super::requests::parse;
use super::super::sense::{self, Sense};
use super::super::unit::{Command, Reply};
use super::Dvd;
use super::drive::Disc;

/// ADR and control of a data track: its position is told, it cannot be copied.
const DATA_TRACK: u8 = 0x14;
/// Number of the lead-out, the track behind the last one.
const LEAD_OUT: u8 = 0xAA;
/// Bytes of most structures of a DVD.
const STRUCTURE: usize = 2048;

impl Dvd {
    /// READ TOC/PMA/ATIP (MMC-6 6.26).
    pub(super) fn read_toc<'u>(&'u self, command: &Command<'_>) -> Handled<'u> {
        let cdb: &ReadToc = parse(command.cdb)?;
        let blocks = self.drive().disc()?.blocks;
        let address = |lba: u64| match cdb.flags & MSF {
            0 => u32::try_from(lba).unwrap_or(u32::MAX).to_be_bytes(),
            _ => minutes_seconds_frames(lba),
        };
        // Drives before MMC had the format in the last byte, and guests of their time still ask so.
        let format = match cdb.format & 0x0F {
            0 => cdb.control >> 6,
            format => format,
        };
        let mut data = match format {
            0 => contents(cdb.first_track, address(0), address(blocks))?,
            1 => [&[0, 0, 1, 1, 0, DATA_TRACK, 1, 0][..], &address(0)].concat(),
            2 => full_contents(blocks),
            _ => return Err(Sense::cdb_bit(2, 3).into()),
        };
        put_length(&mut data);
        Ok(Reply::data(command, cdb.allocation_length, data).into())
    }

    /// READ DISC INFORMATION (MMC-6 6.22).
    pub(super) fn read_disc_information<'u>(&'u self, command: &Command<'_>) -> Handled<'u> {
        let cdb: &ReadDiscInformation = parse(command.cdb)?;
        if cdb.data_type & 0x07 != 0 {
            return Err(Sense::cdb_bit(1, 2).into());
        }
        self.drive().disc()?;
        let mut data = DiscInformation::new_zeroed();
        data.length = 32.into();
        data.status = 0x0E;
        data.first_track = 1;
        data.last_session = [1, 1, 1];
        data.flags = 0x20;
        Ok(Reply::data(command, cdb.allocation_length, data.as_bytes().to_vec()).into())
    }

    /// READ DVD STRUCTURE (MMC-6 6.23).
    pub(super) fn read_dvd_structure<'u>(&'u self, command: &Command<'_>) -> Handled<'u> {
        let cdb: &ReadDvdStructure = parse(command.cdb)?;
        if cdb.media_type & 0x0F != 0 {
            return Err(Sense::cdb_bit(1, 3).into());
        }
        let drive = self.drive();
        let disc = drive.disc()?;
        if disc.profile() != profile::DVD_ROM {
            return Err(sense::INCOMPATIBLE_FORMAT.into());
        }
        if cdb.layer != 0 {
            return Err(Sense::cdb(6).into());
        }
        let mut data = vec![0; 4];
        match cdb.format {
            structure::PHYSICAL => {
                data.extend_from_slice(physical_format(disc).as_bytes());
                data.resize(4 + STRUCTURE, 0);
            }
            // No protection, all regions.
            structure::COPYRIGHT => data.extend([0; 4]),
            structure::MANUFACTURING => data.resize(4 + STRUCTURE, 0),
            structure::LIST => {
                let lengths = [
                    (structure::PHYSICAL, 4 + STRUCTURE),
                    (structure::COPYRIGHT, 8),
                    (structure::MANUFACTURING, 4 + STRUCTURE),
                ];
                for (format, length) in lengths {
                    let [high, low] = u16::try_from(length).unwrap_or(0).to_be_bytes();
                    // Bit 6: can be read.
                    data.extend([format, 0x40, high, low]);
                }
            }
            _ => return Err(Sense::cdb(7).into()),
        }
        put_length(&mut data);
        Ok(Reply::data(command, cdb.allocation_length, data).into())
    }
}

fn contents(first_track: u8, start: [u8; 4], end: [u8; 4]) -> Result<Vec<u8>, Sense> {
    let mut data = vec![0, 0, 1, 1];
    match first_track {
        0 | 1 => {
            data.extend([0, DATA_TRACK, 1, 0]);
            data.extend(start);
        }
        LEAD_OUT => {}
        _ => return Err(Sense::cdb(6)),
    }
    data.extend([0, DATA_TRACK, LEAD_OUT, 0]);
    data.extend(end);
    Ok(data)
}

/// As it lies in a CD's lead-in: number of the first track, of the last one, the lead-out, the track.
fn full_contents(blocks: u64) -> Vec<u8> {
    let mut data = vec![0, 0, 1, 1];
    let positions = [
        (0xA0, [0, 1, 0, 0]),
        (0xA1, [0, 1, 0, 0]),
        (0xA2, minutes_seconds_frames(blocks)),
        (0x01, minutes_seconds_frames(0)),
    ];
    for (point, [_, minute, second, frame]) in positions {
        data.extend([1, DATA_TRACK, 0, point, 0, 0, 0, 0, minute, second, frame]);
    }
    data
}

/// Where a block is on a CD, which begins with 2 seconds of nothing; the last place there is for one far behind.
fn minutes_seconds_frames(lba: u64) -> [u8; 4] {
    let frames = lba.saturating_add(150);
    let byte = |number: u64| u8::try_from(number).unwrap_or(u8::MAX);
    match frames / (60 * 75) {
        minutes @ 0..=255 => [0, byte(minutes), byte(frames / 75 % 60), byte(frames % 75)],
        _ => [0, 255, 59, 74],
    }
}

fn physical_format(disc: &Disc) -> PhysicalFormat {
    let mut data = PhysicalFormat::new_zeroed();
    data.book = 0x01;
    data.size_and_rate = 0x0F;
    data.layer = 0x01;
    data.first = FIRST_SECTOR.into();
    let last = u64::from(FIRST_SECTOR) + disc.blocks - 1;
    data.last = u32::try_from(last.min(0xFF_FFFF)).unwrap_or(0).into();
    data
}

/// Most data begin with the length of what is behind it.
fn put_length(data: &mut [u8]) {
    let length = u16::try_from(data.len().saturating_sub(2)).unwrap_or(u16::MAX);
    if let Some(field) = data.first_chunk_mut() {
        *field = length.to_be_bytes();
    }
}
