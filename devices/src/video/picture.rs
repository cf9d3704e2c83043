//! How a picture lies in video memory, checked; and rows out of it.

use crate::display::{Mode, PIXEL, Rect};
use crate::mem::Pages;

use super::protocol::SituationUpdate;

/// What a pixel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Depth {
    /// Two bytes: 5 bits red, 6 green, 5 blue, from the highest on.
    Bits16,
    /// Blue, green, red, unused.
    Bits32,
}

/// A picture that is wholly within video memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Picture {
    pub mode: Mode,
    offset: usize,
    /// Bytes from a row to the next.
    pitch: usize,
    depth: Depth,
}

impl Picture {
    /// What the guest says, if it can be; `size` is video memory's.
    pub fn new(update: &SituationUpdate, size: usize) -> Option<Self> {
        let depth = match update.depth {
            16 => Depth::Bits16,
            32 => Depth::Bits32,
            _ => return None,
        };
        let side = |pixels: u32| u16::try_from(pixels).ok().filter(|&pixels| pixels > 0);
        let mode = Mode { width: side(update.width.get())?, height: side(update.height.get())? };
        let picture = Picture {
            mode,
            offset: usize::try_from(update.offset.get()).ok()?,
            pitch: usize::try_from(update.pitch.get()).ok()?,
            depth,
        };
        let row = usize::from(mode.width) * picture.pixel();
        let rows = picture.pitch.checked_mul(usize::from(mode.height) - 1)?;
        let end = picture.offset.checked_add(rows)?.checked_add(row)?;
        (row <= picture.pitch && end <= size).then_some(picture)
    }

    /// Bytes of a pixel in video memory.
    fn pixel(&self) -> usize {
        match self.depth {
            Depth::Bits16 => 2,
            Depth::Bits32 => PIXEL,
        }
    }

    /// Replaces `pixels` by those of a rectangle, which must be within the mode.
    pub fn read(&self, memory: &Pages, rect: Rect, pixels: &mut Vec<u8>) {
        let width = usize::from(rect.width);
        pixels.clear();
        pixels.resize(width * usize::from(rect.height) * PIXEL, 0);
        let mut narrow = vec![0; if self.depth == Depth::Bits16 { width * 2 } else { 0 }];
        let left = usize::from(rect.left) * self.pixel();
        for (y, row) in (usize::from(rect.top)..).zip(pixels.chunks_exact_mut((width * PIXEL).max(1))) {
            let at = self.offset + y * self.pitch + left;
            // Cannot fail: the picture is within the memory, and the rectangle within the picture.
            match self.depth {
                Depth::Bits32 => memory.read(at, row).unwrap_or(()),
                Depth::Bits16 => {
                    memory.read(at, &mut narrow).unwrap_or(());
                    widen(&narrow, row);
                }
            }
        }
    }

    /// The rows that have a byte in pages `first` to `last` (exclusive) of video memory.
    pub fn rows(&self, first: usize, last: usize) -> Rect {
        let row = |byte: usize| {
            u16::try_from(byte.saturating_sub(self.offset) / self.pitch.max(1)).unwrap_or(u16::MAX)
        };
        let begin = row(first * crate::mem::PAGE_SIZE);
        let end = row((last * crate::mem::PAGE_SIZE).saturating_sub(1)).saturating_add(1);
        let any = last * crate::mem::PAGE_SIZE > self.offset;
        let rect = Rect::between((0, begin), (self.mode.width, if any { end } else { begin }));
        rect.common(self.mode.area())
    }
}

/// Pixels of two bytes as pixels of four: the highest bits fill the lowest, so that white stays white.
fn widen(narrow: &[u8], wide: &mut [u8]) {
    for (from, to) in narrow.chunks_exact(2).zip(wide.chunks_exact_mut(PIXEL)) {
        let ([low, high], [blue, green, red, _]) = (from, to) else { continue };
        let pixel = u16::from_le_bytes([*low, *high]);
        let bits = |shift: u16, mask: u16| ((pixel >> shift) & mask).to_le_bytes()[0];
        let (r, g, b) = (bits(11, 0x1f), bits(5, 0x3f), bits(0, 0x1f));
        *red = r << 3 | r >> 2;
        *green = g << 2 | g >> 4;
        *blue = b << 3 | b >> 2;
    }
}

#[cfg(test)]
mod tests {
    use vm_memory::{Bytes, GuestAddress};
    use zerocopy::FromZeros;

