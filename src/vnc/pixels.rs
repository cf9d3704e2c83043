//! Pixels as a viewer wants them: from the guest's blue, green, red, unused to any format of RFB.
//!
//! A viewer that asks for a colour map gets one of 256 colours, three bits of red, three of green, two of blue.

use devices::display::PIXEL;
use thiserror::Error;
use zerocopy::IntoBytes;
use zerocopy::big_endian::U16;

use super::protocol::{PixelFormat, SetColourMapEntries, server};

/// The guest's own format; what a viewer gets that does not ask for another.
pub const NATIVE: PixelFormat = PixelFormat {
    bits_per_pixel: 32,
    depth: 24,
    big_endian: 0,
    true_colour: 1,
    red_max: U16::from_bytes([0, 255]),
    green_max: U16::from_bytes([0, 255]),
    blue_max: U16::from_bytes([0, 255]),
    red_shift: 16,
    green_shift: 8,
    blue_shift: 0,
    reserved: [0; 3],
};
/// How a pixel is an index into the colour map that is sent.
const MAPPED: PixelFormat = PixelFormat {
    bits_per_pixel: 8,
    depth: 8,
    red_max: U16::from_bytes([0, 7]),
    green_max: U16::from_bytes([0, 7]),
    blue_max: U16::from_bytes([0, 3]),
    red_shift: 5,
    green_shift: 2,
    ..NATIVE
};

/// Why a pixel format is none; the viewer's connection ends with it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum FormatError {
    /// A size that RFB does not have.
    #[error("a pixel of {0} bits does not exist; it has 8, 16 or 32")]
    Bits(u8),
    /// A colour that is not within the pixel.
    #[error("a colour of up to {max}, shifted by {shift}, does not fit a pixel of {bits} bits")]
    Colour {
        /// The largest value.
        max: u16,
        /// Its place.
        shift: u8,
        /// The pixel's size.
        bits: u8,
    },
    /// A colour map of more than a byte.
    #[error("a colour map is for pixels of 8 bits, not of {0}")]
    Map(u8),
}

/// Writes pixels in one format.
#[derive(Clone, Debug)]
pub struct Converter {
    /// What each value of red, green and blue adds to a pixel.
    parts: Box<[[u32; 256]; 3]>,
    /// Of a pixel.
    bytes: usize,
    big_endian: bool,
    /// The guest's own bytes will do, but for the unused one.
    native: bool,
    mapped: bool,
    /// Which of a pixel's bytes a CPIXEL has (7.7.5).
    compact: std::ops::Range<usize>,
}

impl Converter {
    /// A writer for a format that a viewer asked for.
    ///
    /// # Errors
    /// When there is no such format.
    pub fn new(asked: PixelFormat) -> Result<Self, FormatError> {
        let bits = asked.bits_per_pixel;
        if !matches!(bits, 8 | 16 | 32) {
            return Err(FormatError::Bits(bits));
        }
        let mapped = asked.true_colour == 0;
        if mapped && bits != 8 {
            return Err(FormatError::Map(bits));
        }
        let format = if mapped { MAPPED } else { asked };
        let red = part(bits, format.red_max, format.red_shift)?;
        let green = part(bits, format.green_max, format.green_shift)?;
        let blue = part(bits, format.blue_max, format.blue_shift)?;
        let used = [&red, &green, &blue].iter().fold(0, |used, part| used | part[255]);
        let big_endian = asked.big_endian != 0;
        let native = PixelFormat { depth: 24, reserved: [0; 3], true_colour: 1, ..asked } == NATIVE;
        Ok(Converter {
            parts: Box::new([red, green, blue]),
            bytes: usize::from(bits / 8),
            big_endian,
            native,
            mapped,
            compact: compact(format, used, big_endian),
        })
    }

    /// Bytes of a pixel.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of a CPIXEL.
    #[must_use]
    pub fn compact_bytes(&self) -> usize {
        self.compact.len()
    }

    /// The value of a pixel of the guest's.
    #[must_use]
    pub fn value(&self, [blue, green, red, _]: [u8; PIXEL]) -> u32 {
        let [reds, greens, blues] = &*self.parts;
        reds[usize::from(red)] | greens[usize::from(green)] | blues[usize::from(blue)]
    }

    /// Writes a value.
    pub fn put(&self, value: u32, out: &mut Vec<u8>) {
        let (bytes, at) = self.wire(value);
        out.extend(bytes.iter().skip(at).take(self.bytes));
    }

    /// Writes a value as a CPIXEL.
    pub fn put_compact(&self, value: u32, out: &mut Vec<u8>) {
        let (bytes, at) = self.wire(value);
        out.extend(bytes.iter().skip(at + self.compact.start).take(self.compact.len()));
    }

    /// Writes all pixels of a picture.
    pub fn put_all(&self, pixels: &[u8], out: &mut Vec<u8>) {
        if self.native {
            out.extend_from_slice(pixels);
            return;
        }
        out.reserve(pixels.len() / PIXEL * self.bytes);
        for &pixel in pixels.as_chunks::<PIXEL>().0 {
            self.put(self.value(pixel), out);
        }
    }

    /// The message with the colour map, if the format has one.
    #[must_use]
    pub fn colour_map(&self) -> Option<Vec<u8>> {
        const COLOURS: u16 = 256;
        self.mapped.then(|| {
            let head = SetColourMapEntries {
                message_type: server::SET_COLOUR_MAP_ENTRIES,
                reserved: 0,
                first: 0.into(),
                count: COLOURS.into(),
            };
            let mut message = head.as_bytes().to_vec();
            for index in 0..COLOURS {
                for (value, max) in [(index >> 5, 7), (index >> 2 & 7, 7), (index & 3, 3)] {
                    let full = u32::from(value) * u32::from(u16::MAX) / max;
                    message.extend(u16::try_from(full).unwrap_or(u16::MAX).to_be_bytes());
                }
            }
            message
        })
    }

