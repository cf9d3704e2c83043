//! RFB as it lies on the wire: numbers and structures, all of them big-endian.
//!
//! From RFC 6143 (RFB 3.8) and, for what came later, from the community's description of the protocol (rfbproto).
//! Names are the documents' own. Nothing in here decides anything.

use zerocopy::big_endian::{I32, U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// What both sides begin with; the client's may have another version.
pub(super) const VERSION: &[u8; 12] = b"RFB 003.008\n";

/// Security types (7.1.2); `security-type` of RFC 6143.
pub(super) mod security {
    pub const NONE: u8 = 1;
    pub const VNC_AUTHENTICATION: u8 = 2;
    pub const VENCRYPT: u8 = 19;
}

/// VeNCrypt's version that is spoken, and its subtypes for TLS with a certificate.
pub(super) mod vencrypt {
    pub const VERSION: [u8; 2] = [0, 2];
    pub const X509_NONE: u32 = 260;
    pub const X509_VNC: u32 = 261;
}

/// `SecurityResult` (7.1.3).
pub(super) mod result {
    pub const OK: u32 = 0;
    pub const FAILED: u32 = 1;
}

/// Types of messages from clients (7.5).
pub(super) mod client {
    pub const SET_PIXEL_FORMAT: u8 = 0;
    pub const SET_ENCODINGS: u8 = 2;
    pub const FRAMEBUFFER_UPDATE_REQUEST: u8 = 3;
    pub const KEY_EVENT: u8 = 4;
    pub const POINTER_EVENT: u8 = 5;
    pub const CLIENT_CUT_TEXT: u8 = 6;
    pub const SET_DESKTOP_SIZE: u8 = 251;
    pub const QEMU: u8 = 255;
    /// Of [`QEMU`]'s messages.
    pub const QEMU_EXTENDED_KEY_EVENT: u8 = 0;
}

/// Types of messages to clients (7.6).
pub(super) mod server {
    pub const FRAMEBUFFER_UPDATE: u8 = 0;
    pub const SET_COLOUR_MAP_ENTRIES: u8 = 1;
}

/// Encodings and pseudo-encodings (7.7, 7.8).
pub(super) mod encoding {
    pub const RAW: i32 = 0;
    pub const HEXTILE: i32 = 5;
    pub const ZLIB: i32 = 6;
    pub const ZRLE: i32 = 16;
    pub const DESKTOP_SIZE: i32 = -223;
    pub const CURSOR: i32 = -239;
    pub const QEMU_EXTENDED_KEY_EVENT: i32 = -258;
    pub const EXTENDED_DESKTOP_SIZE: i32 = -308;
}

/// Bits of a Hextile tile's first byte (7.7.4).
pub(super) mod hextile {
    pub const RAW: u8 = 1;
    pub const BACKGROUND_SPECIFIED: u8 = 2;
    pub const FOREGROUND_SPECIFIED: u8 = 4;
    pub const ANY_SUBRECTS: u8 = 8;
    pub const SUBRECTS_COLOURED: u8 = 16;
}

/// A ZRLE tile's first byte (7.7.6); 2 to 16 is a palette of that many.
pub(super) mod zrle {
    pub const RAW: u8 = 0;
    pub const SOLID: u8 = 1;
    pub const PLAIN_RLE: u8 = 128;
}

/// `x-position` of an `ExtendedDesktopSize` rectangle: who changed the size.
pub(super) mod resize {
    pub const BY_SERVER: u16 = 0;
    pub const BY_THIS_CLIENT: u16 = 1;
    /// `y-position`: it was done.
    pub const DONE: u16 = 0;
    /// It may not be done.
    pub const PROHIBITED: u16 = 1;
    /// There is no memory for it.
    pub const OUT_OF_RESOURCES: u16 = 2;
    /// No picture can be so.
    pub const INVALID_LAYOUT: u16 = 3;
    /// The guest is asked, and may do it later.
    pub const FORWARDED: u16 = 4;
}

/// `PIXEL_FORMAT` (7.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct PixelFormat {
    /// 8, 16 or 32.
    pub bits_per_pixel: u8,
    /// Bits that mean something.
    pub depth: u8,
    /// Not zero: the most significant byte comes first.
    pub big_endian: u8,
    /// Zero: a pixel is an index into the colour map.
    pub true_colour: u8,
    /// Largest value of red, and so on.
    pub red_max: U16,
    /// Of green.
    pub green_max: U16,
    /// Of blue.
    pub blue_max: U16,
    /// Bits that red is shifted left, and so on.
    pub red_shift: u8,
    /// Of green.
    pub green_shift: u8,
    /// Of blue.
    pub blue_shift: u8,
    /// Padding.
    pub reserved: [u8; 3],
}
const _: () = assert!(size_of::<PixelFormat>() == 16);

