//! Files that somebody made to do harm, or that were damaged: each gets a sentence that names what is wrong.

use std::sync::Arc;

use zerocopy::{FromBytes, IntoBytes};

use super::super::{CreateOptions, Kind, Parent, Vhdx, VhdxError};
use super::{Contents, Memory, kill, locator};
use crate::disk::vhdx::bat::Page;
use crate::disk::vhdx::check::check_medium;
use crate::disk::vhdx::header::Headers;
use crate::disk::vhdx::log::{Log, Pages};
use crate::disk::vhdx::protocol::{
    BatEntry, BlockState, Header, MIB, MetadataTableEntry, RegionTableEntry, TABLE, guid, offset,
};
use crate::disk::vhdx::region::Regions;
use crate::disk::{DiskError, Image, Zeroing};
use crate::guid::Guid;

const STRANGE: Guid = Guid::parse("11112222-3333-4444-5555-666677778888");

/// What somebody changes, and words of what he is told.
type Case<T> = (fn(&mut T), &'static str);

fn small(kind: Kind) -> Memory {
    let memory = Memory::default();
    memory.create(&CreateOptions { block_size: 1 << 20, ..CreateOptions::new(kind, 5 * MIB) });
    memory
}

/// A dynamic file with something in it, closed.
fn sample() -> Memory {
    let memory = small(Kind::Dynamic);
    memory.open().write(MIB, &[7; 1024]).unwrap();
    memory
}

/// Reads a structure, changes it, writes it back.
fn patch<T: FromBytes + IntoBytes + zerocopy::Immutable>(
    memory: &Memory,
    at: u64,
    change: impl FnOnce(&mut T),
) {
    let mut contents = memory.contents();
    let mut bytes = vec![0; size_of::<T>()];
    contents.read(at, &mut bytes);
    let mut value = T::read_from_bytes(&bytes).unwrap();
    change(&mut value);
    contents.write(at, value.as_bytes());
    memory.set(contents);
}

/// Makes the checksums of headers and region tables right again.
fn fix_checksums(memory: &Memory) {
    let mut contents = memory.contents();
    let tables = offset::REGION_TABLES.map(|at| (at, TABLE));
    for (at, len) in offset::HEADERS.map(|at| (at, size_of::<Header>())).into_iter().chain(tables) {
        let mut bytes = vec![0; len];
        contents.read(at, &mut bytes);
        bytes[4..8].fill(0);
        contents.write(at + 4, &crc32c::crc32c(&bytes).to_le_bytes());
    }
    memory.set(contents);
}

fn patch_headers(memory: &Memory, change: impl Fn(&mut Header)) {
    for at in offset::HEADERS {
        patch(memory, at, &change);
    }
    fix_checksums(memory);
}

/// Changes a region's entry, in both copies.
fn patch_region(memory: &Memory, number: u64, change: impl Fn(&mut RegionTableEntry)) {
    for at in offset::REGION_TABLES {
        patch(memory, at + 16 + number * 32, &change);
    }
    fix_checksums(memory);
}

fn patch_item(memory: &Memory, number: u64, change: impl Fn(&mut MetadataTableEntry)) {
    let region = Regions::read(memory).unwrap().metadata.start;
    patch(memory, region + 32 + number * 32, change);
}

/// Changes the bytes of an item.
fn patch_value(memory: &Memory, number: u64, bytes: &[u8]) {
    let region = Regions::read(memory).unwrap().metadata.start;
    let mut at = 0;
    patch(memory, region + 32 + number * 32, |entry: &mut MetadataTableEntry| at = entry.offset.get().into());
    let mut contents = memory.contents();
    contents.write(region + at, bytes);
    memory.set(contents);
}

fn patch_bat(memory: &Memory, index: u64, entry: u64) {
    let bat = Regions::read(memory).unwrap().bat.start;
    patch(memory, bat + index * 8, |word: &mut u64| *word = entry);
}

/// Opening and checking say the same thing, and it has these words.
#[track_caller]
fn refused(memory: &Memory, words: &str) {
    for read_only in [true, false] {
        let error = memory.try_open(read_only).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    match check_medium(Box::new(memory.clone())) {
        Ok(problems) => assert!(problems.iter().any(|problem| problem.contains(words)), "{problems:?}"),
        Err(error) => assert!(error.to_string().contains(words), "{error}"),
    }
}

#[test]
fn no_vhdx_file_at_all() {
    refused(&Memory::of(Contents { len: 2 * MIB, ..Contents::default() }), "not a VHDX file");
    refused(&Memory::default(), "not a VHDX file");
}

#[test]
fn one_bad_header_or_table_is_survived_and_two_are_not() {
    let memory = sample();
    patch(&memory, offset::HEADERS[0], |header: &mut Header| header.reserved[9] = 1);
    patch(&memory, offset::REGION_TABLES[0], |entry: &mut RegionTableEntry| entry.required.set(9));
    assert!(memory.try_open(true).is_ok());
    let problems = check_medium(Box::new(memory.clone())).unwrap();
    assert_eq!(problems.len(), 2, "{problems:?}");
    patch(&memory, offset::REGION_TABLES[1], |entry: &mut RegionTableEntry| entry.required.set(9));
    refused(&memory, "region table 1");
    patch(&memory, offset::HEADERS[1], |header: &mut Header| header.signature = *b"deah");
    refused(&memory, "header 2 has no signature");
}

#[test]
fn headers_that_lie() {
    let cases: [Case<Header>; 6] = [
        (|header| header.version.set(2), "version 2"),
        (|header| header.log_offset.set(5), "not a place in the file"),
        (|header| header.log_offset.set(u64::MAX << 20), "not a place in the file"),
        (|header| header.log_offset.set(0), "not a place in the file"),
        (|header| header.log_length.set(u32::MAX << 20), "longer than"),
        (|header| header.log_guid = STRANGE, "no entry in it is whole"),
    ];
    for (change, words) in cases {
        let memory = sample();
        patch_headers(&memory, change);
        refused(&memory, words);
    }
    let memory = sample();
    patch_headers(&memory, |header| header.sequence_number.set(3));
    patch(&memory, offset::HEADERS[0], |header: &mut Header| header.file_write_guid = STRANGE);
    fix_checksums(&memory);
    refused(&memory, "neither is the newer one");
}

#[test]
fn regions_that_lie() {
    let cases: [Case<RegionTableEntry>; 6] = [
        (|entry| entry.file_offset.set(u64::MAX << 20), "not a place in the file"),
        (|entry| entry.file_offset.set(5), "not a place in the file"),
        (|entry| entry.length.set(0), "not a place in the file"),
        (|entry| entry.guid = STRANGE, "requires region 11112222"),
        (|entry| entry.guid = guid::METADATA, "is there twice"),
        (|entry| entry.file_offset.set(MIB), "is there twice"),
    ];
    for (change, words) in cases {
        let memory = sample();
        patch_region(&memory, 0, change);
        refused(&memory, words);
    }
    let memory = sample();
    patch_region(&memory, 1, |entry| {
        entry.guid = STRANGE;
        entry.required.set(0);
    });
    refused(&memory, "no metadata region");
}

#[test]
fn metadata_that_lies() {
    let cases: [Case<MetadataTableEntry>; 6] = [
        (|entry| entry.offset.set(17), "outside of the metadata region"),
        (|entry| entry.length.set(u32::MAX), "longer than 1 MiB"),
        (|entry| entry.length.set(1 << 20), "outside of the metadata region"),
        (|entry| entry.length.set(4), "has 4 bytes, not 8"),
        (|entry| entry.item = STRANGE, "requires metadata item 11112222"),
        (|entry| entry.item = guid::PAGE_83, "is there twice"),
    ];
    for (change, words) in cases {
        let memory = sample();
        patch_item(&memory, 1, change);
        refused(&memory, words);
    }
    let (parameters, size, sector) = (0, 1, 3);
    let values: [(u64, &[u8], &str); 7] = [
        (parameters, &0_u32.to_le_bytes(), "blocks of 0 bytes"),
        (parameters, &(512_u32 << 20).to_le_bytes(), "blocks of 536870912 bytes"),
        (parameters, &(3_u32 << 20).to_le_bytes(), "blocks of 3145728 bytes"),
        (size, &0_u64.to_le_bytes(), "a disk of 0 bytes"),
        (size, &(65_u64 << 40).to_le_bytes(), "at most 64 TiB"),
        (size, &(64_u64 << 40).to_le_bytes(), "has no room for"),
        (sector, &1024_u32.to_le_bytes(), "sectors of 1024"),
    ];
    for (number, bytes, words) in values {
        let memory = sample();
        patch_value(&memory, number, bytes);
        refused(&memory, words);
    }
}

#[test]
fn blocks_that_lie() {
    let present = |place: u64| BatEntry::new(BlockState::Present, place).0;
    let cases = [
        (4, "state 4, which is reserved"),
        (BatEntry::new(BlockState::PartiallyPresent, 3 * MIB).0, "there is no parent"),
        (present(0), "not a place in the file"),
        (present(1 << 60), "not a place in the file"),
        (!7 | 6, "not a place in the file"),
        (present(MIB), "is there twice"),
    ];
    for (entry, words) in cases {
        let memory = sample();
        patch_bat(&memory, 3, entry);
        refused(&memory, words);
    }
    let memory = sample();
    let place = memory.try_open(true).unwrap().bat.block(1).1;
    patch_bat(&memory, 4, present(place));
    refused(&memory, &format!("what is at {place} is there twice"));
}

#[test]
fn a_partially_present_block_needs_a_bitmap() {
    let base = small(Kind::Dynamic);
    let parent = Arc::new(base.try_open(true).unwrap());
    let memory = small(Kind::Differencing(locator(&parent)));
    memory.open_child(&parent).unwrap().write(512, &[1; 512]).unwrap();
    let ratio = memory.open_child(&parent).unwrap().layout.chunk_ratio();
    patch_bat(&memory, ratio, 0);
    let error = memory.open_child(&parent).unwrap_err().to_string();
    assert!(error.contains("block 0 is partially present, but has no sector bitmap"), "{error}");
}

/// Leaves a log behind that does this to the file.
fn with_log(pages: &Pages, file_len: u64) -> Memory {
    let memory = sample();
    let mut headers = Headers::read(&memory).unwrap();
    let mut log = Log::start(&memory, &headers).unwrap();
    log.append(&memory, pages, file_len).unwrap();
    headers.update(&memory, |header| header.log_guid = log.guid).unwrap();
    memory
}

#[test]
fn a_log_may_change_neither_headers_nor_itself_nor_what_is_past_the_end() {
    let page = || -> Box<Page> { Box::new([0; 4096]) };
    for at in [0, 64 << 10, MIB, u64::MAX - 4095, 1 << 40, 3 * MIB + 1] {
        refused(&with_log(&vec![(at, page())], 8 * MIB), "its log changes 4096 bytes");
    }
    let memory = with_log(&Pages::new(), 8 * MIB);
    let mut contents = memory.contents();
    contents.len = 3 * MIB;
    memory.set(contents);
    refused(&memory, "it was cut off");
}

#[test]
fn a_file_is_as_long_after_replay_as_the_log_says() {
    let memory = with_log(&Pages::new(), 9 * MIB);
    assert!(memory.try_open(true).unwrap().info().was_dirty);
    drop(memory.open());
    assert_eq!(memory.contents().len, 9 * MIB);
}

#[test]
fn nothing_is_written_to_a_file_that_is_opened_for_reading_or_only_read() {
    let memory = small(Kind::Dynamic);
    let vhdx = memory.open();
    vhdx.write(0, &[1; 512]).unwrap();
    kill(vhdx);
    memory.forget_events();
    let vhdx = memory.try_open(true).unwrap();
    let mut bytes = [0; 512];
    vhdx.read(0, &mut bytes).unwrap();
    assert_eq!(bytes, [1; 512]);
    assert!(matches!(vhdx.write(0, &[2; 512]), Err(DiskError::ReadOnly)));
    assert!(matches!(vhdx.zero(0, 512, Zeroing::Free), Err(DiskError::ReadOnly)));
    vhdx.flush().unwrap();
    drop(vhdx);
    assert!(memory.events().is_empty(), "{:?}", memory.events());
    drop(memory.open());
    memory.forget_events();
    let vhdx = memory.open();
    vhdx.read(0, &mut bytes).unwrap();
    drop(vhdx);
    assert!(memory.events().is_empty(), "{:?}", memory.events());
}

#[test]
fn what_is_not_on_the_disk_is_refused_and_nothing_is_written() {
    let memory = small(Kind::Dynamic);
    let vhdx = memory.open();
    memory.forget_events();
    for (offset, len) in [(5 * MIB, 512), (u64::MAX - 511, 512), (5 * MIB - 512, 1024)] {
        assert!(matches!(vhdx.read(offset, &mut vec![0; len]), Err(DiskError::OutOfRange { .. })));
        assert!(matches!(vhdx.write(offset, &vec![0; len]), Err(DiskError::OutOfRange { .. })));
        assert!(matches!(vhdx.zero(offset, len as u64, Zeroing::Free), Err(DiskError::OutOfRange { .. })));
    }
    assert!(vhdx.write(1, &[0; 512]).is_err() && vhdx.write(0, &[0; 100]).is_err());
    assert!(memory.events().is_empty(), "{:?}", memory.events());
}

#[test]
fn a_parent_that_was_written_to_is_refused() {
    let base = small(Kind::Dynamic);
    let memory = small(Kind::Differencing(locator(&base.try_open(true).unwrap())));
    memory.open_child(&Arc::new(base.try_open(true).unwrap())).unwrap();
    base.open().write(0, &[1; 512]).unwrap();
    let error = memory.open_child(&Arc::new(base.try_open(true).unwrap())).unwrap_err();
    assert!(matches!(error, VhdxError::ParentChanged { .. }), "{error}");
}

#[test]
fn a_file_that_names_itself_as_its_parent_is_refused() {
    fn open(memory: &Memory, depth: usize) -> Result<Vhdx, VhdxError> {
        Vhdx::open_medium(Box::new(memory.clone()), Vec::new(), (true, depth), |_| {
            let parent = open(memory, depth + 1)?;
            Ok(Parent { data_write_guid: parent.data_write_guid(), image: Arc::new(parent) })
        })
    }
    let base = small(Kind::Dynamic);
    let memory = small(Kind::Differencing(locator(&base.try_open(true).unwrap())));
    let error = open(&memory, 0).unwrap_err();
    assert!(matches!(error, VhdxError::ChainTooLong(_)), "{error}");
}

#[test]
fn a_write_survives_the_death_of_the_process_without_a_flush() {
    let memory = small(Kind::Dynamic);
    let vhdx = memory.open();
    vhdx.write(2 * MIB, &[5; 4096]).unwrap();
    kill(vhdx);
    let mut bytes = [0; 4096];
    memory.open().read(2 * MIB, &mut bytes).unwrap();
    assert_eq!(bytes, [5; 4096]);
}
