//! A viewer that is let in: its wishes, what it does not have yet of the picture, and the update that is on its way.
//!
//! RFB's updates are the viewer's to ask for: nothing is sent that was not asked for, and an answer waits until
//! something has changed. What changes meanwhile is joined in a [`Region`], so a slow viewer gets less and not later.
//! An update says at its beginning how many rectangles it has; their pixels are read and encoded only when there is
//! room for them, a band at a time. Where the guest's picture is smaller by then, they are black.

use std::collections::VecDeque;
use std::sync::Arc;

use devices::display::{Changes, Cursor, Mode, PIXEL, Rect, ResolutionError, Screen};
use zerocopy::IntoBytes;

use super::bands::bands;
use super::encodings::{Encoder, Encoding, Picture};
use super::input::Input;
use super::keymap::Keymap;
use super::messages::Message;
use super::pixels::{Converter, FormatError, NATIVE};
use super::protocol::{FramebufferUpdate, OneScreen, Rectangle, ServerInit, encoding, resize, server};
use super::region::Region;
use crate::display::Display;

/// Shown to a viewer that comes before the guest shows anything.
const FIRST_SIZE: Mode = Mode { width: 640, height: 480 };
/// What viewers have in their title.
const NAME: &str = "busman";
/// Output that waits for the viewer, bytes, above which no band is added.
const OUT_ENOUGH: usize = 256 << 10;
/// Pixels of the largest pointer each way.
const CURSOR_MAX: u16 = 256;

/// What a viewer understands.
#[derive(Clone, Copy, Debug, Default)]
struct Wishes {
    encoding: Encoding,
    desktop_size: bool,
    extended_desktop_size: bool,
    cursor: bool,
    extended_key: bool,
}

impl Wishes {
    fn of(numbers: &[i32]) -> Self {
        let has = |number| numbers.contains(&number);
        Wishes {
            encoding: numbers.iter().copied().find_map(Encoding::of).unwrap_or_default(),
            desktop_size: has(encoding::DESKTOP_SIZE),
            extended_desktop_size: has(encoding::EXTENDED_DESKTOP_SIZE),
            cursor: has(encoding::CURSOR),
            extended_key: has(encoding::QEMU_EXTENDED_KEY_EVENT),
        }
    }

    fn resize(&self) -> bool {
        self.desktop_size || self.extended_desktop_size
    }
}

/// What the next update has to say besides pixels.
#[derive(Clone, Copy, Debug, Default)]
struct News {
    /// The picture's size.
    size: bool,
    /// What became of the viewer's wish for another size.
    resized: Option<u16>,
    cursor: bool,
    /// Extended key events are understood.
    extended_key: bool,
}

/// An update whose head is sent.
#[derive(Debug)]
struct Update {
    encoding: Encoding,
    bands: VecDeque<Rect>,
}

/// A viewer that is let in.
#[derive(Debug)]
pub(super) struct Session {
    screen: Option<Arc<dyn Screen>>,
    keymap: Arc<Keymap>,
    input: Input,
    /// Size of the picture as the viewer knows it.
    size: Mode,
    wishes: Wishes,
    converter: Converter,
    /// From the next update on.
    next_converter: Option<Converter>,
    encoder: Encoder,
    missing: Region,
    news: News,
    /// What part of the picture the viewer wants to know about.
    asked: Option<Rect>,
    update: Option<Update>,
    /// Of a band.
    pixels: Vec<u8>,
}

impl Session {
    /// Begins: tells the viewer what it looks at.
    ///
    /// # Errors
    /// Never: the guest's own format exists.
    pub(super) fn new(display: Display, keymap: Arc<Keymap>, out: &mut Vec<u8>) -> Result<Self, FormatError> {
        let converter = Converter::new(NATIVE)?;
        let size = display.screen.as_ref().and_then(|screen| mode(&**screen)).unwrap_or(FIRST_SIZE);
        let init = ServerInit {
            width: size.width.into(),
            height: size.height.into(),
            format: NATIVE,
            name_length: u32::try_from(NAME.len()).unwrap_or_default().into(),
        };
        out.extend_from_slice(init.as_bytes());
        out.extend_from_slice(NAME.as_bytes());
        let mut missing = Region::default();
        missing.add(size.area(), size);
        Ok(Session {
            screen: display.screen.clone(),
            keymap: Arc::clone(&keymap),
            input: Input::new(display, keymap),
            size,
            wishes: Wishes::default(),
            converter,
            next_converter: None,
            encoder: Encoder::default(),
            missing,
            news: News { cursor: true, ..News::default() },
            asked: None,
            update: None,
            pixels: Vec::new(),
        })
    }

    /// Another machine is in the old one's place.
    pub(super) fn put(&mut self, display: Display) {
        self.screen = display.screen.clone();
        self.input = Input::new(display, Arc::clone(&self.keymap));
        self.changed(&Changes { mode: true, cursor: true, dirty: Vec::new() });
    }

