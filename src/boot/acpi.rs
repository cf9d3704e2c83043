//! ACPI tables of a directly booted machine: RSDP, XSDT, FADT, FACS, MADT, WAET, DSDT, and TPM2 if it has a TPM.
//! Firmware brings its own, but for the MADT.
//!
//! They describe what a generation 2 machine's firmware describes: no ISA bridge and no PCI, a power management
//! block at 0x400 (not hardware-reduced), an IOAPIC, and below `\_SB.VMOD` the bus. The module device matters to
//! Windows: it is the resource arbiter from which devices of the bus get their MMIO. The AML is in `dsdt`.

mod dsdt;

use acpi_tables::Aml;
use acpi_tables::facs::FACS;
use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use devices::legacy::pm;
use devices::mem::GuestRam;
use thiserror::Error;
use vm_memory::{Bytes, GuestAddress, GuestMemoryError};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::layout::{self, boot, gsi, port};

const OEM: [u8; 6] = *b"BUSMAN";
const OEM_TABLE: [u8; 8] = *b"BUSMANVM";
const OEM_REVISION: u32 = 1;
/// Highest APIC id that xAPIC, and thus the short MADT entry, can name.
const XAPIC_ID_MAX: u32 = 254;

/// AML names have four characters; a P and three hexadecimal digits name a processor.
const MAX_CPUS: u32 = 0xfff;

/// Why there are no tables.
#[derive(Debug, Error)]
pub enum AcpiError {
    /// More processors than the DSDT has names for.
    #[error("{0} CPUs are more than the {MAX_CPUS} that the ACPI tables can name")]
    TooManyCpus(u32),
    /// Too many processors for the reserved area.
    #[error("ACPI tables of {size} bytes do not fit into {available}; give fewer CPUs")]
    DoNotFit {
        /// Bytes of all tables.
        size: u64,
        /// Bytes of the area.
        available: u64,
    },
    /// RAM ends below 1 MiB.
    #[error("Cannot write ACPI tables to guest RAM")]
    Write(#[from] GuestMemoryError),
}

/// What the tables depend on.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Processors; their APIC ids are 0, 1, …
    pub cpus: u32,
    /// Bytes of RAM.
    pub memory: u64,
    /// It has a TPM.
    pub tpm: bool,
}

/// Writes all tables to the reserved area below 1 MiB and returns the RSDP's address.
///
/// # Errors
/// When the tables do not fit or RAM does not reach that far.
pub fn write(ram: &GuestRam, machine: &Machine) -> Result<u64, AcpiError> {
    if machine.cpus > MAX_CPUS {
        return Err(AcpiError::TooManyCpus(machine.cpus));
    }
    let area = boot::ACPI_TABLES;
    let tables = build(machine, area.start);
    let (size, available) = (tables.len() as u64, area.end - area.start);
    if size > available {
        return Err(AcpiError::DoNotFit { size, available });
    }
    ram.write_slice(&tables, GuestAddress(area.start))?;
    Ok(area.start)
}

/// The MADT alone, for firmware that has the other tables.
#[must_use]
pub fn madt_table(cpus: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    madt(cpus).to_aml_bytes(&mut bytes);
    bytes
}

/// All tables as they lie in memory from `base` on, the RSDP first.
fn build(machine: &Machine, base: u64) -> Vec<u8> {
    let mut memory = Placed { base, bytes: vec![0; Rsdp::len()] };
    let facs = memory.place(&FACS::new());
    let dsdt = memory.place(&dsdt::build(machine));
    let mut xsdt = XSDT::new(OEM, OEM_TABLE, OEM_REVISION);
    for table in [memory.place(&fadt(facs, dsdt)), memory.place(&madt(machine.cpus)), memory.place(&waet())] {
        xsdt.add_entry(table);
    }
    if machine.tpm {
        xsdt.add_entry(memory.place(&tpm2()));
    }
    let xsdt = memory.place(&xsdt);
    let mut rsdp = Vec::new();
    Rsdp::new(OEM, xsdt).to_aml_bytes(&mut rsdp);
    memory.bytes.splice(..rsdp.len(), rsdp);
    memory.bytes
}

struct Placed {
    base: u64,
    bytes: Vec<u8>,
}

impl Placed {
    /// Appends a table and returns its address. The FACS has to be aligned to 64 bytes; no other table minds.
    fn place(&mut self, table: &dyn Aml) -> u64 {
        self.bytes.resize(self.bytes.len().next_multiple_of(64), 0);
        let address = self.base + self.bytes.len() as u64;
        table.to_aml_bytes(&mut self.bytes);
        address
    }
}

