//! Keys by name, pressed together: `ctrl-alt-delete`.
//!
//! A name is a place on an American keyboard; what the guest makes of it is its layout's business.

use std::str::FromStr;

use devices::display::{Keys, Prefix, Scancode};
use thiserror::Error;

/// Keys that go down in their order and up in the other. A key is a scan code, but Pause is two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chord(Vec<Vec<Scancode>>);

/// Keys of a chord, at most.
const MOST: usize = 8;

/// Why a text is no chord.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum KeyError {
    /// No such key.
    #[error(
        "There is no key {0:?}; keys are a to z, 0 to 9, f1 to f12, enter, ctrl and so on, for instance ctrl-alt-delete"
    )]
    Unknown(String),
    /// Nobody has so many fingers.
    #[error("{0} keys at once are too many; {MOST} are the most")]
    TooMany(usize),
}

impl FromStr for Chord {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let names: Vec<String> = text.split('-').map(str::to_ascii_lowercase).collect();
        if names.len() > MOST {
            return Err(KeyError::TooMany(names.len()));
        }
        let key = |name: String| match name.as_str() {
            "pause" => Ok(vec![Scancode { code: 0x1d, prefix: Prefix::E1 }, plain(0x45)]),
            _ => key(&name).map(|key| vec![key]).ok_or(KeyError::Unknown(name)),
        };
        Ok(Chord(names.into_iter().map(key).collect::<Result<_, _>>()?))
    }
}

impl Chord {
    /// Presses the keys and lets them go.
    pub fn strike(&self, keys: &dyn Keys) {
        self.0.iter().flatten().for_each(|&code| keys.key(code, true));
        self.0.iter().rev().flatten().for_each(|&code| keys.key(code, false));
    }
}

const fn plain(code: u16) -> Scancode {
    Scancode { code, prefix: Prefix::None }
}

/// Rows of keys with names of one letter, each with the code of its first.
const ROWS: [(&str, u16); 4] =
    [("1234567890", 0x02), ("qwertyuiop", 0x10), ("asdfghjkl", 0x1e), ("zxcvbnm", 0x2c)];

#[rustfmt::skip]
const NAMED: [(&str, u16); 50] = [
    ("esc", 0x01), ("minus", 0x0c), ("equal", 0x0d), ("backspace", 0x0e), ("tab", 0x0f), ("leftbracket", 0x1a),
    ("rightbracket", 0x1b), ("enter", 0x1c), ("ctrl", 0x1d), ("semicolon", 0x27), ("quote", 0x28), ("backquote", 0x29),
    ("shift", 0x2a), ("backslash", 0x2b), ("comma", 0x33), ("dot", 0x34), ("slash", 0x35), ("rightshift", 0x36),
    ("kpmultiply", 0x37), ("alt", 0x38), ("space", 0x39), ("capslock", 0x3a), ("numlock", 0x45), ("scrolllock", 0x46),
    ("kp7", 0x47), ("kp8", 0x48), ("kp9", 0x49), ("kpminus", 0x4a), ("kp4", 0x4b), ("kp5", 0x4c), ("kp6", 0x4d),
    ("kpplus", 0x4e), ("kp1", 0x4f), ("kp2", 0x50), ("kp3", 0x51), ("kp0", 0x52), ("kpdot", 0x53), ("less", 0x56),
    ("f11", 0x57), ("f12", 0x58), ("f1", 0x3b), ("f2", 0x3c), ("f3", 0x3d), ("f4", 0x3e), ("f5", 0x3f),
    ("f6", 0x40), ("f7", 0x41), ("f8", 0x42), ("f9", 0x43), ("f10", 0x44),
];

/// Keys behind the prefix E0.
#[rustfmt::skip]
const EXTENDED: [(&str, u16); 18] = [
    ("kpenter", 0x1c), ("rightctrl", 0x1d), ("kpdivide", 0x35), ("print", 0x37), ("altgr", 0x38), ("home", 0x47),
    ("up", 0x48), ("pageup", 0x49), ("left", 0x4b), ("right", 0x4d), ("end", 0x4f), ("down", 0x50), ("pagedown", 0x51),
    ("insert", 0x52), ("delete", 0x53), ("win", 0x5b), ("rightwin", 0x5c), ("menu", 0x5d),
];

fn key(name: &str) -> Option<Scancode> {
    let named = |names: &[(&str, u16)]| names.iter().find(|(known, _)| *known == name).map(|&(_, code)| code);
    let letter = || {
        let in_row =
            |&(row, first): &(&str, u16)| row.find(name).map(|at| first + u16::try_from(at).unwrap_or(0));
        if name.len() == 1 { ROWS.iter().find_map(in_row) } else { None }
    };
    let extended = || named(&EXTENDED).map(|code| Scancode { code, prefix: Prefix::E0 });
    named(&NAMED).or_else(letter).map(plain).or_else(extended)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Mutex;

    use super::*;

    #[derive(Debug, Default)]
    struct Seen(Mutex<Vec<(u16, Prefix, bool)>>);

    impl Keys for Seen {
        fn key(&self, scancode: Scancode, pressed: bool) {
            self.0.lock().unwrap().push((scancode.code, scancode.prefix, pressed));
        }
    }

    #[test]
    fn keys_go_down_in_order_and_up_in_the_other() {
        let seen = Seen::default();
        "Ctrl-alt-delete".parse::<Chord>().unwrap().strike(&seen);
        let (none, e0) = (Prefix::None, Prefix::E0);
        assert_eq!(
            *seen.0.lock().unwrap(),
            [
                (0x1d, none, true),
                (0x38, none, true),
                (0x53, e0, true),
                (0x53, e0, false),
                (0x38, none, false),
                (0x1d, none, false)
            ]
        );
    }

    /// A keyboard sends E1 1D 45, then E1 9D C5: the other order leaves Linux waiting for the end of a prefix.
    #[test]
    fn pause_goes_up_in_the_order_in_which_it_goes_down() {
        let seen = Seen::default();
        "pause".parse::<Chord>().unwrap().strike(&seen);
        let codes: Vec<_> = seen.0.lock().unwrap().iter().map(|&(code, ..)| code).collect();
        assert_eq!(codes, [0x1d, 0x45, 0x1d, 0x45]);
    }

    #[test]
    fn names_are_keys_of_their_own() {
        let letters = ROWS.iter().flat_map(|(row, _)| row.chars().map(String::from));
        let others = NAMED.iter().chain(&EXTENDED).map(|(name, _)| (*name).to_owned());
        let names: Vec<String> = letters.chain(others).collect();
        let keys: HashSet<_> = names.iter().map(|name| key(name).unwrap()).collect();
        assert_eq!(keys.len(), names.len());
        assert_eq!((key("1").unwrap(), key("m").unwrap()), (plain(2), plain(0x32)));
    }

    #[test]
    fn what_is_no_key_is_named() {
        for text in ["", "a-", "qw", "ctrl--a", "ä", "any"] {
            assert!(matches!(text.parse::<Chord>(), Err(KeyError::Unknown(_))), "{text}");
        }
        assert_eq!("a-b-c-d-e-f-g-h-i".parse::<Chord>(), Err(KeyError::TooMany(9)));
    }
}
