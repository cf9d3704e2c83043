//! What the firmware is told of the machine: `UEFI_CONFIG_*` of its `BiosInterface.h` (microsoft/mu_msvm).
//!
//! The structures lie one after the other in guest memory. Each begins with a [`Header`], and its length, header
//! included, is a multiple of 8. The firmware stops at the first that is not as it should be.

use bitflags::bitflags;
use devices::guid::Guid;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{Immutable, IntoBytes};

/// `UefiConfigStructureType`, those that this machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// [`StructureCount`], always the first.
    StructureCount = 0x00,
    /// [`BiosInformation`].
    BiosInformation = 0x01,
    /// [`MemoryRange`]s.
    MemoryMap = 0x03,
    /// 64 random bytes.
    Entropy = 0x04,
    /// The machine's UUID.
    BiosGuid = 0x05,
    /// Text: the machine's serial number.
    SystemSerial = 0x06,
    /// Text: its board's serial number.
    BoardSerial = 0x07,
    /// Text: its chassis' serial number.
    ChassisSerial = 0x08,
    /// Text: its owner's name for it.
    ChassisAssetTag = 0x09,
    /// [`Flags`].
    Flags = 0x12,
    /// [`ProcessorInformation`].
    ProcessorInformation = 0x13,
    /// Two [`MmioRange`]s.
    MmioRanges = 0x14,
    /// An ACPI table, from its header to its end; any but the MADT.
    AcpiTable = 0x16,
    /// The MADT.
    Madt = 0x18,
    /// Text: who made the machine.
    SystemManufacturer = 0x1a,
    /// Text: what it is.
    SystemProduct = 0x1b,
    /// Text: its version.
    SystemVersion = 0x1c,
    /// Text: its number in a shop.
    SystemSku = 0x1d,
    /// Text: its family.
    SystemFamily = 0x1e,
}

/// `UEFI_CONFIG_HEADER`.
#[derive(Clone, Copy, Debug, Immutable, IntoBytes)]
#[repr(C)]
pub struct Header {
    /// [`Kind`].
    pub kind: U32,
    /// Bytes of the structure, this header included.
    pub length: U32,
}
const _: () = assert!(size_of::<Header>() == 8);

/// `UEFI_CONFIG_STRUCTURE_COUNT`.
#[derive(Clone, Copy, Debug, Immutable, IntoBytes)]
#[repr(C)]
pub struct StructureCount {
    /// Structures, this one included.
    pub count: U32,
    /// Bytes of all of them.
    pub total: U32,
}
const _: () = assert!(size_of::<StructureCount>() == 8);

/// `UEFI_CONFIG_BIOS_INFORMATION`.
#[derive(Clone, Copy, Debug, Immutable, IntoBytes)]
#[repr(C)]
pub struct BiosInformation {
    /// Pages of the image.
    pub pages: U32,
    /// Bit 0: the memory map has the old, short ranges.
    pub flags: U32,
}
const _: () = assert!(size_of::<BiosInformation>() == 8);

/// `VM_MEMORY_RANGE_V5`.
#[derive(Clone, Copy, Debug, Immutable, IntoBytes)]
#[repr(C)]
pub struct MemoryRange {
    /// First address.
    pub base: U64,
    /// Bytes.
    pub length: U64,
    /// 0 is plain RAM.
    pub flags: U32,
    /// Zero.
    pub reserved: U32,
}
const _: () = assert!(size_of::<MemoryRange>() == 24);

/// `UEFI_CONFIG_PROCESSOR_INFORMATION`.
#[derive(Clone, Copy, Debug, Immutable, IntoBytes)]
#[repr(C)]
pub struct ProcessorInformation {
    /// Processors that there could be.
    pub max: U32,
    /// Processors.
    pub count: U32,
    /// Processors of a socket.
    pub per_socket: U32,
    /// Threads of a core.
    pub threads_per_core: U32,
}
const _: () = assert!(size_of::<ProcessorInformation>() == 16);

/// `UEFI_CONFIG_MMIO`.
#[derive(Clone, Copy, Debug, Immutable, IntoBytes)]
#[repr(C)]
pub struct MmioRange {
    /// First page.
    pub page: U64,
    /// Pages.
    pub pages: U64,
}
const _: () = assert!(size_of::<MmioRange>() == 16);

/// Body of the structure [`Kind::BiosGuid`].
#[derive(Clone, Copy, Debug, Immutable, IntoBytes)]
#[repr(C)]
pub struct BiosGuid {
    /// The machine's UUID; the guest finds it in SMBIOS.
    pub uuid: Guid,
}
const _: () = assert!(size_of::<BiosGuid>() == 16);

bitflags! {
    /// `UEFI_CONFIG_FLAGS`, those that this machine sets.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Flags: u64 {
        /// The machine has COM1 and COM2.
        const SERIAL_CONTROLLERS = 1 << 0;
        /// The machine has a TPM.
        const TPM = 1 << 5;
        /// The firmware's console is COM1; without a console bit it is screen and keyboard.
        const CONSOLE_COM1 = 1 << 7;
        /// The firmware's console is COM2.
        const CONSOLE_COM2 = 2 << 7;
        /// The firmware has no console.
        const CONSOLE_NONE = 3 << 7;
        /// With nothing to boot, power off instead of showing the front page.
        const DISABLE_FRONT_PAGE = 1 << 14;
        /// Protect memory as usual: no write to code, no execution of data.
        const MEMORY_PROTECTION = 1 << 21;
        /// There is a watchdog for the guest: an ACPI table (WDAT) names it.
        const WATCHDOG = 1 << 24;
        /// The TPM has the registers of a locality, and its control area behind them.
        const TPM_LOCALITY = 1 << 25;
        /// The host has set the memory type range registers.
        const MTRRS_INITIALIZED = 1 << 28;
    }
}
