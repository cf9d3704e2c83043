//! Dynamic VHDs: where the blocks are, and how new ones come into being.
//!
//! A block is a bitmap and its data, somewhere in the file; the block allocation table says where. A sector whose bit
//! is 0 reads as 0. New blocks are born with all bits set and data of zeroes, so that later writes need nothing but
//! themselves. A block from elsewhere, whose bits are not all set, is completed before it is written to.
//!
//! # What a crash may do
//!
//! The file ends in a footer, and what is allocated must not take the footer's place before there is a new one:
//!
//! 1. The file grows: zeroes and a new footer behind the old one, for several blocks together, then `fdatasync`.
//!    Cut before: the old footer counts, or at worst none, and then the copy at the file's start does.
//! 2. A block's bitmap is written into the room that was gained. Nobody looks there yet.
//! 3. The table's entry is written. Cut before: the room is not used, and is zeroed when the image is opened anew.
//!    If a loss of power keeps the entry and forgets the bitmap, sectors read as 0 that were never flushed.
//! 4. The guest's bytes are written.
//!
//! So an entry beyond the file's end is damage, for instance of a download that was cut, and is refused as such.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use zerocopy::big_endian::U32;
use zerocopy::{FromZeros, IntoBytes};

use super::protocol::{DynamicHeader, Footer, NO_BLOCK, SECTOR};
use crate::disk::image::{Access, DiskError, Extent, Place, Zeroing};
use crate::disk::space;

/// Bytes that a file grows by at least, to spare `fdatasync`s.
const GROWTH: u64 = 16 << 20;
/// Where data of new blocks begins, to suit disks of the host with large sectors.
const ALIGNMENT: u64 = 4096;
/// Most blocks; 2 TiB in blocks of 512 KiB, the smallest in use.
const BLOCKS_MAX: u64 = 4 << 20;

/// In [`Dynamic::blocks`]: not allocated.
const ABSENT: u64 = u64::MAX;
/// In [`Dynamic::blocks`], beside the sector: some bits of the bitmap are 0, or nobody has looked.
const PARTIAL: u64 = 1 << 63;

/// The blocks of a dynamic disk.
#[derive(Debug)]
pub(super) struct Dynamic {
    footer: Footer,
    /// Bytes of a block's data.
    block_size: u32,
    /// Bytes of the disk.
    size: u64,
    table_offset: u64,
    /// Sector in the file of each block's bitmap. Once it is there, it never changes.
    blocks: Box<[AtomicU64]>,
    /// Held while a block is allocated or completed.
    growth: Mutex<Growth>,
}

/// Room behind the last block.
#[derive(Debug)]
struct Growth {
    /// Where the next block begins, at the earliest.
    next: u64,
    /// From `next` to here, the file is zero and on the disk.
    ready: u64,
    /// Where the footer is.
    footer: u64,
}

/// A part of a request within one block.
struct Piece {
    block: usize,
    /// First byte in the block.
    start: u64,
    len: u64,
}

/// What is known of a block.
enum State {
    Absent,
    /// Its bitmap is here; which bits are set is to be seen.
    Partial(u64),
    /// Its data is here.
    Full(u64),
}

impl Dynamic {
    /// Reads header and table of a file of some length.
    pub fn open(file: &File, length: u64, footer: &Footer) -> Result<Self, DiskError> {
        let damaged = |what: &str| DiskError::Damaged(what.to_owned());
        let header_offset = footer.data_offset.get();
        let mut header = DynamicHeader::new_zeroed();
        if !fits(header_offset, size_of::<DynamicHeader>() as u64, length) {
            return Err(damaged("the dynamic header is behind the end of the file"));
        }
        file.read_exact_at(header.as_mut_bytes(), header_offset)?;
        if !header.is_valid() {
            return Err(damaged("the dynamic header is invalid"));
        }
        let (block_size, size) = (header.block_size.get(), footer.current_size.get());
        if !block_size.is_power_of_two() || u64::from(block_size) < SECTOR {
            return Err(DiskError::Damaged(format!("blocks of {block_size} bytes")));
        }
        let count = size.div_ceil(block_size.into());
        if count > BLOCKS_MAX {
            return Err(DiskError::Unsupported(format!("It has {count} blocks; {BLOCKS_MAX} are supported")));
        }
        let table_offset = header.table_offset.get();
        if count > header.max_table_entries.get().into() || !fits(table_offset, count * 4, length) {
            return Err(damaged("the block allocation table is too short"));
        }
        let mut table = vec![U32::ZERO; usize::try_from(count).unwrap_or(usize::MAX)];
        file.read_exact_at(table.as_mut_bytes(), table_offset)?;
        let mut dynamic = Dynamic {
            footer: footer.clone(),
            block_size,
            size,
            table_offset,
            blocks: Box::default(),
            growth: Mutex::new(Growth { next: 0, ready: 0, footer: footer_place(file, length)? }),
        };
        let metadata =
            [(0, SECTOR), (header_offset, size_of::<DynamicHeader>() as u64), (table_offset, count * 4)];
        let next = dynamic.check_places(&table, &metadata)?;
        let growth = dynamic.growth.get_mut().unwrap_or_else(PoisonError::into_inner);
        (growth.next, growth.ready) = (next, next);
        let entry = |entry: &U32| match entry.get() {
            NO_BLOCK => ABSENT,
            sector => u64::from(sector) | PARTIAL,
        };
        dynamic.blocks = table.iter().map(|sector| AtomicU64::new(entry(sector))).collect();
        Ok(dynamic)
    }

