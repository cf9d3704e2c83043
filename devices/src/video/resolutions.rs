//! Which resolutions a guest is offered, and the description of the monitor that has them.
//!
//! Every resolution that fits into video memory is offered; the preferred one, which the guest begins with, is the
//! monitor's own. The description is EDID 1.4 (VESA E-EDID release A2), 128 bytes.

use crate::display::{Mode, PIXEL};

/// Bytes of video memory at least, which Hyper-V's guests count on.
pub const VRAM_MIN: usize = 8 << 20;
/// The preferred resolution where nobody says another.
pub const DEFAULT: Mode = Mode { width: 1024, height: 768 };
/// Neither side of a picture may be smaller: guests refuse what is.
pub const SMALLEST: Mode = Mode { width: 640, height: 480 };
/// Neither side of a picture may be larger: the numbers of an EDID timing end soon after.
pub const LARGEST: Mode = Mode { width: 3840, height: 2160 };

const fn mode(width: u16, height: u16) -> Mode {
    Mode { width, height }
}

/// What monitors have.
const COMMON: [Mode; 23] = [
    SMALLEST,
    mode(800, 600),
    DEFAULT,
    mode(1152, 864),
    mode(1280, 720),
    mode(1280, 768),
    mode(1280, 800),
    mode(1280, 960),
    mode(1280, 1024),
    mode(1366, 768),
    mode(1400, 1050),
    mode(1440, 900),
    mode(1600, 900),
    mode(1600, 1200),
    mode(1680, 1050),
    mode(1920, 1080),
    mode(1920, 1200),
    mode(1920, 1440),
    mode(2048, 1536),
    mode(2560, 1440),
    mode(2560, 1600),
    mode(3440, 1440),
    LARGEST,
];

/// Bytes of a picture.
const fn picture_bytes(mode: Mode) -> usize {
    mode.width as usize * mode.height as usize * PIXEL
}

/// Bytes of video memory for a machine whose preferred resolution this is: whole MiB.
#[must_use]
pub fn vram_size(preferred: Mode) -> usize {
    picture_bytes(preferred).next_multiple_of(1 << 20).max(VRAM_MIN)
}

/// Resolutions that fit into so many bytes, the preferred one first.
#[must_use]
pub fn offered(preferred: Mode, vram: usize) -> Vec<Mode> {
    let others = COMMON.into_iter().filter(|&mode| mode != preferred && picture_bytes(mode) <= vram);
    std::iter::once(preferred).chain(others).collect()
}

/// Description of a monitor whose own resolution this is.
#[must_use]
pub fn edid(preferred: Mode) -> [u8; 128] {
    let mut bytes = Vec::with_capacity(128);
    bytes.extend([0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00]);
    // Hyper-V's monitor: manufacturer MSH, product 0x062e; no serial number, made in 2011.
    bytes.extend([0x36, 0x68, 0x2e, 0x06, 0, 0, 0, 0, 0xff, 21]);
    // EDID 1.4; digital, 8 bits a colour; no size; gamma 2.2; sRGB, the detailed timing is the monitor's own.
    bytes.extend([1, 4, 0xa0, 0, 0, 120, 0x06]);
    // The chromaticities of sRGB.
    bytes.extend([0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54]);
    // Established timings: 640x480, 800x600 and 1024x768 at 60 Hz. Standard timings: none.
    bytes.extend([0x21, 0x08, 0x00]);
    bytes.extend([0x01; 16]);
    bytes.extend(timing(preferred));
    bytes.extend(descriptor(0xfc, b"Busman\n      "));
    bytes.extend(descriptor(0xfe, b"synthetic\n   "));
    bytes.extend(descriptor(0x10, &[0; 13]));
    // No extensions.
    bytes.push(0);
    let sum = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    bytes.push(sum.wrapping_neg());
    bytes.first_chunk().copied().unwrap_or([0; 128])
}

/// A detailed timing (EDID 1.4, 3.10.2): 60 Hz with the reduced blanking of VESA's CVT.
fn timing(Mode { width, height }: Mode) -> [u8; 18] {
    /// Blank pixels after a row and blank rows after a picture.
    const H_BLANK: u16 = 160;
    const V_BLANK: u16 = 40;
    let pixels = u32::from(width + H_BLANK) * u32::from(height + V_BLANK) * 60;
    let [clock, clock_high] = u16::try_from(pixels / 10_000).unwrap_or(u16::MAX).to_le_bytes();
    let ([w, w_high], [h, h_high]) = (width.to_le_bytes(), height.to_le_bytes());
    let ([hb, hb_high], [vb, vb_high]) = (H_BLANK.to_le_bytes(), V_BLANK.to_le_bytes());
    [
        clock,
        clock_high,
        w,
        hb,
        w_high << 4 | hb_high,
        h,
        vb,
        h_high << 4 | vb_high,
        // Front porch and sync: 48 and 32 pixels, 3 and 6 rows.
        48,
        32,
        0x36,
        0,
        // No size, no border.
        0,
        0,
        0,
        0,
        0,
        // Separate digital syncs, the horizontal one positive.
        0x1a,
    ]
}

/// A display descriptor (EDID 1.4, 3.10.3).
fn descriptor(tag: u8, data: &[u8; 13]) -> impl Iterator<Item = u8> {
    [0, 0, 0, tag, 0].into_iter().chain(*data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_offered_fits_and_begins_with_the_preferred_one() {
        for preferred in COMMON.into_iter().chain([mode(1111, 777), mode(640, 2160)]) {
            let vram = vram_size(preferred);
            assert!(vram >= VRAM_MIN && vram.is_multiple_of(1 << 20));
            let modes = offered(preferred, vram);
            assert_eq!(modes[0], preferred);
            assert!(modes.len() <= 64 && modes.contains(&DEFAULT) && modes.contains(&SMALLEST));
            assert!(modes.iter().all(|&mode| picture_bytes(mode) <= vram));
            let unique: std::collections::HashSet<_> = modes.iter().collect();
            assert_eq!(unique.len(), modes.len());
        }
        let full_hd = mode(1920, 1080);
        assert_eq!(vram_size(full_hd), VRAM_MIN);
        assert!(offered(DEFAULT, VRAM_MIN).contains(&full_hd));
        assert_eq!(vram_size(LARGEST), 32 << 20);
    }

    #[test]
    fn the_monitor_is_described_as_edid_says() {
        let edid = edid(mode(1920, 1080));
        assert_eq!(edid.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)), 0);
        assert_eq!(
            (edid[..8].to_vec(), edid[18..20].to_vec()),
            (vec![0, 255, 255, 255, 255, 255, 255, 0], vec![1, 4])
        );
        // 1920x1080 at 60 Hz with reduced blanking: 2080 x 1120 x 60 pixels a second are 139.77 MHz.
        assert_eq!(u16::from_le_bytes([edid[54], edid[55]]), 13_977);
        assert_eq!((edid[56], edid[58] >> 4, edid[59], edid[61] >> 4), (0x80, 7, 0x38, 4));
        assert_eq!(&edid[72..83], b"\0\0\0\xfc\0Busman");
        for mode in COMMON {
            let edid = super::edid(mode);
            assert!(u16::from_le_bytes([edid[54], edid[55]]) < u16::MAX);
        }
    }
}
