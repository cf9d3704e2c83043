//! What whoever looks sees: the screen that outlives every opening of the channel.
//!
//! Firmware leaves a picture behind for the OS that it starts, so the picture and the place of video memory stay when
//! the channel closes. Lock order: the state, then the viewers.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::memory::VideoMemory;
use super::picture::Picture;
use super::resolutions::{LARGEST, SMALLEST, vram_size};
use super::written;
use crate::display::{Cursor, Mode, Rect, ResolutionError, Screen, Viewers, Watch};
use crate::mem::{PAGE_SIZE, Pages};

/// What device, worker and viewers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub memory: Box<dyn VideoMemory>,
    pub pages: Pages,
    pub viewers: Viewers,
    /// Wakes the worker: somebody looks, or the host prefers another resolution.
    pub wake: EventFd,
    state: Mutex<State>,
}

#[derive(Debug)]
pub(super) struct State {
    pub picture: Option<Picture>,
    /// Where the guest sees video memory.
    pub location: Option<u64>,
    /// The resolution that guests are to begin with.
    pub preferred: Mode,
    /// The guest tells what it draws.
    pub tells: bool,
    /// A thread of [`written`] runs.
    pub watched: bool,
    cursor: Option<Arc<Cursor>>,
    visible: bool,
}

impl Shared {
    pub fn new(memory: Box<dyn VideoMemory>, preferred: Mode) -> io::Result<Arc<Self>> {
        let size: u64 = memory.bytes().iter().map(GuestMemoryRegion::len).sum();
        let pfns: Vec<u64> = (0..size / PAGE_SIZE as u64).collect();
        let pages = Pages::resolve(memory.bytes(), &pfns).map_err(io::Error::other)?;
        let state = State {
            picture: None,
            location: None,
            preferred,
            tells: false,
            watched: false,
            cursor: None,
            visible: true,
        };
        let wake = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
        Ok(Arc::new(Shared { memory, pages, viewers: Viewers::default(), wake, state: Mutex::new(state) }))
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows another picture, or none.
    pub fn show(self: &Arc<Self>, picture: Option<Picture>) {
        // Linux says the same again whenever it is asked to tell something.
        if std::mem::replace(&mut self.state().picture, picture) != picture {
            self.viewers.mode();
            written::watch(self);
        }
    }

    /// Puts video memory where the guest wants it; its content moves with it.
    pub fn place(self: &Arc<Self>, location: Option<u64>) -> io::Result<()> {
        let mut state = self.state();
        if state.location == location {
            return Ok(());
        }
        state.location = None;
        match location {
            Some(address) => self.memory.map(address)?,
            None => self.memory.unmap(),
        }
        state.location = location;
        let picture = state.picture.map(|picture| picture.mode.area());
        drop(state);
        // What was written before the move is in no log any more.
        self.viewers.dirty(picture.as_slice());
        written::watch(self);
        Ok(())
    }

    /// The guest has drawn, and said where.
    pub fn drawn(&self, rects: &[Rect]) {
        let mut state = self.state();
        let first = !std::mem::replace(&mut state.tells, true);
        let whole = state.picture.map(|picture| picture.mode.area()).filter(|_| first);
        drop(state);
        // Of what was drawn before it began to tell, the thread of `written` may not have seen the last.
        self.viewers.dirty(whole.as_slice());
        self.viewers.dirty(rects);
    }

    /// The guest no longer says where it draws.
    pub fn silent(self: &Arc<Self>) {
        self.state().tells = false;
        written::watch(self);
    }

    pub fn set_cursor(&self, cursor: Cursor) {
        let cursor = Some(Arc::new(cursor));
        if std::mem::replace(&mut self.state().cursor, cursor.clone()) != cursor {
            self.viewers.cursor();
        }
    }

    pub fn set_visible(&self, visible: bool) {
        if std::mem::replace(&mut self.state().visible, visible) != visible {
            self.viewers.cursor();
        }
    }

    /// The device is gone.
    pub fn end(self: &Arc<Self>) {
        let _ = self.place(None);
        self.state().cursor = None;
        self.viewers.cursor();
        self.show(None);
    }
}

/// What the guest shows.
#[derive(Clone, Debug)]
pub struct VideoScreen(pub(super) Arc<Shared>);

impl Screen for VideoScreen {
    fn mode(&self) -> Option<Mode> {
        Some(self.0.state().picture?.mode)
    }

    fn read(&self, rect: Rect, pixels: &mut Vec<u8>) -> Option<Rect> {
        pixels.clear();
        let picture = self.0.state().picture?;
        let rect = rect.common(picture.mode.area());
        picture.read(&self.0.pages, rect, pixels);
        Some(rect)
    }

    fn cursor(&self) -> Option<Arc<Cursor>> {
        let state = self.0.state();
        state.cursor.clone().filter(|_| state.visible)
    }

    fn watch(&self) -> io::Result<Watch> {
        // Under the lock, so that of two who come at once only the first clears the log.
        let state = self.0.state();
        if !self.0.viewers.any() {
            // What was written while nobody looked is in the first look anyway.
            let _ = self.0.memory.written();
        }
        let watch = self.0.viewers.watch()?;
        drop(state);
        // As in `prefer` below.
        let _ = self.0.wake.write(1);
        written::watch(&self.0);
        Ok(watch)
    }

    /// Guests begin with this resolution from now on, and the one that runs is told. Linux asks only when its driver
    /// starts.
    fn prefer(&self, mode: Mode) -> Result<(), ResolutionError> {
        let (least, most) = (SMALLEST, LARGEST);
        let fits = (least.width..=most.width).contains(&mode.width)
            && (least.height..=most.height).contains(&mode.height);
        if !fits {
            return Err(ResolutionError::Range { mode, least, most });
        }
        let (need, have) = (vram_size(mode), self.0.pages.size());
        if need > have {
            return Err(ResolutionError::Memory { mode, need: need >> 20, have: have >> 20 });
        }
        self.0.state().preferred = mode;
        // Fails only when the counter is at its end, and then the worker is awake already.
        let _ = self.0.wake.write(1);
        Ok(())
    }

    fn preferred(&self) -> Option<Mode> {
        Some(self.0.state().preferred)
    }
}
