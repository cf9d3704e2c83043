//! What a guest shows, as a PNG file.
//!
//! Reading a picture and packing it takes a while: who asks does that on its own thread, with [`Picture`] in its hand.

use std::sync::Arc;

use devices::display::{PIXEL, Screen};
use thiserror::Error;

/// A screen to be photographed.
#[derive(Clone, Debug)]
pub struct Picture(pub Arc<dyn Screen>);

/// Why there is no photograph.
#[derive(Debug, Error)]
pub enum ScreenshotError {
    /// The screen is dark.
    #[error("The guest shows nothing")]
    Dark,
    /// No memory, in all likelihood.
    #[error("The picture cannot be written as PNG")]
    Png(#[from] png::EncodingError),
}

impl Picture {
    /// The picture as it is now, without the pointer.
    ///
    /// # Errors
    /// When the guest shows nothing.
    pub fn png(&self) -> Result<Vec<u8>, ScreenshotError> {
        let mut pixels = Vec::new();
        let mode = self.0.mode().ok_or(ScreenshotError::Dark)?;
        let area = self.0.read(mode.area(), &mut pixels).filter(|area| !area.is_empty());
        let area = area.ok_or(ScreenshotError::Dark)?;
        let rgb = pixels.as_chunks::<PIXEL>().0.iter().flat_map(|&[blue, green, red, _]| [red, green, blue]);
        let rgb: Vec<u8> = rgb.collect();
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, area.width.into(), area.height.into());
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_compression(png::Compression::Fast);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&rgb)?;
        writer.finish()?;
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vnc::tests::desk::TestScreen;

    #[test]
    fn a_screenshot_has_every_pixel() {
        let screen = TestScreen::new(321, 123);
        let file = Picture(screen.clone()).png().unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width, info.height, info.color_type), (321, 123, png::ColorType::Rgb));
        assert!(pixels == screen.rgb().concat());
    }

    #[test]
    fn a_dark_screen_has_no_screenshot() {
        let screen = TestScreen::new(10, 10);
        screen.blank();
        assert_eq!(Picture(screen).png().unwrap_err().to_string(), "The guest shows nothing");
    }
}
