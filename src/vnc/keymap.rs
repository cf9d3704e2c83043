//! The guest's keyboard layout, for viewers that tell keys by what is printed on them: one of X11's, of which a host
//! has some hundred (Debian's package xkb-data).
//!
//! Read once, before anybody is let in. Without one the guest is taken to have a US keyboard ([`keysyms`]).

use std::collections::HashMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use devices::display::{Prefix, Scancode};
use kbvm::lookup::LookupTable;
use kbvm::xkb::Context;
use kbvm::xkb::diagnostic::{Diagnostic, DiagnosticHandler};
use kbvm::xkb::rmlvo::Group;
use kbvm::{GroupIndex, Keycode, Keysym, ModifierMask};
use thiserror::Error;

use super::keysyms::{self, Stroke};

/// Linux's codes of the keys that have characters, which are scan codes: the four rows, Space, and last the key that
/// Americans do not have.
const KEYS: [RangeInclusive<u16>; 3] = [0x02..=0x35, 0x39..=0x39, 0x56..=0x56];
/// What is added to a character's number in Unicode to make it a keysym (X protocol, appendix A).
const UNICODE: u32 = 0x0100_0000;
/// What is held for a character, the simplest first: Shift, AltGr.
const LEVELS: [(bool, bool); 4] = [(false, false), (true, false), (false, true), (true, true)];

/// A layout's name, as in `de` or `de(nodeadkeys)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    name: String,
    variant: String,
}

/// Why there is no layout.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum KeymapError {
    /// Another form.
    #[error(
        "{0:?} is no keyboard layout; write its name and perhaps a variant, for instance de or de(nodeadkeys)"
    )]
    Form(String),
    /// Not here.
    #[error(
        "This host has no keyboard layout {0}: /usr/share/X11/xkb (Debian's xkb-data) has those that there are"
    )]
    Unknown(Layout),
}

impl FromStr for Layout {
    type Err = KeymapError;

    fn from_str(text: &str) -> Result<Self, KeymapError> {
        // They become names of files.
        let is_name = |name: &str| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        let form = || KeymapError::Form(text.to_owned());
        let (name, variant) = match text.split_once('(') {
            Some((name, rest)) => (name, Some(rest.strip_suffix(')').ok_or_else(form)?)),
            None => (text, None),
        };
        if !is_name(name) || !variant.is_none_or(is_name) {
            return Err(form());
        }
        Ok(Layout { name: name.to_owned(), variant: variant.unwrap_or_default().to_owned() })
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "({})", self.variant) }
    }
}

/// Where characters are. By default where a US keyboard has them.
#[derive(Debug, Default)]
pub struct Keymap(HashMap<u32, Stroke>);

/// Takes what is said of a layout's files.
struct Remarks;

impl DiagnosticHandler for Remarks {
    fn handle(&mut self, remark: Diagnostic) {
        log::debug!("VNC: keyboard layout: {remark}");
    }
}

impl Keymap {
    /// Reads a layout.
    ///
    /// # Errors
    /// When this host does not have it.
    pub fn load(layout: &Layout) -> Result<Self, KeymapError> {
        let mut context = Context::builder();
        // What the user's environment says is about the user's keyboard.
        context.enable_environment(false);
        let group = Group { layout: &layout.name, variant: &layout.variant };
        let map = context.build().keymap_from_names(Remarks, None, None, Some(&[group]), None);
        let table = map.to_builder().build_lookup_table();
        let mut strokes: HashMap<u32, Stroke> = HashMap::new();
        for (keys, (shift, altgr)) in KEYS.iter().flat_map(|keys| LEVELS.map(|level| (keys, level))) {
            for code in keys.clone() {
                let Some(character) = character(&table, code, shift, altgr) else { continue };
                let scancode = Scancode { code, prefix: Prefix::None };
                let letter = character.is_alphabetic() && !altgr;
                let stroke = Stroke { scancode, shift: Some(shift), altgr: Some(altgr), letter };
                let first = strokes.entry(character.into()).or_insert(stroke);
                // Space is the same with Shift.
                if first.shift != stroke.shift && *first == (Stroke { shift: first.shift, ..stroke }) {
                    first.shift = None;
                }
            }
        }
        // A layout that is not there is an empty one.
        let is_there = strokes.values().any(|stroke| stroke.letter);
        if is_there { Ok(Keymap(strokes)) } else { Err(KeymapError::Unknown(layout.clone())) }
    }

