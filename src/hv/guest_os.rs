//! Who a guest says that it is (TLFS, "Guest OS Identity MSR"): the number in GUEST_OS_ID, in words.
//!
//! For logs and reports; nothing here decides what a guest is given.

use std::fmt;

/// GUEST_OS_ID bit 63: an open source system, whose other bits mean other things.
const OPEN_SOURCE: u64 = 1 << 63;
/// Vendor of systems that are not open source.
const MICROSOFT: u64 = 1;
/// The first OS id of Microsoft's that is a Windows NT kernel.
const WINDOWS_NT: u64 = 4;

/// A value of GUEST_OS_ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestOs(pub u64);

impl GuestOs {
    /// Whether it names a Windows NT kernel.
    #[must_use]
    pub fn is_windows(self) -> bool {
        self.0 & OPEN_SOURCE == 0 && self.bits(48, 15) == MICROSOFT && self.bits(40, 8) >= WINDOWS_NT
    }

    fn bits(self, from: u32, count: u32) -> u64 {
        (self.0 >> from) & ((1 << count) - 1)
    }
}

impl fmt::Display for GuestOs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("a guest that does not say what it is");
        }
        let build = self.bits(0, 16);
        if self.0 & OPEN_SOURCE != 0 {
            // Linux writes its version code: a byte each for major, minor and patch.
            let (version, [major, minor, patch]) = (self.bits(16, 32), [16, 8, 0]);
            let [major, minor, patch] = [major, minor, patch].map(|shift| (version >> shift) & 0xff);
            return match self.bits(56, 7) {
                1 => write!(f, "Linux {major}.{minor}.{patch}"),
                2 => write!(f, "FreeBSD, version {version:#x}"),
                kind => write!(f, "open source system {kind:#x}, version {version:#x}, build {build}"),
            };
        }
        let (vendor, os, pack) = (self.bits(48, 15), self.bits(40, 8), self.bits(16, 8));
        let (major, minor) = (self.bits(32, 8), self.bits(24, 8));
        if self.is_windows() {
            write!(f, "Windows {major}.{minor}, build {build}, service pack {pack}")
        } else {
            write!(f, "vendor {vendor:#x}, system {os}, version {major}.{minor}, build {build}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systems_are_told_apart() {
        for (id, is_windows, words) in [
            (0x0001_040a_0000_4a65, true, "Windows 10.0, build 19045, service pack 0"),
            (0x8100_0006_01c0_0000, false, "Linux 6.1.192"),
            (0x8200_0014_0000_0001, false, "FreeBSD, version 0x140000"),
            (0x8400_0000_0001_0002, false, "open source system 0x4, version 0x1, build 2"),
            (0x0001_0000_0000_0001, false, "vendor 0x1, system 0, version 0.0, build 1"),
            (0x0002_0400_0000_0001, false, "vendor 0x2, system 4, version 0.0, build 1"),
            (0, false, "a guest that does not say what it is"),
        ] {
            assert_eq!(GuestOs(id).is_windows(), is_windows, "{id:#x}");
            assert_eq!(GuestOs(id).to_string(), words);
        }
    }
}
