//! Requests through a queue, those of its threads too.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use devices::disk::{
    Access, Disk, DiskError, DiskOptions, Engine, Extent, Geometry, Image, MemoryImage, Place, Queue,
    Request, Tag, Zeroing,
};
use devices::mem::{GuestRam, PAGE_SIZE, Pieces};
use vm_memory::GuestAddress;
use vmm_sys_util::tempfile::TempFile;

use super::of_all_threads;

/// A file in two halves, the second first. Each request has two extents; some writes must go through the calls.
#[derive(Debug)]
struct Halves([File; 1]);

const SIZE: u64 = 8 << 20;
const REQUESTS: u32 = 300;

impl Image for Halves {
    fn geometry(&self) -> Geometry {
        let (logical_sector, physical_sector) = (512, 512);
        Geometry {
            size: SIZE,
            logical_sector,
            physical_sector,
            read_only: false,
            unmap_granularity: None,
            id: None,
        }
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        Ok(self.0[0].read_exact_at(buffer, offset)?)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        Ok(self.0[0].write_all_at(bytes, offset)?)
    }

    fn zero(&self, _: u64, _: u64, _: Zeroing) -> Result<(), DiskError> {
        unreachable!("nothing is zeroed")
    }

    fn flush(&self) -> Result<(), DiskError> {
        Ok(())
    }

    fn extents(&self, offset: u64, len: u64, access: Access, extents: &mut Vec<Extent>) -> bool {
        if access == Access::Write && (offset / 4096).is_multiple_of(8) {
            return false;
        }
        let place = |offset| Place::File { file: 0, offset: (offset + SIZE / 2) % SIZE };
        extents.push(Extent { place: place(offset), len: 4096 });
        extents.push(Extent { place: Place::File { file: 0, offset: 0 }, len: len - 4096 });
        true
    }

    fn files(&self) -> &[File] {
        &self.0
    }
}

struct Rig {
    ram: GuestRam,
    queue: Queue,
    disk: Arc<Disk>,
}

impl Rig {
    fn new(image: impl Image + 'static, engine: Engine) -> Self {
        let ram = GuestRam::from_ranges(&[(GuestAddress(0), 1024 * PAGE_SIZE)]).expect("RAM");
        let queue = Queue::new(ram.clone(), engine).expect("an engine; is io_uring forbidden on this host?");
        let disk = Disk::new("test".to_owned(), Box::new(image), &DiskOptions::default()).expect("a disk");
        Rig { ram, queue, disk: Arc::new(disk) }
    }

    fn round(&mut self) {
        for tag in 0..REQUESTS {
            let offset = u64::from(tag) * 4096;
            let request = match tag % 3 {
                0 => Request::Write { offset, len: 12288, fua: tag % 2 == 0 },
                1 => Request::Read { offset, len: 12288 },
                _ => Request::Flush,
            };
            let pages = [0, 7, 3, 500].map(|page| page + u64::from(tag));
            let memory = Pieces::new(&self.ram, pages.into_iter(), 300, 12288);
            self.queue.submit(Tag(tag), &self.disk, request, memory).expect("RAM");
        }
        self.queue.commit();
        while self.queue.in_flight() > 0 {
            let mut ended = 0;
            self.queue.reap(|_, outcome| {
                outcome.expect("success");
                ended += 1;
            });
            if ended == 0 {
                std::thread::yield_now();
            }
        }
    }
}

#[test]
fn requests_cost_no_allocation() {
    for engine in [Engine::Uring, Engine::Threads] {
        let file = TempFile::new().expect("a file").into_file();
        file.set_len(SIZE).expect("room");
        let rigs = [Rig::new(Halves([file]), engine), Rig::new(MemoryImage::new(8 << 20, 512), engine)];
        for mut rig in rigs {
            // Lists grow to what is in flight at a time, and threads start and take their buffers, all in an order of
            // chance. But then it ends: thousands of requests pass without an allocation.
            let quiet = (0..40).any(|_| {
                let before = of_all_threads();
                (0..20).for_each(|_| rig.round());
                of_all_threads() == before
            });
            assert!(of_all_threads() > 0, "nothing counts");
            assert!(quiet, "requests allocate: {:?}", rig.queue.engine());
        }
    }
}