    /// Does what the viewer says.
    pub(super) fn take(&mut self, message: Message) -> Result<(), FormatError> {
        match message {
            Message::PixelFormat(format) => self.next_converter = Some(Converter::new(format)?),
            Message::Encodings(numbers) => self.wish(Wishes::of(&numbers)),
            Message::Request { incremental, area } => {
                if !incremental {
                    self.missing.add(area, self.size);
                }
                self.asked = Some(self.asked.map_or(area, |asked| asked.cover(area)));
            }
            Message::Key { keysym, pressed } => self.input.key(keysym, pressed),
            Message::PlacedKey { keysym, keycode, pressed } => {
                self.input.placed_key(keysym, keycode, pressed);
            }
            Message::Pointer { buttons, x, y } => {
                let shown = self.screen.as_ref().and_then(|screen| mode(&**screen));
                self.input.pointer(buttons, (x, y), shown.unwrap_or(self.size));
            }
            Message::CutText(_) => {}
            Message::DesktopSize { mode, screens } => {
                let known = self.wishes.extended_desktop_size;
                self.news.resized = known.then(|| self.resize(mode, screens));
            }
        }
        Ok(())
    }

    /// Asks the guest for a size, and says what comes of it (rfbproto, `SetDesktopSize`).
    fn resize(&self, wanted: Mode, screens: u8) -> u16 {
        let Some(screen) = &self.screen else { return resize::PROHIBITED };
        if screens != 1 {
            return resize::INVALID_LAYOUT;
        }
        match screen.prefer(wanted) {
            Ok(()) if mode(&**screen) == Some(wanted) => resize::DONE,
            Ok(()) => resize::FORWARDED,
            Err(ResolutionError::Range { .. }) => resize::INVALID_LAYOUT,
            Err(ResolutionError::Memory { .. }) => resize::OUT_OF_RESOURCES,
        }
    }

    fn wish(&mut self, wishes: Wishes) {
        let before = std::mem::replace(&mut self.wishes, wishes);
        // The first of these says that the server knows them.
        self.news.size |= wishes.extended_desktop_size && !before.extended_desktop_size;
        self.news.extended_key |= wishes.extended_key && !before.extended_key;
        self.news.cursor |= wishes.cursor && !before.cursor;
        if wishes.resize() && !before.resize() {
            self.follow_mode();
        }
    }

    /// Whether the viewer waits for something to change.
    pub(super) fn waits(&self) -> bool {
        self.asked.is_some() && self.update.is_none()
    }

    /// The picture has changed.
    pub(super) fn changed(&mut self, changes: &Changes) {
        if changes.mode {
            self.follow_mode();
            self.missing.add(self.size.area(), self.size);
        }
        for &rect in &changes.dirty {
            self.missing.add(rect, self.size);
        }
        self.news.cursor |= changes.cursor;
    }

    /// The viewer's picture gets the size of the guest's, if the viewer can; otherwise it is cut or filled.
    fn follow_mode(&mut self) {
        let shown = self.screen.as_ref().and_then(|screen| mode(&**screen));
        if let Some(shown) = shown.filter(|shown| *shown != self.size && self.wishes.resize()) {
            self.size = shown;
            self.news.size = true;
            self.missing.clear();
            self.missing.add(shown.area(), shown);
        }
    }

    /// Appends what the viewer is to get, as far as there is room for it.
    pub(super) fn produce(&mut self, out: &mut Vec<u8>) {
        // Who reads nothing gets no more of anything: heads and pointers add up, too.
        if self.update.is_none() && out.len() < OUT_ENOUGH {
            self.update = self.begin(out);
        }
        let Some(mut update) = self.update.take() else { return };
        while out.len() < OUT_ENOUGH {
            let Some(band) = update.bands.pop_front() else { return };
            self.put_band(update.encoding, band, out);
        }
        self.update = Some(update).filter(|update| !update.bands.is_empty());
    }

    /// Begins the update that the viewer waits for, if there is something to say.
    fn begin(&mut self, out: &mut Vec<u8>) -> Option<Update> {
        let area = self.asked?;
        if std::mem::take(&mut self.news.size) {
            self.asked = None;
            self.put_size(resize::BY_SERVER, resize::DONE, out);
            return None;
        }
        if let Some(status) = self.news.resized.take() {
            self.asked = None;
            self.put_size(resize::BY_THIS_CLIENT, status, out);
            return None;
        }
        let bands = bands(self.missing.take(area));
        let cursor = std::mem::take(&mut self.news.cursor) && self.wishes.cursor;
        let extended_key = std::mem::take(&mut self.news.extended_key);
        let rectangles = bands.len() + usize::from(cursor) + usize::from(extended_key);
        if rectangles == 0 {
            return None;
        }
        self.asked = None;
        if let Some(converter) = self.next_converter.take() {
            out.extend(converter.colour_map().unwrap_or_default());
            self.converter = converter;
        }
        put_head(rectangles, out);
        if extended_key {
            put_rectangle(Mode { width: 0, height: 0 }.area(), encoding::QEMU_EXTENDED_KEY_EVENT, out);
        }
        if cursor {
            self.put_cursor(out);
        }
        Some(Update { encoding: self.wishes.encoding, bands })
    }

