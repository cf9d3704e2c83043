//! Guest memory at addresses that the firmware names: copied in and out, checked first.
//!
//! All structures and buffers of the BIOS device go through here. Lengths are the caller's: bounded before.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::mem::{GuestRam, MemError, PAGE_SIZE, Pages};

/// The pages of `len` bytes at an address, and where in them the bytes start.
fn pages(ram: &GuestRam, address: u64, len: usize) -> Result<(Pages, usize), MemError> {
    let page = PAGE_SIZE as u64;
    let first = address / page;
    let end = address.checked_add(len as u64).ok_or(MemError::NotRam(first))?;
    if len == 0 {
        // No bytes are in no page, wherever they would start.
        return Ok((Pages::resolve(ram, &[])?, 0));
    }
    let pfns: Vec<u64> = (first..end.div_ceil(page)).collect();
    let skip = usize::try_from(address % page).unwrap_or(0);
    Ok((Pages::resolve(ram, &pfns)?, skip))
}

/// Copies `len` bytes out.
pub(super) fn read_bytes(ram: &GuestRam, address: u64, len: usize) -> Result<Vec<u8>, MemError> {
    let (pages, skip) = pages(ram, address, len)?;
    let mut bytes = vec![0; len];
    pages.read(skip, &mut bytes)?;
    Ok(bytes)
}

/// Copies a structure out.
pub(super) fn read<T: FromBytes + IntoBytes>(ram: &GuestRam, address: u64) -> Result<T, MemError> {
    let (pages, skip) = pages(ram, address, size_of::<T>())?;
    let mut value = T::new_zeroed();
    pages.read(skip, value.as_mut_bytes())?;
    Ok(value)
}

/// Copies bytes in; all of them or none.
pub(super) fn write_bytes(ram: &GuestRam, address: u64, bytes: &[u8]) -> Result<(), MemError> {
    let (pages, skip) = pages(ram, address, bytes.len())?;
    pages.write(skip, bytes)
}

/// Copies a structure in.
pub(super) fn write<T: IntoBytes + Immutable + KnownLayout>(
    ram: &GuestRam,
    address: u64,
    value: &T,
) -> Result<(), MemError> {
    write_bytes(ram, address, value.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::GuestAddress;

    #[test]
    fn what_crosses_a_page_is_copied_and_what_leaves_ram_is_refused() {
        let ram = GuestRam::from_ranges(&[(GuestAddress(0), 2 * PAGE_SIZE)]).unwrap();
        write_bytes(&ram, 4090, b"across pages").unwrap();
        assert_eq!(read_bytes(&ram, 4090, 12).unwrap(), b"across pages");
        assert!(read_bytes(&ram, 8190, 2).is_ok());
        for address in [8191, 8192, u64::MAX, u64::MAX - 1] {
            assert!(read_bytes(&ram, address, 2).is_err(), "{address:#x}");
            assert!(write_bytes(&ram, address, &[1, 2]).is_err(), "{address:#x}");
        }
        assert_eq!(read_bytes(&ram, 8191, 1).unwrap(), [0], "nothing of a refused write is there");
        assert_eq!(read_bytes(&ram, u64::MAX, 0).unwrap(), []);
    }
}
