//! ZRLE (7.7.6) before its compression: each tile in the shortest of four ways.

use super::super::pixels::Converter;
use super::super::protocol::zrle;
use super::Picture;

/// Pixels of a tile each way.
const TILE: usize = 64;
/// Colours of the largest palette that is packed.
const PALETTE: usize = 16;

pub(super) fn encode(converter: &Converter, picture: Picture<'_>, out: &mut Vec<u8>) {
    picture.tiles(TILE, converter, |values, width| tile(converter, values, width, out));
}

fn tile(converter: &Converter, values: &[u32], width: usize, out: &mut Vec<u8>) {
    let pixel = converter.compact_bytes();
    let raw = values.len() * pixel;
    let runs: usize = values.chunk_by(u32::eq).map(|run| pixel + 1 + (run.len() - 1) / 255).sum();
    let palette = palette(values);
    let packed = palette.as_ref().map_or(usize::MAX, |colours| {
        let rows = values.len() / width;
        colours.len() * pixel + rows * (width * bits(colours.len())).div_ceil(8)
    });
    match &palette {
        Some(colours) if colours.len() == 1 => {
            out.push(zrle::SOLID);
            colours.iter().for_each(|&colour| converter.put_compact(colour, out));
        }
        Some(colours) if packed <= runs && packed <= raw => {
            out.push(u8::try_from(colours.len()).unwrap_or_default());
            colours.iter().for_each(|&colour| converter.put_compact(colour, out));
            values.chunks(width).for_each(|row| pack(row, colours, out));
        }
        _ if runs < raw => {
            out.push(zrle::PLAIN_RLE);
            values.chunk_by(u32::eq).for_each(|run| put_run(converter, run, out));
        }
        _ => {
            out.push(zrle::RAW);
            values.iter().for_each(|&value| converter.put_compact(value, out));
        }
    }
}

/// The tile's colours, if they are few.
fn palette(values: &[u32]) -> Option<Vec<u32>> {
    let mut colours = Vec::new();
    for run in values.chunk_by(u32::eq) {
        let colour = *run.first()?;
        if !colours.contains(&colour) {
            if colours.len() == PALETTE {
                return None;
            }
            colours.push(colour);
        }
    }
    Some(colours)
}

/// Bits of an index into a palette.
fn bits(colours: usize) -> usize {
    match colours {
        0..=2 => 1,
        3..=4 => 2,
        _ => 4,
    }
}

/// A row as indexes, the first in the highest bits; the last byte is filled up.
fn pack(row: &[u32], colours: &[u32], out: &mut Vec<u8>) {
    let bits = bits(colours.len());
    for pixels in row.chunks(8 / bits) {
        let mut byte = 0;
        for (place, value) in (1..).zip(pixels) {
            let index = colours.iter().position(|colour| colour == value).unwrap_or_default();
            byte |= index << (8 - place * bits);
        }
        out.push(u8::try_from(byte).unwrap_or_default());
    }
}

/// A colour and how often it comes: one less, in bytes of which all but the last are 255.
fn put_run(converter: &Converter, run: &[u32], out: &mut Vec<u8>) {
    let Some(&colour) = run.first() else { return };
    converter.put_compact(colour, out);
    let length = run.len() - 1;
    out.resize(out.len() + length / 255, 255);
    out.push(u8::try_from(length % 255).unwrap_or_default());
}
