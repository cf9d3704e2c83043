//! The synthetic firmware (tests/firmware): builds it and packs it into an image of the shape of MSVM.fd.
//!
//! The image is six MiB: a DXE and a PEI volume without files, and a SEC volume in which a SEC core, as a PE32
//! executable that runs where it lies, is the second file. Used by the tests' family `platform`.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};

use crate::cache::Cache;
use crate::{busman, host, progress};

/// Where the image is loaded, and its bytes.
const BASE: usize = 0x10_0000;
const SIZE: usize = 0x60_0000;
/// The offsets of its volumes, and its end.
const VOLUMES: [usize; 4] = [0, 0x4e_0000, 0x5e_0000, SIZE];
const SEC: usize = VOLUMES[2];

/// Bytes of a volume's header, a file's, a section's.
const VOLUME_HEADER: usize = 0x48;
const FILE_HEADER: usize = 24;
const SECTION_HEADER: usize = 4;
/// `EFI_FIRMWARE_FILE_SYSTEM2_GUID`, as it lies in memory.
const FILE_SYSTEM: [u8; 16] =
    [0x78, 0xe5, 0x8c, 0x8c, 0x3d, 0x8a, 0x1c, 0x4f, 0x99, 0x35, 0x89, 0x61, 0x85, 0xc3, 0x2d, 0xd3];
const FILE_PAD: u8 = 0xf0;
const FILE_SECURITY_CORE: u8 = 3;
const SECTION_RAW: u8 = 0x19;
const SECTION_PE32: u8 = 0x10;

/// Where the executable begins: on a page, two section headers behind its file's header. The linker script
/// (tests/firmware/image.ld) knows where its code is, behind the PE header.
const EXECUTABLE: usize = SEC + 0x1000;
const CORE: usize = EXECUTABLE - 2 * SECTION_HEADER - FILE_HEADER;
const PE_HEADER: usize = 0x200;

/// Builds the firmware, once, and gives the image's path.
pub fn image() -> Result<PathBuf> {
    static IMAGE: OnceLock<PathBuf> = OnceLock::new();
    if let Some(path) = IMAGE.get() {
        return Ok(path.clone());
    }
    let step = progress::step("Building the synthetic firmware");
    let path = Cache::open()?.content("images/firmware", &pack(&build()?)?)?;
    step.done("built");
    Ok(IMAGE.get_or_init(|| path).clone())
}

/// The executable as the linker made it.
fn build() -> Result<Vec<u8>> {
    let source = host::workspace().join("tests/firmware");
    let target = busman::target()?.join("firmware");
    let output = busman::cargo(&["build", "--release"])
        .current_dir(&source)
        .env("CARGO_TARGET_DIR", &target)
        .env_remove("RUSTFLAGS")
        .output()
        .context("run cargo")?;
    ensure!(
        output.status.success(),
        "the synthetic firmware does not build:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    read(&target.join("release/firmware"))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("read {}", path.display()))
}

/// Puts an executable into an image.
fn pack(elf: &[u8]) -> Result<Vec<u8>> {
    let mut image = vec![0xff; SIZE];
    for pair in VOLUMES.windows(2) {
        put(&mut image, pair[0], &volume(pair[1] - pair[0]));
    }
    let code = Code::of(elf)?;
    let executable = [&code.pe_header()[..], &code.bytes].concat();
    let section = SECTION_HEADER + executable.len();
    let file = FILE_HEADER + SECTION_HEADER + section;
    ensure!(CORE + file <= SIZE, "the synthetic firmware has {file} bytes, which the SEC volume has not");

    put(&mut image, SEC + VOLUME_HEADER, &header(FILE_PAD, CORE - SEC - VOLUME_HEADER));
    put(&mut image, CORE, &header(FILE_SECURITY_CORE, file));
    put(&mut image, EXECUTABLE - 2 * SECTION_HEADER, &section_header(SECTION_RAW, SECTION_HEADER));
    put(&mut image, EXECUTABLE - SECTION_HEADER, &section_header(SECTION_PE32, section));
    put(&mut image, EXECUTABLE, &executable);
    Ok(image)
}

fn put(bytes: &mut [u8], at: usize, content: &[u8]) {
    bytes[at..at + content.len()].copy_from_slice(content);
}

/// The header of a volume of 4 KiB blocks.
fn volume(length: usize) -> [u8; VOLUME_HEADER] {
    let mut header = [0; VOLUME_HEADER];
    put(&mut header, 16, &FILE_SYSTEM);
    put(&mut header, 32, &(length as u64).to_le_bytes());
    put(&mut header, 40, b"_FVH");
    put(&mut header, 48, &VOLUME_HEADER.to_le_bytes()[..2]);
    header[55] = 2;
    put(&mut header, 56, &(length >> 12).to_le_bytes()[..4]);
    put(&mut header, 60, &0x1000u32.to_le_bytes());
    let words = header.chunks_exact(2).map(|word| u16::from_le_bytes([word[0], word[1]]));
    let sum = words.fold(0u16, u16::wrapping_add);
    put(&mut header, 50, &sum.wrapping_neg().to_le_bytes());
    header
}

/// The header of a file, with the checksum that it has while the file's content has none.
fn header(kind: u8, size: usize) -> [u8; FILE_HEADER] {
    let mut header = [0; FILE_HEADER];
    header[0] = kind;
    header[18] = kind;
    put(&mut header, 20, &size_of_file(size));
    header[16] = header.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte));
    header[17] = 0xaa;
    header[23] = 0xf8;
    header
}

