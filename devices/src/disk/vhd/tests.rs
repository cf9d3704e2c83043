//! VHDs as other programs make them, as crashes leave them, and as nobody should.

use super::protocol::{DynamicHeader, NO_BLOCK};
use super::*;
use crate::guid::Guid;
use vmm_sys_util::tempfile::TempFile;

const BLOCK: u64 = 512 << 10;
const SIZE: u64 = 3 * BLOCK + 4096;
/// Where `create` puts the table.
const TABLE: u64 = 1536;

fn empty() -> File {
    TempFile::new().unwrap().into_file()
}

fn dynamic() -> File {
    let file = empty();
    Vhd::create(&file, &VhdOptions { size: SIZE, fixed: false, block_size: Some(BLOCK as u32) }).unwrap();
    file
}

fn open(file: &File) -> Result<Vhd, DiskError> {
    Vhd::open(file.try_clone().unwrap(), false)
}

fn read(vhd: &Vhd, offset: u64, len: u64) -> Vec<u8> {
    let mut bytes = vec![0xee; len as usize];
    vhd.read(offset, &mut bytes).unwrap();
    bytes
}

fn entry(file: &File, block: u64) -> u32 {
    let mut bytes = [0; 4];
    file.read_exact_at(&mut bytes, TABLE + 4 * block).unwrap();
    u32::from_be_bytes(bytes)
}

fn set_entry(file: &File, block: u64, sector: u32) {
    file.write_all_at(&sector.to_be_bytes(), TABLE + 4 * block).unwrap();
}

fn length(file: &File) -> u64 {
    file.metadata().unwrap().len()
}

fn damage(result: Result<Vhd, DiskError>) -> String {
    match result.unwrap_err() {
        DiskError::Damaged(what) => what,
        other => panic!("{other}"),
    }
}

#[test]
fn a_dynamic_disk_takes_space_where_it_is_written_to() {
    let file = dynamic();
    let vhd = open(&file).unwrap();
    let mut extents = Vec::new();
    assert!(!vhd.extents(0, BLOCK, Access::Write, &mut extents) && extents.is_empty());
    vhd.write(BLOCK - 512, &[7; 1024]).unwrap();
    assert!(vhd.extents(0, SIZE, Access::Read, &mut extents));
    let places: Vec<_> =
        extents.iter().map(|extent| (matches!(extent.place, Place::Zero), extent.len)).collect();
    assert_eq!(places, [(false, BLOCK), (false, BLOCK), (true, BLOCK), (true, 4096)]);
    let Place::File { file: 0, offset } = extents[1].place else { panic!("{extents:?}") };
    assert_eq!(offset % 4096, 0);
    drop(vhd);
    let vhd = open(&file).unwrap();
    assert_eq!(read(&vhd, BLOCK - 512, 1024), [7; 1024]);
    assert!(read(&vhd, 0, BLOCK - 512).iter().all(|&byte| byte == 0));
    assert!(read(&vhd, BLOCK + 512, SIZE - BLOCK - 512).iter().all(|&byte| byte == 0));
}

#[test]
fn a_place_stays_when_its_bytes_are_freed() {
    let vhd = open(&dynamic()).unwrap();
    vhd.write(0, &[7; 4096]).unwrap();
    let (mut before, mut after) = (Vec::new(), Vec::new());
    assert!(vhd.extents(0, 4096, Access::Write, &mut before));
    vhd.zero(0, BLOCK, Zeroing::Free).unwrap();
    assert!(vhd.extents(0, 4096, Access::Write, &mut after));
    assert_eq!(before, after);
    assert_eq!(read(&vhd, 0, 4096), [0; 4096]);
}

#[test]
fn a_fixed_disk_is_its_bytes_and_a_footer() {
    let file = empty();
    Vhd::create(&file, &VhdOptions { size: SIZE, fixed: true, block_size: None }).unwrap();
    assert_eq!(length(&file), SIZE + 512);
    let vhd = open(&file).unwrap();
    vhd.write(SIZE - 512, &[7; 512]).unwrap();
    assert!(matches!(vhd.write(SIZE, &[7; 512]), Err(DiskError::OutOfRange { .. })));
    let mut sector = [0; 512];
    file.read_exact_at(&mut sector, SIZE - 512).unwrap();
    assert_eq!(sector, [7; 512]);
    drop(vhd);
    // The guest's copy of a footer at its sector 0 is the guest's.
    let forged = Footer::new(1 << 40, DYNAMIC, Guid::random().unwrap());
    file.write_all_at(forged.as_bytes(), 0).unwrap();
    assert_eq!(open(&file).unwrap().geometry().size, SIZE);
}

#[test]
fn bits_that_are_clear_read_as_zero_and_are_set_by_a_write() {
    let file = dynamic();
    let vhd = open(&file).unwrap();
    vhd.write(0, &vec![7; BLOCK as usize]).unwrap();
    drop(vhd);
    // Only sectors 1 and 9 have data, whatever is in the others.
    let bitmap = u64::from(entry(&file, 0)) * SECTOR;
    let mut bits = [0; 512];
    (bits[0], bits[1]) = (0x40, 0x40);
    file.write_all_at(&bits, bitmap).unwrap();
    let vhd = open(&file).unwrap();
    let wanted = |written: u64| -> Vec<u8> {
        (0..BLOCK / SECTOR)
            .flat_map(|sector| [if [1, 9, written].contains(&sector) { 7 } else { 0 }; 512])
            .collect()
    };
    assert_eq!(read(&vhd, 0, BLOCK), wanted(1));
    assert!(!vhd.extents(0, 512, Access::Read, &mut Vec::new()));
    vhd.write(20 * SECTOR, &[7; 512]).unwrap();
    assert_eq!(read(&vhd, 0, BLOCK), wanted(20));
    assert!(vhd.extents(0, 512, Access::Write, &mut Vec::new()));
    drop(vhd);
    assert_eq!(read(&open(&file).unwrap(), 0, BLOCK), wanted(20));
}