    /// Checks that nothing is in the file twice; gives the end of the last thing that is in it.
    fn check_places(&mut self, table: &[U32], metadata: &[(u64, u64)]) -> Result<u64, DiskError> {
        let length = self.growth.get_mut().unwrap_or_else(PoisonError::into_inner).footer;
        let blocks = table.iter().map(|sector| sector.get()).filter(|&sector| sector != NO_BLOCK);
        let places =
            blocks.map(|sector| (u64::from(sector) * SECTOR, self.bitmap_len() + u64::from(self.block_size)));
        let mut places: Vec<(u64, u64)> = places.chain(metadata.iter().copied()).collect();
        places.sort_unstable();
        let mut end = 0;
        for (at, len) in places {
            if at < end {
                return Err(DiskError::Damaged(format!("two things are in the file at {at}")));
            }
            if !fits(at, len, length) {
                return Err(DiskError::Damaged(format!(
                    "the block at {at} is behind the end of the file; is the file complete?"
                )));
            }
            end = at + len;
        }
        Ok(end)
    }

    pub fn block_size(&self) -> u32 {
        self.block_size
    }

    pub fn read(&self, file: &File, offset: u64, mut buffer: &mut [u8]) -> Result<(), DiskError> {
        for piece in self.pieces(offset, buffer.len() as u64) {
            let Some((now, rest)) = buffer.split_at_mut_checked(length_of(piece.len)) else { break };
            match self.state(piece.block) {
                State::Absent => now.fill(0),
                State::Full(data) => file.read_exact_at(now, data + piece.start)?,
                State::Partial(bitmap) => self.read_partial(file, &piece, bitmap, now)?,
            }
            buffer = rest;
        }
        Ok(())
    }

    pub fn write(&self, file: &File, offset: u64, mut bytes: &[u8]) -> Result<(), DiskError> {
        for piece in self.pieces(offset, bytes.len() as u64) {
            let Some((now, rest)) = bytes.split_at_checked(length_of(piece.len)) else { break };
            let data = self.data_for_writing(file, piece.block)?;
            file.write_all_at(now, data + piece.start)?;
            bytes = rest;
        }
        Ok(())
    }

    /// Blocks stay where they are: their data is a hole then. What is absent is zero and stays absent.
    pub fn zero(&self, file: &File, offset: u64, len: u64, how: Zeroing) -> Result<(), DiskError> {
        for piece in self.pieces(offset, len) {
            if !matches!(self.state(piece.block), State::Absent) {
                let data = self.data_for_writing(file, piece.block)?;
                space::zero(file, data + piece.start, piece.len, how)?;
            }
        }
        Ok(())
    }

    pub fn extents(&self, offset: u64, len: u64, access: Access, extents: &mut Vec<Extent>) -> bool {
        let before = extents.len();
        for piece in self.pieces(offset, len) {
            let place = match (self.state(piece.block), access) {
                (State::Full(data), _) => Place::File { file: 0, offset: data + piece.start },
                (State::Absent, Access::Read) => Place::Zero,
                _ => {
                    extents.truncate(before);
                    return false;
                }
            };
            extents.push(Extent { place, len: piece.len });
        }
        true
    }

    /// Reads what has its bit set; the rest is 0.
    fn read_partial(&self, file: &File, piece: &Piece, at: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let bitmap = self.bitmap(file, piece.block, at)?;
        let data = at + self.bitmap_len();
        file.read_exact_at(buffer, data + piece.start)?;
        for (sector, now) in (piece.start / SECTOR..).zip(buffer.chunks_mut(length_of(SECTOR))) {
            if !is_set(&bitmap, sector) {
                now.fill(0);
            }
        }
        Ok(())
    }

    /// A block's bitmap. If all its bits are set, nobody needs it again.
    fn bitmap(&self, file: &File, block: usize, at: u64) -> Result<Vec<u8>, DiskError> {
        let mut bitmap = vec![0; length_of(self.bitmap_len())];
        file.read_exact_at(&mut bitmap, at)?;
        if (0..self.sectors_of(block)).all(|sector| is_set(&bitmap, sector)) {
            self.publish(block, at);
        }
        Ok(bitmap)
    }

    /// Where a block's data is, once it is such that a write needs nothing but itself.
    fn data_for_writing(&self, file: &File, block: usize) -> Result<u64, DiskError> {
        if let State::Full(data) = self.state(block) {
            return Ok(data);
        }
        let mut growth = self.growth.lock().unwrap_or_else(PoisonError::into_inner);
        match self.state(block) {
            State::Full(data) => Ok(data),
            State::Partial(bitmap) => self.complete(file, block, bitmap),
            State::Absent => self.allocate(file, block, &mut growth),
        }
    }

