//! Pictures as bytes for viewers: one rectangle's pixels in one of four encodings.
//!
//! Raw is what every viewer understands; Hextile is for those that know nothing newer; Zlib and ZRLE compress, each
//! in one stream that lasts as long as the viewer does. Pure: the session says what is encoded and when.

mod hextile;
mod stream;
#[cfg(test)]
pub(super) mod tests;
mod zrle;

use devices::display::PIXEL;

use self::stream::Stream;
use super::pixels::Converter;
use super::protocol::encoding;

/// How pixels are encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// As they are.
    #[default]
    Raw,
    /// Tiles of 16 pixels: a background, and rectangles in other colours.
    Hextile,
    /// As they are, compressed.
    Zlib,
    /// Tiles of 64 pixels with palettes or runs, compressed.
    Zrle,
}

impl Encoding {
    /// The encoding of this number, if it is one that can be sent.
    #[must_use]
    pub fn of(number: i32) -> Option<Self> {
        [Encoding::Raw, Encoding::Hextile, Encoding::Zlib, Encoding::Zrle]
            .into_iter()
            .find(|encoding| encoding.number() == number)
    }

    /// Its number on the wire.
    #[must_use]
    pub fn number(self) -> i32 {
        match self {
            Encoding::Raw => encoding::RAW,
            Encoding::Hextile => encoding::HEXTILE,
            Encoding::Zlib => encoding::ZLIB,
            Encoding::Zrle => encoding::ZRLE,
        }
    }
}

/// Pixels of a rectangle.
#[derive(Clone, Copy, Debug)]
pub struct Picture<'a> {
    /// Rows from the top, four bytes a pixel.
    pub pixels: &'a [u8],
    /// Pixels of a row.
    pub width: usize,
}

impl Picture<'_> {
    fn height(&self) -> usize {
        self.pixels.len().checked_div(self.width * PIXEL).unwrap_or(0)
    }

    /// Takes the picture apart into tiles of at most `size` pixels each way, in the order of reading. `each` gets a
    /// tile's values and its width.
    fn tiles(&self, size: usize, converter: &Converter, mut each: impl FnMut(&[u32], usize)) {
        let mut values = Vec::with_capacity(size * size);
        for top in (0..self.height()).step_by(size) {
            for left in (0..self.width).step_by(size) {
                let width = size.min(self.width - left);
                let rows = self.pixels.chunks_exact(self.width * PIXEL).skip(top).take(size);
                values.clear();
                for row in rows {
                    let pixels = row.as_chunks::<PIXEL>().0.iter().skip(left).take(width);
                    values.extend(pixels.map(|&pixel| converter.value(pixel)));
                }
                each(&values, width);
            }
        }
    }
}

/// A viewer's encoder: what its streams remember.
#[derive(Debug, Default)]
pub struct Encoder {
    zlib: Option<Stream>,
    zrle: Option<Stream>,
    plain: Vec<u8>,
}

impl Encoder {
    /// Appends the picture's encoded pixels.
    pub fn encode(
        &mut self,
        encoding: Encoding,
        converter: &Converter,
        picture: Picture<'_>,
        out: &mut Vec<u8>,
    ) {
        self.plain.clear();
        match encoding {
            Encoding::Raw => converter.put_all(picture.pixels, out),
            Encoding::Hextile => hextile::encode(converter, picture, out),
            Encoding::Zlib => {
                converter.put_all(picture.pixels, &mut self.plain);
                self.zlib.get_or_insert_default().write(&self.plain, out);
            }
            Encoding::Zrle => {
                zrle::encode(converter, picture, &mut self.plain);
                self.zrle.get_or_insert_default().write(&self.plain, out);
            }
        }
    }
}