fn section_header(kind: u8, size: usize) -> [u8; SECTION_HEADER] {
    let [a, b, c] = size_of_file(size);
    [a, b, c, kind]
}

/// Sizes have 24 bits.
fn size_of_file(size: usize) -> [u8; 3] {
    let [a, b, c, ..] = size.to_le_bytes();
    [a, b, c]
}

/// What the linker placed behind the PE header.
struct Code {
    bytes: Vec<u8>,
    /// From the start of the executable.
    entry: u32,
}

impl Code {
    /// Takes the loadable segments out of an ELF file.
    fn of(elf: &[u8]) -> Result<Self> {
        let number = |at: usize, len: usize| -> Result<usize> {
            let bytes = elf.get(at..at + len).context("the firmware's ELF file is cut off")?;
            let mut number = [0; 8];
            number[..len].copy_from_slice(bytes);
            Ok(u64::from_le_bytes(number).try_into()?)
        };
        let start = BASE + EXECUTABLE + PE_HEADER;
        let mut bytes = Vec::new();
        for index in 0..number(56, 2)? {
            let segment = number(32, 8)? + index * number(54, 2)?;
            let [offset, address] = [number(segment + 8, 8)?, number(segment + 16, 8)?];
            let [in_file, in_memory] = [number(segment + 32, 8)?, number(segment + 40, 8)?];
            // The linker also maps the ELF header, which nobody needs.
            if number(segment, 4)? != 1 || address < start {
                continue;
            }
            let at = address - start;
            bytes.resize(bytes.len().max(at + in_memory), 0);
            put(&mut bytes, at, elf.get(offset..offset + in_file).context("a segment is cut off")?);
        }
        ensure!(!bytes.is_empty(), "the firmware's ELF file has no code");
        let entry = number(24, 8)?.checked_sub(BASE + EXECUTABLE).context("the entry is elsewhere")?;
        Ok(Self { bytes, entry: entry.try_into()? })
    }

    /// DOS and PE32+ header of an executable without sections.
    fn pe_header(&self) -> [u8; PE_HEADER] {
        const PE: usize = 0x80;
        let mut header = [0; PE_HEADER];
        put(&mut header, 0, b"MZ");
        put(&mut header, 0x3c, &PE.to_le_bytes()[..4]);
        put(&mut header, PE, b"PE\0\0");
        put(&mut header, PE + 4, &0x8664u16.to_le_bytes());
        put(&mut header, PE + 24, &0x20bu16.to_le_bytes());
        put(&mut header, PE + 40, &self.entry.to_le_bytes());
        put(&mut header, PE + 48, &((BASE + EXECUTABLE) as u64).to_le_bytes());
        header
    }
}