    /// Where a key is and how it is struck; `None` for what the layout does not have.
    #[must_use]
    pub fn stroke(&self, keysym: u32) -> Option<Stroke> {
        // The keypad's digits are keys of their own.
        if let Some(stroke) = keysyms::named(keysym) {
            return Some(stroke);
        }
        if self.0.is_empty() {
            return keysyms::character(keysym);
        }
        self.0.get(&printed(keysym)?.into()).copied()
    }
}

/// What a key types while these are held, if it is a character.
fn character(table: &LookupTable, code: u16, shift: bool, altgr: bool) -> Option<char> {
    let held = |mask, is_held| if is_held { mask } else { ModifierMask::NONE };
    let mods = held(ModifierMask::SHIFT, shift) | held(ModifierMask::MOD5, altgr);
    let mut symbols = table.lookup(GroupIndex(0), mods, Keycode::from_evdev(code.into())).into_iter();
    let (Some(symbol), None) = (symbols.next(), symbols.next()) else { return None };
    printed(symbol.keysym().0).filter(|character| !character.is_control())
}

/// The character that a keysym stands for. Those with a number of their own may also come by Unicode's.
fn printed(keysym: u32) -> Option<char> {
    let unicode = keysym.checked_sub(UNICODE).and_then(char::from_u32);
    unicode.or_else(|| Keysym(keysym).char())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(map: &Keymap, character: char) -> Option<(u16, bool, bool)> {
        let number = u32::from(character);
        let stroke = map.stroke(if number < 0x100 { number } else { UNICODE + number })?;
        Some((stroke.scancode.code, stroke.shift.unwrap_or(false), stroke.altgr?))
    }

    #[test]
    fn names_are_layouts_and_paths_are_none() {
        for text in ["de", "de(nodeadkeys)", "latam", "us(dvorak-intl)"] {
            assert_eq!(text.parse::<Layout>().unwrap().to_string(), text);
        }
        for text in ["", "../de", "de(", "de()", "de(a)b", "de)", "de,fr", "d e", "de(../x)"] {
            assert_eq!(text.parse::<Layout>(), Err(KeymapError::Form(text.to_owned())), "{text}");
        }
    }

    #[test]
    #[ignore = "needs X11's keyboard layouts: apt-get install xkb-data"]
    fn characters_are_where_each_layout_has_them() {
        let load = |layout: &str| Keymap::load(&layout.parse().unwrap());
        let (german, french, british) = (load("de").unwrap(), load("fr").unwrap(), load("gb").unwrap());
        for (map, character, place) in [
            (&german, 'z', (0x15, false, false)),
            (&german, 'Y', (0x2c, true, false)),
            (&german, 'ß', (0x0c, false, false)),
            (&german, 'Ä', (0x28, true, false)),
            (&german, '/', (0x08, true, false)),
            (&german, '@', (0x10, false, true)),
            (&german, '€', (0x12, false, true)),
            (&german, '|', (0x56, false, true)),
            (&french, 'a', (0x10, false, false)),
            (&french, '1', (0x02, true, false)),
            (&french, '!', (0x35, false, false)),
            (&british, '£', (0x04, true, false)),
            (&british, '#', (0x2b, false, false)),
        ] {
            assert_eq!(at(map, character), Some(place), "{character}");
        }
        assert_eq!(at(&german, 'é'), None, "a dead key and another one");
        assert_eq!(german.stroke(0xff0d), keysyms::named(0xff0d), "what has no character");
        assert_eq!(german.stroke(0x20ac).unwrap().scancode.code, 0x12, "the euro's older number");
        for unknown in ["xx", "de(xx)"] {
            let layout: Layout = unknown.parse().unwrap();
            assert_eq!(Keymap::load(&layout).unwrap_err(), KeymapError::Unknown(layout));
        }
    }

    /// The table for those who have no layouts says the same as X11's.
    #[test]
    #[ignore = "needs X11's keyboard layouts: apt-get install xkb-data"]
    fn an_american_layout_is_what_is_built_in() {
        let (us, built_in) = (Keymap::load(&"us".parse().unwrap()).unwrap(), Keymap::default());
        for character in '!'..='~' {
            assert_eq!(at(&us, character), at(&built_in, character), "{character}");
        }
    }
}