/// `ServerInit` (7.3.2) without the name that follows.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct ServerInit {
    pub width: U16,
    pub height: U16,
    pub format: PixelFormat,
    pub name_length: U32,
}
const _: () = assert!(size_of::<ServerInit>() == 24);

/// `SetPixelFormat` (7.5.1).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct SetPixelFormat {
    pub message_type: u8,
    pub reserved: [u8; 3],
    pub format: PixelFormat,
}
const _: () = assert!(size_of::<SetPixelFormat>() == 20);

/// `SetEncodings` (7.5.2) without the numbers that follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct SetEncodings {
    pub message_type: u8,
    pub reserved: u8,
    pub count: U16,
}
const _: () = assert!(size_of::<SetEncodings>() == 4);

/// `FramebufferUpdateRequest` (7.5.3).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct FramebufferUpdateRequest {
    pub message_type: u8,
    pub incremental: u8,
    pub x: U16,
    pub y: U16,
    pub width: U16,
    pub height: U16,
}
const _: () = assert!(size_of::<FramebufferUpdateRequest>() == 10);

/// `KeyEvent` (7.5.4).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct KeyEvent {
    pub message_type: u8,
    pub down: u8,
    pub reserved: U16,
    pub keysym: U32,
}
const _: () = assert!(size_of::<KeyEvent>() == 8);

/// `PointerEvent` (7.5.5).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct PointerEvent {
    pub message_type: u8,
    pub buttons: u8,
    pub x: U16,
    pub y: U16,
}
const _: () = assert!(size_of::<PointerEvent>() == 6);

/// `ClientCutText` (7.5.6) without the text that follows.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct ClientCutText {
    pub message_type: u8,
    pub reserved: [u8; 3],
    /// Negative: the extended clipboard's, which only a client that was told of it sends; its text is as long as
    /// the number without its sign.
    pub length: I32,
}
const _: () = assert!(size_of::<ClientCutText>() == 8);

/// `SetDesktopSize` (rfbproto) without the screens that follow, 16 bytes each.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct SetDesktopSize {
    pub message_type: u8,
    pub reserved: u8,
    pub width: U16,
    pub height: U16,
    pub screens: u8,
    pub reserved2: u8,
}
const _: () = assert!(size_of::<SetDesktopSize>() == 8);

/// QEMU's extended key event (rfbproto): a key with its place on the keyboard.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct ExtendedKeyEvent {
    pub message_type: u8,
    pub submessage_type: u8,
    pub down: U16,
    pub keysym: U32,
    /// Scan code set 1; of those that come after 0xE0 the top bit is set.
    pub keycode: U32,
}
const _: () = assert!(size_of::<ExtendedKeyEvent>() == 12);

/// `FramebufferUpdate` (7.6.1) without the rectangles that follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct FramebufferUpdate {
    pub message_type: u8,
    pub reserved: u8,
    pub rectangles: U16,
}
const _: () = assert!(size_of::<FramebufferUpdate>() == 4);

/// The head of each rectangle in an update (7.6.1).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Rectangle {
    pub x: U16,
    pub y: U16,
    pub width: U16,
    pub height: U16,
    pub encoding: I32,
}
const _: () = assert!(size_of::<Rectangle>() == 12);

/// `SetColourMapEntries` (7.6.2) without the colours that follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct SetColourMapEntries {
    pub message_type: u8,
    pub reserved: u8,
    pub first: U16,
    pub count: U16,
}
const _: () = assert!(size_of::<SetColourMapEntries>() == 6);

/// The body of an `ExtendedDesktopSize` rectangle with one screen (rfbproto).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct OneScreen {
    pub screens: u8,
    pub reserved: [u8; 3],
    pub id: U32,
    pub x: U16,
    pub y: U16,
    pub width: U16,
    pub height: U16,
    pub flags: U32,
}
const _: () = assert!(size_of::<OneScreen>() == 20);
