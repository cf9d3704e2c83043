//! A picture in memory, and hands that remember what was done with them.

use std::io;
use std::sync::{Arc, Mutex};

use devices::display::{
    Cursor, Keys, Mode, PIXEL, Pointer, Rect, ResolutionError, Scancode, Screen, Viewers, Watch,
};

use crate::display::Display;

/// Something that a person did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A key went down or up.
    Key(Scancode, bool),
    /// Place, buttons, wheel.
    Pointer(u16, u16, u8, i8),
}

#[derive(Debug, Default)]
pub struct Hands(Mutex<Vec<Seen>>);

impl Hands {
    pub fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Keys for Hands {
    fn key(&self, scancode: Scancode, pressed: bool) {
        self.0.lock().unwrap().push(Seen::Key(scancode, pressed));
    }
}

impl Pointer for Hands {
    fn pointer(&self, x: u16, y: u16, buttons: u8, wheel: i8) {
        self.0.lock().unwrap().push(Seen::Pointer(x, y, buttons, wheel));
    }
}

#[derive(Debug, Default)]
struct State {
    mode: Option<Mode>,
    /// Rows, four bytes a pixel.
    pixels: Vec<u8>,
    cursor: Option<Arc<Cursor>>,
}

/// A guest's screen, drawn by a test.
#[derive(Debug, Default)]
pub struct TestScreen {
    state: Mutex<State>,
    viewers: Viewers,
    preferred: Mutex<Option<Mode>>,
}

impl TestScreen {
    /// A screen with a picture that has plain parts, gradients, text-like noise and every corner marked.
    pub fn new(width: u16, height: u16) -> Arc<Self> {
        let screen = TestScreen::default();
        screen.show(Mode { width, height });
        Arc::new(screen)
    }

    /// Another mode, with a picture of its own.
    pub fn show(&self, mode: Mode) {
        let pixels = (0..mode.height).flat_map(|y| (0..mode.width).flat_map(move |x| pattern(mode, x, y)));
        *self.state.lock().unwrap() = State { mode: Some(mode), pixels: pixels.collect(), cursor: None };
        self.viewers.mode();
    }

    /// Nothing any more.
    pub fn blank(&self) {
        *self.state.lock().unwrap() = State::default();
        self.viewers.mode();
    }

    /// Fills a rectangle with a colour.
    pub fn fill(&self, rect: Rect, colour: [u8; PIXEL]) {
        {
            let mut state = self.state.lock().unwrap();
            let width = usize::from(state.mode.unwrap().width);
            for y in rect.top..rect.bottom() {
                for x in rect.left..rect.right() {
                    let at = (usize::from(y) * width + usize::from(x)) * PIXEL;
                    state.pixels[at..at + PIXEL].copy_from_slice(&colour);
                }
            }
        }
        self.viewers.dirty(&[rect]);
    }

    pub fn point(&self, cursor: Option<Cursor>) {
        self.state.lock().unwrap().cursor = cursor.map(Arc::new);
        self.viewers.cursor();
    }

    /// What somebody asked for since the last look.
    pub fn preferred(&self) -> Option<Mode> {
        self.preferred.lock().unwrap().take()
    }

    /// The whole picture, without the unused bytes.
    pub fn rgb(&self) -> Vec<[u8; 3]> {
        let state = self.state.lock().unwrap();
        state.pixels.as_chunks::<PIXEL>().0.iter().map(|&[blue, green, red, _]| [red, green, blue]).collect()
    }

    pub fn display(self: &Arc<Self>, hands: &Arc<Hands>) -> Display {
        let (screen, keys, pointer) = (Arc::clone(self), Arc::clone(hands), Arc::clone(hands));
        Display { screen: Some(screen), keys: Some(keys), pointer: Some(pointer) }
    }
}

fn pattern(mode: Mode, x: u16, y: u16) -> [u8; PIXEL] {
    let (width, height) = (mode.width, mode.height);
    let byte = |value: u32| u8::try_from(value % 256).unwrap();
    let noise = (u32::from(x) * 7919 + u32::from(y) * 104_729).wrapping_mul(2_654_435_761) >> 13;
    match (x * 4 / width, y * 3 / height) {
        _ if (x == 0 || x + 1 == width) && (y == 0 || y + 1 == height) => [0, 0, 255, 9],
        // A desktop, and text on it.
        (0, _) => [128, 64, 0, 0],
        (1, 0) => [[0; 4], [255; 4]][usize::from(noise % 5 == 0)],
        (1, _) => [[0; 4], [255; 4], [0, 0, 255, 0], [0, 255, 0, 0]][usize::from(x / 3 + y / 5) % 4],
        // Gradients, and a photograph of fog.
        (2, _) => [byte(u32::from(x)), byte(u32::from(y)), byte(u32::from(x / 4)), 0],
        (_, 0) => [byte(noise), byte(noise >> 3), byte(noise >> 5), 0],
        (_, 1) => [byte(noise % 12 * 20), 7, 9, 0],
        _ => [200, 200, byte(u32::from(y / 8)), 255],
    }
}

impl Screen for TestScreen {
    fn mode(&self) -> Option<Mode> {
        self.state.lock().unwrap().mode
    }

    fn read(&self, rect: Rect, pixels: &mut Vec<u8>) -> Option<Rect> {
        let state = self.state.lock().unwrap();
        pixels.clear();
        let mode = state.mode?;
        let rect = rect.common(mode.area());
        for y in rect.top..rect.bottom() {
            let at = (usize::from(y) * usize::from(mode.width) + usize::from(rect.left)) * PIXEL;
            pixels.extend(&state.pixels[at..at + usize::from(rect.width) * PIXEL]);
        }
        Some(rect)
    }

    /// Any size that has pixels, within 3 MiB.
    fn prefer(&self, mode: Mode) -> Result<(), ResolutionError> {
        if mode.area().is_empty() {
            return Err(ResolutionError::Range { mode, least: mode, most: mode });
        }
        if usize::from(mode.width) * usize::from(mode.height) * PIXEL > 3 << 20 {
            return Err(ResolutionError::Memory { mode, need: 4, have: 3 });
        }
        *self.preferred.lock().unwrap() = Some(mode);
        Ok(())
    }

    fn cursor(&self) -> Option<Arc<Cursor>> {
        self.state.lock().unwrap().cursor.clone()
    }

    fn watch(&self) -> io::Result<Watch> {
        self.viewers.watch()
    }
}
