//! Video messages as they lie in a packet, behind the frame of [`pipe`](crate::vmbus::pipe).
//!
//! Source: Linux `drivers/video/fbdev/hyperv_fb.c` and `drivers/gpu/drm/hyperv/hyperv_drm_proto.c` (`synthvid_*`),
//! OpenVMM's `uidevices::video`. Nothing in here is aligned.

use std::fmt;

use zerocopy::little_endian::{I32, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::guid::Guid;

/// Chooses the guest's driver.
pub const INTERFACE: Guid = Guid::parse("da0a7802-e377-4aac-8e77-0558eb1073f8");
/// Names the device.
pub const INSTANCE: Guid = Guid::parse("5620e0c7-8062-4dce-aeb7-520c7ef76171");

/// What a message is.
pub mod message_type {
    /// The guest asks for a version.
    pub const VERSION_REQUEST: u32 = 1;
    /// The host's answer.
    pub const VERSION_RESPONSE: u32 = 2;
    /// The guest places the video memory.
    pub const VRAM_LOCATION: u32 = 3;
    /// It is there.
    pub const VRAM_LOCATION_ACK: u32 = 4;
    /// The guest says how the picture lies in video memory.
    pub const SITUATION_UPDATE: u32 = 5;
    /// The host knows.
    pub const SITUATION_UPDATE_ACK: u32 = 6;
    /// Where the pointer is, and whether it is shown.
    pub const POINTER_POSITION: u32 = 7;
    /// What it looks like.
    pub const POINTER_SHAPE: u32 = 8;
    /// What the host wants to be told.
    pub const FEATURE_CHANGE: u32 = 9;
    /// What the guest has drawn.
    pub const DIRT: u32 = 10;
    /// What kind of machine?
    pub const BIOS_INFO_REQUEST: u32 = 11;
    /// This kind.
    pub const BIOS_INFO_RESPONSE: u32 = 12;
    /// Which resolutions?
    pub const RESOLUTION_REQUEST: u32 = 13;
    /// These.
    pub const RESOLUTION_RESPONSE: u32 = 14;
    /// What else?
    pub const CAPABILITY_REQUEST: u32 = 15;
    /// This.
    pub const CAPABILITY_RESPONSE: u32 = 16;
}

/// A version of the protocol. Its features go by major and the low byte of minor.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct Version {
    /// Major number.
    pub major: U16,
    /// Minor number.
    pub minor: U16,
}
const _: () = assert!(size_of::<Version>() == 4);

impl Version {
    /// The first: Windows 7.
    pub const V3_0: Self = Self::new(3, 0);
    /// The host may choose the resolution.
    pub const V3_4: Self = Self::new(3, 4);
    /// The newest that we speak: Windows 10.
    pub const V3_5: Self = Self::new(3, 5);

    /// The version `major.minor`.
    #[must_use]
    pub const fn new(major: u16, minor: u16) -> Self {
        Version { major: U16::new(major), minor: U16::new(minor) }
    }

    /// Major in the upper half, minor in the lower.
    #[must_use]
    pub fn numbers(self) -> u32 {
        u32::from(self.major.get()) << 16 | u32::from(self.minor.get())
    }

    /// The minor number, as far as features go by it.
    #[must_use]
    pub fn level(self) -> u16 {
        self.minor.get() & 0xff
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// [`VersionResponse::accepted`]: yes. The firmware takes no other word for it.
pub const ACCEPTED: u8 = 2;

/// Answer to a [`Version`] (Linux: `synthvid_version_resp`).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct VersionResponse {
    /// What was asked for; if it is refused, the newest that could be had.
    pub version: Version,
    /// [`ACCEPTED`] or 0.
    pub accepted: u8,
    /// Monitors: 1.
    pub outputs: u8,
}
const _: () = assert!(size_of::<VersionResponse>() == 6);

/// Where video memory is to be (Linux: `synthvid_vram_location`).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct VramLocation {
    /// Goes back in the acknowledgement.
    pub context: U64,
    /// 0: nowhere.
    pub specified: u8,
    /// Guest-physical address.
    pub address: U64,
}
const _: () = assert!(size_of::<VramLocation>() == 17);

/// Acknowledges [`VramLocation`] and [`SituationUpdate`].
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct Ack {
    /// The request's.
    pub context: U64,
}
const _: () = assert!(size_of::<Ack>() == 8);

