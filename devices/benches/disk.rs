//! Reads of 4 KiB through a [`Queue`], one thread, so many in flight at a time.
//!
//! * `ram`: a RAM disk, which costs a copy: what the queue itself costs.
//! * `tmpfs`, `cached`: a file in memory, and one of a file system in the page cache, by `io_uring` and by threads.
//! * `direct`: the same file past the page cache: the host's disk, and what it takes to be woken.
//!
//! Ids are `disk/WHAT_ENGINE/DEPTH`; the iterations of one estimate are requests.

#![expect(unsafe_code, reason = "descriptors come as numbers, because that is how event loops take them")]

use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use devices::disk::{CacheMode, Disk, DiskOptions, Engine, Image, MemoryImage, Queue, Raw, Request, Tag};
use devices::mem::{GuestRam, PAGE_SIZE, Pieces};
use rustix::event::{PollFd, PollFlags, poll};
use vm_memory::GuestAddress;
use vmm_sys_util::tempfile::TempFile;

const SIZE: u64 = 64 << 20;
const LEN: u64 = PAGE_SIZE as u64;
const DEPTHS: [u32; 3] = [1, 16, 256];

/// A raw disk in a file that is full of bytes.
fn raw_disk(folder: &Path) -> Raw {
    let file = TempFile::new_in(folder).expect("a file").into_file();
    for offset in (0..SIZE).step_by(1 << 20) {
        file.write_all_at(&[0x5a; 1 << 20], offset).expect("room");
    }
    file.sync_all().expect("a disk");
    Raw::disk(file, false).expect("a disk")
}

struct Rig {
    ram: GuestRam,
    queue: Queue,
    disk: Arc<Disk>,
    /// Where the next read is: pages in an order that no read-ahead guesses.
    next: u64,
}

impl Rig {
    fn new(image: impl Image + 'static, cache: CacheMode, engine: Engine) -> Self {
        let ram = GuestRam::from_ranges(&[(GuestAddress(0), 256 * PAGE_SIZE)]).expect("RAM");
        let queue = Queue::new(ram.clone(), engine).expect("an engine");
        let disk =
            Disk::new("bench".to_owned(), Box::new(image), &DiskOptions { cache, ..DiskOptions::default() });
        Rig { ram, queue, disk: Arc::new(disk.expect("a disk")), next: 0 }
    }

    fn submit(&mut self, tag: Tag) {
        let offset = self.next * LEN;
        self.next = (self.next + 7919) % (SIZE / LEN);
        let memory = Pieces::new(&self.ram, std::iter::once(u64::from(tag.0)), 0, PAGE_SIZE);
        self.queue.submit(tag, &self.disk, Request::Read { offset, len: LEN }, memory).expect("RAM");
    }

    /// Time of so many reads, with `depth` in flight.
    fn read(&mut self, requests: u64, depth: u32, free: &mut Vec<Tag>) -> Duration {
        free.clear();
        free.extend((0..depth).map(Tag));
        let (start, mut submitted, mut ended) = (Instant::now(), 0, 0);
        while ended < requests {
            while submitted < requests
                && let Some(tag) = free.pop()
            {
                self.submit(tag);
                submitted += 1;
            }
            self.queue.commit();
            self.queue.reap(|tag, outcome| {
                outcome.expect("a read");
                free.push(tag);
            });
            if free.is_empty() {
                self.sleep();
                self.queue.reap(|tag, outcome| {
                    outcome.expect("a read");
                    free.push(tag);
                });
            }
            ended = submitted - self.queue.in_flight() as u64;
        }
        start.elapsed()
    }

    fn sleep(&self) {
        let fds = self.queue.wake_fds();
        // SAFETY: the descriptors are the queue's, which is borrowed.
        let fds: Vec<_> = fds.into_iter().map(|fd| unsafe { BorrowedFd::borrow_raw(fd) }).collect();
        let mut fds: Vec<_> = fds.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        // Interrupted where the kernel has work for this thread.
        let _ = poll(&mut fds, None);
    }
}

fn measure(c: &mut Criterion, what: &str, mut rig: Rig) {
    let mut group = c.benchmark_group("disk");
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1)).sample_size(20);
    group.throughput(Throughput::Elements(1));
    let mut free = Vec::new();
    for depth in DEPTHS {
        group.bench_function(BenchmarkId::new(what, depth), |b| {
            b.iter_custom(|requests| rig.read(requests, depth, &mut free));
        });
    }
    group.finish();
}

fn disks(c: &mut Criterion) {
    let size = usize::try_from(SIZE).expect("64 bits");
    measure(c, "ram", Rig::new(MemoryImage::new(size, 512), CacheMode::Writeback, Engine::Auto));
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = [
        ("tmpfs", Path::new("/dev/shm/"), CacheMode::Writeback),
        ("cached", here, CacheMode::Writeback),
        ("direct", here, CacheMode::None),
    ];
    for (what, folder, cache) in files {
        for (name, engine) in [("uring", Engine::Uring), ("threads", Engine::Threads)] {
            measure(c, &format!("{what}_{name}"), Rig::new(raw_disk(folder), cache, engine));
        }
    }
}

criterion_group!(benches, disks);
criterion_main!(benches);
