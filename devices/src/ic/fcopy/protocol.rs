//! File copy messages as they lie in a packet, behind the integration services' header.
//!
//! Source: Linux `include/uapi/linux/hyperv.h` (`hv_start_fcopy`, `hv_do_fcopy`).

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// What the guest is to do.
pub mod operation {
    /// Make the file.
    pub const START: u32 = 0;
    /// Write a piece of it.
    pub const WRITE: u32 = 1;
    /// It is complete.
    pub const COMPLETE: u32 = 2;
    /// Remove it.
    pub const CANCEL: u32 = 3;
}

/// In front of every message, and all there is of completion and cancellation (Linux `hv_fcopy_hdr`): of those, Linux
/// hands its daemon the whole packet, and the daemon ends when that is longer than a [`WriteMessage`].
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct FcopyHeader {
    /// See [`operation`].
    pub operation: U32,
    /// Unused.
    pub service_ids: [[u8; 16]; 2],
}

const _: () = assert!(size_of::<FcopyHeader>() == 36);

/// UTF-16 units of a path, its zero included.
pub const PATH_UNITS: usize = 260;

/// Flag: a file that is there is replaced.
pub const OVERWRITE: u32 = 1;
/// Flag: folders that are missing are made.
pub const CREATE_PATH: u32 = 2;

/// Start of a copy.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct StartMessage {
    /// The header.
    pub header: FcopyHeader,
    /// Name of the file.
    pub name: [U16; PATH_UNITS],
    /// Its folder. Linux makes only folders that have a slash behind them.
    pub folder: [U16; PATH_UNITS],
    /// [`OVERWRITE`] and its neighbour.
    pub flags: U32,
    /// Bytes of the file.
    pub size: U64,
}

const _: () = assert!(size_of::<StartMessage>() == 1088);

/// Bytes of a piece.
pub const PIECE: usize = 6 << 10;

/// A piece of a file.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct WriteMessage {
    /// The header.
    pub header: FcopyHeader,
    /// Always 0.
    pub reserved: U32,
    /// Where the piece begins.
    pub offset: U64,
    /// How many of its bytes count.
    pub size: U32,
    /// The bytes.
    pub data: [u8; PIECE],
}

const _: () = assert!(size_of::<WriteMessage>() == 6196);
