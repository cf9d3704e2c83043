//! Video memory, and where a guest may have it.

use std::fmt::Debug;
use std::io;
use std::ops::Range;

use thiserror::Error;

use crate::mem::{GuestRam, PAGE_SIZE};

/// Video memory as the platform makes it: a piece of host memory that can be shown to the guest at an address.
///
/// Dropping it takes it from the guest.
pub trait VideoMemory: Debug + Send + Sync {
    /// The memory itself: one region of whole pages from address 0 on, wherever the guest sees it.
    fn bytes(&self) -> &GuestRam;

    /// Shows it to the guest at this address, and no longer where it was. Its content stays.
    ///
    /// # Errors
    /// When the host refuses; then the guest sees it nowhere.
    fn map(&self, address: u64) -> io::Result<()>;

    /// Takes it from the guest. Its content stays.
    fn unmap(&self);

    /// The pages that the guest has written since the last call: bit n of word m is page 64 m + n. Empty while the
    /// guest sees it nowhere.
    ///
    /// # Errors
    /// When the host cannot tell.
    fn written(&self) -> io::Result<Vec<u64>>;
}

/// Why video memory cannot be where a guest wants it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum LocationError {
    /// Not on a page's boundary.
    #[error("{0:#x} is no multiple of {PAGE_SIZE}")]
    Unaligned(u64),
    /// RAM, or what nobody said is free.
    #[error("{size} bytes from {address:#x} on are not within one of the bus's MMIO windows")]
    Outside {
        /// Where it was to start.
        address: u64,
        /// Its bytes.
        size: u64,
    },
}

/// Whether video memory of so many bytes may be at an address: within one of the windows.
pub(super) fn check_location(address: u64, size: u64, windows: &[Range<u64>]) -> Result<(), LocationError> {
    if !address.is_multiple_of(PAGE_SIZE as u64) {
        return Err(LocationError::Unaligned(address));
    }
    let end = address.checked_add(size);
    let fits = |window: &Range<u64>| window.start <= address && end.is_some_and(|end| end <= window.end);
    if windows.iter().any(fits) { Ok(()) } else { Err(LocationError::Outside { address, size }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_held_to_the_windows() {
        let windows = [0xf800_0000..0xfec0_0000, 0x1_0000_0000..0x1_2000_0000];
        let check = |address| check_location(address, 8 << 20, &windows);
        for address in [0xf800_0000, 0xf800_1000, 0xfe40_0000, 0x1_0000_0000, 0x1_1f80_0000] {
            assert_eq!(check(address), Ok(()), "{address:#x}");
        }
        for address in [0, 0x10_0000, 0xf7ff_f000, 0xfe40_1000, 0xfec0_0000, 0x1_1f80_1000, !0xfff] {
            assert_eq!(
                check(address),
                Err(LocationError::Outside { address, size: 8 << 20 }),
                "{address:#x}"
            );
        }
        assert_eq!(check(0xf800_0800), Err(LocationError::Unaligned(0xf800_0800)));
    }
}
