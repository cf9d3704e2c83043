//! The DSDT: the devices that an OS can only learn of from AML, and the S5 sleep state.

use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, And, Device, EISAName, IO, Memory32Fixed, Method, Name, Notify, Or,
    Package, Path, ResourceTemplate, Return, Scope, ZERO,
};
use acpi_tables::{Aml, AmlSink};

use super::{Machine, Raw, header, processor_uid};
use crate::layout::{self, boot, gsi, port};

/// `_STA`: present, enabled, shown, working.
const WORKING: u8 = 0x0f;
/// `_STA` without the enabled bit.
const NOT_ENABLED: u8 = 0x0d;

pub(super) fn build(machine: &Machine) -> Raw {
    let mut aml = Vec::new();
    // SLP_TYP 0 in both PM1 control registers is S5.
    Name::new("_S5_".into(), &Package::new(vec![&ZERO, &ZERO, &ZERO, &ZERO])).to_aml_bytes(&mut aml);
    let mut devices = Vec::new();
    processors(machine.cpus, &mut devices);
    module_device(machine.memory, &mut devices);
    serial_port("COM1", 1, port::COM1, gsi::COM1, &mut devices);
    serial_port("COM2", 2, port::COM2, gsi::COM2, &mut devices);
    cmos_clock(&mut devices);
    generation_counter(&mut devices);
    if machine.tpm {
        tpm(&mut devices);
    }
    aml.append(&mut Scope::raw("\\_SB_".into(), devices));
    general_purpose_events(&mut aml);

    let mut dsdt = header(*b"DSDT", 2);
    dsdt.append_slice(&aml);
    Raw(dsdt)
}

fn processors(cpus: u32, aml: &mut Vec<u8>) {
    for id in 0..cpus {
        let uid = processor_uid(id);
        Device::new(
            Path::new(&format!("P{uid:03X}")),
            vec![&Name::new("_HID".into(), &"ACPI0007"), &Name::new("_UID".into(), &uid)],
        )
        .to_aml_bytes(aml);
    }
}

/// The module device owns the MMIO windows; guests look for them from the bus device upwards.
fn module_device(memory: u64, aml: &mut Vec<u8>) {
    let low = layout::LOW_MMIO;
    let high = layout::high_mmio(memory);
    let as_u32 = |address: u64| u32::try_from(address).unwrap_or(u32::MAX);
    let cacheable = AddressSpaceCacheable::Cacheable;
    Device::new(
        "VMOD".into(),
        vec![
            &Name::new("_HID".into(), &"ACPI0004"),
            &Name::new("_UID".into(), &ZERO),
            &Name::new(
                "_CRS".into(),
                &ResourceTemplate::new(vec![
                    &AddressSpace::<u32>::new_memory(
                        cacheable,
                        true,
                        as_u32(low.start),
                        as_u32(low.end - 1),
                        None,
                    ),
                    &AddressSpace::<u64>::new_memory(
                        AddressSpaceCacheable::Cacheable,
                        true,
                        high.start,
                        high.end - 1,
                        None,
                    ),
                ]),
            ),
            &VmbusDevice,
        ],
    )
    .to_aml_bytes(aml);
}

/// The device that VMBus drivers bind to. Its interrupt is for guests of the RHEL 6 era only; the methods are
/// what Windows expects of any device that it may stop and start.
struct VmbusDevice;

impl Aml for VmbusDevice {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        let sta = Path::new("STA_");
        Device::new(
            "VMBS".into(),
            vec![
                &Name::new("STA_".into(), &WORKING),
                &Name::new("_ADR".into(), &ZERO),
                &Name::new("_DDN".into(), &"VMBUS"),
                &Name::new("_HID".into(), &"VMBus"),
                &Name::new("_UID".into(), &ZERO),
                &Method::new("_DIS".into(), 0, false, vec![&And::new(&sta, &sta, &NOT_ENABLED)]),
                &Method::new("_PS0".into(), 0, false, vec![&Or::new(&sta, &sta, &WORKING)]),
                &Method::new("_PS3".into(), 0, false, vec![]),
                &Method::new("_STA".into(), 0, false, vec![&Return::new(&sta)]),
                &Name::new("_CRS".into(), &ResourceTemplate::new(vec![&Irq(gsi::VMBUS)])),
            ],
        )
        .to_aml_bytes(sink);
    }
}

fn serial_port(name: &str, uid: u8, port: u16, gsi: u32, aml: &mut Vec<u8>) {
    Device::new(
        name.into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0501")),
            &Name::new("_UID".into(), &uid),
            &Name::new("_CRS".into(), &ResourceTemplate::new(vec![&IO::new(port, port, 1, 8), &Irq(gsi)])),
        ],
    )
    .to_aml_bytes(aml);
}

fn cmos_clock(aml: &mut Vec<u8>) {
    Device::new(
        "RTC0".into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0B00")),
            &Name::new(
                "_CRS".into(),
                &ResourceTemplate::new(vec![&IO::new(port::CMOS, port::CMOS, 1, 2), &Irq(gsi::RTC)]),
            ),
        ],
    )
    .to_aml_bytes(aml);
}

/// Where the generation id is (Microsoft's "Virtual Machine Generation ID"; names as in mu_msvm's DSDT).
fn generation_counter(aml: &mut Vec<u8>) {
    let ids = ["VM_Gen_Counter", "VMGENCTR"];
    Device::new(
        "GENC".into(),
        vec![
            &Name::new("_HID".into(), &"MSFT1002"),
            &Name::new("_CID".into(), &Package::new(ids.iter().map(|id| id as &dyn Aml).collect())),
            &Name::new("_DDN".into(), &"VM_Gen_Counter"),
            &Name::new("_UID".into(), &ZERO),
            &Name::new("ADDR".into(), &Package::new(vec![&boot::GENERATION_ID, &ZERO])),
        ],
    )
    .to_aml_bytes(aml);
}

/// What a TPM is when it has no other firmware: registers, and no Physical Presence Interface, which asks firmware.
fn tpm(aml: &mut Vec<u8>) {
    let as_u32 = |address: u64| u32::try_from(address).unwrap_or(u32::MAX);
    let registers =
        Memory32Fixed::new(true, as_u32(layout::TPM.start), as_u32(layout::TPM.end - layout::TPM.start));
    Device::new(
        "TPM2".into(),
        vec![
            &Name::new("_HID".into(), &"MSFT0101"),
            &Name::new("_UID".into(), &1u8),
            &Name::new("_STA".into(), &WORKING),
            &Name::new("_CRS".into(), &ResourceTemplate::new(vec![&registers])),
        ],
    )
    .to_aml_bytes(aml);
}

/// Event 0, edge: the generation id has changed ([`devices::legacy::pm::GPE_GENERATION_ID`]).
fn general_purpose_events(aml: &mut Vec<u8>) {
    const CHANGED: u8 = 0x80;
    let device = Path::new("\\_SB_.GENC");
    let notify = Notify::new(&device, &CHANGED);
    Scope::new("\\_GPE".into(), vec![&Method::new("_E00".into(), 0, false, vec![&notify])]).to_aml_bytes(aml);
}

/// The small interrupt descriptor (ACPI 6.5, 6.4.2.1), edge, active high, exclusive: what ISA devices have, and
/// what acpi_tables lacks.
struct Irq(u32);

impl Aml for Irq {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        const DESCRIPTOR: u8 = 0x23;
        const EDGE: u8 = 1 << 0;
        sink.byte(DESCRIPTOR);
        sink.word(1 << self.0);
        sink.byte(EDGE);
    }
}
