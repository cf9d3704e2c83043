//! What goes wrong, and that it stays with the request with which it went wrong.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::for_both_engines;
use super::rig::{BLOCK, Blocks, Flat, Memory, Rig, SIZE, Seen, disk};
use crate::disk::{CacheMode, Disk, DiskError, DiskOptions, Engine, IoError, Request, Tag};
use crate::mem::{MemError, Pieces};

for_both_engines!(
    a_full_host_disk_fails_the_write_and_nothing_else,
    a_file_that_ends_too_early_fails_the_read,
    a_file_that_takes_no_writes_fails_the_write,
    a_panic_in_a_format_is_an_error_and_the_next_request_works,
    requests_past_the_end_or_of_half_sectors_fail,
    memory_that_is_not_there_is_refused_at_once,
);

fn host_error(outcome: Result<(), IoError>) -> io::Error {
    match outcome {
        Err(IoError::Disk(DiskError::Host(error))) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_that_has_no_way_past_the_page_cache_is_refused_with_a_way_out() {
    let options = DiskOptions { cache: CacheMode::None, ..DiskOptions::default() };
    let image = Flat([File::open("/dev/zero").unwrap()]);
    let error = Disk::new("test".to_owned(), Box::new(image), &options).unwrap_err();
    assert!(error.to_string().contains("use cache=writeback"), "{error}");
}

fn a_full_host_disk_fails_the_write_and_nothing_else(engine: Engine) {
    let mut rig = Rig::new(engine);
    let full = OpenOptions::new().read(true).write(true).open("/dev/full").unwrap();
    let disk = disk(Flat([full]), &DiskOptions::default());
    let error =
        host_error(rig.run(&disk, Request::Write { offset: 0, len: 8192, fua: false }, &Memory::at(1, 2)));
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    rig.run(&disk, Request::Read { offset: 0, len: 8192 }, &Memory::at(1, 2)).unwrap();
    assert_eq!(disk.counters().errors.load(Ordering::Relaxed), 1);
    assert_eq!(disk.counters().writes.load(Ordering::Relaxed), 0);
}

fn a_file_that_ends_too_early_fails_the_read(engine: Engine) {
    let mut rig = Rig::new(engine);
    let image = Arc::new(Blocks::in_temp_file().with_blocks(0..2));
    let disk = disk(Seen(Arc::clone(&image)), &DiskOptions::default());
    crate::disk::Image::files(&*image)[0].set_len(BLOCK + 5000).unwrap();
    // The kernel reads what there is; the rest is asked for once more, and is not there.
    let scattered = Memory { pfns: vec![4, 2, 8], offset: 4000 };
    let error = host_error(rig.run(&disk, Request::Read { offset: BLOCK, len: 8192 }, &scattered));
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    rig.run(&disk, Request::Read { offset: BLOCK, len: 4096 }, &scattered).unwrap();
}

fn a_file_that_takes_no_writes_fails_the_write(engine: Engine) {
    let mut rig = Rig::new(engine);
    let disk = disk(Flat([File::open("/dev/zero").unwrap()]), &DiskOptions::default());
    let error =
        host_error(rig.run(&disk, Request::Write { offset: 0, len: 512, fua: true }, &Memory::at(1, 1)));
    assert_eq!(error.raw_os_error(), Some(libc::EBADF));
}

fn a_panic_in_a_format_is_an_error_and_the_next_request_works(engine: Engine) {
    let (mut rig, image) = (Rig::new(engine), Arc::new(Blocks::in_temp_file()));
    let disk = disk(Seen(Arc::clone(&image)), &DiskOptions::default());
    image.says.panics.store(true, Ordering::Relaxed);
    for _ in 0..40 {
        host_error(rig.run(&disk, Request::Write { offset: 0, len: 512, fua: false }, &Memory::at(1, 1)));
    }
    image.says.panics.store(false, Ordering::Relaxed);
    rig.run(&disk, Request::Write { offset: 0, len: 512, fua: false }, &Memory::at(1, 1)).unwrap();
}

fn requests_past_the_end_or_of_half_sectors_fail(engine: Engine) {
    let mut rig = Rig::new(engine);
    let disk = disk(Blocks::in_temp_file(), &DiskOptions::default());
    let memory = Memory::at(0, 2);
    for (offset, len) in [(SIZE, 512), (SIZE - 512, 1024), (u64::MAX - 511, 1024)] {
        let outcome = rig.run(&disk, Request::Read { offset, len }, &memory);
        assert!(matches!(outcome, Err(IoError::Disk(DiskError::OutOfRange { .. }))));
    }
    let outcome = rig.run(&disk, Request::Unmap(vec![(0, 512), (SIZE, 512)]), &memory);
    assert!(matches!(outcome, Err(IoError::Disk(DiskError::OutOfRange { .. }))));
    for (offset, len) in [(0, 100), (1, 512)] {
        let error = host_error(rig.run(&disk, Request::Write { offset, len, fua: false }, &memory));
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    let fill = Request::Fill { offset: 0, len: 1024, pattern: [].into() };
    assert_eq!(host_error(rig.run(&disk, fill, &memory)).kind(), ErrorKind::InvalidInput);
}

fn memory_that_is_not_there_is_refused_at_once(engine: Engine) {
    let mut rig = Rig::new(engine);
    let disk = disk(Blocks::in_temp_file(), &DiskOptions::default());
    for (pfns, len) in [(vec![0, 1 << 40], 8192), (vec![0], 4096), (vec![0, 1, 2], 12288)] {
        let pieces = Pieces::new(&rig.ram, pfns.into_iter(), 0, len);
        let refused = rig.queue.submit(Tag(1), &disk, Request::Read { offset: 0, len: 8192 }, pieces);
        assert!(matches!(refused, Err(MemError::NotRam(_) | MemError::OutOfRange { .. })), "{refused:?}");
        assert_eq!(rig.queue.in_flight(), 0);
    }
}
