//! What the engine's tests share: an image whose blocks are scattered over a file, guest memory, and a queue that is
//! waited for.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::tempfile::TempFile;

use crate::disk::queue::{Engine, IoError, Queue, Request, Tag};
use crate::disk::{Access, Disk, DiskError, DiskOptions, Extent, Geometry, Image, Place, Zeroing};
use crate::mem::{GuestRam, PAGE_SIZE, Pieces};

/// Bytes of an image's block.
pub(super) const BLOCK: u64 = 16 << 10;
/// Bytes of a test's image.
pub(super) const SIZE: u64 = 64 * BLOCK;
/// Guest memory of a test, pages.
pub(super) const PAGES: u64 = 2048;

/// An image in blocks, which lie in its file in the order in which they were first written; those that never were are
/// nowhere.
#[derive(Debug)]
pub(super) struct Blocks {
    files: Vec<File>,
    places: Mutex<HashMap<u64, u64>>,
    pub(super) says: Says,
}

/// What a test's image does differently, and what it saw.
#[derive(Debug, Default)]
pub(super) struct Says {
    pub(super) flush_is_sync: AtomicBool,
    pub(super) flushes: AtomicU64,
    /// Writes of the format's own wait while a test holds it.
    pub(super) gate: Mutex<()>,
    pub(super) panics: AtomicBool,
    pub(super) sector: u32,
}

impl Blocks {
    pub(super) fn new(file: File) -> Self {
        let says = Says { sector: 512, ..Says::default() };
        Blocks { files: vec![file], places: Mutex::default(), says }
    }

    /// In a file of its own, which is gone with it.
    pub(super) fn in_temp_file() -> Self {
        Self::new(TempFile::new().unwrap().into_file())
    }

    /// Gives blocks a place, as a write to them would.
    pub(super) fn with_blocks(self, blocks: impl Iterator<Item = u64>) -> Self {
        for block in blocks {
            self.write(block * BLOCK, &[0; 512]).unwrap();
        }
        self
    }

    fn split(offset: u64, len: u64) -> impl Iterator<Item = (u64, u64, u64)> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let (block, skip) = ((offset + at) / BLOCK, (offset + at) % BLOCK);
            let len = (len - at).min(BLOCK - skip);
            at += len;
            (len > 0).then_some((block, skip, len))
        })
    }
}

impl Image for Blocks {
    fn geometry(&self) -> Geometry {
        Geometry {
            size: SIZE,
            logical_sector: self.says.sector,
            physical_sector: 4096,
            read_only: false,
            unmap_granularity: Some(512),
            id: None,
        }
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let mut rest = buffer;
        for (block, skip, len) in Self::split(offset, rest.len() as u64) {
            let (now, later) = std::mem::take(&mut rest).split_at_mut(len as usize);
            let place = self.places.lock().unwrap().get(&block).copied();
            match place {
                Some(place) => self.files[0].read_exact_at(now, place + skip)?,
                None => now.fill(0),
            }
            rest = later;
        }
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        assert!(!self.says.panics.load(Ordering::Relaxed), "a format's mistake");
        let _gate = self.says.gate.lock();
        let mut rest = bytes;
        for (block, skip, len) in Self::split(offset, bytes.len() as u64) {
            let (now, later) = rest.split_at(len as usize);
            let mut places = self.places.lock().unwrap();
            let next = places.len() as u64 * BLOCK;
            let place = places.get(&block).copied().unwrap_or(next);
            if place == next {
                self.files[0].write_all_at(&[0; BLOCK as usize], place)?;
            }
            self.files[0].write_all_at(now, place + skip)?;
            places.insert(block, place);
            rest = later;
        }
        Ok(())
    }

    fn zero(&self, offset: u64, len: u64, _: Zeroing) -> Result<(), DiskError> {
        self.write(offset, &vec![0; len as usize])
    }

    fn flush(&self) -> Result<(), DiskError> {
        self.says.flushes.fetch_add(1, Ordering::Relaxed);
        Ok(self.files[0].sync_data()?)
    }

    fn extents(&self, offset: u64, len: u64, access: Access, extents: &mut Vec<Extent>) -> bool {
        let places = self.places.lock().unwrap();
        let start = extents.len();
        for (block, skip, len) in Self::split(offset, len) {
            let place = match places.get(&block) {
                Some(place) => Place::File { file: 0, offset: place + skip },
                None if access == Access::Read => Place::Zero,
                None => {
                    extents.truncate(start);
                    return false;
                }
            };
            extents.push(Extent { place, len });
        }
        true
    }

    fn files(&self) -> &[File] {
        &self.files
    }

    fn flush_is_sync(&self) -> bool {
        self.says.flush_is_sync.load(Ordering::Relaxed)
    }
}

/// An image that a test still sees when a disk has it.
#[derive(Debug)]
pub(super) struct Seen<I>(pub(super) Arc<I>);

