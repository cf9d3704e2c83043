//! Reads `.reg` files, the registry as text: what Windows' registry editor exports as version 5.00.
//!
//! An initial machine configuration adds to `HKEY_LOCAL_MACHINE\SYSTEM` and can take nothing away, so keys elsewhere and
//! removals are mistakes here.

use thiserror::Error;

use super::key::{DATA_MAX, DEPTH_MAX, KEY_NAME_MAX, Key, Kind, VALUE_NAME_MAX, Value};

const TITLE: &str = "Windows Registry Editor Version 5.00";
/// What keys begin with; the second is short for the first.
const ROOTS: [&str; 2] = ["HKEY_LOCAL_MACHINE", "HKLM"];
/// The only key below.
const SYSTEM: &str = "SYSTEM";

/// A line that means nothing.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("line {line}: {mistake}")]
pub struct RegError {
    /// From 1 on.
    pub line: usize,
    /// What is wrong.
    pub mistake: Mistake,
}

/// What is wrong with a line.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Mistake {
    /// Not a file of this kind, or an older one.
    #[error("a registry file begins with {TITLE:?}")]
    NoTitle,
    /// Bytes that are no text.
    #[error("it is neither UTF-16 with a byte order mark nor UTF-8")]
    NoText,
    /// A key elsewhere.
    #[error("[{0}] is not below [HKEY_LOCAL_MACHINE\\SYSTEM], and nothing else can be set")]
    Elsewhere(String),
    /// A key or a value that is to go.
    #[error("nothing can be removed, only set")]
    Removal,
    /// A key's end.
    #[error("a key ends with ]")]
    NoBracket,
    /// A key's name.
    #[error("[{0}] has a name that is empty or has more than {KEY_NAME_MAX} characters")]
    KeyName(String),
    /// Too deep.
    #[error("a key is at most {DEPTH_MAX} levels deep")]
    TooDeep,
    /// A value in front of the first key.
    #[error("a value needs a key above it, for instance [HKEY_LOCAL_MACHINE\\SYSTEM\\Setup]")]
    NoKey,
    /// Neither key nor value.
    #[error("this is neither a [KEY] nor a \"NAME\"=VALUE")]
    Unknown,
    /// A name or text without its end.
    #[error("a quotation mark is missing at the end")]
    NoQuote,
    /// A value's name.
    #[error("a value's name has at most {VALUE_NAME_MAX} characters")]
    ValueName,
    /// No value that is known.
    #[error("{0:?} is no value; values are \"TEXT\", dword:1F, hex:0a,1b and hex(TYPE):0a,1b")]
    NoValue(String),
    /// A value that takes what this writer does not write.
    #[error("a value of {0} bytes is too long; up to {DATA_MAX} are possible")]
    TooLong(usize),
}

/// Adds what a file says to a tree, whose root is `HKEY_LOCAL_MACHINE`.
///
/// # Errors
/// The first line that means nothing; the tree has what was above it.
pub fn merge(root: &mut Key, bytes: &[u8]) -> Result<(), RegError> {
    let text = decode(bytes).ok_or(RegError { line: 1, mistake: Mistake::NoText })?;
    let mut path: Option<Vec<String>> = None;
    let mut titled = false;
    for (line, content) in lines(&text) {
        let failed = |mistake| RegError { line, mistake };
        if !titled {
            if content != TITLE {
                return Err(failed(Mistake::NoTitle));
            }
            titled = true;
        } else if let Some(key) = content.strip_prefix('[') {
            let names = key_path(key).map_err(failed)?;
            root.at(names.iter().map(String::as_str));
            path = Some(names);
        } else {
            let (name, value) = assignment(&content).map_err(failed)?;
            let path = path.as_ref().ok_or_else(|| failed(Mistake::NoKey))?;
            root.at(path.iter().map(String::as_str)).set(&name, value);
        }
    }
    if titled { Ok(()) } else { Err(RegError { line: 1, mistake: Mistake::NoTitle }) }
}

