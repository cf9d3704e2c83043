//! Looks into a firmware image: are its volumes where the firmware expects them, and where is its first
//! instruction?
//!
//! [`entry`] takes bytes and gives an offset; it writes nothing. The image is a user's file, perhaps a broken or a
//! wrong one: every length in it is checked against what is there. Offsets in errors count from the start of the
//! image.

mod protocol;

use protocol::{
    DOS_MAGIC, DOS_PE_OFFSET, FILE_ALIGN, FILE_LARGE, FILE_SECURITY_CORE, FileHeader, PE_MACHINE_X64,
    PE_OPTIONAL_64, PE_SIGNATURE, PeHeader, SECTION_ALIGN, SECTION_LARGE, SECTION_PE32, SectionHeader,
    VOLUME_SIGNATURE, VolumeExtension, VolumeHeader,
};
use thiserror::Error;
use zerocopy::FromBytes;
use zerocopy::little_endian::{U32, U64};

/// Bytes of an image.
pub const IMAGE_SIZE: usize = 0x60_0000;
/// What an image consists of: each volume's name and offset, in order. The firmware finds them by these offsets.
const VOLUMES: [(&str, usize); 3] = [("DXE", 0), ("PEI", 0x4e_0000), ("SEC", 0x5e_0000)];

/// What is wrong with an image.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ImageError {
    /// Not the size of an image.
    #[error(
        "it has {size} bytes instead of {IMAGE_SIZE} (6 MiB): it is cut off, a debug build, or another firmware"
    )]
    Size {
        /// Its size.
        size: u64,
    },
    /// No volume where one has to be.
    #[error("there is no {name} firmware volume at {at:#x}")]
    NoVolume {
        /// Which one.
        name: &'static str,
        /// Its offset.
        at: usize,
    },
    /// A volume that is longer than its place, or shorter than its header.
    #[error("its {name} firmware volume at {at:#x} says that it has {length} bytes; {room} is its place")]
    VolumeLength {
        /// Which one.
        name: &'static str,
        /// Its offset.
        at: usize,
        /// What it says.
        length: u64,
        /// Up to the next volume.
        room: usize,
    },
    /// A volume whose files cannot begin where its header says.
    #[error("the header of its SEC firmware volume does not end within the volume")]
    VolumeHeader,
    /// A file that its volume cannot hold.
    #[error("the file at {at:#x} says that it has {size} bytes; {room} are left of its volume")]
    FileSize {
        /// Its offset.
        at: usize,
        /// What it says.
        size: u64,
        /// What is left.
        room: usize,
    },
    /// No first code.
    #[error("its SEC firmware volume has no SEC core, which has the first instruction")]
    NoSecCore,
    /// A section that its file cannot hold.
    #[error("the section at {at:#x} says that it has {size} bytes; {room} are left of its file")]
    SectionSize {
        /// Its offset.
        at: usize,
        /// What it says.
        size: usize,
        /// What is left.
        room: usize,
    },
    /// A SEC core without code.
    #[error("its SEC core at {at:#x} has no PE32 section")]
    NoPe32 {
        /// The file's offset.
        at: usize,
    },
    /// Not an executable.
    #[error("its SEC core at {at:#x} is no 64-bit executable (PE32+)")]
    NotPe {
        /// The executable's offset.
        at: usize,
    },
    /// Another processor's firmware.
    #[error("its SEC core is for machine type {machine:#x}, not for x86-64 ({PE_MACHINE_X64:#x})")]
    Machine {
        /// `IMAGE_FILE_HEADER.Machine`.
        machine: u16,
    },
    /// An entry outside of the code.
    #[error("the entry {entry:#x} of its SEC core is outside of its {size} bytes")]
    Entry {
        /// From the start of the executable.
        entry: u32,
        /// Bytes of the executable.
        size: usize,
    },
}

/// Checks the image and gives the offset of its first instruction.
///
/// # Errors
/// What is wrong with it, in words that follow the file's name.
pub fn entry(image: &[u8]) -> Result<usize, ImageError> {
    let size = image.len();
    if size != IMAGE_SIZE {
        return Err(ImageError::Size { size: size as u64 });
    }
    let mut sec = Part { at: 0, bytes: &[] };
    let ends = VOLUMES.iter().skip(1).map(|&(_, at)| at).chain([IMAGE_SIZE]);
    for ((name, at), end) in VOLUMES.into_iter().zip(ends) {
        // The last one is the SEC volume.
        sec = volume(name, at, image.get(at..end).unwrap_or_default())?;
    }
    let core = sec_core(&sec)?;
    let executable = pe32(&core)?;
    Ok(executable.at + pe_entry(&executable)?)
}

/// Some bytes of the image and the offset at which they begin.
#[derive(Clone, Copy)]
struct Part<'a> {
    at: usize,
    bytes: &'a [u8],
}

impl<'a> Part<'a> {
    /// The structure at an offset from the start of the part.
    fn read<T: FromBytes>(&self, offset: usize) -> Option<T> {
        T::read_from_prefix(self.bytes.get(offset..)?).ok().map(|(value, _)| value)
    }

    /// A part of the part, if it has that much.
    fn get(&self, offset: usize, len: usize) -> Option<Part<'a>> {
        let bytes = self.bytes.get(offset..offset.checked_add(len)?)?;
        Some(Part { at: self.at + offset, bytes })
    }

    fn room(&self, offset: usize) -> usize {
        self.bytes.len().saturating_sub(offset)
    }
}

