//! What is printed on keys (X11's keysyms) and where those keys are (scan code set 1).
//!
//! For viewers that cannot say where a key is, and guests of which nobody said another layout ([`keymap`](super::keymap)):
//! those have a US keyboard, and what it does not have is not typed. Viewers that speak QEMU's extended key events
//! need none of this, whatever their keyboard and the guest's layout.

use devices::display::{Prefix, Scancode};

/// The left shift key, which is pressed and let go for characters that need it.
pub const SHIFT: Scancode = plain(0x2a);
/// The right one.
pub const RIGHT_SHIFT: Scancode = plain(0x36);
/// The right Alt key, which chooses further characters where the layout has such.
pub const ALT_GR: Scancode = Scancode { code: 0x38, prefix: Prefix::E0 };
/// What viewers call that key where it does: `ISO_Level3_Shift` and `Mode_switch`.
pub const LEVEL3_KEYSYMS: [u32; 2] = [0xfe03, 0xff7e];
/// Caps Lock.
pub const CAPS_LOCK: Scancode = plain(0x3a);
/// The first of Pause's two; the second is [`PAUSE_REST`].
pub const PAUSE: Scancode = Scancode { code: 0x1d, prefix: Prefix::E1 };
/// What follows [`PAUSE`], up and down.
pub const PAUSE_REST: Scancode = plain(0x45);

/// A key, and what has to be held for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stroke {
    /// The key's place.
    pub scancode: Scancode,
    /// Whether Shift has to be held; `None` where it does not matter.
    pub shift: Option<bool>,
    /// The same of AltGr.
    pub altgr: Option<bool>,
    /// Caps Lock turns `shift` round.
    pub letter: bool,
}

/// Rows of the keyboard: the first key's code, the characters without Shift, and with it.
const ROWS: [(u16, &[u8], &[u8]); 5] = [
    (0x02, b"1234567890-=", b"!@#$%^&*()_+"),
    (0x10, b"qwertyuiop[]", b"QWERTYUIOP{}"),
    (0x1e, b"asdfghjkl;'`", b"ASDFGHJKL:\"~"),
    (0x2b, b"\\zxcvbnm,./", b"|ZXCVBNM<>?"),
    (0x39, b" ", b" "),
];

/// Keys that are no characters: keysym, code.
const PLAIN: [(u32, u16); 57] = [
    (0xff08, 0x0e), // BackSpace
    (0xff09, 0x0f), // Tab
    (0xfe20, 0x0f), // ISO_Left_Tab
    (0xff0d, 0x1c), // Return
    (0xff1b, 0x01), // Escape
    (0xff14, 0x46), // Scroll_Lock
    (0xff15, 0x54), // Sys_Req
    (0xff7f, 0x45), // Num_Lock
    (0xffe1, 0x2a), // Shift_L
    (0xffe2, 0x36), // Shift_R
    (0xffe3, 0x1d), // Control_L
    (0xffe5, 0x3a), // Caps_Lock
    (0xffe9, 0x38), // Alt_L
    (0xffbe, 0x3b), // F1
    (0xffbf, 0x3c),
    (0xffc0, 0x3d),
    (0xffc1, 0x3e),
    (0xffc2, 0x3f),
    (0xffc3, 0x40),
    (0xffc4, 0x41),
    (0xffc5, 0x42),
    (0xffc6, 0x43),
    (0xffc7, 0x44), // F10
    (0xffc8, 0x57), // F11
    (0xffc9, 0x58), // F12
    (0xffaa, 0x37), // KP_Multiply
    (0xffab, 0x4e), // KP_Add
    (0xffac, 0x53), // KP_Separator
    (0xffad, 0x4a), // KP_Subtract
    (0xffae, 0x53), // KP_Decimal
    (0xffb0, 0x52), // KP_0
    (0xffb1, 0x4f),
    (0xffb2, 0x50),
    (0xffb3, 0x51),
    (0xffb4, 0x4b),
    (0xffb5, 0x4c),
    (0xffb6, 0x4d),
    (0xffb7, 0x47),
    (0xffb8, 0x48),
    (0xffb9, 0x49), // KP_9
    (0xff95, 0x47), // KP_Home
    (0xff96, 0x4b), // KP_Left
    (0xff97, 0x48), // KP_Up
    (0xff98, 0x4d), // KP_Right
    (0xff99, 0x50), // KP_Down
    (0xff9a, 0x49), // KP_Prior
    (0xff9b, 0x51), // KP_Next
    (0xff9c, 0x4f), // KP_End
    (0xff9d, 0x4c), // KP_Begin
    (0xff9e, 0x52), // KP_Insert
    (0xff9f, 0x53), // KP_Delete
    (0xff22, 0x7b), // Muhenkan
    (0xff23, 0x79), // Henkan
    (0xff27, 0x70), // Hiragana_Katakana
    (0xff31, 0x72), // Hangul
    (0xff34, 0x71), // Hangul_Hanja
    (0xff80, 0x39), // KP_Space
];

/// The same for keys whose code comes after 0xE0.
const EXTENDED: [(u32, u16); 22] = [
    (0xff50, 0x47), // Home
    (0xff51, 0x4b), // Left
    (0xff52, 0x48), // Up
    (0xff53, 0x4d), // Right
    (0xff54, 0x50), // Down
    (0xff55, 0x49), // Prior
    (0xff56, 0x51), // Next
    (0xff57, 0x4f), // End
    (0xff61, 0x37), // Print
    (0xff63, 0x52), // Insert
    (0xff67, 0x5d), // Menu
    (0xff8d, 0x1c), // KP_Enter
    (0xffaf, 0x35), // KP_Divide
    (0xffe4, 0x1d), // Control_R
    (0xffe7, 0x5b), // Meta_L
    (0xffe8, 0x5c), // Meta_R
    (0xffea, 0x38), // Alt_R
    (0xffeb, 0x5b), // Super_L
    (0xffec, 0x5c), // Super_R
    (0xffff, 0x53), // Delete
    (0xfe03, 0x38), // ISO_Level3_Shift
    (0xff7e, 0x38), // Mode_switch
];