impl<I: Image> Image for Seen<I> {
    fn geometry(&self) -> Geometry {
        self.0.geometry()
    }
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.0.read(offset, buffer)
    }
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.0.write(offset, bytes)
    }
    fn zero(&self, offset: u64, len: u64, how: Zeroing) -> Result<(), DiskError> {
        self.0.zero(offset, len, how)
    }
    fn flush(&self) -> Result<(), DiskError> {
        self.0.flush()
    }
    fn extents(&self, offset: u64, len: u64, access: Access, extents: &mut Vec<Extent>) -> bool {
        self.0.extents(offset, len, access, extents)
    }
    fn files(&self) -> &[File] {
        self.0.files()
    }
    fn flush_is_sync(&self) -> bool {
        self.0.flush_is_sync()
    }
}

/// A queue over guest memory, whose ends are kept.
#[derive(Debug)]
pub(super) struct Rig {
    pub(super) ram: GuestRam,
    pub(super) queue: Queue,
    pub(super) ended: Vec<(Tag, Result<(), IoError>)>,
}

/// Guest memory of one request: bytes from `offset` on in pages, in their order.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    pub(super) pfns: Vec<u64>,
    pub(super) offset: usize,
}

impl Rig {
    /// # Panics
    /// Where the host has no `io_uring`: then half of the engine cannot be tested, which must not look like success.
    pub(super) fn new(engine: Engine) -> Self {
        let ram = GuestRam::from_ranges(&[(GuestAddress(0), PAGES as usize * PAGE_SIZE)]).unwrap();
        let queue = Queue::new(ram.clone(), engine).expect("an engine; is io_uring forbidden on this host?");
        assert!(engine == Engine::Auto || queue.engine() == engine);
        Rig { ram, queue, ended: Vec::new() }
    }

    pub(super) fn submit(&mut self, tag: u32, disk: &Arc<Disk>, request: Request, memory: &Memory) {
        let len = request.moves() as usize;
        let pieces = Pieces::new(&self.ram, memory.pfns.iter().copied(), memory.offset, len);
        self.queue.submit(Tag(tag), disk, request, pieces).unwrap();
    }

    /// Starts what was submitted and keeps what ended at once.
    pub(super) fn commit(&mut self) {
        self.queue.commit();
        self.reap();
    }

    fn reap(&mut self) {
        self.queue.reap(|tag, outcome| self.ended.push((tag, outcome)));
    }

    /// Sleeps until a descriptor is readable, as a channel does.
    pub(super) fn sleep(&mut self) {
        let fds = self.queue.wake_fds();
        // SAFETY-free: the descriptors are the queue's and outlive the call.
        let fds: Vec<_> = fds.into_iter().map(borrow).collect();
        let mut fds: Vec<_> = fds.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        let patience = Duration::from_secs(20).try_into().unwrap();
        loop {
            match poll(&mut fds, Some(&patience)) {
                Ok(0) => panic!("nothing ended: {:?}", self.queue),
                Ok(_) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => panic!("{error}"),
            }
        }
        self.reap();
    }

    /// Waits until nothing is in flight.
    pub(super) fn finish(&mut self) -> Vec<(Tag, Result<(), IoError>)> {
        self.commit();
        while self.queue.in_flight() > 0 {
            self.sleep();
        }
        std::mem::take(&mut self.ended)
    }

    /// Carries out one request.
    pub(super) fn run(&mut self, disk: &Arc<Disk>, request: Request, memory: &Memory) -> Result<(), IoError> {
        self.submit(7, disk, request, memory);
        let mut ended = self.finish();
        assert_eq!(ended.len(), 1);
        ended.pop().unwrap().1
    }

    pub(super) fn poke(&self, memory: &Memory, bytes: &[u8]) {
        for (at, byte) in memory.bytes().zip(bytes.chunks(1)) {
            self.ram.write_slice(byte, at).unwrap();
        }
    }

    pub(super) fn peek(&self, memory: &Memory, len: usize) -> Vec<u8> {
        memory.bytes().take(len).map(|at| self.ram.read_obj(at).unwrap()).collect()
    }
}

impl Memory {
    /// Pages one after the other.
    pub(super) fn at(page: u64, pages: u64) -> Self {
        Memory { pfns: (page..page + pages).collect(), offset: 0 }
    }

    fn bytes(&self) -> impl Iterator<Item = GuestAddress> {
        let page = PAGE_SIZE as u64;
        let all =
            self.pfns.iter().flat_map(move |pfn| (0..page).map(move |at| GuestAddress(pfn * page + at)));
        all.skip(self.offset)
    }
}

#[expect(unsafe_code, reason = "descriptors come as numbers, because that is how event loops take them")]
fn borrow(fd: i32) -> BorrowedFd<'static> {
    // SAFETY: the queue that told the number is borrowed by whoever uses this.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

pub(super) fn disk(image: impl Image + 'static, options: &DiskOptions) -> Arc<Disk> {
    Arc::new(Disk::new("test".to_owned(), Box::new(image), options).unwrap())
}
