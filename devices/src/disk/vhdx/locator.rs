//! Where a differencing file's parent is, as the child says it (section 2.6.2.6). Whether a path is used is not
//! decided here.

use zerocopy::little_endian::U16;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::error::{VhdxError, damaged};
use super::protocol::{ParentLocatorEntry, ParentLocatorHeader, guid};
use crate::guid::Guid;

const LINKAGE: &str = "parent_linkage";
const LINKAGE_2: &str = "parent_linkage2";
const RELATIVE: &str = "relative_path";
const VOLUME: &str = "volume_path";
const ABSOLUTE: &str = "absolute_win32_path";

/// Where the parent is and how it is known. The paths are text from the file: a caller must not trust them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentLocator {
    /// The parent's data write GUID.
    pub linkage: Guid,
    /// Another one that the parent may have, from a merge that was cut off.
    pub linkage_2: Option<Guid>,
    /// From the child's folder, with backslashes.
    pub relative_path: Option<String>,
    /// Path on a volume: `\\?\Volume{…}\…`.
    pub volume_path: Option<String>,
    /// Path with a drive letter.
    pub absolute_win32_path: Option<String>,
}

impl ParentLocator {
    /// Reads the metadata item.
    pub(super) fn parse(item: &[u8]) -> Result<Self, VhdxError> {
        let short = || damaged("its parent locator is too short");
        let (header, rest) = ParentLocatorHeader::read_from_prefix(item).map_err(|_| short())?;
        if header.locator_type != guid::LOCATOR_VHDX {
            return Err(VhdxError::Required(format!("parent locators of type {}", header.locator_type)));
        }
        let count = usize::from(header.count.get());
        let (entries, _) =
            <[ParentLocatorEntry]>::ref_from_prefix_with_elems(rest, count).map_err(|_| short())?;
        let mut locator = ParentLocator {
            linkage: Guid::ZERO,
            linkage_2: None,
            relative_path: None,
            volume_path: None,
            absolute_win32_path: None,
        };
        for entry in entries {
            let key = text(item, entry.key_offset.get(), entry.key_length.get())?;
            let value = || text(item, entry.value_offset.get(), entry.value_length.get());
            match key.as_str() {
                LINKAGE => locator.linkage = parse_guid(&value()?)?,
                LINKAGE_2 => locator.linkage_2 = Some(parse_guid(&value()?)?),
                RELATIVE => locator.relative_path = Some(value()?),
                VOLUME => locator.volume_path = Some(value()?),
                ABSOLUTE => locator.absolute_win32_path = Some(value()?),
                _ => {}
            }
        }
        if locator.linkage == Guid::ZERO {
            return Err(damaged("its parent locator has no parent_linkage"));
        }
        Ok(locator)
    }

    /// The metadata item.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let pairs = [
            (LINKAGE, Some(format!("{{{}}}", self.linkage))),
            (LINKAGE_2, self.linkage_2.map(|linkage| format!("{{{linkage}}}"))),
            (RELATIVE, self.relative_path.clone()),
            (VOLUME, self.volume_path.clone()),
            (ABSOLUTE, self.absolute_win32_path.clone()),
        ];
        let pairs: Vec<(&str, String)> =
            pairs.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
        let mut header = ParentLocatorHeader::new_zeroed();
        header.locator_type = guid::LOCATOR_VHDX;
        header.count.set(u16::try_from(pairs.len()).unwrap_or(u16::MAX));
        let mut bytes = header.as_bytes().to_vec();
        let mut strings = Vec::new();
        let start = bytes.len() + pairs.len() * size_of::<ParentLocatorEntry>();
        let mut put = |text: &str| {
            let offset = u32::try_from(start + strings.len()).unwrap_or(u32::MAX);
            let before = strings.len();
            strings.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
            (offset, u16::try_from(strings.len() - before).unwrap_or(u16::MAX))
        };
        for (key, value) in &pairs {
            let (key, value) = (put(key), put(value));
            let entry = ParentLocatorEntry {
                key_offset: key.0.into(),
                value_offset: value.0.into(),
                key_length: key.1.into(),
                value_length: value.1.into(),
            };
            bytes.extend_from_slice(entry.as_bytes());
        }
        bytes.extend_from_slice(&strings);
        bytes
    }

    /// Whether all strings fit into the file's 16-bit lengths.
    pub(super) fn fits(&self) -> bool {
        [&self.relative_path, &self.volume_path, &self.absolute_win32_path]
            .into_iter()
            .flatten()
            .all(|path| path.encode_utf16().count() * 2 <= usize::from(u16::MAX))
    }
}

fn text(item: &[u8], offset: u32, len: u16) -> Result<String, VhdxError> {
    let outside = || damaged("a string of its parent locator is outside of the item");
    let bytes = item.get(offset as usize..).and_then(|rest| rest.get(..len.into())).ok_or_else(outside)?;
    let units =
        <[U16]>::ref_from_bytes(bytes).map_err(|_| damaged("its parent locator has half a character"))?;
    String::from_utf16(&units.iter().map(|unit| unit.get()).collect::<Vec<_>>())
        .map_err(|_| damaged("its parent locator has a string that is not UTF-16"))
}

/// A GUID in braces, of any case.
fn parse_guid(text: &str) -> Result<Guid, VhdxError> {
    let bad = || damaged(format!("its parent locator has `{text}` for a GUID"));
    let inner = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).ok_or_else(bad)?;
    let is_dash =
        |(i, c): (usize, char)| if [8, 13, 18, 23].contains(&i) { c == '-' } else { c.is_ascii_hexdigit() };
    if inner.len() == 36 && inner.chars().enumerate().all(is_dash) {
        Ok(Guid::parse(inner))
    } else {
        Err(bad())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locator() -> ParentLocator {
        ParentLocator {
            linkage: Guid::parse("01020304-0506-0708-090a-0b0c0d0e0f10"),
            linkage_2: None,
            relative_path: Some(r".\Basis ä.vhdx".to_owned()),
            volume_path: None,
            absolute_win32_path: Some(r"C:\Disks\Basis ä.vhdx".to_owned()),
        }
    }

    #[test]
    fn a_locator_survives_a_round_trip() {
        assert_eq!(ParentLocator::parse(&locator().to_bytes()).unwrap(), locator());
    }

    #[test]
    fn a_cut_locator_is_refused_and_never_panics() {
        let bytes = locator().to_bytes();
        for len in 0..bytes.len() {
            ParentLocator::parse(&bytes[..len]).unwrap_err();
        }
    }

    #[test]
    fn a_guid_needs_braces_and_dashes() {
        for text in
            ["", "{}", "01020304-0506-0708-090a-0b0c0d0e0f10", "{01020304+0506-0708-090a-0b0c0d0e0f10}"]
        {
            parse_guid(text).unwrap_err();
        }
        assert_eq!(
            parse_guid("{0A020304-0506-0708-090a-0B0C0d0e0f10}").unwrap().to_string().get(..2),
            Some("0a")
        );
    }
}
