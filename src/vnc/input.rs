//! What one viewer types and points at, on its way to the guest.
//!
//! Remembers what the viewer holds: whatever way a viewer goes, its keys and buttons are let go.

use std::sync::Arc;

use devices::display::{Mode, POINTER_MAX, Scancode, button};

use super::keymap::Keymap;
use super::keysyms::{
    self, ALT_GR, CAPS_LOCK, LEVEL3_KEYSYMS, PAUSE, PAUSE_REST, RIGHT_SHIFT, SHIFT, Stroke,
};
use crate::display::Display;

/// Bits of a pointer message that are buttons, and the guest's bits for them.
const BUTTONS: [(u8, u8); 4] =
    [(1 << 0, button::LEFT), (1 << 1, button::MIDDLE), (1 << 2, button::RIGHT), (1 << 7, button::BACK)];
/// The wheel is two buttons more, and each press is one notch.
const WHEEL_UP: u8 = 1 << 3;
const WHEEL_DOWN: u8 = 1 << 4;

/// A viewer's keyboard and pointer.
#[derive(Debug)]
pub(super) struct Input {
    display: Display,
    keymap: Arc<Keymap>,
    /// Keys that are down; there are no more than codes.
    held: Vec<Scancode>,
    /// The viewer has switched Caps Lock on, as far as anybody knows.
    caps_lock: bool,
    /// The viewer's right Alt key chooses characters.
    level3: bool,
    /// Buttons as the viewer said them last.
    buttons: u8,
    /// Where the guest's pointer was put last.
    place: (u16, u16),
}

impl Input {
    pub(super) fn new(display: Display, keymap: Arc<Keymap>) -> Self {
        let (held, place) = (Vec::new(), (0, 0));
        Input { display, keymap, held, caps_lock: false, level3: false, buttons: 0, place }
    }

    /// A key, by what is printed on it.
    pub(super) fn key(&mut self, keysym: u32, pressed: bool) {
        let Some(Stroke { scancode, shift, altgr, letter }) = self.keymap.stroke(keysym) else { return };
        if LEVEL3_KEYSYMS.contains(&keysym) {
            self.level3 = pressed;
        }
        if !pressed {
            return self.press(scancode, false);
        }
        // A character needs its Shift and AltGr, whatever keys had to be held for it on the viewer's keyboard.
        let shift = shift.map(|shift| shift != (letter && self.caps_lock));
        let mut changed = self.hold(&[SHIFT, RIGHT_SHIFT], shift);
        // A right Alt key that is no AltGr is held for something else.
        changed.extend(self.hold(&[ALT_GR], altgr.filter(|&altgr| altgr || self.level3)));
        self.press(scancode, true);
        changed.into_iter().rev().for_each(|(key, pressed)| self.send(key, !pressed));
    }

    /// Has one of these keys down, or none, as far as that matters; gives the strokes that it took.
    fn hold(&self, keys: &[Scancode], wanted: Option<bool>) -> Vec<(Scancode, bool)> {
        let held = self.held.iter().copied().filter(|key| keys.contains(key));
        let strokes: Vec<(Scancode, bool)> = match wanted {
            Some(true) if held.clone().next().is_none() => {
                keys.first().map(|&key| (key, true)).into_iter().collect()
            }
            Some(false) => held.map(|key| (key, false)).collect(),
            _ => Vec::new(),
        };
        strokes.iter().for_each(|&(key, pressed)| self.send(key, pressed));
        strokes
    }

    /// A key, by its place if the viewer knows it.
    pub(super) fn placed_key(&mut self, keysym: u32, keycode: u32, pressed: bool) {
        match keysyms::placed(keycode) {
            Some(scancode) => self.press(scancode, pressed),
            None => self.key(keysym, pressed),
        }
    }

