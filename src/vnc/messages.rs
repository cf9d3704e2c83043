//! What a viewer sends once it is let in: bytes to messages.
//!
//! Pure, for tests and for the fuzzer. A viewer is trusted with nothing: what cannot be a message ends it, with a
//! sentence that says why.

use devices::display::{Mode, Rect};
use thiserror::Error;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::protocol::{
    ClientCutText, ExtendedKeyEvent, FramebufferUpdateRequest, KeyEvent, PixelFormat, PointerEvent,
    SetDesktopSize, SetEncodings, SetPixelFormat, client,
};

/// Encodings that a viewer may name; those that exist are a few dozen.
pub const ENCODINGS_MAX: usize = 1024;
/// Bytes of a `SetDesktopSize`'s screen.
const SCREEN: usize = 16;

/// A viewer's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// How pixels are to be written from now on.
    PixelFormat(PixelFormat),
    /// What the viewer understands, the best first.
    Encodings(Vec<i32>),
    /// An update is wanted.
    Request {
        /// Only what has changed.
        incremental: bool,
        /// Of this part.
        area: Rect,
    },
    /// A key, by what is printed on it.
    Key {
        /// X11's number for it.
        keysym: u32,
        /// Down.
        pressed: bool,
    },
    /// A key, by its place on the keyboard.
    PlacedKey {
        /// What is printed on it.
        keysym: u32,
        /// QEMU's number for the place, 0 if the viewer does not know it.
        keycode: u32,
        /// Down.
        pressed: bool,
    },
    /// The pointer.
    Pointer {
        /// A bit for each button that is held, and for a turn of the wheel.
        buttons: u8,
        /// Pixels from the left.
        x: u16,
        /// Pixels from the top.
        y: u16,
    },
    /// A text is in the viewer's clipboard; this many bytes follow, and nobody wants them.
    CutText(u32),
    /// Another size of the picture is wished for.
    DesktopSize {
        /// The size.
        mode: Mode,
        /// Of how many monitors it is.
        screens: u8,
    },
}

/// Why bytes are no message; the viewer's connection ends with it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum MessageError {
    /// A type that was not offered.
    #[error("message type {0} is not known")]
    Type(u8),
    /// QEMU's, but not that of keys.
    #[error("QEMU's message {0} was not offered")]
    Qemu(u8),
    /// A list that only wants to be long.
    #[error("{0} encodings are too many; at most {ENCODINGS_MAX}")]
    TooManyEncodings(u16),
}

/// Takes a message from the start of `bytes`, and says how many of them it was; `None` if it is not complete.
///
/// # Errors
/// When it never will be one.
pub fn parse(bytes: &[u8]) -> Result<Option<(Message, usize)>, MessageError> {
    let Some(&kind) = bytes.first() else { return Ok(None) };
    match kind {
        client::SET_PIXEL_FORMAT => {
            Ok(fixed(bytes, |message: &SetPixelFormat| Message::PixelFormat(message.format)))
        }
        client::SET_ENCODINGS => encodings(bytes),
        client::FRAMEBUFFER_UPDATE_REQUEST => Ok(fixed(bytes, request)),
        client::KEY_EVENT => Ok(fixed(bytes, |message: &KeyEvent| Message::Key {
            keysym: message.keysym.get(),
            pressed: message.down != 0,
        })),
        client::POINTER_EVENT => Ok(fixed(bytes, |message: &PointerEvent| Message::Pointer {
            buttons: message.buttons,
            x: message.x.get(),
            y: message.y.get(),
        })),
        client::CLIENT_CUT_TEXT => {
            Ok(fixed(bytes, |message: &ClientCutText| Message::CutText(message.length.get().unsigned_abs())))
        }
        client::SET_DESKTOP_SIZE => Ok(desktop_size(bytes)),
        client::QEMU => match bytes.get(1) {
            None => Ok(None),
            Some(&client::QEMU_EXTENDED_KEY_EVENT) => Ok(fixed(bytes, placed_key)),
            Some(&other) => Err(MessageError::Qemu(other)),
        },
        other => Err(MessageError::Type(other)),
    }
}

