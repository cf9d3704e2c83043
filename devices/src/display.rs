//! The seam between what a guest shows and who looks at it.
//!
//! A display device implements [`Screen`], keyboard and mouse implement [`Keys`] and [`Pointer`]; a VNC server or a
//! screenshot is written against these traits alone and knows no bus. Whoever looks holds a [`Watch`], which the
//! device's side feeds through [`Viewers`]: what changed is joined and bounded there, so a viewer that never looks
//! costs a few hundred bytes and nobody waits for it.

use std::fmt::{self, Debug};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use thiserror::Error;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// Bytes of a pixel: blue, green, red, unused.
pub const PIXEL: usize = 4;
/// Rectangles that [`Changes`] holds at most.
pub const DIRTY_MAX: usize = 64;

/// Size of the picture in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mode {
    /// Pixels of a row.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

impl Mode {
    /// The whole picture.
    #[must_use]
    pub const fn area(self) -> Rect {
        Rect { left: 0, top: 0, width: self.width, height: self.height }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// A part of the picture, in pixels from its upper left corner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rect {
    /// First column.
    pub left: u16,
    /// First row.
    pub top: u16,
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

impl Rect {
    /// The rectangle between two corners, the second one exclusive; empty if they are the wrong way round.
    #[must_use]
    pub const fn between((left, top): (u16, u16), (right, bottom): (u16, u16)) -> Self {
        Rect { left, top, width: right.saturating_sub(left), height: bottom.saturating_sub(top) }
    }

    /// Whether there is no pixel in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.width == 0 || self.height == 0
    }

    /// The column after the last; at most 65,535.
    #[must_use]
    pub const fn right(self) -> u16 {
        self.left.saturating_add(self.width)
    }

    /// The row after the last; at most 65,535.
    #[must_use]
    pub const fn bottom(self) -> u16 {
        self.top.saturating_add(self.height)
    }

    /// What both have in common; perhaps empty.
    #[must_use]
    pub fn common(self, other: Rect) -> Rect {
        Rect::between(
            (self.left.max(other.left), self.top.max(other.top)),
            (self.right().min(other.right()), self.bottom().min(other.bottom())),
        )
    }

    /// The smallest rectangle that covers both.
    #[must_use]
    pub fn cover(self, other: Rect) -> Rect {
        Rect::between(
            (self.left.min(other.left), self.top.min(other.top)),
            (self.right().max(other.right()), self.bottom().max(other.bottom())),
        )
    }

    const fn pixels(self) -> u64 {
        self.width as u64 * self.height as u64
    }

    /// Both as one, if that has no pixel that neither has.
    fn join(self, other: Rect) -> Option<Rect> {
        let cover = self.cover(other);
        let exact = self.pixels() + other.pixels() - self.common(other).pixels();
        (cover.pixels() == exact).then_some(cover)
    }
}

/// The pointer's picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Pixels of a row.
    pub width: u16,
    /// Rows.
    pub height: u16,
    /// Column of the pixel that points.
    pub hot_x: u16,
    /// Row of the pixel that points.
    pub hot_y: u16,
    /// Rows from the top, each pixel blue, green, red, alpha; colours are not multiplied by alpha.
    pub pixels: Vec<u8>,
}

/// What a guest shows.
pub trait Screen: Debug + Send + Sync {
    /// The picture's size; `None` while the guest shows nothing.
    fn mode(&self) -> Option<Mode>;

    /// Copies the rows of a rectangle, clipped to the mode, one after the other; `pixels` is cleared first. Returns
    /// the rectangle that was copied, which may be empty, or `None` while the guest shows nothing.
    fn read(&self, rect: Rect, pixels: &mut Vec<u8>) -> Option<Rect>;

    /// The pointer's shape; `None` while the guest shows no pointer, or draws it into the picture.
    fn cursor(&self) -> Option<Arc<Cursor>>;

    /// Begins to watch.
    ///
    /// # Errors
    /// When the host has no more descriptors.
    fn watch(&self) -> io::Result<Watch>;

    /// Asks the guest for another size of the picture. Whether it follows is its own business.
    ///
    /// # Errors
    /// When no picture can have this size.
    fn prefer(&self, mode: Mode) -> Result<(), ResolutionError>;

    /// The size that the guest is asked for, if it is asked for any.
    fn preferred(&self) -> Option<Mode> {
        None
    }
}

/// Why a guest is not asked for a resolution.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ResolutionError {
    /// Nobody has such a display.
    #[error("{mode} is out of range: from {least} to {most}")]
    Range {
        /// What was asked for.
        mode: Mode,
        /// The smallest each way.
        least: Mode,
        /// The largest each way.
        most: Mode,
    },
    /// Video memory is made with the machine.
    #[error(
        "{mode} needs {need} MiB of video memory and there are {have}: start the machine with --display {mode}"
    )]
    Memory {
        /// What was asked for.
        mode: Mode,
        /// MiB for it.
        need: usize,
        /// MiB that there are.
        have: usize,
    },
}

/// What comes before a scancode on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Prefix {
    /// Nothing.
    None,
    /// The keys that the 101-key keyboard added: arrows, right Ctrl and Alt, the Windows keys.
    E0,
    /// The Pause key.
    E1,
}

/// A key's place on the keyboard, whatever is printed on it: scan code set 1, the make code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Scancode {
    /// Without prefix and without the bit of a release.
    pub code: u16,
    /// The prefix.
    pub prefix: Prefix,
}

