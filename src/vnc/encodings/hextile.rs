//! Hextile (7.7.4): tiles of 16 pixels, each a background and the runs of other colours on it, or its pixels.

use super::super::pixels::Converter;
use super::super::protocol::hextile;
use super::Picture;

/// Pixels of a tile each way.
const TILE: usize = 16;

/// Pixels of one colour in a row.
struct Run {
    colour: u32,
    x: usize,
    y: usize,
    width: usize,
}

pub(super) fn encode(converter: &Converter, picture: Picture<'_>, out: &mut Vec<u8>) {
    // What the viewer remembers from tile to tile.
    let mut known = None;
    picture.tiles(TILE, converter, |values, width| tile(converter, values, width, &mut known, out));
}

fn tile(converter: &Converter, values: &[u32], width: usize, known: &mut Option<u32>, out: &mut Vec<u8>) {
    let background = background(values);
    let runs = runs(values, width, background);
    let several = runs.iter().zip(runs.iter().skip(1)).any(|(run, next)| run.colour != next.colour);
    let pixel = converter.bytes();
    let length = pixel * 2 + 2 + runs.len() * (2 + if several { pixel } else { 0 });
    if length > values.len() * pixel || runs.len() > usize::from(u8::MAX) {
        out.push(hextile::RAW);
        values.iter().for_each(|&value| converter.put(value, out));
        // What was said before a raw tile does not hold after it.
        *known = None;
        return;
    }
    let is_new = known.replace(background) != Some(background);
    let mut flags = if is_new { hextile::BACKGROUND_SPECIFIED } else { 0 };
    match runs.first() {
        Some(_) if several => flags |= hextile::ANY_SUBRECTS | hextile::SUBRECTS_COLOURED,
        Some(_) => flags |= hextile::ANY_SUBRECTS | hextile::FOREGROUND_SPECIFIED,
        None => {}
    }
    out.push(flags);
    if is_new {
        converter.put(background, out);
    }
    let Some(first) = runs.first() else { return };
    if !several {
        converter.put(first.colour, out);
    }
    out.push(u8::try_from(runs.len()).unwrap_or_default());
    for run in &runs {
        if several {
            converter.put(run.colour, out);
        }
        out.push(nibbles(run.x, run.y));
        out.push(nibbles(run.width - 1, 0));
    }
}

/// The colour of most pixels, of the first few colours that there are.
fn background(values: &[u32]) -> u32 {
    const CANDIDATES: usize = 4;
    let mut counts: Vec<(u32, usize)> = Vec::with_capacity(CANDIDATES);
    for run in values.chunk_by(u32::eq) {
        let colour = run.first().copied().unwrap_or_default();
        if let Some((_, count)) = counts.iter_mut().find(|(known, _)| *known == colour) {
            *count += run.len();
        } else if counts.len() < CANDIDATES {
            counts.push((colour, run.len()));
        }
    }
    counts.into_iter().max_by_key(|(_, count)| *count).unwrap_or_default().0
}

/// What is not background, row by row.
fn runs(values: &[u32], width: usize, background: u32) -> Vec<Run> {
    let mut runs = Vec::new();
    for (y, row) in values.chunks(width).enumerate() {
        let mut x = 0;
        for pixels in row.chunk_by(u32::eq) {
            if let Some(&colour) = pixels.first().filter(|colour| **colour != background) {
                runs.push(Run { colour, x, y, width: pixels.len() });
            }
            x += pixels.len();
        }
    }
    runs
}

fn nibbles(high: usize, low: usize) -> u8 {
    u8::try_from((high & 15) << 4 | low & 15).unwrap_or_default()
}
