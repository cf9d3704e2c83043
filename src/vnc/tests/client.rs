//! A viewer of our own: decodes what the server sends, written from the protocol's description alone.

use std::io::Read;

use devices::display::{Mode, Rect};
use flate2::{Decompress, FlushDecompress};

/// What a viewer knows after updates: its picture, and what was told besides.
#[derive(Debug)]
pub struct Client {
    pub size: Mode,
    /// Values as they came, in the format that the client asked for; of pixels that never came, none.
    pub picture: Vec<Option<u32>>,
    pub format: Format,
    pub told: Vec<Told>,
    pub rects: Vec<Rect>,
    zlib: Decompress,
    zrle: Decompress,
}

/// Pixels on the wire: bytes, their order, and the bytes of a CPIXEL.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    pub bytes: usize,
    pub big_endian: bool,
    pub compact: (usize, usize),
}

pub const PLAIN: Format = Format { bytes: 4, big_endian: false, compact: (0, 3) };

/// What is told besides pixels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Size(Mode),
    /// Reason, status, size.
    ExtendedSize(u16, u16, Mode),
    Cursor(Rect, Vec<u8>),
    ExtendedKeys,
    ColourMap(Vec<u8>),
}

/// Bytes that come from the server.
pub struct Wire<R>(pub R);

impl<R: Read> Wire<R> {
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    pub fn u8(&mut self) -> u8 {
        self.bytes(1)[0]
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.bytes(2).try_into().unwrap())
    }

    pub fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.bytes(4).try_into().unwrap())
    }

    fn value(&mut self, format: Format, (first, end): (usize, usize)) -> u32 {
        let mut bytes = [0; 4];
        if format.big_endian {
            bytes[4 - format.bytes + first..][..end - first].copy_from_slice(&self.bytes(end - first));
            u32::from_be_bytes(bytes)
        } else {
            bytes[first..end].copy_from_slice(&self.bytes(end - first));
            u32::from_le_bytes(bytes)
        }
    }

    fn pixel(&mut self, format: Format) -> u32 {
        self.value(format, (0, format.bytes))
    }

    fn compact(&mut self, format: Format) -> u32 {
        self.value(format, format.compact)
    }
}

impl Client {
    /// Reads `ServerInit`.
    pub fn begin(wire: &mut Wire<impl Read>) -> Self {
        let size = Mode { width: wire.u16(), height: wire.u16() };
        wire.bytes(16);
        let name = wire.u32();
        assert_eq!(wire.bytes(name as usize), b"busman");
        Client::new(size)
    }

    pub fn new(size: Mode) -> Self {
        Client {
            size,
            picture: vec![None; usize::from(size.width) * usize::from(size.height)],
            format: PLAIN,
            told: Vec::new(),
            rects: Vec::new(),
            zlib: Decompress::new(true),
            zrle: Decompress::new(true),
        }
    }

    /// Reads one update, and a colour map before it.
    pub fn update(&mut self, wire: &mut Wire<impl Read>) {
        loop {
            match wire.u8() {
                0 => break,
                1 => {
                    wire.bytes(3);
                    let colours = usize::from(wire.u16());
                    self.told.push(Told::ColourMap(wire.bytes(colours * 6)));
                }
                other => panic!("message {other}"),
            }
        }
        wire.u8();
        for _ in 0..wire.u16() {
            let rect = Rect { left: wire.u16(), top: wire.u16(), width: wire.u16(), height: wire.u16() };
            self.rectangle(rect, wire.u32().cast_signed(), wire);
        }
    }

    fn rectangle(&mut self, rect: Rect, encoding: i32, wire: &mut Wire<impl Read>) {
        let mode = Mode { width: rect.width, height: rect.height };
        match encoding {
            -223 => {
                self.resize(mode);
                self.told.push(Told::Size(mode));
            }
            -308 => {
                let screens = usize::from(wire.u8());
                wire.bytes(3 + 16 * screens);
                self.resize(mode);
                self.told.push(Told::ExtendedSize(rect.left, rect.top, mode));
            }
            -239 => {
                let (width, height) = (usize::from(rect.width), usize::from(rect.height));
                let bytes = wire.bytes(width * height * self.format.bytes + width.div_ceil(8) * height);
                self.told.push(Told::Cursor(rect, bytes));
            }
            -258 => self.told.push(Told::ExtendedKeys),
            _ => {
                self.rects.push(rect);
                self.pixels(rect, encoding, wire);
            }
        }
    }

    fn resize(&mut self, size: Mode) {
        if self.size != size {
            let Client { picture, .. } = Client::new(size);
            (self.size, self.picture) = (size, picture);
        }
    }

    pub fn pixels(&mut self, rect: Rect, encoding: i32, wire: &mut Wire<impl Read>) {
        assert_eq!(rect.common(self.size.area()), rect, "outside the picture");
        let pixels = usize::from(rect.width) * usize::from(rect.height);
        match encoding {
            0 => self.raw(rect, wire),
            5 => self.hextile(rect, wire),
            6 => {
                let bytes = inflate(&mut self.zlib, wire, pixels * self.format.bytes);
                assert_eq!(bytes.len(), pixels * self.format.bytes);
                self.raw(rect, &mut Wire(bytes.as_slice()));
            }
            16 => {
                let bytes = inflate(&mut self.zrle, wire, pixels * 8 + 4096);
                let mut plain = Wire(bytes.as_slice());
                for tile in tiles(rect, 64) {
                    self.zrle_tile(tile, &mut plain);
                }
                assert!(plain.0.is_empty(), "more than all tiles");
            }
            other => panic!("encoding {other}"),
        }
    }

