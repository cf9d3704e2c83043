//! The rectangles of an update in bands: what is encoded at a time, so that a slow viewer gets whole bands and no
//! picture is in memory as a whole.

use std::collections::VecDeque;

use devices::display::Rect;

/// Pixels of a band.
pub(super) const BAND_PIXELS: u32 = 128 << 10;
/// Rows of a band; a ZRLE tile's.
const BAND_ROWS: u32 = 64;

/// Rectangles in bands, which are encoded one at a time.
pub(super) fn bands(rects: Vec<Rect>) -> VecDeque<Rect> {
    let all: VecDeque<Rect> = rects.iter().copied().flat_map(split).collect();
    if u16::try_from(all.len() + 2).is_ok() {
        return all;
    }
    // More than an update can have: of one rectangle there are at most half as many.
    rects.into_iter().reduce(Rect::cover).into_iter().flat_map(split).collect()
}

fn split(rect: Rect) -> impl Iterator<Item = Rect> {
    let rows = (BAND_PIXELS / u32::from(rect.width).max(1)).clamp(1, BAND_ROWS);
    (u32::from(rect.top)..u32::from(rect.bottom())).step_by(usize::try_from(rows).unwrap_or(1)).map(
        move |top| {
            let height = rows.min(u32::from(rect.bottom()) - top);
            let [top, height] = [top, height].map(|value| u16::try_from(value).unwrap_or_default());
            Rect { top, height, ..rect }
        },
    )
}