    use super::*;
    use crate::mem::{GuestRam, PAGE_SIZE};

    const SIZE: usize = 4 * PAGE_SIZE;

    fn update(depth: u8, (width, height): (u32, u32), pitch: u32, offset: u32) -> SituationUpdate {
        let mut update = SituationUpdate::new_zeroed();
        update.depth = depth;
        (update.width, update.height) = (width.into(), height.into());
        (update.pitch, update.offset) = (pitch.into(), offset.into());
        update
    }

    fn picture(depth: u8, size: (u32, u32), pitch: u32, offset: u32) -> Option<Picture> {
        Picture::new(&update(depth, size, pitch, offset), SIZE)
    }

    fn memory() -> (GuestRam, Pages) {
        let ram = GuestRam::from_ranges(&[(GuestAddress(0), SIZE)]).unwrap();
        let pages = Pages::resolve(&ram, &[0, 1, 2, 3]).unwrap();
        (ram, pages)
    }

    #[test]
    fn pictures_past_the_memory_are_none() {
        assert!(picture(32, (64, 64), 256, 0).is_some());
        assert!(picture(32, (64, 64), 256, 1).is_none(), "one byte too far");
        assert!(picture(32, (64, 63), 256, 256).is_some());
        assert!(picture(32, (63, 64), 256, 4).is_some(), "the last row ends before its pitch");
        assert!(picture(32, (64, 64), 255, 0).is_none(), "rows overlap");
        for (size, pitch, offset) in [
            ((0, 64), 256, 0),
            ((64, 0), 256, 0),
            ((65_536, 1), u32::MAX, 0),
            ((1, 65_536), 4, 0),
            ((1, 2), u32::MAX, 0),
            ((1, 1), 4, u32::MAX),
            ((65_535, 65_535), u32::MAX, u32::MAX),
        ] {
            assert!(picture(32, size, pitch, offset).is_none(), "{size:?} {pitch} {offset}");
        }
        for depth in [0, 8, 15, 24, 64, 255] {
            assert!(picture(depth, (1, 1), 256, 0).is_none(), "{depth}");
        }
    }

    #[test]
    fn rows_are_read_with_pitch_and_offset() {
        let (ram, pages) = memory();
        let picture = picture(32, (3, 4), 20, 100).unwrap();
        for y in 0..4u8 {
            for x in 0..3u8 {
                let at = 100 + u64::from(y) * 20 + u64::from(x) * 4;
                ram.write_slice(&[x, y, 7, 9], GuestAddress(at)).unwrap();
            }
        }
        let mut pixels = vec![1; 99];
        picture.read(&pages, Rect { left: 1, top: 1, width: 2, height: 2 }, &mut pixels);
        assert_eq!(pixels, [1, 1, 7, 9, 2, 1, 7, 9, 1, 2, 7, 9, 2, 2, 7, 9]);
        picture.read(&pages, Rect { left: 1, top: 1, width: 0, height: 2 }, &mut pixels);
        assert_eq!(pixels, []);
    }

    #[test]
    fn pixels_of_16_bits_become_pixels_of_32() {
        let (ram, pages) = memory();
        let picture = picture(16, (4, 1), 8, 0).unwrap();
        for (x, pixel) in [0xffffu16, 0xf800, 0x07e0, 0x001f].into_iter().enumerate() {
            ram.write_slice(&pixel.to_le_bytes(), GuestAddress(2 * x as u64)).unwrap();
        }
        let mut pixels = Vec::new();
        picture.read(&pages, picture.mode.area(), &mut pixels);
        assert_eq!(pixels, [255, 255, 255, 0, 0, 0, 255, 0, 0, 255, 0, 0, 255, 0, 0, 0]);
    }

    #[test]
    fn written_pages_are_rows() {
        let picture = picture(32, (60, 30), 256, PAGE_SIZE as u32).unwrap();
        let rows = |first, last| picture.rows(first, last);
        let band = |top, height| Rect { left: 0, top, width: 60, height };
        assert!(rows(0, 1).is_empty(), "in front of the picture");
        assert_eq!(rows(0, 2), band(0, 16));
        assert_eq!(rows(1, 2), band(0, 16));
        assert_eq!(rows(2, 3), band(16, 14));
        assert_eq!(rows(1, 4), band(0, 30));
        assert!(rows(3, 4).is_empty(), "behind it");
    }
}
