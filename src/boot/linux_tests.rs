//! Boots images made up here: just enough header for the loader, with known bytes to find again in RAM.

use super::*;
use std::fs;
use vmm_sys_util::tempdir::TempDir;

const MIB: u64 = 1 << 20;

fn ram(mib: u64) -> GuestRam {
    crate::memory::allocate(mib * MIB).unwrap()
}

/// A bzImage: one setup sector, then code that is all 0x90.
fn bzimage(change: impl FnOnce(&mut setup_header)) -> Vec<u8> {
    let mut header = setup_header {
        setup_sects: 1,
        boot_flag: 0xaa55,
        header: u32::from_le_bytes(BZIMAGE_MAGIC),
        version: 0x020f,
        loadflags: 1,
        code32_start: 0x10_0000,
        initrd_addr_max: 0x7fff_ffff,
        xloadflags: XLF_KERNEL_64,
        cmdline_size: 2047,
        pref_address: 0x100_0000,
        init_size: 8 << 20,
        ..setup_header::default()
    };
    change(&mut header);
    let mut image = vec![0; 1024];
    let bytes = vm_memory::ByteValued::as_slice(&header);
    image[0x1f1..0x1f1 + bytes.len()].copy_from_slice(bytes);
    image.resize(1024 + 4096, 0x90);
    image
}

/// An ELF file: one segment of 0x90 at 16 MiB and, if wanted, the PVH note.
fn elf(note: bool) -> Vec<u8> {
    let word = |value: u64| value.to_le_bytes();
    let mut image = b"\x7fELF\x02\x01\x01".to_vec();
    image.resize(16, 0);
    image.extend([2, 0, 62, 0, 1, 0, 0, 0]); // executable, x86-64, version 1
    image.extend([word(0x100_0000), word(64), word(0)].concat()); // entry, program headers, no sections
    image.extend([0, 0, 0, 0, 64, 0, 56, 0, 2, 0, 0, 0, 0, 0, 0, 0]); // two program headers of 56 bytes
    let header = |kind: u32, offset: u64, address: u64, filesz: u64, memsz: u64| {
        let mut header = [kind.to_le_bytes(), 7u32.to_le_bytes()].concat();
        header.extend([offset, address, address, filesz, memsz, 4096].map(word).concat());
        header
    };
    image.extend(header(1, 4096, 0x100_0000, 256, 0x10_0000));
    image.extend(header(if note { 4 } else { 0 }, 512, 0, 20, 20));
    image.resize(512, 0);
    image.extend([4u32, 4, 18].map(u32::to_le_bytes).concat());
    image.extend(b"Xen\0");
    image.extend(0x100_0040u32.to_le_bytes());
    image.resize(4096, 0);
    image.resize(4096 + 256, 0x90);
    image
}

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Files(TempDir::new_with_prefix("/tmp/busman-boot").unwrap())
    }

    fn source(&self, kernel: &[u8], initrd: Option<&[u8]>, cmdline: &str) -> BootSource {
        let write = |name: &str, bytes: &[u8]| {
            let path = self.0.as_path().join(name);
            fs::write(&path, bytes).unwrap();
            path
        };
        let initrd = initrd.map(|bytes| write("initrd", bytes));
        BootSource { kernel: write("kernel", kernel), initrd, cmdline: cmdline.to_owned() }
    }
}

fn bytes(ram: &GuestRam, at: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    ram.read_slice(&mut bytes, GuestAddress(at)).unwrap();
    bytes
}

#[test]
fn bzimage_gets_a_zero_page_and_the_64_bit_entry() {
    let (files, ram) = (Files::new(), ram(64));
    let entry = load(&ram, &files.source(&bzimage(|_| {}), Some(&[7; 5000]), "console=ttyS0"), 0).unwrap();
    assert_eq!(entry, Entry::Linux64 { rip: 0x10_0200, zero_page: 0x7000 });
    assert_eq!(bytes(&ram, 0x10_0200, 4), [0x90; 4]);
    let params: boot_params = ram.read_obj(GuestAddress(0x7000)).unwrap();
    assert_eq!({ params.acpi_rsdp_addr }, 0xe_0000);
    assert_eq!(({ params.hdr.type_of_loader }, { params.hdr.cmd_line_ptr }), (0xff, 0x2_0000));
    assert_eq!(bytes(&ram, 0x2_0000, 14), b"console=ttyS0\0");
    // The initrd is at the top of RAM, on a page boundary.
    let initrd = u64::from(params.hdr.ramdisk_image);
    assert_eq!((initrd, { params.hdr.ramdisk_size }), (64 * MIB - 8192, 5000));
    assert_eq!(bytes(&ram, initrd, 5000), [7; 5000]);
}