    /// An update of its own that says the picture's size.
    fn put_size(&self, reason: u16, status: u16, out: &mut Vec<u8>) {
        let Mode { width, height } = self.size;
        put_head(1, out);
        if !self.wishes.extended_desktop_size {
            return put_rectangle(self.size.area(), encoding::DESKTOP_SIZE, out);
        }
        put_rectangle(
            Rect { left: reason, top: status, width, height },
            encoding::EXTENDED_DESKTOP_SIZE,
            out,
        );
        let screen = OneScreen {
            screens: 1,
            reserved: [0; 3],
            id: 0.into(),
            x: 0.into(),
            y: 0.into(),
            width: width.into(),
            height: height.into(),
            flags: 0.into(),
        };
        out.extend_from_slice(screen.as_bytes());
    }

    /// The pointer's shape; without one, a pointer of no size.
    fn put_cursor(&self, out: &mut Vec<u8>) {
        let cursor =
            self.screen.as_ref().and_then(|screen| screen.cursor()).filter(|cursor| is_sound(cursor));
        let Some(cursor) = cursor else {
            return put_rectangle(Mode { width: 0, height: 0 }.area(), encoding::CURSOR, out);
        };
        let Cursor { width, height, hot_x, hot_y, ref pixels } = *cursor;
        put_rectangle(Rect { left: hot_x, top: hot_y, width, height }, encoding::CURSOR, out);
        self.converter.put_all(pixels, out);
        for row in pixels.chunks(usize::from(width) * PIXEL) {
            for pixels in row.as_chunks::<PIXEL>().0.chunks(8) {
                let opaque = (0..).zip(pixels).filter(|(_, [.., alpha])| *alpha >= 128);
                out.push(opaque.fold(0, |byte, (place, _)| byte | 0x80 >> place));
            }
        }
    }

    /// A band's pixels as they are now.
    fn put_band(&mut self, encoding: Encoding, band: Rect, out: &mut Vec<u8>) {
        put_rectangle(band, encoding.number(), out);
        self.read(band);
        let picture = Picture { pixels: &self.pixels, width: usize::from(band.width) };
        self.encoder.encode(encoding, &self.converter, picture, out);
    }

    /// Fills `pixels` with a band, black where the guest shows nothing.
    fn read(&mut self, band: Rect) {
        let got = self.screen.as_ref().and_then(|screen| screen.read(band, &mut self.pixels));
        let row = usize::from(band.width) * PIXEL;
        let bytes = row * usize::from(band.height);
        if got == Some(band) && self.pixels.len() == bytes {
            return;
        }
        let part = std::mem::replace(&mut self.pixels, vec![0; bytes]);
        let Some(got) = got.filter(|got| got.common(band) == *got && !got.is_empty()) else { return };
        let at = usize::from(got.left - band.left) * PIXEL;
        let rows = self.pixels.chunks_exact_mut(row).skip(usize::from(got.top - band.top));
        for (to, from) in rows.zip(part.chunks_exact(usize::from(got.width) * PIXEL)) {
            if let Some(to) = to.get_mut(at..at + from.len()) {
                to.copy_from_slice(from);
            }
        }
    }
}

/// The guest's mode, if it has pixels.
fn mode(screen: &dyn Screen) -> Option<Mode> {
    screen.mode().filter(|mode| !mode.area().is_empty())
}

/// Whether a pointer is what it says, and of a size that viewers take.
fn is_sound(cursor: &Cursor) -> bool {
    let Cursor { width, height, hot_x, hot_y, pixels } = cursor;
    (1..=CURSOR_MAX).contains(width)
        && (1..=CURSOR_MAX).contains(height)
        && hot_x < width
        && hot_y < height
        && pixels.len() == usize::from(*width) * usize::from(*height) * PIXEL
}

fn put_head(rectangles: usize, out: &mut Vec<u8>) {
    let rectangles = u16::try_from(rectangles).unwrap_or(u16::MAX).into();
    let head = FramebufferUpdate { message_type: server::FRAMEBUFFER_UPDATE, reserved: 0, rectangles };
    out.extend_from_slice(head.as_bytes());
}

fn put_rectangle(rect: Rect, encoding: i32, out: &mut Vec<u8>) {
    let Rect { left, top, width, height } = rect;
    let head = Rectangle {
        x: left.into(),
        y: top.into(),
        width: width.into(),
        height: height.into(),
        encoding: encoding.into(),
    };
    out.extend_from_slice(head.as_bytes());
}

#[cfg(test)]
#[path = "tests/session.rs"]
mod tests;
