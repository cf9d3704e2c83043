//! What is encoded is decoded to the same pixels, whatever they are like.

use std::io::Cursor;

use devices::display::{Mode, Screen};

use super::*;
use crate::vnc::pixels::NATIVE;
use crate::vnc::protocol::PixelFormat;
use crate::vnc::tests::client::{Client, Format, PLAIN, Wire};
use crate::vnc::tests::desk::TestScreen;

const ALL: [Encoding; 4] = [Encoding::Raw, Encoding::Hextile, Encoding::Zlib, Encoding::Zrle];

/// Encodes a picture and decodes it; gives what came out, and the bytes on the wire.
fn there_and_back(
    encoder: &mut Encoder,
    client: &mut Client,
    encoding: Encoding,
    converter: &Converter,
    pixels: &[u8],
) -> usize {
    let mut out = Vec::new();
    encoder.encode(encoding, converter, Picture { pixels, width: client.size.width.into() }, &mut out);
    let mut wire = Wire(Cursor::new(&out));
    client.picture.fill(None);
    client.pixels(client.size.area(), encoding.number(), &mut wire);
    assert_eq!(wire.0.position(), out.len() as u64, "{encoding:?} has more than it says");
    let pixels = pixels.as_chunks::<PIXEL>().0;
    let wrong = pixels.iter().zip(&client.picture).position(|(&pixel, got)| {
        // The unused byte of a pixel as it is means nothing.
        let mask =
            if client.format.bytes == 4 && converter.value([255; 4]) == 0xff_ffff { 0xff_ffff } else { !0 };
        got.map(|got| got & mask) != Some(converter.value(pixel) & mask)
    });
    assert_eq!(wrong, None, "{encoding:?} {:?}", client.format);
    out.len()
}

fn picture(width: u16, height: u16) -> (Mode, Vec<u8>) {
    let mode = Mode { width, height };
    let mut pixels = Vec::new();
    TestScreen::new(width, height).read(mode.area(), &mut pixels).unwrap();
    (mode, pixels)
}

#[test]
fn every_encoding_brings_every_pixel_in_every_format() {
    let (mode, pixels) = picture(205, 131);
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
    let mapped = PixelFormat { bits_per_pixel: 8, depth: 8, true_colour: 0, ..NATIVE };
    let two = Format { bytes: 2, big_endian: false, compact: (0, 2) };
    for (format, wire) in [
        (NATIVE, PLAIN),
        (PixelFormat { big_endian: 1, ..NATIVE }, Format { big_endian: true, compact: (1, 4), ..PLAIN }),
        (
            PixelFormat { red_shift: 24, green_shift: 16, blue_shift: 8, ..NATIVE },
            Format { compact: (1, 4), ..PLAIN },
        ),
        (rgb565, two),
        (PixelFormat { big_endian: 1, ..rgb565 }, Format { big_endian: true, ..two }),
        (mapped, Format { bytes: 1, big_endian: false, compact: (0, 1) }),
    ] {
        let converter = Converter::new(format).unwrap();
        let (mut encoder, mut client) = (Encoder::default(), Client::new(mode));
        client.format = wire;
        // Twice, as the streams go on.
        for encoding in ALL.into_iter().chain(ALL) {
            there_and_back(&mut encoder, &mut client, encoding, &converter, &pixels);
        }
    }
}

#[test]
fn pictures_of_every_small_size_come_whole() {
    let converter = Converter::new(NATIVE).unwrap();
    for (width, height) in [(1, 1), (1, 100), (100, 1), (15, 17), (16, 16), (63, 65), (64, 64), (65, 2)] {
        let (mode, pixels) = picture(width, height);
        let (mut encoder, mut client) = (Encoder::default(), Client::new(mode));
        for encoding in ALL {
            there_and_back(&mut encoder, &mut client, encoding, &converter, &pixels);
        }
    }
}

#[test]
fn palettes_of_every_size_and_long_runs_come_whole() {
    let converter = Converter::new(NATIVE).unwrap();
    for colours in 1..=40u8 {
        let mode = Mode { width: 67, height: 70 };
        let count = usize::from(mode.width) * usize::from(mode.height);
        // Singles, and runs that are longer than a byte says.
        for run in [1, 3, 255, 256, 257, 511, 4096] {
            let colour = |at: usize| [u8::try_from(at / run % usize::from(colours)).unwrap() * 6, 1, 2, 0];
            let pixels: Vec<u8> = (0..count).flat_map(colour).collect();
            let (mut encoder, mut client) = (Encoder::default(), Client::new(mode));
            for encoding in [Encoding::Hextile, Encoding::Zrle] {
                there_and_back(&mut encoder, &mut client, encoding, &converter, &pixels);
            }
        }
    }
}

#[test]
fn what_is_plain_is_small() {
    let converter = Converter::new(NATIVE).unwrap();
    let mode = Mode { width: 1024, height: 64 };
    let pixels = vec![7; 1024 * 64 * 4];
    let bytes = |encoding| {
        there_and_back(&mut Encoder::default(), &mut Client::new(mode), encoding, &converter, &pixels)
    };
    assert_eq!(bytes(Encoding::Raw), 1024 * 64 * 4);
    assert!(bytes(Encoding::Hextile) <= 64 * 4 + 4);
    assert!(bytes(Encoding::Zrle) < 64);
    assert!(bytes(Encoding::Zlib) < 4096);
}

#[test]
fn numbers_are_encodings() {
    for encoding in ALL {
        assert_eq!(Encoding::of(encoding.number()), Some(encoding));
    }
    assert_eq!(Encoding::of(7), None, "Tight");
}