/// The volume at the start of its place.
fn volume<'a>(name: &'static str, at: usize, place: &'a [u8]) -> Result<Part<'a>, ImageError> {
    let place = Part { at, bytes: place };
    let header: Option<VolumeHeader> = place.read(0);
    let header = header.filter(|header| header.signature == VOLUME_SIGNATURE);
    let header = header.ok_or(ImageError::NoVolume { name, at })?;
    let length = header.length.get();
    let whole =
        usize::try_from(length).ok().filter(|&length| length >= usize::from(header.header_length.get()));
    let wrong = ImageError::VolumeLength { name, at, length, room: place.bytes.len() };
    whole.and_then(|length| place.get(0, length)).ok_or(wrong)
}

/// The content of the SEC core, with its file's header.
fn sec_core<'a>(volume: &Part<'a>) -> Result<File<'a>, ImageError> {
    let mut offset = first_file(volume).ok_or(ImageError::VolumeHeader)?;
    loop {
        offset = offset.next_multiple_of(FILE_ALIGN);
        // What was never written is all ones; too little room for a file ends the volume, too.
        let header: Option<FileHeader> = volume.read(offset);
        let header = header.filter(|header| header.size != [0xff; 3] || header.attributes != 0xff);
        let header = header.ok_or(ImageError::NoSecCore)?;
        let (header_len, size) = file_size(volume, offset, &header);
        let wrong = ImageError::FileSize { at: volume.at + offset, size, room: volume.room(offset) };
        let size = usize::try_from(size).ok().filter(|&size| size >= header_len);
        let Some(size) = size else { return Err(wrong) };
        let file = volume.get(offset, size).ok_or(wrong)?;
        if header.kind == FILE_SECURITY_CORE {
            return Ok(File { at: file.at, header_len, file });
        }
        offset += size;
    }
}

struct File<'a> {
    at: usize,
    header_len: usize,
    file: Part<'a>,
}

/// Where the first file of a volume may begin.
fn first_file(volume: &Part<'_>) -> Option<usize> {
    let header: VolumeHeader = volume.read(0)?;
    match usize::from(header.extension_offset.get()) {
        0 => Some(usize::from(header.header_length.get())).filter(|&len| len >= size_of::<VolumeHeader>()),
        offset => {
            let extension: VolumeExtension = volume.read(offset)?;
            offset.checked_add(usize::try_from(extension.length.get()).ok()?)
        }
    }
}

/// Bytes of a file's header and of the whole file, as it says.
fn file_size(volume: &Part<'_>, offset: usize, header: &FileHeader) -> (usize, u64) {
    let plain = size_of::<FileHeader>();
    if header.attributes & FILE_LARGE == 0 {
        return (plain, small_size(header.size) as u64);
    }
    let size: Option<U64> = volume.read(offset + plain);
    (plain + size_of::<U64>(), size.map_or(0, U64::get))
}

/// The executable in a file.
fn pe32<'a>(core: &File<'a>) -> Result<Part<'a>, ImageError> {
    let file = &core.file;
    let mut offset = core.header_len;
    while let Some(header) = file.read::<SectionHeader>(offset) {
        let (header_len, size) = section_size(file, offset, &header);
        let wrong = ImageError::SectionSize { at: file.at + offset, size, room: file.room(offset) };
        let len = size.checked_sub(header_len);
        let content = len.and_then(|len| file.get(offset + header_len, len)).ok_or(wrong)?;
        if header.kind == SECTION_PE32 {
            return Ok(content);
        }
        offset = (offset + size).next_multiple_of(SECTION_ALIGN);
    }
    Err(ImageError::NoPe32 { at: core.at })
}

/// Bytes of a section's header and of the whole section, as it says.
fn section_size(file: &Part<'_>, offset: usize, header: &SectionHeader) -> (usize, usize) {
    let plain = size_of::<SectionHeader>();
    match small_size(header.size) {
        SECTION_LARGE => {
            let size: Option<U32> = file.read(offset + plain);
            let size = size.and_then(|size| usize::try_from(size.get()).ok());
            (plain + size_of::<U32>(), size.unwrap_or(0))
        }
        size => (plain, size),
    }
}

fn small_size([low, middle, high]: [u8; 3]) -> usize {
    usize::from(low) | usize::from(middle) << 8 | usize::from(high) << 16
}

/// The entry of an executable, from its start.
fn pe_entry(executable: &Part<'_>) -> Result<usize, ImageError> {
    let at = executable.at;
    let not_pe = ImageError::NotPe { at };
    let header: Option<PeHeader> = (executable.bytes.starts_with(&DOS_MAGIC))
        .then(|| executable.read::<U32>(DOS_PE_OFFSET))
        .flatten()
        .and_then(|offset| executable.read(usize::try_from(offset.get()).ok()?));
    let header = header.filter(|header| header.signature == PE_SIGNATURE).ok_or(not_pe)?;
    if header.machine.get() != PE_MACHINE_X64 {
        return Err(ImageError::Machine { machine: header.machine.get() });
    }
    if header.optional_magic.get() != PE_OPTIONAL_64 {
        return Err(ImageError::NotPe { at });
    }
    let (entry, size) = (header.entry.get(), executable.bytes.len());
    let inside = usize::try_from(entry).ok().filter(|&entry| entry > 0 && entry < size);
    inside.ok_or(ImageError::Entry { entry, size })
}

#[cfg(test)]
pub(super) mod tests;
