//! What a firmware image is made of (UEFI Platform Initialization specification 1.8, volume 3): firmware volumes,
//! the files in them, the sections of files; and the header of an executable (PE32+).

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// `EFI_FIRMWARE_VOLUME_HEADER`, without the block map that follows.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
pub struct VolumeHeader {
    /// For a reset vector; not used.
    pub zero_vector: [u8; 16],
    /// Which file system.
    pub file_system: [u8; 16],
    /// Bytes of the volume, this header included.
    pub length: U64,
    /// [`VOLUME_SIGNATURE`].
    pub signature: [u8; 4],
    /// Attributes.
    pub attributes: U32,
    /// Bytes of this header with its block map.
    pub header_length: U16,
    /// Makes the header's 16-bit sum zero.
    pub checksum: U16,
    /// Offset of [`VolumeExtension`]; 0 if there is none.
    pub extension_offset: U16,
    /// Zero.
    pub reserved: u8,
    /// Revision, 2.
    pub revision: u8,
}
const _: () = assert!(size_of::<VolumeHeader>() == 56);

/// In every [`VolumeHeader`].
pub const VOLUME_SIGNATURE: [u8; 4] = *b"_FVH";

/// `EFI_FIRMWARE_VOLUME_EXT_HEADER`; files begin after it.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
pub struct VolumeExtension {
    /// The volume's name.
    pub name: [u8; 16],
    /// Bytes of this header with what belongs to it.
    pub length: U32,
}
const _: () = assert!(size_of::<VolumeExtension>() == 20);

/// `EFI_FFS_FILE_HEADER`.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
pub struct FileHeader {
    /// The file's name, a GUID.
    pub name: [u8; 16],
    /// Checksums of header and content.
    pub integrity: U16,
    /// Type, such as [`FILE_SECURITY_CORE`].
    pub kind: u8,
    /// Attributes; [`FILE_LARGE`] matters here.
    pub attributes: u8,
    /// Bytes of the file, this header included.
    pub size: [u8; 3],
    /// State of the file.
    pub state: u8,
}
const _: () = assert!(size_of::<FileHeader>() == 24);

/// `EFI_FV_FILETYPE_SECURITY_CORE`.
pub const FILE_SECURITY_CORE: u8 = 3;
/// `FFS_ATTRIB_LARGE_FILE`: a 64-bit size follows the header.
pub const FILE_LARGE: u8 = 1;
/// Files begin on multiples of this, from the start of their volume.
pub const FILE_ALIGN: usize = 8;

/// `EFI_COMMON_SECTION_HEADER`.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
pub struct SectionHeader {
    /// Bytes of the section, this header included; [`SECTION_LARGE`] if a 32-bit size follows.
    pub size: [u8; 3],
    /// Type, such as [`SECTION_PE32`].
    pub kind: u8,
}
const _: () = assert!(size_of::<SectionHeader>() == 4);

/// `EFI_SECTION_PE32`.
pub const SECTION_PE32: u8 = 0x10;
/// In [`SectionHeader::size`]: it does not fit.
pub const SECTION_LARGE: usize = 0xff_ffff;
/// Sections begin on multiples of this, from the start of their file's content.
pub const SECTION_ALIGN: usize = 4;

/// Magic number of the DOS header, at its start; the offset of [`PeHeader`] is at [`DOS_PE_OFFSET`].
pub const DOS_MAGIC: [u8; 2] = *b"MZ";
/// `e_lfanew`.
pub const DOS_PE_OFFSET: usize = 0x3c;

/// `IMAGE_NT_HEADERS64` as far as the entry point.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
pub struct PeHeader {
    /// [`PE_SIGNATURE`].
    pub signature: [u8; 4],
    /// [`PE_MACHINE_X64`].
    pub machine: U16,
    /// Sections, time stamp, symbols, sizes and characteristics.
    pub coff_rest: [u8; 18],
    /// [`PE_OPTIONAL_64`].
    pub optional_magic: U16,
    /// Version of the linker, sizes of code and data.
    pub optional_rest: [u8; 14],
    /// First instruction, from the start of the executable.
    pub entry: U32,
}
const _: () = assert!(size_of::<PeHeader>() == 44);

/// In every [`PeHeader`].
pub const PE_SIGNATURE: [u8; 4] = *b"PE\0\0";
/// `IMAGE_FILE_MACHINE_AMD64`.
pub const PE_MACHINE_X64: u16 = 0x8664;
/// `IMAGE_NT_OPTIONAL_HDR64_MAGIC`.
pub const PE_OPTIONAL_64: u16 = 0x20b;