/// An [`Sdt`] is finished bytes; acpi_tables does not make it [`Aml`] itself.
struct Raw(Sdt);

impl Aml for Raw {
    fn to_aml_bytes(&self, sink: &mut dyn acpi_tables::AmlSink) {
        sink.vec(self.0.as_slice());
    }
}

fn header(signature: [u8; 4], revision: u8) -> Sdt {
    Sdt::new(signature, 36, revision, OEM, OEM_TABLE, OEM_REVISION)
}

/// A register block in the PM block, in the old form (port) and the new one (generic address).
fn pm_block(offset: u16, len: u8) -> (U32, u8, GAS) {
    let address = port::PM + offset;
    let gas = GAS::new(AddressSpace::SystemIo, len * 8, 0, AccessSize::Undefined, address.into());
    (U32::new(address.into()), len, gas)
}

fn fadt(facs: u64, dsdt: u64) -> impl Aml {
    let low = |address: u64| u32::try_from(address).unwrap_or(u32::MAX);
    let mut fadt = FADTBuilder::new(OEM, OEM_TABLE, OEM_REVISION)
        .firmware_ctrl_32(low(facs))
        .dsdt_64(dsdt)
        .flag(Flags::Wbinvd)
        .flag(Flags::ProcC1)
        .flag(Flags::SlpButton) // no fixed sleep button; the power button is fixed, hence its flag is clear
        .flag(Flags::FixRtc) // no RTC wake status in the PM1 registers
        .flag(Flags::TmrValExt)
        .flag(Flags::ResetRegSup);
    fadt.dsdt = U32::new(low(dsdt));
    fadt.sci_int = U16::new(9);
    (fadt.pm1a_evt_blk, fadt.pm1_evt_len, fadt.x_pm1a_evt_blk) = pm_block(pm::PM1_STATUS, 4);
    (fadt.pm1a_cnt_blk, fadt.pm1_cnt_len, fadt.x_pm1a_cnt_blk) = pm_block(pm::PM1_CONTROL, 2);
    (fadt.pm_tmr_blk, fadt.pm_tmr_len, fadt.x_pm_tmr_blk) = pm_block(pm::TIMER, 4);
    (fadt.gpe0_blk, fadt.gpe0_blk_len, fadt.x_gpe0_blk) = pm_block(pm::GPE0_STATUS, 4);
    fadt.reset_reg =
        GAS::new(AddressSpace::SystemIo, 8, 0, AccessSize::ByteAccess, (port::PM + pm::RESET).into());
    fadt.reset_value = pm::RESET_VALUE;
    // Latencies past the limits say: no C2, no C3.
    fadt.p_lvl2_lat = U16::new(101);
    fadt.p_lvl3_lat = U16::new(1001);
    fadt.century = devices::legacy::cmos::CENTURY;
    fadt.iapc_boot_arch = U16::new(IAPC_VGA_NOT_PRESENT);
    fadt.hypervisor_vendor_identity = U64::from_bytes(*b"MsHyperV");
    fadt.finalize()
}

/// FADT `IAPC_BOOT_ARCH`; the other bits stay clear: no legacy devices, no 8042, MSI and CMOS clock work.
const IAPC_VGA_NOT_PRESENT: u16 = 1 << 2;

/// MADT entries (ACPI 6.5, 5.2.12), as far as this machine has them.
mod entry {
    use super::{FromBytes, Immutable, IntoBytes, U16, U32};

    pub const ENABLED: u32 = 1;
    /// Interrupt flags: active high, level-triggered.
    pub const HIGH_LEVEL: u16 = 0b1101;
    /// The processor UIDs that mean all processors.
    pub const ALL: u8 = 0xff;
    pub const ALL_X2APIC: u32 = 0xffff_ffff;

    #[derive(Clone, FromBytes, Immutable, IntoBytes)]
    #[repr(C, packed)]
    pub struct LocalApic {
        pub kind: u8,
        pub length: u8,
        pub uid: u8,
        pub apic_id: u8,
        pub flags: U32,
    }
    const _: () = assert!(size_of::<LocalApic>() == 8);

    #[derive(Clone, FromBytes, Immutable, IntoBytes)]
    #[repr(C, packed)]
    pub struct IoApic {
        pub kind: u8,
        pub length: u8,
        pub id: u8,
        pub reserved: u8,
        pub address: U32,
        pub gsi_base: U32,
    }
    const _: () = assert!(size_of::<IoApic>() == 12);

