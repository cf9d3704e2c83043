//! Registry keys and values, as a tree.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

/// Most UTF-16 units of a key's name.
pub const KEY_NAME_MAX: usize = 255;
/// Most UTF-16 units of a value's name.
pub const VALUE_NAME_MAX: usize = 16383;
/// Most keys above each other.
pub const DEPTH_MAX: usize = 512;
/// Most bytes of a value that need no lists of segments.
pub const DATA_MAX: usize = 16344;

/// A name: as it was written first, and the same whatever its letters' case.
#[derive(Clone, Debug)]
pub struct Name {
    text: String,
    upper: Vec<u16>,
}

impl Name {
    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// In capitals, which say what is the same and what comes first.
    #[must_use]
    pub fn upper(&self) -> &[u16] {
        &self.upper
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        // A letter that has no capital of its own stays: the registry's names keep their length.
        let capital = |letter: char| {
            let mut capitals = letter.to_uppercase();
            capitals.next().filter(|_| capitals.next().is_none()).unwrap_or(letter)
        };
        let upper: String = text.chars().map(capital).collect();
        Name { text: text.to_owned(), upper: upper.encode_utf16().collect() }
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.upper == other.upper
    }
}

impl Eq for Name {}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        self.upper.cmp(&other.upper)
    }
}

/// What a value's bytes are (`REG_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind(pub u32);

impl Kind {
    /// Text in UTF-16, NUL-ended.
    pub const SZ: Self = Self(1);
    /// Any bytes.
    pub const BINARY: Self = Self(3);
    /// A number of four bytes.
    pub const DWORD: Self = Self(4);
    /// Texts, each NUL-ended, and one more NUL.
    pub const MULTI_SZ: Self = Self(7);
}

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// What the bytes are.
    pub kind: Kind,
    /// The bytes.
    pub data: Vec<u8>,
}

impl Value {
    /// A text.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Value { kind: Kind::SZ, data: utf16(text) }
    }

    /// A list of texts.
    #[must_use]
    pub fn texts(texts: &[&str]) -> Self {
        let mut data: Vec<u8> = texts.iter().flat_map(|text| utf16(text)).collect();
        data.extend([0, 0]);
        Value { kind: Kind::MULTI_SZ, data }
    }

    /// A number.
    #[must_use]
    pub fn number(number: u32) -> Self {
        Value { kind: Kind::DWORD, data: number.to_le_bytes().to_vec() }
    }
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}

/// A key, with all below it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Key {
    /// Its keys.
    pub keys: BTreeMap<Name, Key>,
    /// Its values; the one without a name is its default.
    pub values: BTreeMap<Name, Value>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.keys.iter().map(|(name, key)| (name.text(), key as &dyn fmt::Debug));
        let values = self.values.iter().map(|(name, value)| (name.text(), value as &dyn fmt::Debug));
        f.debug_map().entries(keys.chain(values)).finish()
    }
}

impl Key {
    /// The key of a path below this one; what is not there is made.
    pub fn at<'a>(&mut self, path: impl IntoIterator<Item = &'a str>) -> &mut Key {
        path.into_iter().fold(self, |key, name| key.keys.entry(name.into()).or_default())
    }

    /// Sets a value, in place of one that has this name.
    pub fn set(&mut self, name: &str, value: Value) {
        self.values.insert(name.into(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_differ_in_case_are_the_same() {
        let mut root = Key::default();
        root.at(["System", "Größe"]).set("Start", Value::number(1));
        root.at(["SYSTEM", "GRÖßE"]).set("START", Value::number(2));
        assert_eq!(root.keys.len(), 1);
        let key = root.at(["system", "größe"]);
        assert_eq!(key.values.values().collect::<Vec<_>>(), [&Value::number(2)]);
        assert_eq!(root.keys.keys().next().unwrap().text(), "System", "as it was written first");
    }

    #[test]
    fn texts_are_utf_16_with_an_end() {
        assert_eq!(Value::text("ä").data, [0xe4, 0, 0, 0]);
        assert_eq!(Value::texts(&["a", "b"]).data, [b'a', 0, 0, 0, b'b', 0, 0, 0, 0, 0]);
    }
}