    /// The pointer is at a pixel of a picture of this size.
    pub(super) fn pointer(&mut self, buttons: u8, (x, y): (u16, u16), mode: Mode) {
        let turned = |bit| i8::from(buttons & bit != 0 && self.buttons & bit == 0);
        let wheel = turned(WHEEL_UP) - turned(WHEEL_DOWN);
        self.buttons = buttons;
        self.place = (scale(x, mode.width), scale(y, mode.height));
        self.point(wheel);
    }

    fn point(&self, wheel: i8) {
        let Some(pointer) = &self.display.pointer else { return };
        let held = BUTTONS.iter().filter(|(bit, _)| self.buttons & bit != 0);
        let buttons = held.fold(0, |held, (_, button)| held | button);
        pointer.pointer(self.place.0, self.place.1, buttons, wheel);
    }

    fn press(&mut self, scancode: Scancode, pressed: bool) {
        let is_held = self.held.contains(&scancode);
        if pressed && !is_held {
            self.held.push(scancode);
            self.caps_lock ^= scancode == CAPS_LOCK;
        } else if !pressed {
            // A release of what was never pressed here is another viewer's business.
            if !is_held {
                return;
            }
            self.held.retain(|held| *held != scancode);
        }
        self.send(scancode, pressed);
    }

    fn send(&self, scancode: Scancode, pressed: bool) {
        let Some(keys) = &self.display.keys else { return };
        keys.key(scancode, pressed);
        if scancode == PAUSE {
            keys.key(PAUSE_REST, pressed);
        }
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        for scancode in std::mem::take(&mut self.held) {
            self.send(scancode, false);
        }
        if self.buttons != 0 {
            self.buttons = 0;
            self.point(0);
        }
    }
}

/// A pixel's place as the guest's pointer has it: 0 is the first pixel, the largest the last.
fn scale(pixel: u16, pixels: u16) -> u16 {
    let last = u32::from(pixels.saturating_sub(1)).max(1);
    let place = (u32::from(pixel) * u32::from(POINTER_MAX) + last / 2) / last;
    u16::try_from(place).unwrap_or(POINTER_MAX).min(POINTER_MAX)
}

#[cfg(test)]
mod tests {
    use super::super::tests::desk::{Hands, Seen};
    use super::*;
    use devices::display::Prefix;

    const MODE: Mode = Mode { width: 1024, height: 768 };

    fn input() -> (Arc<Hands>, Input) {
        let hands = Arc::new(Hands::default());
        let (keys, pointer) = (hands.clone(), hands.clone());
        let display = Display { screen: None, keys: Some(keys), pointer: Some(pointer) };
        (hands, Input::new(display, Arc::default()))
    }

