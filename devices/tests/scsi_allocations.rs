//! Reads and writes of a SCSI disk cost no allocation: an allocator counts while commands are started and finished.
//!
//! A binary of its own with one test, because a program has one allocator and other tests would be counted.

#![expect(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use devices::disk::{Disk, DiskOptions, MemoryImage};
use devices::guid::Guid;
use devices::storage::scsi::{Command, Identity, Initiator, Reply, ScsiDisk, Step, Unit};

/// Counts what the system's allocator is asked for.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: all is handed to `System` as it comes.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn reads_and_writes_allocate_nothing() {
    let image = Box::new(MemoryImage::new(1 << 20, 512));
    let disk = Disk::new("disk".to_owned(), image, &DiskOptions::default()).expect("a disk");
    let unit = ScsiDisk::new(Arc::new(disk), Identity::new(None, None, Guid::ZERO, 0), 1 << 20);
    let initiator = Initiator::new(0).expect("a small number");
    let serve = |cdb: &[u8]| {
        let command = Command { cdb, data_len: 4096, parameters: &[], initiator };
        match unit.start(&command) {
            Step::Io(..) => unit.finish(&command, Ok(())),
            step => panic!("{step:?}"),
        }
    };
    // The unit attention of power on.
    let ready = Command { cdb: &[0; 6], data_len: 0, parameters: &[], initiator };
    assert!(matches!(unit.start(&ready), Step::Done(Reply { sense: Some(_), .. })));

    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for lba in 0..100 {
        for opcode in [0x28, 0x2A] {
            assert_eq!(serve(&[opcode, 0, 0, 0, 0, lba, 0, 0, 8, 0]), Reply::moved(4096));
        }
        for opcode in [0x88, 0x8A] {
            let cdb = [opcode, 0, 0, 0, 0, 0, 0, 0, 0, lba, 0, 0, 0, 8, 0, 0];
            assert_eq!(serve(&cdb), Reply::moved(4096));
        }
    }
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0);
}
