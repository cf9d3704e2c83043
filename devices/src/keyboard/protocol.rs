//! Keyboard messages as they lie in a packet; there is no pipe header.
//!
//! Source: Linux `drivers/input/serio/hyperv-keyboard.c` (`synth_kbd_*`) and OpenVMM's `uidevices::keyboard`.

use bitflags::bitflags;
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::guid::Guid;

/// Chooses the guest's driver.
pub const INTERFACE: Guid = Guid::parse("f912ad6d-2b17-48ea-bd65-f927a61c7684");
/// Names the device.
pub const INSTANCE: Guid = Guid::parse("d34b2567-b9b6-42b9-8778-0a4ec0b955bf");
/// The protocol's only version, 1.0.
pub const VERSION: u32 = 1 << 16;

/// First word of every message.
pub mod message_type {
    /// The guest asks for a version.
    pub const PROTOCOL_REQUEST: u32 = 1;
    /// The host's answer.
    pub const PROTOCOL_RESPONSE: u32 = 2;
    /// A key goes down or up.
    pub const EVENT: u32 = 3;
    /// The guest sets the lights of the keyboard.
    pub const LED_INDICATORS: u32 = 4;
}

/// Starts the conversation (Linux: `synth_kbd_protocol_request`).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct ProtocolRequest {
    /// [`message_type::PROTOCOL_REQUEST`].
    pub message_type: U32,
    /// Minor version in the lower half, major in the upper.
    pub version: U32,
}
const _: () = assert!(size_of::<ProtocolRequest>() == 8);

/// Whether it goes on (Linux: `synth_kbd_protocol_response`).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct ProtocolResponse {
    /// [`message_type::PROTOCOL_RESPONSE`].
    pub message_type: U32,
    /// Bit 0: it does.
    pub accepted: U32,
}
const _: () = assert!(size_of::<ProtocolResponse>() == 8);

/// A key (Linux: `synth_kbd_keystroke`).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct KeyEvent {
    /// [`message_type::EVENT`].
    pub message_type: U32,
    /// Scan code set 1, without prefix and release bit.
    pub make_code: U16,
    /// 0.
    pub reserved: U16,
    /// [`KeyInfo`].
    pub info: U32,
}
const _: () = assert!(size_of::<KeyEvent>() == 12);

bitflags! {
    /// About a [`KeyEvent`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct KeyInfo: u32 {
        /// The code is a character.
        const UNICODE = 1 << 0;
        /// The key goes up.
        const BREAK = 1 << 1;
        /// Prefix E0.
        const E0 = 1 << 2;
        /// Prefix E1.
        const E1 = 1 << 3;
    }
}