fn decode(bytes: &[u8]) -> Option<String> {
    if let Some(bytes) = bytes.strip_prefix(&[0xff, 0xfe]) {
        let (units, []) = bytes.as_chunks() else { return None };
        let units: Vec<u16> = units.iter().copied().map(u16::from_le_bytes).collect();
        return String::from_utf16(&units).ok();
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    String::from_utf8(bytes.to_vec()).ok()
}

/// Lines with their numbers, without comments and empty ones. One that ends with a backslash goes on.
fn lines(text: &str) -> impl Iterator<Item = (usize, String)> {
    let mut lines = (1..).zip(text.lines());
    std::iter::from_fn(move || {
        let (number, first) = lines.next()?;
        let mut line = first.trim().to_owned();
        // Only bytes go on: a text may end with a backslash of its own, but then a quotation mark follows.
        while !line.starts_with(['[', ';']) && line.ends_with('\\') {
            line.pop();
            let Some((_, next)) = lines.next() else { break };
            line.push_str(next.trim());
        }
        Some((number, line))
    })
    .filter(|(_, line)| !line.is_empty() && !line.starts_with(';'))
}

/// The names of a key below the root, from what is behind its bracket.
fn key_path(text: &str) -> Result<Vec<String>, Mistake> {
    let text = text.strip_suffix(']').ok_or(Mistake::NoBracket)?;
    if text.starts_with('-') {
        return Err(Mistake::Removal);
    }
    let mut names = text.split('\\');
    let root = names.next().unwrap_or_default();
    let names: Vec<String> = names.map(str::to_owned).collect();
    let below = names.first().is_none_or(|name| name.eq_ignore_ascii_case(SYSTEM));
    if !below || !ROOTS.iter().any(|name| name.eq_ignore_ascii_case(root)) {
        return Err(Mistake::Elsewhere(text.to_owned()));
    }
    if names.len() > DEPTH_MAX {
        return Err(Mistake::TooDeep);
    }
    if names.iter().any(|name| name.is_empty() || name.encode_utf16().count() > KEY_NAME_MAX) {
        return Err(Mistake::KeyName(text.to_owned()));
    }
    Ok(names)
}

/// A value and its name; that of the default value is empty.
fn assignment(line: &str) -> Result<(String, Value), Mistake> {
    let (name, rest) = match line.strip_prefix('@') {
        Some(rest) => (String::new(), rest),
        None => quoted(line.strip_prefix('"').ok_or(Mistake::Unknown)?)?,
    };
    if name.encode_utf16().count() > VALUE_NAME_MAX {
        return Err(Mistake::ValueName);
    }
    let text = rest.trim_start().strip_prefix('=').ok_or(Mistake::Unknown)?.trim();
    let value = value(text)?;
    if value.data.len() > DATA_MAX {
        return Err(Mistake::TooLong(value.data.len()));
    }
    Ok((name, value))
}

fn value(text: &str) -> Result<Value, Mistake> {
    let none = || Mistake::NoValue(text.to_owned());
    if text == "-" {
        return Err(Mistake::Removal);
    }
    if let Some(text) = text.strip_prefix('"') {
        let (text, rest) = quoted(text)?;
        return if rest.is_empty() { Ok(Value::text(&text)) } else { Err(none()) };
    }
    let (kind, data) = text.split_once(':').ok_or_else(none)?;
    let kind = kind.to_ascii_lowercase();
    if kind == "dword" {
        return hexadecimal(data.trim()).map(Value::number).ok_or_else(none);
    }
    let kind = match kind.strip_prefix("hex").ok_or_else(none)? {
        "" => Some(Kind::BINARY),
        number => number
            .strip_prefix('(')
            .and_then(|number| number.strip_suffix(')'))
            .and_then(hexadecimal)
            .map(Kind),
    };
    let bytes = data.trim().trim_end_matches(',');
    let bytes = (!bytes.is_empty()).then(|| bytes.split(',')).into_iter().flatten();
    let byte = |text: &str| hexadecimal(text.trim()).and_then(|byte| u8::try_from(byte).ok());
    let data: Option<Vec<u8>> = bytes.map(byte).collect();
    Ok(Value { kind: kind.ok_or_else(none)?, data: data.ok_or_else(none)? })
}

/// A text up to its quotation mark, and what follows. A backslash takes the next character as it is.
fn quoted(text: &str) -> Result<(String, &str), Mistake> {
    let mut quoted = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => return Ok((quoted, letters.as_str())),
            '\\' => quoted.extend(letters.next()),
            other => quoted.push(other),
        }
    }
    Err(Mistake::NoQuote)
}

