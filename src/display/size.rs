//! A resolution as users write it: WIDTHxHEIGHT.

use std::fmt;
use std::str::FromStr;

use devices::display::Mode;
use devices::video::resolutions::{DEFAULT, LARGEST, SMALLEST};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The resolution that a guest is to begin with.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct DisplaySize(pub Mode);

impl Default for DisplaySize {
    fn default() -> Self {
        DisplaySize(DEFAULT)
    }
}

/// Why a text is none.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DisplaySizeError {
    /// It has another form.
    #[error("{0:?} is no resolution; write WIDTHxHEIGHT, for instance 1280x1024")]
    Form(String),
    /// Nobody has such a display.
    #[error("{text} is out of range: from {least} to {most}", least = DisplaySize(SMALLEST), most = DisplaySize(LARGEST))]
    Range {
        /// What the user wrote.
        text: String,
    },
}

impl FromStr for DisplaySize {
    type Err = DisplaySizeError;

    fn from_str(text: &str) -> Result<Self, DisplaySizeError> {
        let form = || DisplaySizeError::Form(text.to_owned());
        let (width, height) = text.split_once(['x', 'X']).ok_or_else(form)?;
        let number = |digits: &str| -> Result<u32, DisplaySizeError> {
            let digits = Some(digits).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
            digits.and_then(|digits| digits.parse().ok()).ok_or_else(form)
        };
        let side = |pixels: u32, least: u16, most: u16| {
            u16::try_from(pixels)
                .ok()
                .filter(|pixels| (least..=most).contains(pixels))
                .ok_or_else(|| DisplaySizeError::Range { text: text.to_owned() })
        };
        let (width, height) = (number(width)?, number(height)?);
        Ok(DisplaySize(Mode {
            width: side(width, SMALLEST.width, LARGEST.width)?,
            height: side(height, SMALLEST.height, LARGEST.height)?,
        }))
    }
}

impl fmt::Display for DisplaySize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<String> for DisplaySize {
    type Error = DisplaySizeError;

    fn try_from(text: String) -> Result<Self, DisplaySizeError> {
        text.parse()
    }
}

impl From<DisplaySize> for String {
    fn from(size: DisplaySize) -> String {
        size.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolutions_are_understood_and_others_explained() {
        assert_eq!("1280x1024".parse(), Ok(DisplaySize(Mode { width: 1280, height: 1024 })));
        assert_eq!("640X480".parse(), Ok(DisplaySize(SMALLEST)));
        for text in ["", "1280", "x", "1280x", "1280 x 1024", "+1280x1024", "99999999999x1"] {
            assert_eq!(text.parse::<DisplaySize>(), Err(DisplaySizeError::Form(text.into())), "{text}");
        }
        let error = "320x200".parse::<DisplaySize>().unwrap_err().to_string();
        assert_eq!(error, "320x200 is out of range: from 640x480 to 3840x2160");
        assert!("3840x2161".parse::<DisplaySize>().is_err());
    }
}