#[test]
fn bzimage_memory_map_covers_ram_and_keeps_acpi_reserved() {
    let (files, ram) = (Files::new(), ram(6 * 1024));
    load(&ram, &files.source(&bzimage(|_| {}), None, ""), 0).unwrap();
    let params: boot_params = ram.read_obj(GuestAddress(0x7000)).unwrap();
    let count = usize::from(params.e820_entries);
    let table = params.e820_table;
    let map: Vec<(u64, u64, u32)> =
        table[..count].iter().map(|e| (e.addr, e.addr + e.size, e.r#type)).collect();
    let end = (4 << 30) + 6 * 1024 * MIB - layout::LOW_GAP;
    let wanted = [(0, 0x9_fc00, 1), (0xe_0000, 0x10_0000, 2), (0x10_0000, 0xf800_0000, 1), (4 << 30, end, 1)];
    assert_eq!(map, wanted);
    assert_eq!({ params.hdr.ramdisk_size }, 0);
}

#[test]
fn what_is_reserved_is_neither_the_kernels_nor_the_initrds() {
    let (files, ram) = (Files::new(), ram(64));
    let source = files.source(&elf(true), Some(&[7; 100]), "");
    load(&ram, &source, 0x2000).unwrap();
    let info: hvm_start_info = ram.read_obj(GuestAddress(0x6000)).unwrap();
    let module: hvm_modlist_entry = ram.read_obj(GuestAddress(info.modlist_paddr)).unwrap();
    assert_eq!(module.paddr, 64 * MIB - 0x3000);
    let entry = |i: u64| ram.read_obj::<hvm_memmap_table_entry>(GuestAddress(info.memmap_paddr + i * 24));
    let entries = [2, 3].map(|i| entry(i).unwrap()).map(|e| (e.addr, e.addr + e.size, e.type_));
    assert_eq!(info.memmap_entries, 4);
    assert_eq!(entries, [(0x10_0000, 64 * MIB - 0x2000, 1), (64 * MIB - 0x2000, 64 * MIB, 2)]);
}

#[test]
fn initrd_stays_below_the_kernels_limit() {
    let (files, ram) = (Files::new(), ram(128));
    let kernel = bzimage(|header| header.initrd_addr_max = 0x3ff_ffff);
    load(&ram, &files.source(&kernel, Some(&[1; 4096]), ""), 0).unwrap();
    let params: boot_params = ram.read_obj(GuestAddress(0x7000)).unwrap();
    assert_eq!({ params.hdr.ramdisk_image }, 0x3ff_f000);
}

#[test]
fn elf_gets_pvh_start_info_and_the_entry_of_its_note() {
    let (files, ram) = (Files::new(), ram(64));
    let entry = load(&ram, &files.source(&elf(true), Some(&[7; 100]), "quiet"), 0).unwrap();
    assert_eq!(entry, Entry::Pvh { eip: 0x100_0040, start_info: 0x6000 });
    assert_eq!(bytes(&ram, 0x100_0000, 256), [0x90; 256]);
    let info: hvm_start_info = ram.read_obj(GuestAddress(0x6000)).unwrap();
    assert_eq!((info.magic, info.version, info.nr_modules), (0x336e_c578, 1, 1));
    assert_eq!(info.rsdp_paddr, 0xe_0000);
    assert_eq!(bytes(&ram, info.cmdline_paddr, 6), b"quiet\0");
    let module: hvm_modlist_entry = ram.read_obj(GuestAddress(info.modlist_paddr)).unwrap();
    assert_eq!((module.size, bytes(&ram, module.paddr, 100)), (100, vec![7; 100]));
    let map: Vec<(u64, u64, u32)> = (0..u64::from(info.memmap_entries))
        .map(|i| ram.read_obj::<hvm_memmap_table_entry>(GuestAddress(info.memmap_paddr + i * 24)).unwrap())
        .map(|entry| (entry.addr, entry.addr + entry.size, entry.type_))
        .collect();
    assert_eq!(map, [(0, 0x9_fc00, 1), (0xe_0000, 0x10_0000, 2), (0x10_0000, 64 * MIB, 1)]);
}

#[test]
fn errors_name_the_file_and_the_reason() {
    let (files, ram) = (Files::new(), ram(64));
    let fail = |source: &BootSource| load(&ram, source, 0).unwrap_err().to_string();

    let mut missing = files.source(b"", None, "");
    missing.kernel = "/nonexistent/vmlinuz".into();
    assert_eq!(fail(&missing), "Cannot read kernel /nonexistent/vmlinuz");

    let text = files.source(b"#!/bin/sh\n", None, "");
    assert!(fail(&text).ends_with("neither a bzImage (vmlinuz) nor an ELF file (vmlinux)"));

    let old = files.source(&bzimage(|header| header.xloadflags = 0), None, "");
    assert!(fail(&old).contains("has no 64-bit entry"));

    let plain = files.source(&elf(false), None, "");
    assert!(fail(&plain).contains("without a PVH entry"));

    let long = files.source(&bzimage(|_| {}), None, &"x".repeat(2048));
    assert_eq!(fail(&long), "The kernel command line has 2048 bytes; this kernel takes 2047");

    let nul = files.source(&elf(true), None, "a\0b");
    assert_eq!(fail(&nul), "The kernel command line contains a NUL byte");
}

#[test]
fn what_does_not_fit_says_how_much_memory_would_do() {
    let (files, ram) = (Files::new(), ram(64));
    let fail = |source: &BootSource| load(&ram, source, 0).unwrap_err().to_string();
    let kernel = bzimage(|header| header.init_size = 100 << 20);
    assert_eq!(
        fail(&files.source(&kernel, None, "")),
        "The kernel needs guest memory up to 116 MiB, but 64 MiB are there; give more with --memory"
    );
    let kernel = bzimage(|_| {});
    let initrd = vec![0; 41 << 20];
    assert_eq!(
        fail(&files.source(&kernel, Some(&initrd), "")),
        "The kernel with its initrd needs guest memory up to 65 MiB, but 64 MiB are there; give more with --memory"
    );
}

#[test]
fn truncated_images_are_errors() {
    let (files, ram) = (Files::new(), ram(64));
    for image in [bzimage(|_| {}), elf(true)] {
        for len in [0, 3, 4, 0x201, 0x204, 0x206, 600, 1023] {
            let source = files.source(&image[..len], None, "");
            assert!(load(&ram, &source, 0).is_err(), "{len}");
        }
    }
}