const PAUSE_KEYSYMS: [u32; 2] = [0xff13, 0xff6b];

const fn plain(code: u16) -> Scancode {
    Scancode { code, prefix: Prefix::None }
}

/// Where a key without a character is; `None` for what no keyboard has.
#[must_use]
pub fn named(keysym: u32) -> Option<Stroke> {
    let find = |table: &[(u32, u16)]| table.iter().find(|(known, _)| *known == keysym).map(|(_, code)| *code);
    let scancode = if let Some(code) = find(&PLAIN) {
        plain(code)
    } else if let Some(code) = find(&EXTENDED) {
        Scancode { code, prefix: Prefix::E0 }
    } else if PAUSE_KEYSYMS.contains(&keysym) {
        PAUSE
    } else {
        return None;
    };
    Some(Stroke { scancode, shift: None, altgr: None, letter: false })
}

/// Where a US keyboard has a character. Keysyms of ASCII are its codes.
#[must_use]
pub fn character(keysym: u32) -> Option<Stroke> {
    let character = u8::try_from(keysym).ok()?;
    ROWS.into_iter().find_map(|(first, lower, upper)| {
        let place = |row: &[u8]| row.iter().position(|&known| known == character);
        let (place, shift) = match (place(lower), place(upper)) {
            (Some(place), Some(_)) => (place, None),
            (Some(place), None) => (place, Some(false)),
            (None, Some(place)) => (place, Some(true)),
            (None, None) => return None,
        };
        let scancode = plain(first + u16::try_from(place).ok()?);
        Some(Stroke { scancode, shift, altgr: Some(false), letter: character.is_ascii_alphabetic() })
    })
}

/// The key that QEMU's number means; `None` for 0, with which a viewer says that it does not know, and for numbers
/// of more than a byte.
#[must_use]
pub fn placed(keycode: u32) -> Option<Scancode> {
    /// As a keyboard says Ctrl and Pause together, which is Pause.
    const BREAK: u8 = 0xc6;
    /// Set in numbers of keys that come after 0xE0.
    const AFTER_E0: u8 = 0x80;
    match u8::try_from(keycode).ok()? {
        0 | AFTER_E0 => None,
        BREAK => Some(PAUSE),
        code if code & AFTER_E0 != 0 => {
            Some(Scancode { code: u16::from(code & !AFTER_E0), prefix: Prefix::E0 })
        }
        code => Some(plain(u16::from(code))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stroke(keysym: u32) -> Option<Stroke> {
        character(keysym).or_else(|| named(keysym))
    }

    fn key(keysym: u32) -> (u16, Prefix, Option<bool>) {
        let Stroke { scancode, shift, .. } = stroke(keysym).unwrap_or_else(|| panic!("{keysym:#x}"));
        (scancode.code, scancode.prefix, shift)
    }

    #[test]
    fn characters_are_where_a_us_keyboard_has_them() {
        for (character, code, shift) in [
            ('a', 0x1e, Some(false)),
            ('A', 0x1e, Some(true)),
            ('1', 0x02, Some(false)),
            ('+', 0x0d, Some(true)),
            ('`', 0x29, Some(false)),
            ('"', 0x28, Some(true)),
            ('|', 0x2b, Some(true)),
            ('/', 0x35, Some(false)),
            ('m', 0x32, Some(false)),
            (' ', 0x39, None),
        ] {
            assert_eq!(key(u32::from(character)), (code, Prefix::None, shift), "{character}");
        }
        assert_eq!((b' '..=b'~').filter(|&c| stroke(u32::from(c)).is_none()).count(), 0);
        assert_eq!((stroke(0xe4), stroke(0x0100_20ac), stroke(0)), (None, None, None));
    }

    #[test]
    fn keys_without_a_character_have_their_place() {
        for (keysym, code, prefix) in [
            (0xff0d, 0x1c, Prefix::None),
            (0xff8d, 0x1c, Prefix::E0),
            (0xffff, 0x53, Prefix::E0),
            (0xffc9, 0x58, Prefix::None),
            (0xffeb, 0x5b, Prefix::E0),
            (0xfe03, 0x38, Prefix::E0),
            (0xff13, 0x1d, Prefix::E1),
        ] {
            assert_eq!(key(keysym), (code, prefix, None), "{keysym:#x}");
        }
    }

    #[test]
    fn no_keysym_is_in_two_places() {
        let mut all: Vec<u32> = PLAIN.iter().chain(&EXTENDED).map(|(keysym, _)| *keysym).collect();
        all.extend(PAUSE_KEYSYMS);
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn a_placed_key_is_its_scan_code() {
        assert_eq!(placed(0x1e), Some(plain(0x1e)));
        assert_eq!(placed(0x9d), Some(Scancode { code: 0x1d, prefix: Prefix::E0 }));
        assert_eq!(placed(0xc6), Some(PAUSE));
        for unknown in [0, 0x80, 0x100, 0xe01d, u32::MAX] {
            assert_eq!(placed(unknown), None, "{unknown:#x}");
        }
    }
}
