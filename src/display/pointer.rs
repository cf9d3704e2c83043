//! The pointer as users move it: `X Y left,right`.

use std::str::FromStr;

use devices::display::{POINTER_MAX, Pointer, button};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A place, held buttons, and turns of the wheel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PointerEvent {
    /// From 0, the left edge, to 32,767, the right one, whatever the resolution.
    pub x: u16,
    /// From 0, the upper edge, to 32,767.
    pub y: u16,
    /// Held buttons: left, right, middle, back, forward.
    #[serde(default)]
    pub buttons: Vec<Button>,
    /// Notches, positive away from the user.
    #[serde(default)]
    pub wheel: i8,
}

/// A button.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Button {
    /// The left one.
    Left,
    /// The right one.
    Right,
    /// The middle one, or the wheel.
    Middle,
    /// The first of two more.
    Back,
    /// The second of two more.
    Forward,
}

/// Why a text is no event.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PointerError {
    /// No place.
    #[error("{0:?} is no place on the screen; write X Y, each from 0 to {POINTER_MAX}")]
    Place(String),
    /// No button.
    #[error("There is no button {0:?}; buttons are left, right, middle, back and forward")]
    Button(String),
}

impl FromStr for PointerEvent {
    type Err = PointerError;

    fn from_str(text: &str) -> Result<Self, PointerError> {
        let mut words = text.split_whitespace();
        let mut axis = || words.next()?.parse().ok().filter(|&at| at <= POINTER_MAX);
        let (Some(x), Some(y)) = (axis(), axis()) else { return Err(PointerError::Place(text.to_owned())) };
        let button = |name: &str| {
            clap::ValueEnum::from_str(name, true).map_err(|_| PointerError::Button(name.to_owned()))
        };
        let buttons = words.flat_map(|word| word.split(',')).map(button).collect::<Result<_, _>>()?;
        Ok(PointerEvent { x, y, buttons, wheel: 0 })
    }
}

impl PointerEvent {
    /// Tells the guest.
    pub fn tell(&self, pointer: &dyn Pointer) {
        let bit = |held: &Button| match held {
            Button::Left => button::LEFT,
            Button::Right => button::RIGHT,
            Button::Middle => button::MIDDLE,
            Button::Back => button::BACK,
            Button::Forward => button::FORWARD,
        };
        let buttons = self.buttons.iter().map(bit).fold(0, |all, bit| all | bit);
        pointer.pointer(self.x, self.y, buttons, self.wheel);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Debug, Default)]
    struct Seen(Mutex<Vec<(u16, u16, u8, i8)>>);

    impl Pointer for Seen {
        fn pointer(&self, x: u16, y: u16, buttons: u8, wheel: i8) {
            self.0.lock().unwrap().push((x, y, buttons, wheel));
        }
    }

    #[test]
    fn words_are_events() {
        let seen = Seen::default();
        for text in ["1 2", "32767 0 left,FORWARD", " 5  6  right middle "] {
            text.parse::<PointerEvent>().unwrap().tell(&seen);
        }
        assert_eq!(*seen.0.lock().unwrap(), [(1, 2, 0, 0), (32_767, 0, 0x11, 0), (5, 6, 6, 0)]);
        for (text, error) in [
            ("", PointerError::Place(String::new())),
            ("1", PointerError::Place("1".into())),
            ("1 32768", PointerError::Place("1 32768".into())),
            ("-1 0", PointerError::Place("-1 0".into())),
            ("1 2 thumb", PointerError::Button("thumb".into())),
        ] {
            assert_eq!(text.parse::<PointerEvent>(), Err(error), "{text}");
        }
    }
}
