//! Reads and writes of a SCSI disk, started and finished.

use std::sync::Arc;

use devices::disk::{Disk, DiskOptions, MemoryImage};
use devices::guid::Guid;
use devices::storage::scsi::{Command, Identity, Initiator, Reply, ScsiDisk, Step, Unit};

use super::of_this_thread;

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
    let before = of_this_thread();
    for lba in 0..100 {
        for opcode in [0x28, 0x2A] {
            assert_eq!(serve(&[opcode, 0, 0, 0, 0, lba, 0, 0, 8, 0]), Reply::moved(4096));
        }
        for opcode in [0x88, 0x8A] {
            let cdb = [opcode, 0, 0, 0, 0, 0, 0, 0, 0, lba, 0, 0, 0, 8, 0, 0];
            assert_eq!(serve(&cdb), Reply::moved(4096));
        }
    }
    assert_eq!(of_this_thread() - before, 0);
}