    /// A value's bytes in their order, and where they begin.
    fn wire(&self, value: u32) -> ([u8; 4], usize) {
        if self.big_endian { (value.to_be_bytes(), 4 - self.bytes) } else { (value.to_le_bytes(), 0) }
    }
}

/// What each value of a colour, 0 to 255, adds to a pixel.
fn part(bits: u8, max: U16, shift: u8) -> Result<[u32; 256], FormatError> {
    let wrong = FormatError::Colour { max: max.get(), shift, bits };
    let max = u32::from(max.get());
    let room = 1u64 << bits;
    if u32::from(shift) >= u32::from(bits) || u64::from(max) << shift >= room {
        return Err(wrong);
    }
    let mut part = [0; 256];
    for (value, part) in (0..).zip(part.iter_mut()) {
        let scaled: u32 = (value * max + 127) / 255;
        *part = scaled << shift;
    }
    Ok(part)
}

/// A CPIXEL leaves out the byte of a pixel that has no colour in it, where that is the first or the last.
fn compact(format: PixelFormat, used: u32, big_endian: bool) -> std::ops::Range<usize> {
    if format.bits_per_pixel != 32 || format.depth > 24 {
        return 0..usize::from(format.bits_per_pixel / 8);
    }
    let (low, high) = (used & 0xff00_0000 == 0, used & 0xff == 0);
    match (low, high) {
        (true, _) if big_endian => 1..4,
        (true, _) => 0..3,
        (_, true) if big_endian => 0..3,
        (_, true) => 1..4,
        _ => 0..4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blue, green, red, unused.
    const ORANGE: [u8; 4] = [0, 128, 255, 77];

    fn written(format: PixelFormat) -> (Vec<u8>, Vec<u8>) {
        let converter = Converter::new(format).unwrap();
        let (mut all, mut compact) = (Vec::new(), Vec::new());
        converter.put_all(&ORANGE, &mut all);
        converter.put_compact(converter.value(ORANGE), &mut compact);
        assert_eq!((all.len(), compact.len()), (converter.bytes(), converter.compact_bytes()));
        (all, compact)
    }

    #[test]
    fn pixels_are_written_as_the_viewer_asked() {
        let rgb565 = PixelFormat {
            bits_per_pixel: 16,
            depth: 16,
            red_max: 31.into(),
            green_max: 63.into(),
            blue_max: 31.into(),
            red_shift: 11,
            green_shift: 5,
            ..NATIVE
        };
        let big = PixelFormat { big_endian: 1, ..NATIVE };
        let high = PixelFormat { red_shift: 24, green_shift: 16, blue_shift: 8, ..NATIVE };
        let table = [
            (NATIVE, ORANGE.to_vec(), vec![0, 128, 255]),
            (big, vec![0, 255, 128, 0], vec![255, 128, 0]),
            (high, vec![0, 0, 128, 255], vec![0, 128, 255]),
            (PixelFormat { big_endian: 1, ..high }, vec![255, 128, 0, 0], vec![255, 128, 0]),
            (PixelFormat { depth: 32, ..big }, vec![0, 255, 128, 0], vec![0, 255, 128, 0]),
            (rgb565, vec![0x00, 0xfc], vec![0x00, 0xfc]),
            (PixelFormat { big_endian: 1, ..rgb565 }, vec![0xfc, 0x00], vec![0xfc, 0x00]),
            (MAPPED, vec![0xf0], vec![0xf0]),
        ];
        for (format, pixel, compact) in table {
            assert_eq!(written(format), (pixel, compact), "{format:?}");
        }
    }

    #[test]
    fn a_colour_map_has_the_colour_that_its_index_says() {
        let converter = Converter::new(PixelFormat { true_colour: 0, bits_per_pixel: 8, ..NATIVE }).unwrap();
        let map = converter.colour_map().unwrap();
        assert_eq!((map.len(), &map[..6]), (6 + 256 * 6, [1, 0, 0, 0, 1, 0].as_slice()));
        let colour = |index: usize| &map[6 + index * 6..][..6];
        let white = converter.value([255, 255, 255, 0]) as usize;
        assert_eq!((colour(white), colour(0)), ([0xff; 6].as_slice(), [0; 6].as_slice()));
        assert_eq!(colour(converter.value([0, 0, 255, 0]) as usize), [0xff, 0xff, 0, 0, 0, 0]);
        assert_eq!(Converter::new(NATIVE).unwrap().colour_map(), None);
    }

    #[test]
    fn formats_that_cannot_be_are_refused() {
        let error = |format| Converter::new(format).unwrap_err();
        assert_eq!(error(PixelFormat { bits_per_pixel: 24, ..NATIVE }), FormatError::Bits(24));
        assert_eq!(error(PixelFormat { true_colour: 0, ..NATIVE }), FormatError::Map(32));
        for (max, shift) in [(255, 25), (1, 32), (1, 255), (65535, 17)] {
            let format = PixelFormat { red_max: max.into(), red_shift: shift, ..NATIVE };
            assert_eq!(error(format), FormatError::Colour { max, shift, bits: 32 });
        }
        // Black and white is allowed.
        let one = PixelFormat { red_max: 0.into(), red_shift: 31, ..NATIVE };
        Converter::new(one).unwrap();
    }
}
