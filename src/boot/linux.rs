//! Loads a Linux kernel, its initrd and command line, and writes what the boot protocol wants to find.
//!
//! A bzImage starts by Linux's 64-bit protocol (Documentation/arch/x86/boot.rst), an ELF kernel by PVH (Xen's
//! start_info.h). linux-loader reads the images; the structures below are ours to fill. The guest's files are
//! trusted no more than the guest: every size is checked against RAM before it is used.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use devices::mem::{GuestRam, PAGE_SIZE};
use linux_loader::loader::bootparam::{boot_e820_entry, boot_params, setup_header};
use linux_loader::loader::elf::start_info::{
    XEN_HVM_MEMMAP_TYPE_RAM, XEN_HVM_MEMMAP_TYPE_RESERVED, XEN_HVM_START_MAGIC_VALUE, hvm_memmap_table_entry,
    hvm_modlist_entry, hvm_start_info,
};
use linux_loader::loader::{BzImage, Elf, KernelLoader, PvhBootCapability};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

use super::{BootError, BootSource, Entry};
use crate::layout::{self, boot};

const ELF_MAGIC: [u8; 4] = *b"\x7fELF";
const BZIMAGE_MAGIC: [u8; 4] = *b"HdrS";
const BZIMAGE_MAGIC_OFFSET: u64 = 0x202;
/// `setup_header.xloadflags`: the kernel has 64-bit code at [`ENTRY_64_OFFSET`].
const XLF_KERNEL_64: u16 = 1 << 0;
const ENTRY_64_OFFSET: u64 = 0x200;
/// `setup_header.type_of_loader` of a loader without a number of its own.
const LOADER_UNDEFINED: u8 = 0xff;
/// `COMMAND_LINE_SIZE` of x86 Linux, less the NUL; PVH kernels do not tell theirs.
const PVH_CMDLINE_MAX: usize = 2047;

/// Layout of the page at [`boot::PVH_START_INFO`].
const PVH_MODULES: u64 = boot::PVH_START_INFO + 0x80;
const PVH_MEMORY_MAP: u64 = boot::PVH_START_INFO + 0x100;

/// Where everything goes that the kernel finds.
struct Room<'a> {
    ram: &'a GuestRam,
    /// First address below the gap that is not the kernel's.
    end: u64,
}

/// Writes kernel, initrd, command line and boot structures to RAM and says how VP 0 starts. The last bytes below the
/// gap, `reserved` of them, are for others; the guest is told.
///
/// # Errors
/// A sentence for the user: which file, what is wrong with it, or how much memory it takes.
pub fn load(ram: &GuestRam, source: &BootSource, reserved: u64) -> Result<Entry, BootError> {
    let room = &Room { ram, end: low_ram_end(ram).saturating_sub(reserved) };
    let mut kernel = open("kernel", &source.kernel)?;
    let format = Format::of(&mut kernel).map_err(|error| read_error("kernel", &source.kernel, error))?;
    let entry = match format {
        Some(Format::BzImage) => load_bzimage(room, source, &mut kernel)?,
        Some(Format::Elf) => load_elf(room, source, &mut kernel)?,
        None => return Err(BootError::NotAKernel(source.kernel.clone())),
    };
    entry.write_tables(ram)?;
    Ok(entry)
}

enum Format {
    BzImage,
    Elf,
}

impl Format {
    fn of(kernel: &mut File) -> std::io::Result<Option<Self>> {
        let mut magic_at = |offset| -> std::io::Result<Vec<u8>> {
            let mut magic = Vec::new();
            kernel.seek(SeekFrom::Start(offset))?;
            Read::take(&mut *kernel, 4).read_to_end(&mut magic)?;
            Ok(magic)
        };
        Ok(if magic_at(0)? == ELF_MAGIC {
            Some(Format::Elf)
        } else if magic_at(BZIMAGE_MAGIC_OFFSET)? == BZIMAGE_MAGIC {
            Some(Format::BzImage)
        } else {
            None
        })
    }
}

