//! vmbfs messages as they lie in a packet, behind the header of a [pipe](crate::vmbus::pipe) whose second word is 0.
//!
//! Source: mu_msvm `MsvmPkg/Include/Protocol/VmbusFileSystem.h` (`VMBFS_*`) and OpenVMM's `vmbfs::protocol`. The
//! firmware stops the machine at an answer that has not exactly these bytes.

use bitflags::bitflags;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::guid::Guid;
use crate::vmbus::pipe::MessageHeader;

/// Chooses the guest's driver.
pub const INTERFACE: Guid = Guid::parse("c376c1c3-d276-48d2-90a9-c04748072c60");
/// The instance with the initial machine configuration.
pub const IMC_INSTANCE: Guid = Guid::parse("c4e5e7d1-d748-4afc-979d-683167910a55");
/// The file of that instance.
pub const IMC_FILE: &str = "imc.hiv";

/// The protocol's only version, 1.0 (`VMBFS_VERSION_WIN10`).
pub const VERSION: u32 = 1 << 16;
/// Bytes of the largest message, header included (`VMBFS_MAXIMUM_MESSAGE_SIZE`).
pub const MESSAGE_MAX: usize = 12288;
/// Most bytes of a file in one answer.
pub const READ_MAX: usize = MESSAGE_MAX - size_of::<MessageHeader>() - size_of::<ReadFileResponse>();

/// First word of every message (`VMBFS_MESSAGE_TYPE`).
pub mod message_type {
    /// The guest asks for a version.
    pub const VERSION_REQUEST: u32 = 1;
    /// The host's answer.
    pub const VERSION_RESPONSE: u32 = 2;
    /// The guest asks about a file; the message's body is its path in UTF-16, without an end.
    pub const GET_FILE_INFO: u32 = 3;
    /// The host's answer.
    pub const GET_FILE_INFO_RESPONSE: u32 = 4;
    /// The guest asks for a part of a file.
    pub const READ_FILE: u32 = 5;
    /// The host's answer; the bytes are behind it.
    pub const READ_FILE_RESPONSE: u32 = 6;
    /// The guest asks for a part of a file in memory of its own.
    pub const READ_FILE_RDMA: u32 = 7;
    /// The host's answer.
    pub const READ_FILE_RDMA_RESPONSE: u32 = 8;
}

/// `VMBFS_STATUS_VERSION_RESPONSE`.
pub mod version_status {
    /// The conversation goes on.
    pub const SUPPORTED: u32 = 0;
    /// It does not.
    pub const UNSUPPORTED: u32 = 1;
}

/// How a request about a file ended (`VMBFS_STATUS_FILE_RESPONSE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Status {
    /// As it was asked for.
    Success = 0,
    /// There is no such file.
    NotFound = 1,
    /// There is nothing from that offset on.
    EndOfFile = 2,
    /// Anything else.
    Error = 3,
}

bitflags! {
    /// What a path names.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct InfoFlags: u32 {
        /// A directory.
        const DIRECTORY = 1 << 0;
        /// A file that can be read into the guest's memory. No file of this host: without it nobody asks.
        const RDMA_CAPABLE = 1 << 1;
    }
}

/// Starts the conversation (`VMBFS_MESSAGE_VERSION_REQUEST`).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct VersionRequest {
    /// Minor version in the lower half, major in the upper.
    pub version: U32,
}
const _: () = assert!(size_of::<VersionRequest>() == 4);

/// Whether it goes on (`VMBFS_MESSAGE_VERSION_RESPONSE`).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct VersionResponse {
    /// A [`version_status`].
    pub status: U32,
}
const _: () = assert!(size_of::<VersionResponse>() == 4);

/// What there is of a path (`VMBFS_MESSAGE_GET_FILE_INFO_RESPONSE`).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct FileInfoResponse {
    /// A [`Status`]; if it is no success, the others are 0.
    pub status: U32,
    /// [`InfoFlags`].
    pub flags: U32,
    /// Bytes of the file.
    pub size: U64,
}
const _: () = assert!(size_of::<FileInfoResponse>() == 16);

/// A part of a file, in front of the file's path (`VMBFS_MESSAGE_READ_FILE`).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct ReadFile {
    /// Bytes wanted.
    pub count: U32,
    /// Bytes of the file in front of them.
    pub offset: U64,
}
const _: () = assert!(size_of::<ReadFile>() == 12);

/// In front of the file's bytes (`VMBFS_MESSAGE_READ_FILE_RESPONSE`).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct ReadFileResponse {
    /// A [`Status`]; if it is no success, no bytes follow.
    pub status: U32,
}
const _: () = assert!(size_of::<ReadFileResponse>() == 4);

/// How much is in the guest's memory (`VMBFS_MESSAGE_READ_FILE_RDMA_RESPONSE`).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct ReadFileRdmaResponse {
    /// A [`Status`].
    pub status: U32,
    /// Bytes.
    pub count: U32,
}
const _: () = assert!(size_of::<ReadFileRdmaResponse>() == 8);
