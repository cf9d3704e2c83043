//! Which way a request goes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::for_both_engines;
use super::rig::{BLOCK, Blocks, Flat, Memory, Rig, Seen, disk};
use crate::disk::{CacheMode, DiskOptions, Engine, Queue, Request};

for_both_engines!(
    what_is_nowhere_is_read_without_the_kernel,
    a_flush_of_what_is_more_than_a_file_is_the_images_business,
    a_flush_that_is_fdatasync_does_not_trouble_the_image,
    unsafe_flushes_do_nothing,
    a_request_of_hundreds_of_extents_and_a_thousand_pages_is_one_request,
    more_requests_than_the_kernel_is_given_all_end,
);

const READ: Request = Request::Read { offset: 0, len: 4096 };

fn written(fua: bool) -> Request {
    Request::Write { offset: 0, len: 4096, fua }
}

#[test]
fn a_queue_may_move_to_another_thread() {
    fn is_send<T: Send>() {}
    is_send::<Queue>();
}

fn what_is_nowhere_is_read_without_the_kernel(engine: Engine) {
    let mut rig = Rig::new(engine);
    let disk = disk(Blocks::in_temp_file(), &DiskOptions::default());
    let memory = Memory { pfns: vec![5, 1], offset: 100 };
    rig.poke(&Memory { pfns: vec![5, 1], offset: 0 }, &[0xff; 8192]);
    rig.submit(1, &disk, READ, &memory);
    rig.commit();
    assert_eq!(rig.queue.in_flight(), 0);
    let bytes = rig.peek(&Memory { pfns: vec![5, 1], offset: 0 }, 8192);
    let zeroes = [[0xff; 100].as_slice(), &[0; 4096], &[0xff; 3996]].concat();
    assert!(bytes == zeroes);
    assert_eq!(rig.queue.counters().submissions.load(Ordering::Relaxed), 0);
    assert_eq!(disk.counters().slow.load(Ordering::Relaxed), 0);
}

fn a_flush_of_what_is_more_than_a_file_is_the_images_business(engine: Engine) {
    let (mut rig, image) = (Rig::new(engine), Arc::new(Blocks::in_temp_file().with_blocks(0..2)));
    let disk = disk(Seen(Arc::clone(&image)), &DiskOptions::default());
    let flushes = || image.says.flushes.load(Ordering::Relaxed);
    rig.run(&disk, Request::Flush, &Memory::at(0, 0)).unwrap();
    assert_eq!(flushes(), 1);
    rig.run(&disk, written(false), &Memory::at(0, 1)).unwrap();
    assert_eq!(flushes(), 1);
    rig.run(&disk, written(true), &Memory::at(0, 1)).unwrap();
    assert_eq!(flushes(), 2);
    // What must be allocated goes through the image and is flushed as well.
    rig.run(&disk, Request::Write { offset: 5 * BLOCK, len: 512, fua: true }, &Memory::at(0, 1)).unwrap();
    assert_eq!(flushes(), 3);
}

fn a_flush_that_is_fdatasync_does_not_trouble_the_image(engine: Engine) {
    let (mut rig, image) = (Rig::new(engine), Arc::new(Blocks::in_temp_file().with_blocks(0..2)));
    image.says.flush_is_sync.store(true, Ordering::Relaxed);
    let disk = disk(Seen(Arc::clone(&image)), &DiskOptions::default());
    rig.run(&disk, Request::Flush, &Memory::at(0, 0)).unwrap();
    rig.run(&disk, written(true), &Memory::at(0, 1)).unwrap();
    assert_eq!(image.says.flushes.load(Ordering::Relaxed), 0);
    assert_eq!(disk.counters().flushes.load(Ordering::Relaxed), 1);
    let by_threads = if engine == Engine::Threads { 2 } else { 0 };
    assert_eq!(disk.counters().slow.load(Ordering::Relaxed), by_threads);
}

fn unsafe_flushes_do_nothing(engine: Engine) {
    let (mut rig, image) = (Rig::new(engine), Arc::new(Blocks::in_temp_file().with_blocks(0..2)));
    let options = DiskOptions { cache: CacheMode::Unsafe, ..DiskOptions::default() };
    let disk = disk(Seen(Arc::clone(&image)), &options);
    rig.run(&disk, Request::Flush, &Memory::at(0, 0)).unwrap();
    assert_eq!(rig.queue.counters().submissions.load(Ordering::Relaxed), 0);
    assert_eq!(disk.counters().slow.load(Ordering::Relaxed), 0);
    rig.run(&disk, written(true), &Memory::at(0, 1)).unwrap();
    assert_eq!(image.says.flushes.load(Ordering::Relaxed), 0);
}

fn a_request_of_hundreds_of_extents_and_a_thousand_pages_is_one_request(engine: Engine) {
    let mut rig = Rig::new(engine);
    let disk = disk(Blocks::in_temp_file().with_blocks((0..400).rev()), &DiskOptions::default());
    let (blocks, pages) = (330, 330 * BLOCK / 4096);
    // No page continues another.
    let memory = Memory { pfns: (0..=pages).map(|i| i * 7 % 2047).collect(), offset: 8 };
    let bytes: Vec<u8> = (0..=250).cycle().take((blocks * BLOCK) as usize).collect();
    rig.poke(&memory, &bytes);
    let (offset, len) = (512, blocks * BLOCK);
    rig.run(&disk, Request::Write { offset, len, fua: false }, &memory).unwrap();
    rig.poke(&memory, &vec![0; bytes.len()]);
    rig.run(&disk, Request::Read { offset, len }, &memory).unwrap();
    assert!(rig.peek(&memory, bytes.len()) == bytes);
    assert_eq!(disk.counters().writes.load(Ordering::Relaxed), 1);
}

fn more_requests_than_the_kernel_is_given_all_end(engine: Engine) {
    let mut rig = Rig::new(engine);
    let file = vmm_sys_util::tempfile::TempFile::new().unwrap().into_file();
    file.set_len(8 << 20).unwrap();
    let disk = disk(Flat([file]), &DiskOptions::default());
    for tag in 0..1000 {
        let page = u64::from(tag);
        rig.poke(&Memory::at(page, 1), &[tag as u8; 4096]);
        rig.submit(
            tag,
            &disk,
            Request::Write { offset: page * 4096, len: 4096, fua: false },
            &Memory::at(page, 1),
        );
    }
    assert_eq!(rig.queue.in_flight(), 1000);
    let mut tags: Vec<u32> =
        rig.finish().into_iter().map(|(tag, outcome)| outcome.map(|()| tag.0).unwrap()).collect();
    tags.sort_unstable();
    assert!(tags.into_iter().eq(0..1000));
    for tag in 0..1000 {
        rig.submit(
            tag,
            &disk,
            Request::Read { offset: u64::from(tag) * 4096, len: 4096 },
            &Memory::at(1000, 1),
        );
        rig.finish();
        assert!(rig.peek(&Memory::at(1000, 1), 4096) == [tag as u8; 4096]);
    }
}