fn load_bzimage(room: &Room<'_>, source: &BootSource, kernel: &mut File) -> Result<Entry, BootError> {
    let himem = Some(GuestAddress(boot::HIGH_MEMORY));
    check_kernel_size(room, kernel, &source.kernel)?;
    let loaded =
        BzImage::load(room.ram, None, kernel, himem).map_err(|error| load_error(&source.kernel, error))?;
    let header: setup_header = loaded.setup_header.unwrap_or_default();
    if header.xloadflags & XLF_KERNEL_64 == 0 {
        return Err(BootError::NoLongModeEntry(source.kernel.clone()));
    }
    // The kernel unpacks itself to its preferred address and needs init_size bytes there, bss included.
    let unpacked = header.pref_address.saturating_add(header.init_size.into());
    let kernel_end = loaded.kernel_end.max(unpacked);
    check_fits("The kernel", room, kernel_end)?;
    let cmdline_max = usize::try_from(header.cmdline_size).unwrap_or(usize::MAX);
    write_cmdline(room, &source.cmdline, cmdline_max)?;
    let initrd = load_initrd(room, source, kernel_end, u64::from(header.initrd_addr_max) + 1)?;

    let mut params = boot_params { hdr: header, acpi_rsdp_addr: boot::ACPI.start, ..boot_params::default() };
    params.hdr.type_of_loader = LOADER_UNDEFINED;
    params.hdr.cmd_line_ptr = low(boot::CMDLINE.start);
    if let Some((address, size)) = initrd {
        params.hdr.ramdisk_image = low(address);
        params.hdr.ramdisk_size = low(size);
    }
    let map = memory_map(room);
    let mut table = params.e820_table;
    for (entry, part) in table.iter_mut().zip(&map) {
        *entry = boot_e820_entry { addr: part.start, size: part.size, r#type: part.kind };
    }
    params.e820_table = table;
    params.e820_entries = u8::try_from(map.len()).unwrap_or(u8::MAX);
    room.ram.write_obj(params, GuestAddress(boot::ZERO_PAGE))?;
    Ok(Entry::Linux64 { rip: loaded.kernel_load.0 + ENTRY_64_OFFSET, zero_page: boot::ZERO_PAGE })
}

fn load_elf(room: &Room<'_>, source: &BootSource, kernel: &mut File) -> Result<Entry, BootError> {
    let himem = Some(GuestAddress(boot::HIGH_MEMORY));
    check_kernel_size(room, kernel, &source.kernel)?;
    let loaded =
        Elf::load(room.ram, None, kernel, himem).map_err(|error| load_error(&source.kernel, error))?;
    let PvhBootCapability::PvhEntryPresent(pvh_entry) = loaded.pvh_boot_cap else {
        return Err(BootError::NoPvhEntry(source.kernel.clone()));
    };
    check_fits("The kernel", room, loaded.kernel_end)?;
    write_cmdline(room, &source.cmdline, PVH_CMDLINE_MAX)?;
    let initrd = load_initrd(room, source, loaded.kernel_end, layout::LOW_GAP)?;

    let map = memory_map(room);
    let mut info = hvm_start_info {
        magic: XEN_HVM_START_MAGIC_VALUE,
        version: 1,
        cmdline_paddr: boot::CMDLINE.start,
        rsdp_paddr: boot::ACPI.start,
        memmap_paddr: PVH_MEMORY_MAP,
        memmap_entries: u32::try_from(map.len()).unwrap_or(u32::MAX),
        ..hvm_start_info::default()
    };
    if let Some((paddr, size)) = initrd {
        info.nr_modules = 1;
        info.modlist_paddr = PVH_MODULES;
        let module = hvm_modlist_entry { paddr, size, ..hvm_modlist_entry::default() };
        room.ram.write_obj(module, GuestAddress(PVH_MODULES))?;
    }
    for (i, part) in (0u64..).zip(&map) {
        let entry =
            hvm_memmap_table_entry { addr: part.start, size: part.size, type_: part.kind, reserved: 0 };
        room.ram.write_obj(
            entry,
            GuestAddress(PVH_MEMORY_MAP + i * size_of::<hvm_memmap_table_entry>() as u64),
        )?;
    }
    room.ram.write_obj(info, GuestAddress(boot::PVH_START_INFO))?;
    Ok(Entry::Pvh { eip: low(pvh_entry.0), start_info: low(boot::PVH_START_INFO) })
}

/// One line of the guest's memory map; E820 and PVH number the kinds alike.
struct Part {
    start: u64,
    size: u64,
    kind: u32,
}

fn memory_map(room: &Room<'_>) -> Vec<Part> {
    let part =
        |range: std::ops::Range<u64>, kind| Part { start: range.start, size: range.end - range.start, kind };
    let mut map = vec![
        part(0..boot::LOW_RAM_END, XEN_HVM_MEMMAP_TYPE_RAM),
        part(boot::ACPI, XEN_HVM_MEMMAP_TYPE_RESERVED),
    ];
    for region in room.ram.iter() {
        let start = region.start_addr().0.max(boot::HIGH_MEMORY);
        let end = region.start_addr().0 + region.len();
        if (start..end).contains(&room.end) {
            map.push(part(start..room.end, XEN_HVM_MEMMAP_TYPE_RAM));
            map.push(part(room.end..end, XEN_HVM_MEMMAP_TYPE_RESERVED));
        } else {
            map.push(part(start..end, XEN_HVM_MEMMAP_TYPE_RAM));
        }
    }
    map
}

fn low_ram_end(ram: &GuestRam) -> u64 {
    ram.iter().next().map_or(0, GuestMemoryRegion::len)
}

/// Fits in 32 bits by construction: everything a direct boot places lies below the gap.
fn low(address: u64) -> u32 {
    u32::try_from(address).unwrap_or(u32::MAX)
}

/// An early look, so that a kernel larger than RAM gets a sentence and not a failed copy.
fn check_kernel_size(room: &Room<'_>, kernel: &File, path: &Path) -> Result<(), BootError> {
    let size = kernel.metadata().map_err(|error| read_error("kernel", path, error))?.len();
    check_fits("The kernel", room, boot::HIGH_MEMORY.saturating_add(size))
}

fn check_fits(what: &'static str, room: &Room<'_>, end: u64) -> Result<(), BootError> {
    let available = room.end;
    if end <= available {
        return Ok(());
    }
    Err(BootError::DoesNotFit { what, needed: end.div_ceil(1 << 20), available: available >> 20 })
}

fn write_cmdline(room: &Room<'_>, cmdline: &str, kernel_max: usize) -> Result<(), BootError> {
    let area = usize::try_from(boot::CMDLINE.end - boot::CMDLINE.start).unwrap_or(usize::MAX);
    let max = kernel_max.min(area - 1);
    if cmdline.len() > max {
        return Err(BootError::CmdlineTooLong { len: cmdline.len(), max });
    }
    if cmdline.contains('\0') {
        return Err(BootError::CmdlineNul);
    }
    room.ram.write_slice(cmdline.as_bytes(), GuestAddress(boot::CMDLINE.start))?;
    room.ram.write_obj(0u8, GuestAddress(boot::CMDLINE.start + cmdline.len() as u64))?;
    Ok(())
}

/// Puts the initrd as high as RAM and the kernel's limit allow, where nothing that unpacks runs into it.
fn load_initrd(
    room: &Room<'_>,
    source: &BootSource,
    kernel_end: u64,
    limit: u64,
) -> Result<Option<(u64, u64)>, BootError> {
    let Some(path) = &source.initrd else { return Ok(None) };
    let mut file = open("initrd", path)?;
    let size = file.metadata().map_err(|error| read_error("initrd", path, error))?.len();
    let page = PAGE_SIZE as u64;
    let top = room.end.min(limit);
    let start = top.checked_sub(size).map(|start| start - start % page).filter(|&start| start >= kernel_end);
    let Some(start) = start else {
        let end = kernel_end.next_multiple_of(page).saturating_add(size);
        check_fits("The kernel with its initrd", room, end)?;
        let available = top >> 20;
        return Err(BootError::DoesNotFit { what: "The initrd", needed: end.div_ceil(1 << 20), available });
    };
    let len = usize::try_from(size).unwrap_or(usize::MAX);
    room.ram.read_exact_volatile_from(GuestAddress(start), &mut file, len)?;
    Ok(Some((start, size)))
}

fn open(what: &'static str, path: &Path) -> Result<File, BootError> {
    File::open(path).map_err(|error| read_error(what, path, error))
}

fn read_error(what: &'static str, path: &Path, source: std::io::Error) -> BootError {
    BootError::Read { what, path: path.to_owned(), source }
}

fn load_error(path: &Path, source: linux_loader::loader::Error) -> BootError {
    BootError::Load { path: path.to_owned(), source }
}

#[cfg(test)]
#[path = "linux_tests.rs"]
mod tests;
