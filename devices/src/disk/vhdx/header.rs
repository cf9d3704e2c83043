//! The file identifier and the two headers: finding the one that counts, and changing it as a whole.

use std::io;

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::error::{VhdxError, damaged};
use super::medium::Medium;
use super::protocol::{FileIdentifier, Header, MIB, offset, signature};
use crate::guid::Guid;

/// Longest log that is read, bytes. Hyper-V's and QEMU's are 1 MiB long.
pub(super) const MAX_LOG: u64 = 64 * MIB;

/// The header that counts, and which copy it is.
#[derive(Clone)]
pub(super) struct Headers {
    /// What it says.
    pub header: Header,
    copy: usize,
}

impl std::fmt::Debug for Headers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Headers")
            .field("sequence", &self.header.sequence_number.get())
            .finish_non_exhaustive()
    }
}

/// Reads who made the file.
pub(super) fn read_creator(medium: &dyn Medium) -> Result<String, VhdxError> {
    let mut identifier = FileIdentifier::new_zeroed();
    if medium.len()? < offset::END {
        return Err(VhdxError::NotVhdx);
    }
    medium.read(offset::FILE_IDENTIFIER, identifier.as_mut_bytes())?;
    if identifier.signature != signature::FILE {
        return Err(VhdxError::NotVhdx);
    }
    let text = identifier.creator.iter().map(|unit| unit.get()).take_while(|unit| *unit != 0);
    Ok(char::decode_utf16(text).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect())
}

/// Reads one copy; the error says what is wrong with it.
pub(super) fn read_copy(medium: &dyn Medium, copy: usize) -> Result<Header, VhdxError> {
    let mut bytes = [0; size_of::<Header>()];
    medium.read(header_offset(copy), &mut bytes)?;
    let header = Header::read_from_bytes(&bytes).map_err(|_| damaged("a header is too short"))?;
    let name = copy + 1;
    if header.signature != signature::HEADER {
        return Err(damaged(format!("header {name} has no signature")));
    }
    if header.checksum.get() != checksum(&header) {
        return Err(damaged(format!("header {name} has a wrong checksum")));
    }
    if header.version.get() != 1 {
        return Err(damaged(format!("header {name} is of version {}, not 1", header.version)));
    }
    Ok(header)
}

fn header_offset(copy: usize) -> u64 {
    let [first, second] = offset::HEADERS;
    if copy == 0 { first } else { second }
}

fn checksum(header: &Header) -> u32 {
    let mut header = *header;
    header.checksum.set(0);
    crc32c::crc32c(header.as_bytes())
}

impl Headers {
    /// A new file's, not yet written.
    pub fn new(log_offset: u64, log_length: u32) -> io::Result<Self> {
        let mut header = Header::new_zeroed();
        header.signature = signature::HEADER;
        header.version.set(1);
        header.file_write_guid = Guid::random()?;
        header.data_write_guid = Guid::random()?;
        header.log_offset.set(log_offset);
        header.log_length.set(log_length);
        Ok(Headers { header, copy: 1 })
    }

    /// Chooses the valid copy with the higher sequence number.
    pub fn read(medium: &dyn Medium) -> Result<Self, VhdxError> {
        let (header, copy) = match (read_copy(medium, 0), read_copy(medium, 1)) {
            (Ok(first), Ok(second)) => {
                let order = first.sequence_number.get().cmp(&second.sequence_number.get());
                if order.is_eq() && first != second {
                    return Err(damaged("its two headers differ, and neither is the newer one"));
                }
                if order.is_lt() { (second, 1) } else { (first, 0) }
            }
            (Ok(first), Err(VhdxError::Damaged(_))) => (first, 0),
            (Err(VhdxError::Damaged(_)), Ok(second)) => (second, 1),
            (Err(VhdxError::Damaged(first)), Err(VhdxError::Damaged(second))) => {
                return Err(damaged(format!("{first}, and {second}")));
            }
            (Err(error), _) | (_, Err(error)) => return Err(error),
        };
        let headers = Headers { header, copy };
        headers.check_log(medium.len()?)?;
        Ok(headers)
    }

    fn check_log(&self, file_len: u64) -> Result<(), VhdxError> {
        let (start, len) = self.log();
        let version = self.header.log_version.get();
        if version != 0 && self.header.log_guid != Guid::ZERO {
            return Err(damaged(format!("its log is of version {version}, not 0")));
        }
        let end = start.checked_add(len).filter(|end| *end <= file_len);
        if len > MAX_LOG {
            return Err(damaged(format!("its log of {len} bytes is longer than {MAX_LOG}")));
        }
        let good = start.is_multiple_of(MIB) && len.is_multiple_of(MIB) && start >= offset::END && len != 0;
        if !good || end.is_none() {
            return Err(damaged(format!("its log of {len} bytes at {start} is not a place in the file")));
        }
        Ok(())
    }

    /// Offset and length of the log.
    pub fn log(&self) -> (u64, u64) {
        (self.header.log_offset.get(), u64::from(self.header.log_length.get()))
    }

    /// Changes both copies, the one that does not count first: whichever write is cut, one copy is whole.
    pub fn update(&mut self, medium: &dyn Medium, change: impl FnOnce(&mut Header)) -> Result<(), VhdxError> {
        let mut header = self.header;
        change(&mut header);
        for _ in 0..2 {
            let copy = 1 - self.copy;
            let sequence = header.sequence_number.get();
            let next = sequence
                .checked_add(1)
                .ok_or_else(|| damaged("its header's sequence number is at its end"))?;
            header.sequence_number.set(next);
            header.checksum.set(checksum(&header));
            medium.write(header_offset(copy), header.as_bytes())?;
            medium.sync()?;
            *self = Headers { header, copy };
        }
        Ok(())
    }
}