    #[derive(Clone, FromBytes, Immutable, IntoBytes)]
    #[repr(C, packed)]
    pub struct InterruptSourceOverride {
        pub kind: u8,
        pub length: u8,
        pub bus: u8,
        pub source: u8,
        pub gsi: U32,
        pub flags: U16,
    }
    const _: () = assert!(size_of::<InterruptSourceOverride>() == 10);

    #[derive(Clone, FromBytes, Immutable, IntoBytes)]
    #[repr(C, packed)]
    pub struct LocalApicNmi {
        pub kind: u8,
        pub length: u8,
        pub uid: u8,
        pub flags: U16,
        pub lint: u8,
    }
    const _: () = assert!(size_of::<LocalApicNmi>() == 6);

    #[derive(Clone, FromBytes, Immutable, IntoBytes)]
    #[repr(C, packed)]
    pub struct LocalX2Apic {
        pub kind: u8,
        pub length: u8,
        pub reserved: U16,
        pub apic_id: U32,
        pub flags: U32,
        pub uid: U32,
    }
    const _: () = assert!(size_of::<LocalX2Apic>() == 16);

    #[derive(Clone, FromBytes, Immutable, IntoBytes)]
    #[repr(C, packed)]
    pub struct LocalX2ApicNmi {
        pub kind: u8,
        pub length: u8,
        pub flags: U16,
        pub uid: U32,
        pub lint: u8,
        pub reserved: [u8; 3],
    }
    const _: () = assert!(size_of::<LocalX2ApicNmi>() == 12);
}

/// UID of the processor with an APIC id, in the MADT and in the DSDT.
fn processor_uid(apic_id: u32) -> u32 {
    apic_id + 1
}

/// Processors, the IOAPIC, and the two lines that are not what ISA defaults say.
fn madt(cpus: u32) -> impl Aml {
    let low = |address: u64| U32::new(u32::try_from(address).unwrap_or(u32::MAX));
    let mut madt = header(*b"APIC", 5);
    madt.append(low(layout::LAPIC));
    madt.append(U32::new(0)); // flags: no pair of 8259s
    for id in 0..cpus {
        let uid = processor_uid(id);
        let flags = U32::new(entry::ENABLED);
        match (u8::try_from(id), u8::try_from(uid)) {
            (Ok(apic_id), Ok(uid)) if uid != entry::ALL => {
                madt.append(entry::LocalApic { kind: 0, length: 8, uid, apic_id, flags });
            }
            _ => madt.append(entry::LocalX2Apic {
                kind: 9,
                length: 16,
                reserved: U16::new(0),
                apic_id: U32::new(id),
                flags,
                uid: U32::new(uid),
            }),
        }
    }
    madt.append(entry::IoApic {
        kind: 1,
        length: 12,
        id: 0,
        reserved: 0,
        address: low(layout::IOAPIC),
        gsi_base: U32::new(0),
    });
    madt.append(entry::InterruptSourceOverride {
        kind: 2,
        length: 10,
        bus: 0,
        source: 9,
        gsi: U32::new(gsi::SCI),
        flags: U16::new(entry::HIGH_LEVEL),
    });
    madt.append(entry::LocalApicNmi { kind: 4, length: 6, uid: entry::ALL, flags: U16::new(0), lint: 1 });
    if cpus > XAPIC_ID_MAX {
        madt.append(entry::LocalX2ApicNmi {
            kind: 10,
            length: 12,
            flags: U16::new(0),
            uid: U32::new(entry::ALL_X2APIC),
            lint: 1,
            reserved: [0; 3],
        });
    }
    madt.update_checksum();
    Raw(madt)
}

/// Windows ACPI Emulated devices Table: one read of the PM timer is enough, it does not glitch.
fn waet() -> impl Aml {
    const PM_TIMER_GOOD: u32 = 1 << 1;
    let mut waet = header(*b"WAET", 1);
    waet.append(U32::new(PM_TIMER_GOOD));
    waet.update_checksum();
    Raw(waet)
}

/// Trusted Platform Module 2 Table (TCG ACPI Specification 1.2): the client platform's, and where its registers are.
fn tpm2() -> impl Aml {
    const CLIENT: u16 = 0;
    const COMMAND_RESPONSE_BUFFER: u32 = 7;
    let mut tpm2 = header(*b"TPM2", 3);
    tpm2.append(U16::new(CLIENT));
    tpm2.append(U16::new(0)); // reserved
    tpm2.append(U64::new(layout::TPM_CONTROL_AREA));
    tpm2.append(U32::new(COMMAND_RESPONSE_BUFFER));
    tpm2.update_checksum();
    Raw(tpm2)
}

#[cfg(test)]
#[path = "acpi/tests.rs"]
mod tests;
