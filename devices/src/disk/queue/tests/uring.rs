//! What only a ring does. A pipe stands for a disk that answers when the test wants it to, and in pieces.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::thread;

use super::rig::{Flat, Memory, PAGES, Rig, disk};
use crate::disk::{Disk, DiskOptions, Engine, IoError, Request, Tag};

/// A disk whose reads wait until the test writes.
fn pipe() -> (Arc<Disk>, File) {
    let (reader, writer) = std::io::pipe().unwrap();
    let reader = File::from(std::os::fd::OwnedFd::from(reader));
    (disk(Flat([reader]), &DiskOptions::default()), File::from(std::os::fd::OwnedFd::from(writer)))
}

const READ: Request = Request::Read { offset: 0, len: 12288 };

#[test]
fn what_the_kernel_reads_in_pieces_is_gone_on_with() {
    for memory in [Memory { pfns: vec![9, 4, 20, 2], offset: 77 }, Memory::at(30, 3)] {
        let (mut rig, (disk, mut writer)) = (Rig::new(Engine::Uring), pipe());
        rig.submit(1, &disk, READ, &memory);
        rig.commit();
        let bytes: Vec<u8> = (0..=250).cycle().take(12288).collect();
        for (i, piece) in bytes.chunks(1700).enumerate() {
            assert_eq!(rig.queue.in_flight(), 1);
            writer.write_all(piece).unwrap();
            // Woken for each, the last excepted: nothing has ended before.
            if i < 7 {
                rig.sleep();
            }
        }
        assert!(matches!(rig.finish()[..], [(Tag(1), Ok(()))]));
        assert!(rig.peek(&memory, bytes.len()) == bytes);
    }
}

#[test]
fn what_the_kernel_has_is_not_aborted_and_what_it_has_not_is() {
    let (mut rig, (disk, mut writer)) = (Rig::new(Engine::Uring), pipe());
    for tag in 0..300 {
        rig.submit(tag, &disk, Request::Read { offset: 0, len: 512 }, &Memory::at(u64::from(tag), 1));
    }
    rig.commit();
    rig.queue.abort(&disk);
    rig.commit();
    assert_eq!(rig.ended.len(), 300 - 256);
    for (tag, outcome) in rig.ended.drain(..) {
        assert!(tag.0 >= 256 && matches!(outcome, Err(IoError::Aborted)));
    }
    writer.write_all(&[7; 256 * 512]).unwrap_or_else(|error| panic!("{error}"));
    let ended = rig.finish();
    assert_eq!(ended.len(), 256);
    assert!(ended.iter().all(|(_, outcome)| outcome.is_ok()));
}

#[test]
fn a_queue_goes_only_when_the_kernel_is_done_with_memory() {
    let (mut rig, (disk, mut writer)) = (Rig::new(Engine::Uring), pipe());
    for tag in 0..20 {
        rig.submit(tag, &disk, Request::Read { offset: 0, len: 512 }, &Memory::at(u64::from(tag), 1));
    }
    rig.commit();
    let ram = rig.ram.clone();
    let going = thread::spawn(move || {
        drop(rig);
        // All of them: a ring whose descriptor alone had been closed would still have some in flight.
        let page = |pfn| crate::mem::Pages::resolve(&ram, &[pfn]).unwrap();
        for pfn in 0..20 {
            let mut bytes = [0; 512];
            page(pfn).read(0, &mut bytes).unwrap();
            assert!(bytes == [7; 512], "page {pfn}");
        }
    });
    for _ in 0..20 {
        thread::yield_now();
        writer.write_all(&[7; 512]).unwrap();
    }
    going.join().unwrap();
}

#[test]
fn a_queue_whose_thread_has_ended_can_go() {
    let (disk, writer) = pipe();
    let channel = thread::spawn(move || {
        let mut rig = Rig::new(Engine::Uring);
        for tag in 0..300 {
            rig.submit(tag, &disk, READ, &Memory::at(u64::from(tag), 3));
        }
        rig.commit();
        (rig, disk)
    });
    let (rig, disk) = channel.join().unwrap();
    // The kernel has no thread any more in which to end them.
    drop(writer);
    drop(rig);
    assert_eq!(Arc::strong_count(&disk), 1);
}

#[test]
fn a_batch_takes_one_system_call() {
    let mut rig = Rig::new(Engine::Uring);
    let file = vmm_sys_util::tempfile::TempFile::new().unwrap().into_file();
    file.set_len(1 << 20).unwrap();
    let disk = disk(Flat([file]), &DiskOptions::default());
    for tag in 0..200 {
        rig.submit(tag, &disk, Request::Read { offset: 4096, len: 4096 }, &Memory::at(PAGES - 1, 1));
    }
    rig.finish();
    assert_eq!(rig.queue.counters().submissions.load(std::sync::atomic::Ordering::Relaxed), 1);
}
