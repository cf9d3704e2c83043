//! The machine's display, keyboard and mouse, for those who look at it and type.

mod keys;
mod pointer;
mod screenshot;
mod size;

use std::sync::Arc;

use devices::display::{Keys, PIXEL, Pointer, Screen};
use serde::{Deserialize, Serialize};

pub use self::keys::{Chord, KeyError};
pub use self::pointer::{Button, PointerError, PointerEvent};
pub use self::screenshot::{Picture, ScreenshotError};
pub use self::size::{DisplaySize, DisplaySizeError};

/// What the bus has of them now. A reset brings others.
#[derive(Clone, Debug, Default)]
pub struct Display {
    /// What the guest shows.
    pub screen: Option<Arc<dyn Screen>>,
    /// Where keys go.
    pub keys: Option<Arc<dyn Keys>>,
    /// Where the pointer goes.
    pub pointer: Option<Arc<dyn Pointer>>,
}

/// What a display shows, in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DisplayRow {
    /// Pixels of a row; 0 without a picture.
    pub width: u16,
    /// Rows; 0 without a picture.
    pub height: u16,
    /// CRC-32C of the picture's pixels in hexadecimal digits: another one tells that the picture has changed.
    pub picture: String,
    /// Whether the guest shows a pointer that viewers are to draw.
    pub pointer: bool,
}

impl DisplayRow {
    /// Looks at a screen, all of it: who asked does that on its own thread.
    #[must_use]
    pub fn of(screen: &dyn Screen) -> Self {
        let mut pixels = Vec::new();
        let area = screen.mode().and_then(|mode| screen.read(mode.area(), &mut pixels));
        // The fourth byte of a pixel is nobody's.
        let colours =
            pixels.as_chunks::<PIXEL>().0.iter().flat_map(|&[blue, green, red, _]| [blue, green, red]);
        let crc = crc32c::crc32c(&colours.collect::<Vec<u8>>());
        DisplayRow {
            width: area.map_or(0, |area| area.width),
            height: area.map_or(0, |area| area.height),
            picture: format!("{crc:08x}"),
            pointer: screen.cursor().is_some(),
        }
    }
}
