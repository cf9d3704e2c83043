//! What firmware and host say to each other: register numbers and the structures behind guest addresses.
//!
//! Source: mu_msvm `MsvmPkg/Include/BiosInterface.h` and the headers of its event log; Project Mu's AdvLoggerPkg for
//! the in-memory log; UEFI 2.10 for times and status codes. Everything is packed and little-endian.

use zerocopy::little_endian::{I16, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::guid::Guid;

/// First of the BIOS device's ports: register select at +0, data at +4, 32 bits each.
pub const BIOS_PORT: u16 = 0x28;
/// First of the guest watchdog's ports, laid out alike; the WDAT table names them.
pub const WATCHDOG_PORT: u16 = 0x30;

/// What the select register chooses.
pub mod register {
    /// W: address of the generation id, low half.
    pub const GENERATION_ID_LOW: u32 = 0x0e;
    /// W: its high half.
    pub const GENERATION_ID_HIGH: u32 = 0x0f;
    /// W: the firmware is about to boot; the host sets MTRRs (physical address width in the data).
    pub const BOOT_FINALIZE: u32 = 0x1a;
    /// W: address of an NVRAM command.
    pub const NVRAM_COMMAND: u32 = 0x24;
    /// W: address of a crypto command.
    pub const CRYPTO_COMMAND: u32 = 0x26;
    /// RW: watchdog configuration.
    pub const WATCHDOG_CONFIG: u32 = 0x27;
    /// R: seconds of one watchdog count.
    pub const WATCHDOG_RESOLUTION: u32 = 0x28;
    /// RW: watchdog count.
    pub const WATCHDOG_COUNT: u32 = 0x29;
    /// W: address of the in-memory log.
    pub const ADVANCED_LOG_ADDRESS: u32 = 0x2b;
    /// W: read that log now.
    pub const ADVANCED_LOG_PROCESS: u32 = 0x2c;
    /// W: address of an event channel.
    pub const EVENT_LOG_FLUSH: u32 = 0x30;
    /// W: the memory overwrite request, from the TPM's ACPI method.
    pub const MOR_SET: u32 = 0x31;
    /// W: address that gets the time.
    pub const GET_TIME: u32 = 0x34;
    /// W: address of a time to set.
    pub const SET_TIME: u32 = 0x35;
    /// R: bytes of the NFIT; 0 without persistent memory.
    pub const NFIT_SIZE: u32 = 0x37;
}

/// Commands of [`NvramHeader`].
pub mod nvram_command {
    /// GetVariable.
    pub const GET: u32 = 0;
    /// SetVariable.
    pub const SET: u32 = 1;
    /// The first name.
    pub const FIRST_NAME: u32 = 2;
    /// GetNextVariableName.
    pub const NEXT_NAME: u32 = 3;
    /// QueryVariableInfo.
    pub const QUERY_INFO: u32 = 4;
    /// ExitBootServices was called.
    pub const SIGNAL_RUNTIME: u32 = 5;
    /// A line for the host's log.
    pub const DEBUG_STRING: u32 = 6;
}

/// The only crypto command that firmware still uses.
pub const CRYPTO_RANDOM: u32 = 5;

/// `EFI_STATUS` codes (UEFI 2.10, appendix D). On the wire of this device they lack the error bit.
#[repr(u64)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EfiStatus {
    /// Done.
    Success = 0,
    /// A parameter is wrong.
    InvalidParameter = 2,
    /// Not here.
    Unsupported = 3,
    /// The guest's buffer is too small; the size that is needed is told.
    BufferTooSmall = 5,
    /// The host could not do it.
    DeviceError = 7,
    /// A read-only variable.
    WriteProtected = 8,
    /// The store is full.
    OutOfResources = 9,
    /// No such variable.
    NotFound = 14,
    /// The signature does not allow it.
    SecurityViolation = 26,
}

impl EfiStatus {
    /// The code as this device tells it.
    #[must_use]
    pub const fn code(self) -> U64 {
        U64::new(self as u64)
    }
}

/// How every NVRAM command begins (`NVRAM_COMMAND_DESCRIPTOR`); one of the next four structures follows.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct NvramHeader {
    /// One of [`nvram_command`].
    pub command: U32,
    /// Out: [`EfiStatus`].
    pub status: U64,
}
const _: () = assert!(size_of::<NvramHeader>() == 12);

/// Of [`nvram_command`] GET to NEXT_NAME.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct NvramVariable {
    /// In for SET, out for GET.
    pub attributes: U32,
    /// The name, UTF-16, ended by NUL.
    pub name_address: U64,
    /// Bytes of the buffer with the name; out for the names: bytes of the name with its NUL.
    pub name_bytes: U32,
    /// The vendor.
    pub vendor: Guid,
    /// The data.
    pub data_address: U64,
    /// Bytes of the data or of the buffer for it.
    pub data_bytes: U32,
}
const _: () = assert!(size_of::<NvramVariable>() == 44);

/// Of [`nvram_command::QUERY_INFO`].
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct NvramQuery {
    /// In: which kind of variables.
    pub attributes: U32,
    /// Out: bytes for all of them.
    pub maximum_storage: U64,
    /// Out: bytes that are left.
    pub remaining_storage: U64,
    /// Out: bytes of the largest one.
    pub maximum_variable: U64,
}
const _: () = assert!(size_of::<NvramQuery>() == 28);

/// Of [`nvram_command::DEBUG_STRING`].
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct NvramDebugString {
    /// Not used.
    pub reserved: U32,
    /// UTF-16 text.
    pub address: U64,
    /// Bytes of it.
    pub bytes: U32,
}
const _: () = assert!(size_of::<NvramDebugString>() == 16);