/// How the picture lies in video memory (Linux: `synthvid_situation_update` with one `video_output_situation`).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct SituationUpdate {
    /// Goes back in the acknowledgement.
    pub context: U64,
    /// Monitors: 1.
    pub outputs: u8,
    /// 0: there is no picture.
    pub active: u8,
    /// Where its first byte is.
    pub offset: U32,
    /// Bits of a pixel: 16 or 32.
    pub depth: u8,
    /// Pixels of a row.
    pub width: U32,
    /// Rows.
    pub height: U32,
    /// Bytes from a row to the next.
    pub pitch: U32,
}
const _: () = assert!(size_of::<SituationUpdate>() == 27);

/// The pointer's place (Linux: `synthvid_pointer_position`).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct PointerPosition {
    /// 0: it is not shown.
    pub visible: u8,
    /// Monitor: 0.
    pub output: u8,
    /// Column of its picture's left edge.
    pub x: I32,
    /// Row of its picture's upper edge.
    pub y: I32,
}
const _: () = assert!(size_of::<PointerPosition>() == 10);

/// Pixels of the pointer's picture on either side, at most.
pub const POINTER_SIDE_MAX: u32 = 96;
/// [`PointerShape::part`] of the last part.
pub const LAST_PART: u8 = 0xff;

/// The pointer's picture, or a part of it (Linux: `synthvid_pointer_shape`); its bytes follow.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct PointerShape {
    /// From 0; [`LAST_PART`] ends it.
    pub part: u8,
    /// Not 0: rows of BGRA pixels. 0: a mask of one bit a pixel to AND with, then one to XOR with; rows are whole
    /// bytes.
    pub argb: u8,
    /// Pixels of a row.
    pub width: U32,
    /// Rows.
    pub height: U32,
    /// Column of the pixel that points.
    pub hot_x: U32,
    /// Row of the pixel that points.
    pub hot_y: U32,
}
const _: () = assert!(size_of::<PointerShape>() == 18);

/// What the host wants to be told (Linux: `synthvid_feature_change`). What becomes wanted is told once at once.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct FeatureChange {
    /// [`message_type::DIRT`].
    pub dirt: u8,
    /// [`message_type::POINTER_POSITION`].
    pub pointer_position: u8,
    /// [`message_type::POINTER_SHAPE`].
    pub pointer_shape: u8,
    /// [`message_type::SITUATION_UPDATE`].
    pub situation: u8,
}
const _: () = assert!(size_of::<FeatureChange>() == 4);

/// What the guest has drawn (Linux: `synthvid_dirt`); rectangles follow.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct Dirt {
    /// Monitor: 0.
    pub output: u8,
    /// How many rectangles.
    pub count: u8,
}
const _: () = assert!(size_of::<Dirt>() == 2);

/// A part of the picture (Linux: `rect` of `hyperv_fb.c`).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct DirtRect {
    /// First column.
    pub left: I32,
    /// First row.
    pub top: I32,
    /// Column after the last.
    pub right: I32,
    /// Row after the last.
    pub bottom: I32,
}
const _: () = assert!(size_of::<DirtRect>() == 16);

/// What kind of machine this is.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct BiosInfo {
    /// 1: generation 2; there is no other video card to fall back to.
    pub stop_device_supported: U32,
    /// 0.
    pub reserved: [u8; 12],
}
const _: () = assert!(size_of::<BiosInfo>() == 16);

/// How many resolutions the guest has room for.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct ResolutionRequest {
    /// 64, usually.
    pub max: u8,
}
const _: () = assert!(size_of::<ResolutionRequest>() == 1);

/// Which resolutions there are (Linux: `synthvid_supported_resolution_resp`); [`Resolution`]s follow.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct Resolutions {
    /// The monitor's description.
    pub edid: [u8; 128],
    /// How many follow.
    pub count: u8,
    /// Which of them to begin with.
    pub preferred: u8,
    /// 0: the list is what counts.
    pub standard: u8,
}
const _: () = assert!(size_of::<Resolutions>() == 131);

/// One of them (Linux: `hvd_screen_info`).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct Resolution {
    /// Pixels of a row.
    pub width: U16,
    /// Rows.
    pub height: U16,
}
const _: () = assert!(size_of::<Resolution>() == 4);

/// What else the host can do.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct Capability {
    /// 1: the guest is to lock its screen when the last viewer goes.
    pub lock_on_disconnect: U32,
    /// 0.
    pub reserved: [U32; 15],
}
const _: () = assert!(size_of::<Capability>() == 64);
