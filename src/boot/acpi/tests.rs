//! Reads the tables back as an OS would: from the RSDP, by signature, with every checksum.

use super::*;

const BASE: u64 = boot::ACPI.start;

fn tables(cpus: u32) -> Vec<u8> {
    build(&Machine { cpus, memory: 6 << 30, tpm: false }, BASE)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

fn table_at(memory: &[u8], address: u64) -> &[u8] {
    let table = &memory[usize::try_from(address - BASE).unwrap()..];
    &table[..u32_at(table, 4) as usize]
}

/// The table of a signature, found through the XSDT; every table on the way is checked.
fn find<'a>(memory: &'a [u8], signature: &[u8; 4]) -> &'a [u8] {
    assert_eq!(&memory[..8], b"RSD PTR ");
    assert_eq!((sum(&memory[..20]), sum(&memory[..36])), (0, 0));
    let xsdt = table_at(memory, u64_at(memory, 24));
    assert_eq!((&xsdt[..4], sum(xsdt)), (b"XSDT".as_slice(), 0));
    let entries: Vec<&[u8]> =
        (36..xsdt.len()).step_by(8).map(|at| table_at(memory, u64_at(xsdt, at))).collect();
    for table in &entries {
        assert_eq!(sum(table), 0, "{}", String::from_utf8_lossy(&table[..4]));
    }
    entries.into_iter().find(|table| &table[..4] == signature).unwrap()
}

#[test]
fn fadt_names_the_generation_2_power_block() {
    let memory = tables(2);
    let fadt = find(&memory, b"FACP");
    assert_eq!((fadt.len(), fadt[8]), (276, 6));
    assert_eq!(fadt[46..48], [9, 0], "SCI");
    assert_eq!(
        [56, 64, 76, 80].map(|at| u32_at(fadt, at)),
        [0x400, 0x404, 0x408, 0x40c],
        "PM1a event, PM1a control, timer, GPE0"
    );
    assert_eq!(fadt[88..93], [4, 2, 0, 4, 4]);
    assert_eq!(fadt[108], 0x32, "century");
    assert_eq!(fadt[116..128], [1, 8, 0, 1, 0x33, 4, 0, 0, 0, 0, 0, 0], "reset register");
    assert_eq!(fadt[128], 1);
    let flags = u32_at(fadt, 112);
    assert_eq!((flags >> 4 & 1, flags >> 8 & 1, flags >> 10 & 1, flags >> 20 & 1), (0, 1, 1, 0));
    assert_eq!(&fadt[268..276], b"MsHyperV");
}

#[test]
fn fadt_leads_to_facs_and_dsdt() {
    let memory = tables(1);
    let fadt = find(&memory, b"FACP");
    let facs = u64::from(u32_at(fadt, 36));
    assert_eq!((&table_at(&memory, facs)[..4], facs % 64), (b"FACS".as_slice(), 0));
    assert_eq!(u64::from(u32_at(fadt, 40)), u64_at(fadt, 140));
    let dsdt = table_at(&memory, u64_at(fadt, 140));
    assert_eq!((&dsdt[..4], sum(dsdt)), (b"DSDT".as_slice(), 0));
}

/// MADT entries as (kind, bytes).
fn madt_entries(madt: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut rest = &madt[44..];
    let mut entries = Vec::new();
    while let [kind, length, ..] = *rest {
        let (entry, tail) = rest.split_at(length.into());
        entries.push((kind, entry.to_vec()));
        rest = tail;
    }
    entries
}

#[test]
fn madt_lists_processors_and_the_level_triggered_sci() {
    let memory = tables(3);
    let entries = madt_entries(find(&memory, b"APIC"));
    let ids: Vec<(u8, u8)> =
        entries.iter().filter(|(kind, _)| *kind == 0).map(|(_, e)| (e[2], e[3])).collect();
    assert_eq!(ids, [(1, 0), (2, 1), (3, 2)]);
    let of = |wanted| entries.iter().find(|(kind, _)| *kind == wanted).map(|(_, e)| e.as_slice());
    assert_eq!(of(1).unwrap(), [1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0]);
    assert_eq!(of(2).unwrap(), [2, 10, 0, 9, 9, 0, 0, 0, 0x0d, 0]);
    assert_eq!(of(4).unwrap(), [4, 6, 0xff, 0, 0, 1]);
    assert_eq!((of(9), of(10)), (None, None));
}

