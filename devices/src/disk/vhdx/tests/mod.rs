//! VHDX files in memory: a medium that remembers every write and sync, and a model of a disk to compare with.

mod failures;
mod hostile;
mod power;
mod random;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex};

use super::create::create_on;
use super::locator::ParentLocator;
use super::medium::Medium;
use super::protocol::MIB;
use super::{CreateOptions, Parent, Vhdx, VhdxError};

const PAGE: u64 = 4096;
pub const SECTOR: usize = 512;

/// A sparse file.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    pages: BTreeMap<u64, Arc<[u8; 4096]>>,
    pub len: u64,
}

impl Contents {
    pub fn read(&self, offset: u64, buffer: &mut [u8]) {
        let mut at = offset;
        let mut rest = buffer;
        while !rest.is_empty() {
            let within = (at % PAGE) as usize;
            let (piece, tail) = rest.split_at_mut(rest.len().min(4096 - within));
            match self.pages.get(&(at / PAGE)) {
                Some(page) => piece.copy_from_slice(&page[within..within + piece.len()]),
                None => piece.fill(0),
            }
            at += piece.len() as u64;
            rest = tail;
        }
    }

    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        let mut at = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let within = (at % PAGE) as usize;
            let (piece, tail) = rest.split_at(rest.len().min(4096 - within));
            let page = self.pages.entry(at / PAGE).or_insert_with(|| Arc::new([0; 4096]));
            Arc::make_mut(page)[within..within + piece.len()].copy_from_slice(piece);
            at += piece.len() as u64;
            rest = tail;
        }
        self.len = self.len.max(at);
    }

    /// Punches a hole, of whole pages.
    pub fn punch(&mut self, offset: u64, len: u64) {
        let end = (offset + len).min(self.len);
        let whole = offset.div_ceil(PAGE)..end / PAGE;
        if whole.is_empty() {
            return self.write(offset, &vec![0; (end - offset) as usize]);
        }
        self.write(offset, &vec![0; (whole.start * PAGE - offset) as usize]);
        self.write(whole.end * PAGE, &vec![0; (end - whole.end * PAGE) as usize]);
        let gone: Vec<u64> = self.pages.range(whole).map(|(page, _)| *page).collect();
        for page in gone {
            self.pages.remove(&page);
        }
    }
}

/// What was done to a file.
#[derive(Clone, Debug)]
pub enum Event {
    Write(u64, Vec<u8>),
    Extend(u64),
    Punch(u64, u64),
    Sync,
}

impl Event {
    pub fn apply(&self, contents: &mut Contents) {
        match self {
            Event::Write(offset, bytes) => contents.write(*offset, bytes),
            Event::Extend(len) => contents.len = contents.len.max(*len),
            Event::Punch(offset, len) => contents.punch(*offset, *len),
            Event::Sync => {}
        }
    }
}

/// A file in memory that remembers what was done to it.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    state: Arc<Mutex<(Contents, Vec<Event>)>>,
    /// Holes are not to be had.
    solid: bool,
    /// What fails next.
    faults: Arc<Mutex<Faults>>,
}

/// What a host's disk does not do.
#[derive(Debug, Default)]
pub struct Faults {
    /// The write that fails, 0: the next one.
    pub write: Option<usize>,
    /// Syncs fail.
    pub sync: bool,
}

impl Memory {
    pub fn of(contents: Contents) -> Self {
        Memory { state: Arc::new(Mutex::new((contents, Vec::new()))), ..Memory::default() }
    }

    pub fn contents(&self) -> Contents {
        self.state.lock().unwrap().0.clone()
    }

    pub fn set(&self, contents: Contents) {
        self.state.lock().unwrap().0 = contents;
    }

    pub fn events(&self) -> Vec<Event> {
        self.state.lock().unwrap().1.clone()
    }

    pub fn event_count(&self) -> usize {
        self.state.lock().unwrap().1.len()
    }

    pub fn forget_events(&self) {
        self.state.lock().unwrap().1.clear();
    }

    fn record(&self, event: Event) {
        let (contents, events) = &mut *self.state.lock().unwrap();
        event.apply(contents);
        events.push(event);
    }

    pub fn create(&self, options: &CreateOptions) {
        create_on(self, options, MIB).unwrap();
    }

    pub fn try_open(&self, read_only: bool) -> Result<Vhdx, VhdxError> {
        Vhdx::open_medium(Box::new(self.clone()), files(), (read_only, 0), no_parent)
    }

    pub fn open(&self) -> Vhdx {
        self.try_open(false).unwrap()
    }

    pub fn open_child(&self, parent: &Arc<Vhdx>) -> Result<Vhdx, VhdxError> {
        Vhdx::open_medium(Box::new(self.clone()), files(), (false, 0), |_| {
            Ok(Parent { data_write_guid: parent.data_write_guid(), image: parent.clone() })
        })
    }
}

/// Stands for the medium where an image gives files: only its index counts.
fn files() -> Vec<File> {
    vec![File::open("/dev/null").unwrap()]
}

pub fn no_parent(_: &ParentLocator) -> Result<Parent, VhdxError> {
    Err(VhdxError::Parent("there is none in this test".to_owned()))
}

/// The locator of a child of this parent.
pub fn locator(parent: &Vhdx) -> ParentLocator {
    ParentLocator {
        linkage: parent.data_write_guid(),
        linkage_2: None,
        relative_path: Some(r".\parent.vhdx".to_owned()),
        volume_path: None,
        absolute_win32_path: None,
    }
}

/// Leaves an image as a process does that is killed.
pub fn kill(vhdx: Vhdx) {
    std::mem::forget(vhdx);
}

impl Medium for Memory {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let (contents, _) = &*self.state.lock().unwrap();
        if offset + buffer.len() as u64 > contents.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        contents.read(offset, buffer);
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let faults = &mut *self.faults.lock().unwrap();
        match &mut faults.write {
            Some(0) => {
                faults.write = None;
                return Err(io::ErrorKind::StorageFull.into());
            }
            Some(left) => *left -= 1,
            None => {}
        }
        self.record(Event::Write(offset, bytes.to_vec()));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        if self.faults.lock().unwrap().sync {
            return Err(io::Error::other("the disk is gone"));
        }
        self.record(Event::Sync);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.state.lock().unwrap().0.len)
    }

    fn extend(&self, len: u64) -> io::Result<()> {
        self.record(Event::Extend(len));
        Ok(())
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        if self.solid {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.record(Event::Punch(offset, len));
        Ok(())
    }

    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        self.extend(offset + len)
    }
}