    fn keys(hands: &Hands) -> String {
        let one = |seen: &Seen| match seen {
            Seen::Key(Scancode { code, prefix }, pressed) => {
                let prefix = match prefix {
                    Prefix::None => "",
                    Prefix::E0 => "e0 ",
                    Prefix::E1 => "e1 ",
                };
                format!("{}{prefix}{code:02x}", if *pressed { '+' } else { '-' })
            }
            other => format!("{other:?}"),
        };
        hands.take().iter().map(one).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn characters_are_typed_with_the_shift_that_they_need() {
        let (hands, mut input) = input();
        let mut stroke = |keysym: u32, pressed| {
            input.key(keysym, pressed);
            keys(&hands)
        };
        assert_eq!(stroke(0x61, true), "+1e");
        assert_eq!(stroke(0x61, false), "-1e");
        assert_eq!(stroke(0x41, true), "+2a, +1e, -2a", "A from a client that sends no Shift");
        assert_eq!(stroke(0x41, false), "-1e");
        assert_eq!(stroke(0xffe1, true), "+2a");
        assert_eq!(stroke(0x41, true), "+1e");
        assert_eq!(stroke(0x61, false), "-1e", "let go after Shift was");
        assert_eq!(stroke(0x2f, true), "-2a, +35, +2a", "the / of a keyboard that has it on Shift-7");
        assert_eq!(stroke(0x2f, false), "-35");
    }

    #[test]
    fn an_at_sign_of_a_german_viewer_is_an_at_sign_on_the_guests_us_keyboard() {
        let (hands, mut input) = input();
        input.key(0xfe03, true);
        assert_eq!(keys(&hands), "+e0 38", "AltGr");
        input.key(0x40, true);
        assert_eq!(keys(&hands), "+2a, -e0 38, +03, +e0 38, -2a");
        input.key(0x40, false);
        input.key(0xfe03, false);
        assert_eq!(keys(&hands), "-03, -e0 38");
        input.key(0xffea, true);
        input.key(0x78, true);
        assert_eq!(keys(&hands), "+e0 38, +2d", "a right Alt that chooses no characters stays");
    }

    #[test]
    fn letters_are_right_under_caps_lock() {
        let (hands, mut input) = input();
        input.key(0xffe5, true);
        input.key(0xffe5, false);
        assert_eq!(keys(&hands), "+3a, -3a");
        input.key(0x41, true);
        assert_eq!(keys(&hands), "+1e", "the guest's Caps Lock makes it a capital");
        input.key(0x21, true);
        assert_eq!(keys(&hands), "+2a, +02, -2a", "it does nothing for !");
    }

    #[test]
    fn a_placed_key_is_sent_as_it_is_and_pause_is_two() {
        let (hands, mut input) = input();
        input.placed_key(0x7a, 0x15, true);
        input.placed_key(0x7a, 0x15, true);
        assert_eq!(keys(&hands), "+15, +15", "a key that repeats");
        input.placed_key(0xff13, 0xc6, true);
        input.placed_key(0xff13, 0xc6, false);
        assert_eq!(keys(&hands), "+e1 1d, +45, -e1 1d, -45");
        input.placed_key(0x61, 0, true);
        assert_eq!(keys(&hands), "+1e", "a place that the viewer does not know");
    }

    #[test]
    fn a_viewer_that_goes_lets_everything_go() {
        let (hands, mut input) = input();
        input.key(0xffe3, true);
        input.placed_key(0, 0x9d, true);
        input.pointer(1, (0, 0), MODE);
        hands.take();
        input.key(0x62, false);
        assert_eq!(keys(&hands), "", "what was never pressed is not let go");
        drop(input);
        assert_eq!(
            hands.take(),
            [
                Seen::Key(Scancode { code: 0x1d, prefix: Prefix::None }, false),
                Seen::Key(Scancode { code: 0x1d, prefix: Prefix::E0 }, false),
                Seen::Pointer(0, 0, 0, 0),
            ]
        );
    }

    #[test]
    fn the_pointer_reaches_every_corner() {
        let (hands, mut input) = input();
        for (pixel, place) in [
            ((0, 0), (0, 0)),
            ((1023, 767), (32767, 32767)),
            ((512, 767), (16400, 32767)),
            ((9999, 0), (32767, 0)),
        ] {
            input.pointer(0, pixel, MODE);
            assert_eq!(hands.take(), [Seen::Pointer(place.0, place.1, 0, 0)]);
        }
        input.pointer(0, (5, 5), Mode { width: 1, height: 0 });
        assert_eq!(hands.take(), [Seen::Pointer(32767, 32767, 0, 0)]);
    }

    #[test]
    fn buttons_and_wheel_have_the_guests_bits() {
        let (hands, mut input) = input();
        let mut point = |buttons| {
            input.pointer(buttons, (0, 0), MODE);
            match hands.take()[..] {
                [Seen::Pointer(0, 0, buttons, wheel)] => (buttons, wheel),
                ref other => panic!("{other:?}"),
            }
        };
        assert_eq!(point(0b001), (button::LEFT, 0));
        assert_eq!(point(0b010), (button::MIDDLE, 0));
        assert_eq!(point(0b100), (button::RIGHT, 0));
        assert_eq!(point(WHEEL_UP), (0, 1));
        assert_eq!(point(WHEEL_UP), (0, 0), "held is no turn");
        assert_eq!(point(WHEEL_DOWN | 1), (button::LEFT, -1));
        assert_eq!(point(1 << 7), (button::BACK, 0));
    }
}