    fn put(&mut self, rect: Rect, values: impl IntoIterator<Item = u32>) {
        let mut values = values.into_iter();
        for y in rect.top..rect.bottom() {
            for x in rect.left..rect.right() {
                let at = usize::from(y) * usize::from(self.size.width) + usize::from(x);
                self.picture[at] = Some(values.next().unwrap());
            }
        }
        assert!(values.next().is_none(), "more than the rectangle has");
    }

    fn raw(&mut self, rect: Rect, wire: &mut Wire<impl Read>) {
        let count = usize::from(rect.width) * usize::from(rect.height);
        let values: Vec<u32> = (0..count).map(|_| wire.pixel(self.format)).collect();
        self.put(rect, values);
    }

    fn hextile(&mut self, rect: Rect, wire: &mut Wire<impl Read>) {
        let (mut background, mut foreground) = (None, None);
        for tile in tiles(rect, 16) {
            let flags = wire.u8();
            if flags & 1 != 0 {
                self.raw(tile, wire);
                (background, foreground) = (None, None);
                continue;
            }
            if flags & 2 != 0 {
                background = Some(wire.pixel(self.format));
            }
            if flags & 4 != 0 {
                foreground = Some(wire.pixel(self.format));
            }
            let plain = background.unwrap();
            self.put(tile, (0..usize::from(tile.width) * usize::from(tile.height)).map(|_| plain));
            let count = if flags & 8 != 0 { wire.u8() } else { 0 };
            for _ in 0..count {
                let colour = if flags & 16 != 0 { wire.pixel(self.format) } else { foreground.unwrap() };
                let (place, size) = (wire.u8(), wire.u8());
                let part = Rect {
                    left: tile.left + u16::from(place >> 4),
                    top: tile.top + u16::from(place & 15),
                    width: u16::from(size >> 4) + 1,
                    height: u16::from(size & 15) + 1,
                };
                assert_eq!(part.common(tile), part);
                let pixels = usize::from(part.width) * usize::from(part.height);
                self.put(part, vec![colour; pixels]);
            }
        }
    }

    fn zrle_tile(&mut self, tile: Rect, plain: &mut Wire<&[u8]>) {
        let count = usize::from(tile.width) * usize::from(tile.height);
        let format = self.format;
        let kind = plain.u8();
        let values: Vec<u32> = match kind {
            0 => (0..count).map(|_| plain.compact(format)).collect(),
            1 => vec![plain.compact(format); count],
            2..=16 => {
                let palette: Vec<u32> = (0..kind).map(|_| plain.compact(format)).collect();
                let bits = [1, 2, 4][usize::from(kind > 2) + usize::from(kind > 4)];
                let mut values = Vec::new();
                for _ in 0..tile.height {
                    let row = plain.bytes((usize::from(tile.width) * bits).div_ceil(8));
                    let index = |at: usize| {
                        usize::from(row[at * bits / 8] >> (8 - bits - at * bits % 8)) & ((1 << bits) - 1)
                    };
                    values.extend((0..usize::from(tile.width)).map(|at| palette[index(at)]));
                }
                values
            }
            128 => {
                let mut values = Vec::new();
                while values.len() < count {
                    let colour = plain.compact(format);
                    let mut length = 1;
                    loop {
                        let more = plain.u8();
                        length += usize::from(more);
                        if more != 255 {
                            break;
                        }
                    }
                    values.extend(vec![colour; length]);
                }
                values
            }
            other => panic!("tile {other}"),
        };
        self.put(tile, values);
    }

    /// The picture in the guest's own format, which must have come whole.
    pub fn rgb(&self) -> Vec<[u8; 3]> {
        let rgb = |value: &Option<u32>| {
            let [blue, green, red, _] = value.expect("a pixel that never came").to_le_bytes();
            [red, green, blue]
        };
        self.picture.iter().map(rgb).collect()
    }
}

fn tiles(rect: Rect, size: usize) -> Vec<Rect> {
    let mut tiles = Vec::new();
    for top in (rect.top..rect.bottom()).step_by(size) {
        for left in (rect.left..rect.right()).step_by(size) {
            let size = u16::try_from(size).unwrap();
            tiles.push(Rect { left, top, width: size, height: size }.common(rect));
        }
    }
    tiles
}

fn inflate(stream: &mut Decompress, wire: &mut Wire<impl Read>, room: usize) -> Vec<u8> {
    let length = wire.u32() as usize;
    let packed = wire.bytes(length);
    let before = stream.total_in();
    let mut bytes = Vec::with_capacity(room + 1);
    stream.decompress_vec(&packed, &mut bytes, FlushDecompress::Sync).unwrap();
    assert_eq!(stream.total_in() - before, length as u64, "a piece is complete");
    bytes
}