/// A message of one size.
fn fixed<T>(bytes: &[u8], message: impl FnOnce(&T) -> Message) -> Option<(Message, usize)>
where
    T: FromBytes + Immutable + KnownLayout + Unaligned,
{
    let (wire, _) = T::ref_from_prefix(bytes).ok()?;
    Some((message(wire), size_of::<T>()))
}

fn encodings(bytes: &[u8]) -> Result<Option<(Message, usize)>, MessageError> {
    let Ok((head, rest)) = SetEncodings::ref_from_prefix(bytes) else { return Ok(None) };
    let count = usize::from(head.count.get());
    if count > ENCODINGS_MAX {
        return Err(MessageError::TooManyEncodings(head.count.get()));
    }
    let Some(list) = rest.get(..count * 4) else { return Ok(None) };
    let numbers = list.as_chunks::<4>().0.iter().map(|number| i32::from_be_bytes(*number));
    Ok(Some((Message::Encodings(numbers.collect()), size_of::<SetEncodings>() + list.len())))
}

fn request(message: &FramebufferUpdateRequest) -> Message {
    let FramebufferUpdateRequest { incremental, x, y, width, height, .. } = message;
    let area = Rect { left: x.get(), top: y.get(), width: width.get(), height: height.get() };
    Message::Request { incremental: *incremental != 0, area }
}

fn placed_key(message: &ExtendedKeyEvent) -> Message {
    Message::PlacedKey {
        keysym: message.keysym.get(),
        keycode: message.keycode.get(),
        pressed: message.down.get() != 0,
    }
}

fn desktop_size(bytes: &[u8]) -> Option<(Message, usize)> {
    let (head, rest) = SetDesktopSize::ref_from_prefix(bytes).ok()?;
    let screens = rest.get(..usize::from(head.screens) * SCREEN)?;
    let mode = Mode { width: head.width.get(), height: head.height.get() };
    Some((Message::DesktopSize { mode, screens: head.screens }, size_of::<SetDesktopSize>() + screens.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_messages_once_they_are_complete() {
        let encodings = [&[2, 0, 0, 2], &16i32.to_be_bytes()[..], &(-223i32).to_be_bytes()].concat();
        let size = [&[251, 0, 4, 0, 3, 0, 1, 0], &[0; 16][..]].concat();
        for (bytes, wanted) in [
            (encodings.as_slice(), Message::Encodings(vec![16, -223])),
            (
                &[3, 1, 0, 1, 0, 2, 0, 3, 0, 4],
                Message::Request { incremental: true, area: Rect { left: 1, top: 2, width: 3, height: 4 } },
            ),
            (&[4, 1, 0, 0, 0, 0, 0xff, 0x0d], Message::Key { keysym: 0xff0d, pressed: true }),
            (&[5, 1, 1, 0, 2, 0], Message::Pointer { buttons: 1, x: 256, y: 512 }),
            (&[6, 0, 0, 0, 0, 0, 1, 0], Message::CutText(256)),
            (&[6, 0, 0, 0, 0xff, 0xff, 0xff, 0xfc], Message::CutText(4)),
            (
                &[255, 0, 0, 1, 0, 0, 0, 97, 0, 0, 0, 0x1e],
                Message::PlacedKey { keysym: 97, keycode: 0x1e, pressed: true },
            ),
            (size.as_slice(), Message::DesktopSize { mode: Mode { width: 1024, height: 768 }, screens: 1 }),
        ] {
            for length in 0..bytes.len() {
                assert_eq!(parse(&bytes[..length]), Ok(None), "{length} of {bytes:?}");
            }
            let more = [bytes, &[0xee; 9]].concat();
            assert_eq!(parse(&more), Ok(Some((wanted, bytes.len()))));
        }
    }

    #[test]
    fn what_was_never_offered_ends_the_connection() {
        assert_eq!(parse(&[1]), Err(MessageError::Type(1)));
        assert_eq!(parse(&[255, 1]), Err(MessageError::Qemu(1)));
        assert_eq!(parse(&[2, 0, 0xff, 0xff]), Err(MessageError::TooManyEncodings(65535)));
    }
}
