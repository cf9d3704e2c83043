//! Data of CD and DVD drives (MMC-6, the capabilities page MMC-3).

use zerocopy::big_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::mode::PageHeader;

/// Bytes of a block.
pub const BLOCK: u32 = 2048;
/// Blocks of the longest CD: 80 minutes, 75 blocks a second.
pub const LONGEST_CD: u64 = 80 * 60 * 75;

/// Profiles: what a drive with the disc that is in behaves like.
pub mod profile {
    /// No disc.
    pub const NONE: u16 = 0x0000;
    /// CD-ROM.
    pub const CD_ROM: u16 = 0x0008;
    /// DVD-ROM.
    pub const DVD_ROM: u16 = 0x0010;
}

/// Features of GET CONFIGURATION (MMC-6 5.3).
#[expect(missing_docs, reason = "the standard's names")]
pub mod feature {
    pub const PROFILE_LIST: u16 = 0x0000;
    pub const CORE: u16 = 0x0001;
    pub const MORPHING: u16 = 0x0002;
    pub const REMOVABLE_MEDIUM: u16 = 0x0003;
    pub const RANDOM_READABLE: u16 = 0x0010;
    pub const DVD_READ: u16 = 0x001F;
}

/// In front of the features (MMC-6 6.6.2.1).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct ConfigurationHeader {
    /// Bytes behind this field.
    pub length: U32,
    /// Always 0.
    pub reserved: [u8; 2],
    /// See [`profile`].
    pub current_profile: U16,
}
const _: () = assert!(size_of::<ConfigurationHeader>() == 8);

/// In front of a feature's data (MMC-6 5.2.2).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct FeatureHeader {
    /// See [`feature`].
    pub code: U16,
    /// Version from bit 2 on, [`FEATURE_PERSISTENT`], [`FEATURE_CURRENT`].
    pub flags: u8,
    /// Bytes of data.
    pub length: u8,
}
const _: () = assert!(size_of::<FeatureHeader>() == 4);

/// The feature is there whatever is in the drive.
pub const FEATURE_PERSISTENT: u8 = 0x02;
/// The feature is there now.
pub const FEATURE_CURRENT: u8 = 0x01;

/// In front of an event (MMC-6 6.7.2.1).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct EventHeader {
    /// Bytes behind this field.
    pub length: U16,
    /// Bit 7: no such event can be told; low 3 bits: the event's class.
    pub class: u8,
    /// A bit for each class that can be told.
    pub classes: u8,
}
const _: () = assert!(size_of::<EventHeader>() == 4);

/// An event, of the classes that are told.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct Event {
    /// Low 4 bits: see [`media_event`]; 0: nothing has happened.
    pub code: u8,
    /// Media: [`MEDIA_TRAY_OPEN`], [`MEDIA_PRESENT`].
    pub status: u8,
    /// Always 0.
    pub reserved: [u8; 2],
}
const _: () = assert!(size_of::<Event>() == 4);

/// Class of events: a disc comes or goes.
pub const CLASS_MEDIA: u8 = 4;
/// Class of events: the drive is busy.
pub const CLASS_DEVICE_BUSY: u8 = 6;
/// No event of the classes that were asked for can be told.
pub const NO_EVENT_AVAILABLE: u8 = 0x80;
/// The door is open.
pub const MEDIA_TRAY_OPEN: u8 = 0x01;
/// A disc is in.
pub const MEDIA_PRESENT: u8 = 0x02;

/// What has happened to a disc.
pub mod media_event {
    /// Somebody wants the disc: the guest is asked to eject it.
    pub const EJECT_REQUEST: u8 = 1;
    /// A disc is in.
    pub const NEW_MEDIA: u8 = 2;
    /// The disc is gone.
    pub const MEDIA_REMOVAL: u8 = 3;
}

/// Disc information, of a disc with one session of one track (MMC-6 6.22.3.1).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct DiscInformation {
    /// Bytes behind this field.
    pub length: U16,
    /// Complete, and its last session is too.
    pub status: u8,
    /// Number of the first track.
    pub first_track: u8,
    /// Low bytes of the number of sessions, and of first and last track of the last one.
    pub last_session: [u8; 3],
    /// Bit 5: for any use.
    pub flags: u8,
    /// CD-ROM.
    pub disc_type: u8,
    /// Nothing that is known.
    pub unused: [u8; 25],
}
const _: () = assert!(size_of::<DiscInformation>() == 34);

/// What a drive can do (MMC-3 6.3.11).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct Capabilities {
    /// Code and length.
    pub header: PageHeader,
    /// Bit 3: reads DVD-ROM.
    pub read: u8,
    /// Writes nothing.
    pub write: u8,
    /// Nothing of it is there.
    pub audio: [u8; 2],
    /// [`MECHANISM_TRAY`] and its neighbours.
    pub mechanism: u8,
    /// Nothing of it is there.
    pub channels: u8,
    /// Kilobytes a second.
    pub max_speed: U16,
    /// Levels of the volume.
    pub volume_levels: U16,
    /// Kilobytes.
    pub buffer: U16,
    /// Kilobytes a second.
    pub speed: U16,
    /// Nothing that is used.
    pub unused: [u8; 6],
}
const _: () = assert!(size_of::<Capabilities>() == 22);

/// DVD-ROM can be read.
pub const READS_DVD_ROM: u8 = 0x08;
/// The door can be locked.
pub const MECHANISM_LOCK: u8 = 0x01;
/// It is locked.
pub const MECHANISM_LOCKED: u8 = 0x02;
/// START STOP UNIT ejects.
pub const MECHANISM_EJECT: u8 = 0x08;
/// Discs are put on a tray.
pub const MECHANISM_TRAY: u8 = 0x20;

/// Mechanism status (MMC-6 6.9.2): the drive does nothing by itself.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct Mechanism {
    /// No changer.
    pub changer: u8,
    /// [`MECHANISM_DOOR_OPEN`].
    pub state: u8,
    /// Nothing.
    pub address: [u8; 3],
    /// No changer, no slots.
    pub slots: u8,
    /// Bytes of their table.
    pub table_length: U16,
}
const _: () = assert!(size_of::<Mechanism>() == 8);

/// The door is open.
pub const MECHANISM_DOOR_OPEN: u8 = 0x10;

/// Structures of a DVD.
pub mod structure {
    /// Physical format of a layer.
    pub const PHYSICAL: u8 = 0x00;
    /// Copyright.
    pub const COPYRIGHT: u8 = 0x01;
    /// The maker's.
    pub const MANUFACTURING: u8 = 0x04;
    /// Which there are.
    pub const LIST: u8 = 0xFF;
}

/// Physical format of a layer (MMC-6 6.23.3.2.1), the start of 2048 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct PhysicalFormat {
    /// DVD-ROM, version 1.
    pub book: u8,
    /// 120 mm; low 4 bits: the speed is not said.
    pub size_and_rate: u8,
    /// Bit 0: the one layer was pressed.
    pub layer: u8,
    /// Of tracks and bits.
    pub density: u8,
    /// Sector number of the first block: 30000h.
    pub first: U32,
    /// Of the last one, 24 bits.
    pub last: U32,
    /// Of the last one of a first of two layers.
    pub last_of_layer_0: U32,
    /// Nothing.
    pub burst_cutting_area: u8,
}
const _: () = assert!(size_of::<PhysicalFormat>() == 17);

/// Sector number of a DVD's first block.
pub const FIRST_SECTOR: u32 = 0x3_0000;