#[test]
fn apic_ids_beyond_xapic_get_x2apic_entries() {
    let memory = tables(257);
    let entries = madt_entries(find(&memory, b"APIC"));
    let count = |wanted| entries.iter().filter(|(kind, _)| *kind == wanted).count();
    assert_eq!((count(0), count(9), count(10)), (254, 3, 1));
    let last = entries.iter().rfind(|(kind, _)| *kind == 9).map(|(_, e)| (u32_at(e, 4), u32_at(e, 12)));
    assert_eq!(last, Some((256, 257)));
}

#[test]
fn dsdt_has_the_bus_below_the_module_device() {
    let memory = tables(1);
    let fadt = find(&memory, b"FACP");
    let dsdt = table_at(&memory, u64_at(fadt, 140));
    let position = |needle: &[u8]| dsdt.windows(needle.len()).position(|window| window == needle);
    let module = position(b"VMOD").unwrap();
    let bus = position(b"VMBS").unwrap();
    assert!(module < bus);
    for (name, value) in [("_HID", "VMBus"), ("_DDN", "VMBUS"), ("_HID", "ACPI0004")] {
        let needle = [name.as_bytes(), b"\x0d", value.as_bytes(), b"\0"].concat();
        assert!(position(&needle).is_some(), "{name} {value}");
    }
    // IRQ(Edge, ActiveHigh, Exclusive) {5}, then the end tag.
    assert!(position(&[0x23, 0x20, 0x00, 0x01, 0x79]).is_some());
    // DWordMemory: producer, fixed, cacheable and writable, 0xf8000000 to 0xfebfffff.
    let low = [0x87, 0x17, 0, 0, 0x0c, 0x03, 0, 0, 0, 0, 0, 0, 0, 0xf8, 0xff, 0xff, 0xbf, 0xfe];
    assert!(position(&low).is_some());
    let high = layout::high_mmio(6 << 30);
    let high = [high.start.to_le_bytes(), (high.end - 1).to_le_bytes()].concat();
    assert!(position(&high).is_some());
}

#[test]
fn dsdt_names_the_place_of_the_generation_id_and_tells_of_its_change() {
    let memory = tables(1);
    let fadt = find(&memory, b"FACP");
    let dsdt = table_at(&memory, u64_at(fadt, 140));
    let has = |needle: &[u8]| dsdt.windows(needle.len()).any(|window| window == needle);
    // Name(ADDR, Package { 0xff000, 0 }).
    assert!(has(b"\x08ADDR\x12\x08\x02\x0c\x00\xf0\x0f\x00\x00"));
    assert!(has(b"\x0dVM_Gen_Counter\0\x0dVMGENCTR\0"));
    // Method(_E00) { Notify(\_SB.GENC, 0x80) }.
    assert!(has(b"_E00\x00\x86\x5c\x2e_SB_GENC\x0a\x80"));
}

#[test]
fn tables_go_where_kernels_look_for_them() {
    let ram = GuestRam::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
    assert_eq!(write(&ram, &Machine { cpus: 1, memory: 1 << 20, tpm: false }).unwrap(), 0xe_0000);
    assert_eq!(&ram.read_obj::<[u8; 8]>(GuestAddress(0xe_0000)).unwrap(), b"RSD PTR ");
}

#[test]
fn a_thousand_processors_fit_and_too_many_are_refused() {
    let ram = GuestRam::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
    write(&ram, &Machine { cpus: 1024, memory: 1 << 20, tpm: false }).unwrap();
    let refused = write(&ram, &Machine { cpus: 4095, memory: 1 << 20, tpm: false });
    assert!(matches!(refused, Err(AcpiError::DoNotFit { .. })), "{refused:?}");
    let refused = write(&ram, &Machine { cpus: 4096, memory: 1 << 20, tpm: false });
    assert!(matches!(refused, Err(AcpiError::TooManyCpus(4096))), "{refused:?}");
}

#[test]
fn a_tpm_is_there_only_if_the_machine_has_one() {
    let memory = build(&Machine { cpus: 1, memory: 6 << 30, tpm: true }, BASE);
    let tpm2 = find(&memory, b"TPM2");
    assert_eq!((tpm2.len(), tpm2[8]), (52, 3));
    assert_eq!((u32_at(tpm2, 36), u64_at(tpm2, 40), u32_at(tpm2, 48)), (0, 0xfed4_0040, 7));
    let has = |memory: &[u8], needle: &[u8]| memory.windows(needle.len()).any(|window| window == needle);
    let registers = [0x86, 9, 0, 1, 0, 0, 0xd4, 0xfe, 0, 0x10, 0, 0];
    assert!(has(&memory, b"MSFT0101\0") && has(&memory, &registers));
    let without = tables(1);
    assert!(!has(&without, b"MSFT0101") && !has(&without, b"TPM2"));
}