    /// Zeroes the sectors whose bits are 0, and then sets these.
    fn complete(&self, file: &File, block: usize, at: u64) -> Result<u64, DiskError> {
        let mut bitmap = self.bitmap(file, block, at)?;
        let data = at + self.bitmap_len();
        if matches!(self.state(block), State::Full(_)) {
            return Ok(data);
        }
        for sector in (0..self.sectors_of(block)).filter(|&sector| !is_set(&bitmap, sector)) {
            space::zero(file, data + sector * SECTOR, SECTOR, Zeroing::Keep)?;
        }
        // A bit must not outlive a loss of power that its sector's zeroes did not.
        file.sync_data()?;
        bitmap.fill(0xff);
        file.write_all_at(&bitmap, at)?;
        self.publish(block, at);
        Ok(data)
    }

    fn allocate(&self, file: &File, block: usize, growth: &mut Growth) -> Result<u64, DiskError> {
        let bitmap_len = self.bitmap_len();
        let data = (growth.next + bitmap_len).next_multiple_of(ALIGNMENT);
        let (at, end) = (data - bitmap_len, data + u64::from(self.block_size));
        let sector = u32::try_from(at / SECTOR).ok().filter(|&sector| sector != NO_BLOCK);
        let sector = sector.ok_or_else(|| DiskError::Unsupported("A VHD ends at 2 TiB".to_owned()))?;
        if end > growth.ready {
            self.grow(file, end, growth)?;
        }
        file.write_all_at(&vec![0xff; length_of(bitmap_len)], at)?;
        // From here on an entry may point there, even if writing it fails.
        growth.next = end;
        file.write_all_at(U32::new(sector).as_bytes(), self.table_offset + block as u64 * 4)?;
        self.publish(block, at);
        Ok(data)
    }

    /// Makes room up to at least `end`.
    fn grow(&self, file: &File, end: u64, growth: &mut Growth) -> Result<(), DiskError> {
        let ready = end.max(growth.next + GROWTH).next_multiple_of(SECTOR);
        let footer = growth.footer.max(ready);
        if footer > growth.footer {
            file.write_all_at(self.footer.as_bytes(), footer)?;
            file.sync_data()?;
        }
        // What is in between was not in use: an old footer, or data whose table entry did not come to be.
        space::zero(file, growth.next, ready - growth.next, Zeroing::Free)?;
        file.sync_data()?;
        *growth = Growth { next: growth.next, ready, footer };
        Ok(())
    }

    fn publish(&self, block: usize, bitmap: u64) {
        if let Some(entry) = self.blocks.get(block) {
            entry.store(bitmap / SECTOR, Ordering::Release);
        }
    }

    fn state(&self, block: usize) -> State {
        match self.blocks.get(block).map_or(ABSENT, |entry| entry.load(Ordering::Acquire)) {
            ABSENT => State::Absent,
            entry if entry & PARTIAL != 0 => State::Partial((entry & !PARTIAL) * SECTOR),
            sector => State::Full(sector * SECTOR + self.bitmap_len()),
        }
    }

    /// Cuts a range of the disk at the ends of blocks.
    fn pieces(&self, mut offset: u64, mut len: u64) -> impl Iterator<Item = Piece> + use<> {
        let block_size = u64::from(self.block_size);
        std::iter::from_fn(move || {
            let start = offset % block_size;
            let now = len.min(block_size - start);
            let block = usize::try_from(offset / block_size).ok()?;
            offset += now;
            len -= now;
            (now > 0).then_some(Piece { block, start, len: now })
        })
    }

    fn bitmap_len(&self) -> u64 {
        (u64::from(self.block_size) / SECTOR).div_ceil(8).next_multiple_of(SECTOR)
    }

    /// Sectors of a block that are on the disk: the last block may hang over.
    fn sectors_of(&self, block: usize) -> u64 {
        let start = block as u64 * u64::from(self.block_size);
        self.size.saturating_sub(start).min(self.block_size.into()) / SECTOR
    }
}

/// Where the footer is, or has to go if there is none.
fn footer_place(file: &File, length: u64) -> Result<u64, DiskError> {
    let last = length.saturating_sub(SECTOR);
    Ok(if super::read_footer(file, last)?.is_some() { last } else { length.next_multiple_of(SECTOR) })
}

fn is_set(bitmap: &[u8], sector: u64) -> bool {
    let byte = usize::try_from(sector / 8).ok().and_then(|at| bitmap.get(at));
    byte.is_some_and(|byte| byte & (0x80 >> (sector % 8)) != 0)
}

/// Whether a range is within a file.
fn fits(offset: u64, len: u64, length: u64) -> bool {
    offset.checked_add(len).is_some_and(|end| end <= length)
}

/// Lengths in memory are those of buffers.
fn length_of(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}
