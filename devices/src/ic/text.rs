//! Text in messages: UTF-16 in arrays of a fixed size, ended by a zero.

use zerocopy::little_endian::U16;

use super::requests::GuestError;

/// Writes a text and its zero; gives their bytes.
///
/// # Errors
/// When there is no room.
pub fn write(what: &'static str, text: &str, field: &mut [U16]) -> Result<u32, GuestError> {
    let max = field.len().saturating_sub(1);
    let units: Vec<U16> = text.encode_utf16().chain([0]).map(U16::new).collect();
    let room = field.get_mut(..units.len());
    room.ok_or(GuestError::TooLong { what, max, unit: "UTF-16 code units" })?.copy_from_slice(&units);
    Ok(u32::try_from(units.len() * 2).unwrap_or(u32::MAX))
}

/// Reads a text of so many bytes, with or without its zero. What is no UTF-16 is replaced.
///
/// # Errors
/// When the guest's length is none of this field's.
pub fn read(what: &str, field: &[U16], bytes: u32) -> Result<String, GuestError> {
    let units = usize::try_from(bytes).ok().filter(|bytes| bytes % 2 == 0).map(|bytes| bytes / 2);
    let units = units.and_then(|units| field.get(..units));
    let units = units.ok_or_else(|| GuestError::Nonsense(format!("{what} has {bytes} bytes")))?;
    Ok(until_zero(units))
}

/// Reads a text up to its zero, or to the end of the field.
#[must_use]
pub fn until_zero(field: &[U16]) -> String {
    let units = field.iter().map(|unit| unit.get()).take_while(|&unit| unit != 0);
    char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field() -> [U16; 8] {
        [U16::new(0x58); 8]
    }

    #[test]
    fn what_fits_comes_back() {
        for text in ["", "a", "grün", "😀😀😀x"] {
            let mut field = [U16::new(0); 8];
            let bytes = write("it", text, &mut field).unwrap();
            assert_eq!(read("it", &field, bytes).unwrap(), text);
            assert_eq!(read("it", &field, bytes - 2).unwrap(), text, "without its zero");
            assert_eq!(until_zero(&field), text);
        }
        assert_eq!(until_zero(&field()), "XXXXXXXX");
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_length() {
        let error = write("The key", "😀😀😀😀", &mut field()).unwrap_err();
        assert_eq!(error.to_string(), "The key is too long: it may have 7 UTF-16 code units");
    }

    #[test]
    fn hostile_lengths_are_refused() {
        for bytes in [1, 3, 17, 18, 0x8000_0000, u32::MAX, u32::MAX - 1] {
            let error = read("its key", &field(), bytes).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("The guest's answer makes no sense: its key has {bytes} bytes")
            );
        }
    }

    #[test]
    fn half_a_character_is_replaced() {
        assert_eq!(read("it", &[U16::new(0xD83D), U16::new(0x41)], 4).unwrap(), "\u{FFFD}A");
    }
}