/// Where keys go that a person presses. A device that cannot take them for now keeps a bounded number: presses may be
/// lost, the release of a key that the guest has seen pressed is not.
pub trait Keys: Debug + Send + Sync {
    /// A key goes down or up.
    fn key(&self, scancode: Scancode, pressed: bool);
}

/// Bits of [`Pointer::pointer`]'s buttons.
pub mod button {
    /// The left one.
    pub const LEFT: u8 = 1 << 0;
    /// The right one.
    pub const RIGHT: u8 = 1 << 1;
    /// The middle one, or the wheel.
    pub const MIDDLE: u8 = 1 << 2;
    /// The first of two more; browsers go back.
    pub const BACK: u8 = 1 << 3;
    /// The second of two more; browsers go forward.
    pub const FORWARD: u8 = 1 << 4;
}

/// Both axes of [`Pointer::pointer`] go from 0 to this, over the whole picture.
pub const POINTER_MAX: u16 = 32_767;

/// Where a person's pointer goes. A device that cannot take it for now keeps a bounded number of events: motion may
/// be lost, the release of a button is not.
pub trait Pointer: Debug + Send + Sync {
    /// The pointer is at a place, with [buttons](button) held, and the wheel has turned by some notches, positive away
    /// from the user.
    fn pointer(&self, x: u16, y: u16, buttons: u8, wheel: i8);
}

/// What changed since a viewer last looked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The picture's size, or whether there is one: all of it has changed.
    pub mode: bool,
    /// The pointer's shape, or whether there is one.
    pub cursor: bool,
    /// Parts of the picture, at most [`DIRTY_MAX`]; they may overlap, and may reach past the mode.
    pub dirty: Vec<Rect>,
}

impl Changes {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.mode && !self.cursor && self.dirty.is_empty()
    }

    /// Adds a rectangle: joined with one that continues it, and with all when there are too many.
    fn add(&mut self, rect: Rect) {
        if rect.is_empty() {
            return;
        }
        let mut rect = rect;
        // A joined rectangle may continue another one.
        while let Some((at, joined)) =
            self.dirty.iter().enumerate().find_map(|(at, &old)| Some((at, old.join(rect)?)))
        {
            self.dirty.swap_remove(at);
            rect = joined;
        }
        if self.dirty.len() == DIRTY_MAX {
            rect = self.dirty.drain(..).fold(rect, Rect::cover);
        }
        self.dirty.push(rect);
    }
}

/// What one viewer has not looked at yet.
#[derive(Debug)]
struct Pending {
    event: EventFd,
    changes: Mutex<Changes>,
}

impl Pending {
    fn lock(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Changes)) {
        let mut changes = self.lock();
        let silent = changes.is_empty();
        change(&mut changes);
        if silent && !changes.is_empty() {
            // Fails only when the count is at its limit: then it is readable already.
            let _ = self.event.write(1);
        }
    }
}

/// A viewer's look at a [`Screen`]. Dropping it ends it.
#[derive(Debug)]
pub struct Watch {
    pending: Arc<Pending>,
}

impl Watch {
    /// An eventfd that is readable while [`Watch::take`] has something. Only `take` may read it.
    #[must_use]
    pub fn fd(&self) -> RawFd {
        self.pending.event.as_raw_fd()
    }

    /// What changed since the last call; the first call says that everything did.
    #[must_use]
    pub fn take(&self) -> Changes {
        let mut changes = self.pending.lock();
        // Under the lock, so that it stays readable exactly while there is something. Fails when there is nothing.
        let _ = self.pending.event.read();
        std::mem::take(&mut changes)
    }
}

/// The other end of every [`Watch`]: a screen's viewers, told what changes.
#[derive(Debug, Default)]
pub struct Viewers {
    all: Mutex<Vec<Weak<Pending>>>,
}

impl Viewers {
    /// One viewer more.
    ///
    /// # Errors
    /// When the host has no more descriptors.
    pub fn watch(&self) -> io::Result<Watch> {
        let event = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
        let pending = Arc::new(Pending { event, changes: Mutex::default() });
        let mut all = self.lock();
        // Those that have gone are else found only when something changes.
        all.retain(|pending| pending.strong_count() > 0);
        all.push(Arc::downgrade(&pending));
        drop(all);
        // After it is in the list: what changes meanwhile is told twice rather than never.
        pending.change(|changes| (changes.mode, changes.cursor) = (true, true));
        Ok(Watch { pending })
    }

    /// Whether anybody looks.
    #[must_use]
    pub fn any(&self) -> bool {
        self.lock().iter().any(|pending| pending.strong_count() > 0)
    }

    /// The picture has another size, appeared or went.
    pub fn mode(&self) {
        self.tell(|changes| {
            changes.mode = true;
            // Of the picture that was.
            changes.dirty.clear();
        });
    }

    /// The pointer has another shape, appeared or went.
    pub fn cursor(&self) {
        self.tell(|changes| changes.cursor = true);
    }

    /// These parts of the picture changed.
    pub fn dirty(&self, rects: &[Rect]) {
        self.tell(|changes| rects.iter().for_each(|&rect| changes.add(rect)));
    }

    fn tell(&self, change: impl Fn(&mut Changes)) {
        self.lock().retain(|pending| match pending.upgrade() {
            Some(pending) => {
                pending.change(&change);
                true
            }
            None => false,
        });
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Pending>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
