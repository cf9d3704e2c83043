//! Requests that are given up, and queues that go while requests are in flight.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use super::for_both_engines;
use super::rig::{BLOCK, Blocks, Memory, Rig, Seen, disk};
use crate::disk::{DiskOptions, Engine, IoError, Request, Tag};

for_both_engines!(
    what_was_not_committed_is_aborted,
    what_no_thread_has_begun_with_is_aborted,
    what_the_rate_limit_holds_is_aborted,
    what_is_over_the_rate_limit_ends_later_and_in_order,
    a_queue_goes_only_when_no_thread_writes_for_it,
    a_queue_that_goes_leaves_another_queues_requests_alone,
);

const READ: Request = Request::Read { offset: 0, len: 512 };
/// Allocates, and so goes through the format.
const WRITE: Request = Request::Write { offset: 9 * BLOCK, len: 512, fua: false };

/// Threads that a disk has at most.
const THREADS: u64 = 16;

fn aborted(ended: &[(Tag, Result<(), IoError>)]) -> usize {
    ended.iter().filter(|(_, outcome)| matches!(outcome, Err(IoError::Aborted))).count()
}

fn what_was_not_committed_is_aborted(engine: Engine) {
    let mut rig = Rig::new(engine);
    let [one, other] =
        [0, 1].map(|_| disk(Blocks::in_temp_file().with_blocks(0..1), &DiskOptions::default()));
    for tag in 0..10 {
        rig.submit(tag, if tag % 2 == 0 { &one } else { &other }, READ, &Memory::at(0, 1));
    }
    rig.queue.abort(&one);
    let mut ended = rig.finish();
    ended.sort_by_key(|&(tag, _)| tag);
    assert_eq!(ended.len(), 10);
    for (tag, outcome) in ended {
        assert_eq!(outcome.is_ok(), tag.0 % 2 == 1);
    }
    assert_eq!(one.counters().errors.load(Ordering::Relaxed), 0, "an abort is no error");
}

fn what_no_thread_has_begun_with_is_aborted(engine: Engine) {
    let (mut rig, image) = (Rig::new(engine), Arc::new(Blocks::in_temp_file()));
    let disk = disk(Seen(Arc::clone(&image)), &DiskOptions::default());
    let gate = image.says.gate.lock().unwrap();
    for tag in 0..40 {
        rig.submit(tag, &disk, WRITE, &Memory::at(0, 1));
    }
    rig.commit();
    while image.says.began.load(Ordering::SeqCst) < THREADS {
        thread::yield_now();
    }
    rig.queue.abort_all();
    rig.commit();
    assert_eq!(aborted(&rig.ended), 40 - THREADS as usize);
    drop(gate);
    let ended = rig.finish();
    assert_eq!((ended.len(), aborted(&ended)), (40, 40 - THREADS as usize));
}

fn what_the_rate_limit_holds_is_aborted(engine: Engine) {
    let mut rig = Rig::new(engine);
    let options = DiskOptions { bytes_per_second: NonZeroU64::new(1), ..DiskOptions::default() };
    let slow = disk(Blocks::in_temp_file(), &options);
    let fast = disk(Blocks::in_temp_file(), &DiskOptions::default());
    rig.run(&slow, READ, &Memory::at(0, 1)).unwrap();
    for tag in 0..20 {
        rig.submit(tag, &slow, READ, &Memory::at(0, 1));
    }
    rig.submit(20, &fast, READ, &Memory::at(0, 1));
    rig.commit();
    // The other disk does not wait for this one.
    assert!(matches!(rig.ended[..], [(Tag(20), Ok(()))]));
    assert_eq!(slow.counters().limited.load(Ordering::Relaxed), 20);
    rig.queue.abort(&slow);
    assert_eq!(aborted(&rig.finish()), 20);
}

fn what_is_over_the_rate_limit_ends_later_and_in_order(engine: Engine) {
    let mut rig = Rig::new(engine);
    let options = DiskOptions { iops: NonZeroU64::new(500), ..DiskOptions::default() };
    let disk = disk(Blocks::in_temp_file(), &options);
    for tag in 0..120 {
        rig.submit(tag, &disk, READ, &Memory::at(0, 1));
    }
    let ended = rig.finish();
    assert!(ended.into_iter().map(|(tag, outcome)| outcome.map(|()| tag.0).unwrap()).eq(0..120));
    assert!(disk.counters().limited.load(Ordering::Relaxed) > 0);
}

fn a_queue_goes_only_when_no_thread_writes_for_it(engine: Engine) {
    let (mut rig, image) = (Rig::new(engine), Arc::new(Blocks::in_temp_file()));
    let disk = disk(Seen(Arc::clone(&image)), &DiskOptions::default());
    let gate = image.says.gate.lock().unwrap();
    for tag in 0..30 {
        rig.submit(tag, &disk, WRITE, &Memory::at(0, 1));
    }
    rig.commit();
    while image.says.began.load(Ordering::SeqCst) == 0 {
        thread::yield_now();
    }
    let seen = Arc::clone(&image);
    let going = thread::spawn(move || {
        drop(rig);
        let (began, ended) = (&seen.says.began, &seen.says.ended);
        assert_eq!(ended.load(Ordering::SeqCst), began.load(Ordering::SeqCst));
    });
    for _ in 0..1000 {
        thread::yield_now();
    }
    drop(gate);
    going.join().unwrap();
}

fn a_queue_that_goes_leaves_another_queues_requests_alone(engine: Engine) {
    let (mut stays, mut goes) = (Rig::new(engine), Rig::new(engine));
    let image = Arc::new(Blocks::in_temp_file());
    let disk = disk(Seen(Arc::clone(&image)), &DiskOptions::default());
    let gate = image.says.gate.lock().unwrap();
    for tag in 0..30 {
        stays.submit(tag, &disk, WRITE, &Memory::at(0, 1));
        goes.submit(tag, &disk, WRITE, &Memory::at(0, 1));
    }
    stays.commit();
    goes.commit();
    drop(gate);
    drop(goes);
    let ended = stays.finish();
    assert_eq!((ended.len(), aborted(&ended)), (30, 0));
}