#[test]
fn a_footer_that_a_crash_left_out_is_written_again() {
    let file = dynamic();
    open(&file).unwrap().write(0, &[7; 512]).unwrap();
    file.set_len(length(&file) - 300).unwrap();
    let reader = Vhd::open(file.try_clone().unwrap(), true).unwrap();
    assert_eq!((reader.problems().len(), read(&reader, 0, 512)), (1, vec![7; 512]));
    assert!(open(&file).is_ok());
    assert!(open(&file).unwrap().problems().is_empty());
    open(&file).unwrap().write(BLOCK, &[8; 512]).unwrap();
    let vhd = open(&file).unwrap();
    assert_eq!((read(&vhd, 0, 512), read(&vhd, BLOCK, 512)), (vec![7; 512], vec![8; 512]));
    assert!(vhd.problems().is_empty());
}

#[test]
fn what_a_crash_left_behind_the_last_block_is_not_seen() {
    let file = dynamic();
    open(&file).unwrap().write(0, &[7; 512]).unwrap();
    let end = u64::from(entry(&file, 0)) * SECTOR + SECTOR + BLOCK;
    file.write_all_at(&vec![9; 3 * BLOCK as usize], end).unwrap();
    let vhd = open(&file).unwrap();
    vhd.write(2 * BLOCK, &[8; 512]).unwrap();
    vhd.write(BLOCK, &[8; 512]).unwrap();
    for block in [1, 2] {
        assert!(read(&vhd, block * BLOCK + 512, BLOCK - 512).iter().all(|&byte| byte == 0));
    }
}

#[test]
fn a_file_that_lacks_its_end_is_damaged() {
    let file = dynamic();
    open(&file).unwrap().write(0, &[7; 512]).unwrap();
    file.set_len(u64::from(entry(&file, 0)) * SECTOR + 4096).unwrap();
    assert!(damage(open(&file)).contains("is the file complete"));
    let fixed = empty();
    Vhd::create(&fixed, &VhdOptions { size: SIZE, fixed: true, block_size: None }).unwrap();
    fixed.set_len(SIZE).unwrap();
    assert!(damage(open(&fixed)).contains("no valid footer"));
}

#[test]
fn places_that_overlap_are_damage() {
    for sectors in [
        // The header, the table, each other, the footer.
        [2, NO_BLOCK],
        [3, NO_BLOCK],
        [0, NO_BLOCK],
        [8, 9],
        [8, 8],
    ] {
        let file = dynamic();
        file.set_len(4 << 20).unwrap();
        let footer = Footer::new(SIZE, DYNAMIC, Guid::random().unwrap());
        file.write_all_at(footer.as_bytes(), (4 << 20) - 512).unwrap();
        set_entry(&file, 0, sectors[0]);
        set_entry(&file, 1, sectors[1]);
        assert!(damage(open(&file)).contains("two things"), "{sectors:?}");
    }
    let file = dynamic();
    set_entry(&file, 0, 0x7fff_ffff);
    assert!(damage(open(&file)).contains("behind the end"));
}

#[test]
fn headers_that_lie_are_refused() {
    let with = |change: &dyn Fn(&mut DynamicHeader, &mut Footer)| {
        let file = dynamic();
        let mut footer = Footer::new(SIZE, DYNAMIC, Guid::random().unwrap());
        let mut header = DynamicHeader::new(TABLE, 4, BLOCK as u32);
        change(&mut header, &mut footer);
        footer.seal();
        header.seal();
        file.write_all_at(header.as_bytes(), 512).unwrap();
        file.write_all_at(footer.as_bytes(), length(&file) - 512).unwrap();
        open(&file)
    };
    assert!(with(&|_, _| ()).is_ok());
    assert!(damage(with(&|header, _| header.table_offset = u64::MAX.into())).contains("table"));
    assert!(damage(with(&|header, _| header.max_table_entries = 3.into())).contains("table"));
    assert!(damage(with(&|header, _| header.block_size = 0.into())).contains("blocks of 0"));
    assert!(damage(with(&|header, _| header.block_size = 768.into())).contains("blocks of 768"));
    assert!(damage(with(&|header, _| header.cookie = [0; 8])).contains("header"));
    assert!(damage(with(&|_, footer| footer.data_offset = u64::MAX.into())).contains("header"));
    assert!(damage(with(&|_, footer| footer.current_size = 0.into())).contains("0 bytes"));
    assert!(damage(with(&|_, footer| footer.current_size = 513.into())).contains("513 bytes"));
    assert!(damage(with(&|_, footer| footer.disk_type = 9.into())).contains("type 9"));
    let huge = with(&|_, footer| footer.current_size = (u64::MAX - 511).into());
    assert!(huge.unwrap_err().to_string().contains("are supported"));
    let difference = with(&|_, footer| footer.disk_type = DIFFERENCING.into());
    assert!(difference.unwrap_err().to_string().contains("differencing"));
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    let create = |size, fixed, block_size| Vhd::create(&empty(), &VhdOptions { size, fixed, block_size });
    for refused in [
        create(0, false, None),
        create(1000, false, None),
        create((2040 << 30) + 512, false, None),
        create(SIZE, true, Some(2 << 20)),
        create(SIZE, false, Some(4096)),
    ] {
        assert!(matches!(refused, Err(DiskError::Unsupported(_))), "{refused:?}");
    }
    create(2040 << 30, false, None).unwrap();
}