/// `CRYPTO_COMMAND_DESCRIPTOR` with the parameters of [`CRYPTO_RANDOM`].
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct CryptoCommand {
    /// [`CRYPTO_RANDOM`].
    pub command: U32,
    /// Out: [`EfiStatus`].
    pub status: U64,
    /// Where the bytes go.
    pub address: U64,
    /// How many, at most 8.
    pub bytes: U32,
}
const _: () = assert!(size_of::<CryptoCommand>() == 24);

/// How an event log begins (`BIOS_EVENT_CHANNEL`); events follow.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct EventChannel {
    /// Which log.
    pub channel: Guid,
    /// Events in it.
    pub written: U32,
    /// Events that found no room.
    pub lost: U32,
    /// Bytes that follow.
    pub data_bytes: U32,
}
const _: () = assert!(size_of::<EventChannel>() == 28);

/// An event (`EFI_EVENT_DESCRIPTOR`); its data follow.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct EventDescriptor {
    /// Who wrote it.
    pub producer: Guid,
    /// What belongs together.
    pub correlation: Guid,
    /// When it was made, 100 ns.
    pub created: U64,
    /// When it was written, 100 ns.
    pub committed: U64,
    /// The producer's number of it.
    pub id: U32,
    /// Flags.
    pub flags: U32,
    /// Bytes of this structure.
    pub header_bytes: U32,
    /// Bytes of the data after it.
    pub data_bytes: U32,
}
const _: () = assert!(size_of::<EventDescriptor>() == 64);

/// [`EventDescriptor::id`] of an attempt to boot a device.
pub const BOOT_EVENT: u32 = 1;

/// Data of a [`BOOT_EVENT`] (`BOOTEVENT_DEVICE_ENTRY`); a device path follows.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct BootEvent {
    /// Group in the upper half: 1 boot, 2 Secure Boot, 3 network.
    pub status: U32,
    /// Not used.
    pub reserved: U32,
    /// `EFI_STATUS` behind it.
    pub extended_status: U64,
    /// N of Boot####.
    pub boot_number: U16,
    /// Not used.
    pub reserved2: U16,
    /// Bytes of the device path.
    pub path_bytes: U32,
}
const _: () = assert!(size_of::<BootEvent>() == 24);

/// A time (`EFI_TIME`; UEFI 2.10, 8.3.1).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct EfiTime {
    /// 1900 to 9999.
    pub year: U16,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
    /// Zero.
    pub reserved: u8,
    /// 0 to 999,999,999.
    pub nanosecond: U32,
    /// Minutes from UTC, or 2047: local time.
    pub timezone: I16,
    /// Daylight saving.
    pub daylight: u8,
    /// Zero.
    pub reserved2: u8,
}
const _: () = assert!(size_of::<EfiTime>() == 16);

/// Of [`register::GET_TIME`] (`VM_EFI_TIME`).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct TimeCommand {
    /// Out: `EFI_STATUS`, here with its error bit.
    pub status: U64,
    /// Out for [`register::GET_TIME`], in for [`register::SET_TIME`].
    pub time: EfiTime,
}
const _: () = assert!(size_of::<TimeCommand>() == 24);

/// How the in-memory log begins (`ADVANCED_LOGGER_INFO`).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct LogHeader {
    /// [`LOG_SIGNATURE`].
    pub signature: [u8; 4],
    /// Version of the structure.
    pub version: U16,
    /// Not used.
    pub reserved: [u8; 6],
    /// From the start of this structure to the first entry.
    pub buffer_offset: U32,
    /// Not used.
    pub reserved2: U32,
    /// From the start of this structure to the end of the last entry.
    pub current_offset: U32,
    /// Bytes that found no room.
    pub discarded: U32,
    /// Bytes for entries.
    pub buffer_bytes: U32,
    /// The writer's state.
    pub state: [u8; 5],
    /// Not used.
    pub reserved3: [u8; 3],
    /// Ticks of a second.
    pub timer_frequency: U64,
    /// Ticks at `time`.
    pub ticks_at_time: U64,
    /// A moment.
    pub time: EfiTime,
    /// What goes to a serial port.
    pub print_level: U32,
    /// Not used.
    pub reserved4: U32,
}
const _: () = assert!(size_of::<LogHeader>() == 80);

/// [`LogHeader::signature`].
pub const LOG_SIGNATURE: [u8; 4] = *b"ALOG";

/// An entry of the in-memory log (`ADVANCED_LOGGER_MESSAGE_ENTRY_V2`), 8-byte aligned; the text follows.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct LogEntry {
    /// [`LOG_ENTRY_SIGNATURE`].
    pub signature: [u8; 4],
    /// Version of the structure.
    pub version: [u8; 2],
    /// [`LOG_ERROR`] and others.
    pub level: U32,
    /// Ticks.
    pub ticks: U64,
    /// Boot phase, from SEC (1) on.
    pub phase: U16,
    /// Bytes of the text.
    pub text_bytes: U16,
    /// From the start of this structure to the text.
    pub text_offset: U16,
}
const _: () = assert!(size_of::<LogEntry>() == 24);

/// [`LogEntry::signature`].
pub const LOG_ENTRY_SIGNATURE: [u8; 4] = *b"ALM2";
/// `DEBUG_ERROR`.
pub const LOG_ERROR: u32 = 0x8000_0000;
/// `DEBUG_WARN`.
pub const LOG_WARN: u32 = 0x0000_0002;