/// A number of up to eight digits, without a sign.
fn hexadecimal(digits: &str) -> Option<u32> {
    let digits = Some(digits).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
    digits.and_then(|digits| u32::from_str_radix(digits, 16).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(lines: &str) -> Result<Key, RegError> {
        let mut root = Key::default();
        merge(&mut root, format!("{TITLE}\r\n\r\n{lines}").as_bytes()).map(|()| root)
    }

    fn mistake(lines: &str) -> String {
        parse(lines).unwrap_err().to_string()
    }

    #[test]
    fn values_of_every_kind_are_set() {
        let mut root = parse(
            "; of a comment nothing is kept\r\n\
             [HKEY_LOCAL_MACHINE\\SYSTEM\\Setup]\r\n\
             @=\"default\"\r\n\
             \"Path\"=\"C:\\\\a \\\"b\\\"\\\\\"\r\n\
             \"Count\" = dword:0000001F\r\n\
             \"Bytes\"=hex:0a,\\\r\n  1B,ff\r\n\
             \"Nothing\"=hex:\r\n\
             \"Many\"=hex(7):61,00,00,00,00,00\r\n\
             \"Big\"=hex(b):01,00,00,00,00,00,00,80\r\n\
             [HKLM\\system\\Setup\\Below]\r\n",
        )
        .unwrap();
        let setup = root.at(["SYSTEM", "Setup"]);
        assert!(setup.keys.contains_key(&"below".into()));
        let binary = |kind, data: &[u8]| Value { kind: Kind(kind), data: data.to_vec() };
        for (name, value) in [
            ("", Value::text("default")),
            ("path", Value::text("C:\\a \"b\"\\")),
            ("Count", Value::number(0x1f)),
            ("Bytes", binary(3, &[0x0a, 0x1b, 0xff])),
            ("Nothing", binary(3, &[])),
            ("Many", Value::texts(&["a"])),
            ("Big", binary(11, &[1, 0, 0, 0, 0, 0, 0, 0x80])),
        ] {
            assert_eq!(setup.values.get(&name.into()), Some(&value), "{name}");
        }
        assert_eq!(setup.values.len(), 7);
    }

    #[test]
    fn the_editors_own_encoding_is_read() {
        let text = format!("\u{feff}{TITLE}\r\n[HKEY_LOCAL_MACHINE\\SYSTEM]\r\n\"ä\"=dword:1\r\n");
        let mut wide = Key::default();
        merge(&mut wide, &text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>()).unwrap();
        let mut narrow = Key::default();
        merge(&mut narrow, text.as_bytes()).unwrap();
        assert_eq!(wide, narrow);
        assert_eq!(wide.at(["SYSTEM"]).values.get(&"Ä".into()), Some(&Value::number(1)));
    }

    #[test]
    fn a_mistake_is_named_with_its_line() {
        for (lines, sentence) in [
            (
                "[HKEY_LOCAL_MACHINE\\SOFTWARE\\x]",
                "line 3: [HKEY_LOCAL_MACHINE\\SOFTWARE\\x] is not below [HKEY_LOCAL_MACHINE\\SYSTEM], and nothing else can be set",
            ),
            ("[HKEY_CURRENT_USER\\SYSTEM]", "line 3: [HKEY_CURRENT_USER\\SYSTEM] is not below"),
            ("[-HKLM\\SYSTEM\\x]", "line 3: nothing can be removed, only set"),
            ("[HKLM\\SYSTEM\\x", "line 3: a key ends with ]"),
            ("[HKLM\\SYSTEM\\]", "line 3: [HKLM\\SYSTEM\\] has a name that is empty"),
            ("\"x\"=dword:1", "line 3: a value needs a key above it"),
            ("[HKLM\\SYSTEM]\n\n\"x\"=-", "line 5: nothing can be removed"),
            ("[HKLM\\SYSTEM]\nx=1", "line 4: this is neither a [KEY] nor a \"NAME\"=VALUE"),
            ("[HKLM\\SYSTEM]\n\"x\"=\"1", "line 4: a quotation mark is missing"),
            ("[HKLM\\SYSTEM]\n\"x\"=\"1\\", "line 4: a quotation mark is missing"),
            ("[HKLM\\SYSTEM]\n\"x\"=1", "line 4: \"1\" is no value"),
            ("[HKLM\\SYSTEM]\n\"x\"=dword:123456789", "line 4: \"dword:123456789\" is no value"),
            ("[HKLM\\SYSTEM]\n\"x\"=hex:1,+2", "line 4: \"hex:1,+2\" is no value"),
            ("[HKLM\\SYSTEM]\n\"x\"=hex(:1", "line 4: \"hex(:1\" is no value"),
        ] {
            assert!(mistake(lines).starts_with(sentence), "{lines}: {}", mistake(lines));
        }
        assert_eq!(
            mistake(&format!("[HKLM\\SYSTEM{}]", "\\x".repeat(DEPTH_MAX))),
            "line 3: a key is at most 512 levels deep"
        );
        let long = format!("[HKLM\\SYSTEM]\n\"x\"=hex:{}", "00,".repeat(DATA_MAX + 1));
        assert_eq!(mistake(&long), "line 4: a value of 16345 bytes is too long; up to 16344 are possible");
        let named = |name: usize| mistake(&format!("[HKLM\\SYSTEM\\{}]", "x".repeat(name)));
        assert!(named(KEY_NAME_MAX + 1).contains("more than 255 characters"));
    }

    #[test]
    fn what_is_no_registry_file_is_said_to_be_none() {
        let merge = |bytes: &[u8]| merge(&mut Key::default(), bytes).unwrap_err().to_string();
        let title = "line 1: a registry file begins with \"Windows Registry Editor Version 5.00\"";
        assert_eq!(merge(b"REGEDIT4\r\n"), title);
        assert_eq!(merge(b""), title);
        assert_eq!(merge(b"regf\x01\xff"), "line 1: it is neither UTF-16 with a byte order mark nor UTF-8");
        assert_eq!(
            merge(&[0xff, 0xfe, 0x00]),
            "line 1: it is neither UTF-16 with a byte order mark nor UTF-8"
        );
    }
}
