//! The pointer's picture, part by part.
//!
//! A picture that a guest sends wrongly is left out and the last one stays: a wrong pointer is better than none.

use thiserror::Error;

use super::protocol::{LAST_PART, POINTER_SIDE_MAX, PointerShape};
use crate::display::{Cursor, PIXEL};

/// Why there is no picture.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(super) enum ShapeError {
    #[error("{0}x{1} pixels; {POINTER_SIDE_MAX}x{POINTER_SIDE_MAX} are the most")]
    Size(u32, u32),
    #[error("part {0} comes where part {1} should")]
    Order(u8, u8),
    #[error("{got} bytes of {need}")]
    Bytes { got: usize, need: usize },
}

/// The parts of a picture that have come.
#[derive(Debug, Default)]
pub(super) struct Parts {
    bytes: Vec<u8>,
    count: u8,
}

impl Parts {
    /// Adds a part; the picture if it was the last.
    pub fn add(&mut self, shape: &PointerShape, bytes: &[u8]) -> Result<Option<Cursor>, ShapeError> {
        let added = self.try_add(shape, bytes);
        if !matches!(added, Ok(None)) {
            *self = Parts::default();
        }
        added
    }

    fn try_add(&mut self, shape: &PointerShape, bytes: &[u8]) -> Result<Option<Cursor>, ShapeError> {
        let (width, height) = (shape.width.get(), shape.height.get());
        let side = |pixels| (1..=POINTER_SIDE_MAX).contains(&pixels);
        if !side(width) || !side(height) {
            return Err(ShapeError::Size(width, height));
        }
        if shape.part == 0 {
            // A driver that gave up may start over.
            *self = Parts::default();
        }
        if shape.part != LAST_PART && shape.part != self.count {
            return Err(ShapeError::Order(shape.part, self.count));
        }
        let (columns, rows) = (width as usize, height as usize);
        let need = if shape.argb == 0 { 2 * columns.div_ceil(8) * rows } else { columns * rows * PIXEL };
        self.count = self.count.saturating_add(1);
        // More than the picture needs is no part of it.
        let room = need - self.bytes.len().min(need);
        self.bytes.extend(bytes.iter().take(room));
        if shape.part != LAST_PART {
            return Ok(None);
        }
        if self.bytes.len() != need {
            return Err(ShapeError::Bytes { got: self.bytes.len(), need });
        }
        let bytes = std::mem::take(&mut self.bytes);
        let side = |pixels: u32| u16::try_from(pixels).unwrap_or(u16::MAX);
        Ok(Some(Cursor {
            width: side(width),
            height: side(height),
            // It points with one of its pixels.
            hot_x: side(shape.hot_x.get().min(width - 1)),
            hot_y: side(shape.hot_y.get().min(height - 1)),
            pixels: if shape.argb == 0 { of_masks(&bytes, columns) } else { bytes },
        }))
    }
}

/// A picture from the mask to AND with and the one to XOR with. What would invert the screen becomes black.
fn of_masks(masks: &[u8], columns: usize) -> Vec<u8> {
    let (and, xor) = masks.split_at(masks.len() / 2);
    let rows = |mask| <[u8]>::chunks_exact(mask, columns.div_ceil(8));
    let bit = |row: &[u8], x: usize| row.get(x / 8).is_some_and(|byte| byte << (x % 8) & 0x80 != 0);
    let pixel = |and: &[u8], xor: &[u8], x| match (bit(and, x), bit(xor, x)) {
        (false, false) | (true, true) => [0, 0, 0, 255],
        (false, true) => [255; PIXEL],
        (true, false) => [0; PIXEL],
    };
    rows(and)
        .zip(rows(xor))
        .flat_map(|(and, xor)| (0..columns).flat_map(move |x| pixel(and, xor, x)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(part: u8, argb: u8, width: u32, height: u32) -> PointerShape {
        PointerShape {
            part,
            argb,
            width: width.into(),
            height: height.into(),
            hot_x: 1.into(),
            hot_y: 99.into(),
        }
    }

    #[test]
    fn a_picture_comes_whole_or_in_parts() {
        let mut parts = Parts::default();
        let pixels: Vec<u8> = (0..96u32 * 96 * 4).map(|i| i as u8).collect();
        let whole = parts.add(&shape(LAST_PART, 1, 96, 96), &pixels).unwrap().unwrap();
        assert_eq!((whole.width, whole.height, whole.hot_x, whole.hot_y), (96, 96, 1, 95));
        assert_eq!(whole.pixels, pixels);
        let chunks: Vec<&[u8]> = pixels.chunks(8192).collect();
        let (last, first) = chunks.split_last().unwrap();
        for (part, chunk) in (0..).zip(first) {
            assert_eq!(parts.add(&shape(part, 1, 96, 96), chunk), Ok(None));
        }
        assert_eq!(parts.add(&shape(LAST_PART, 1, 96, 96), last), Ok(Some(whole)));
    }

    #[test]
    fn masks_become_pixels() {
        // Nine pixels: black, white, transparent, inverted, then black.
        let masks = [0b0011_0000, 0, 0b0101_0000, 0];
        let cursor = Parts::default().add(&shape(LAST_PART, 0, 9, 1), &masks).unwrap().unwrap();
        let (black, white) = ([0, 0, 0, 255], [255; 4]);
        let expected = [black, white, [0; 4], black, black, black, black, black, black];
        assert_eq!(cursor.pixels, expected.concat());
    }

    #[test]
    fn wrong_pictures_are_none_and_the_next_is_good() {
        let mut parts = Parts::default();
        for (width, height) in [(0, 1), (1, 0), (97, 1), (1, 97), (u32::MAX, u32::MAX)] {
            let wrong = parts.add(&shape(LAST_PART, 1, width, height), &[0; 400]);
            assert_eq!(wrong, Err(ShapeError::Size(width, height)));
        }
        assert_eq!(
            parts.add(&shape(LAST_PART, 1, 2, 1), &[0; 7]),
            Err(ShapeError::Bytes { got: 7, need: 8 })
        );
        assert_eq!(parts.add(&shape(1, 1, 2, 1), &[0; 4]), Err(ShapeError::Order(1, 0)));
        assert_eq!(parts.add(&shape(0, 1, 2, 1), &[1; 4]), Ok(None));
        assert_eq!(parts.add(&shape(2, 1, 2, 1), &[1; 4]), Err(ShapeError::Order(2, 1)));
        // Padding behind the pixels, as of packets.
        let good = parts.add(&shape(LAST_PART, 1, 2, 1), &[5; 16]).unwrap().unwrap();
        assert_eq!(good.pixels, [5; 8]);
    }

    #[test]
    fn parts_without_end_cost_one_picture() {
        let mut parts = Parts::default();
        for part in 0..LAST_PART {
            assert_eq!(parts.add(&shape(part, 1, 96, 96), &[0; 8192]), Ok(None));
            assert!(parts.bytes.len() <= 96 * 96 * 4);
        }
        assert!(parts.add(&shape(0, 1, 96, 96), &[0; 8]).is_ok(), "and it starts over");
    }
}
