//! Guest crash registers: what a guest says of its own crash (TLFS, "Guest Crash Enlightenment").
//!
//! The six registers are served here rather than by KVM, because KVM offers no crash message: it drops bit 62 of
//! CRASH_CTL, and with it the text that Linux gives. The vCPU threads call [`CrashRegisters`]; the guest goes on
//! after its report, for it may still write a dump.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use devices::hvdef::msr::{CRASH_CTL, CRASH_P0};
use devices::mem::GuestRam;
use vm_memory::{Bytes, GuestAddress};

use super::guest_os::GuestOs;

/// CRASH_CTL bit 63: this write reports a crash.
const NOTIFY: u64 = 1 << 63;
/// CRASH_CTL bit 62: P3 and P4 are address and length of a text.
const NOTIFY_MESSAGE: u64 = 1 << 62;
/// Longest text, bytes (TLFS).
const MESSAGE_MAX: usize = 4096;

/// The six registers, shared by all virtual processors.
#[derive(Debug, Default)]
pub struct CrashRegisters(Mutex<[u64; 5]>);

/// A crash as the guest reported it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrashReport {
    /// P0 to P4; from Windows the bugcheck code and its four parameters.
    pub parameters: [u64; 5],
    /// The guest's text.
    pub text: Option<String>,
    /// Value of GUEST_OS_ID.
    pub guest_os_id: u64,
}

impl CrashRegisters {
    /// The guest's read; `None` for a register that is not one of the six.
    #[must_use]
    pub fn read(&self, index: u32) -> Option<u64> {
        if index == CRASH_CTL {
            return Some(NOTIFY | NOTIFY_MESSAGE);
        }
        self.lock().get(parameter(index)?).copied()
    }

    /// The guest's write. `None` for a register that is not one of the six, else whether this write reports a
    /// crash.
    pub fn write(&self, index: u32, value: u64) -> Option<CrashWrite> {
        if index == CRASH_CTL {
            return Some(CrashWrite { reports: value & NOTIFY != 0, has_text: value & NOTIFY_MESSAGE != 0 });
        }
        *self.lock().get_mut(parameter(index)?)? = value;
        Some(CrashWrite { reports: false, has_text: false })
    }

    /// The report as it stands now.
    #[must_use]
    pub fn report(&self, write: CrashWrite, ram: &GuestRam, guest_os_id: u64) -> CrashReport {
        let parameters = *self.lock();
        let [.., address, length] = parameters;
        let text = write.has_text.then(|| read_text(ram, address, length)).flatten();
        CrashReport { parameters, text, guest_os_id }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, [u64; 5]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a write to the registers means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrashWrite {
    /// The guest reports a crash.
    pub reports: bool,
    /// P3 and P4 name a text.
    has_text: bool,
}

fn parameter(index: u32) -> Option<usize> {
    usize::try_from(index.checked_sub(CRASH_P0)?).ok().filter(|&i| i < 5)
}

/// Text from guest memory, without what a terminal would take for commands.
fn read_text(ram: &GuestRam, address: u64, length: u64) -> Option<String> {
    let length = usize::try_from(length).ok()?.min(MESSAGE_MAX);
    let mut bytes = vec![0; length];
    ram.read_slice(&mut bytes, GuestAddress(address)).ok()?;
    let text: String = String::from_utf8_lossy(&bytes)
        .chars()
        .filter(|&c| c == '\n' || c == '\t' || !c.is_control())
        .collect();
    Some(text.trim_end().to_owned())
}

impl fmt::Display for CrashReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p0, p1, p2, p3, p4] = self.parameters;
        write!(f, "Guest crash {p0:#x} ({p1:#x}, {p2:#x}, {p3:#x}, {p4:#x})")?;
        if GuestOs(self.guest_os_id).is_windows() {
            write!(f, " {}", bugcheck_name(p0).unwrap_or("unknown bugcheck"))?;
        }
        match &self.text {
            Some(text) if !text.is_empty() => write!(f, ":\n{text}"),
            _ => Ok(()),
        }
    }
}

/// Names of the bugchecks that people meet (Windows documentation, "Bug Check Code Reference").
fn bugcheck_name(code: u64) -> Option<&'static str> {
    Some(match code {
        0x01 => "APC_INDEX_MISMATCH",
        0x0A => "IRQL_NOT_LESS_OR_EQUAL",
        0x18 => "REFERENCE_BY_POINTER",
        0x19 => "BAD_POOL_HEADER",
        0x1A => "MEMORY_MANAGEMENT",
        0x1E => "KMODE_EXCEPTION_NOT_HANDLED",
        0x24 => "NTFS_FILE_SYSTEM",
        0x2E => "DATA_BUS_ERROR",
        0x3B => "SYSTEM_SERVICE_EXCEPTION",
        0x3D => "INTERRUPT_EXCEPTION_NOT_HANDLED",
        0x3E => "MULTIPROCESSOR_CONFIGURATION_NOT_SUPPORTED",
        0x3F => "NO_MORE_SYSTEM_PTES",
        0x4E => "PFN_LIST_CORRUPT",
        0x50 => "PAGE_FAULT_IN_NONPAGED_AREA",
        0x51 => "REGISTRY_ERROR",
        0x5C => "HAL_INITIALIZATION_FAILED",
        0x5D => "UNSUPPORTED_PROCESSOR",
        0x6B => "PROCESS1_INITIALIZATION_FAILED",
        0x74 => "BAD_SYSTEM_CONFIG_INFO",
        0x77 => "KERNEL_STACK_INPAGE_ERROR",
        0x7A => "KERNEL_DATA_INPAGE_ERROR",
        0x7B => "INACCESSIBLE_BOOT_DEVICE",
        0x7E => "SYSTEM_THREAD_EXCEPTION_NOT_HANDLED",
        0x7F => "UNEXPECTED_KERNEL_MODE_TRAP",
        0x80 => "NMI_HARDWARE_FAILURE",
        0x8E => "KERNEL_MODE_EXCEPTION_NOT_HANDLED",
        0x9F => "DRIVER_POWER_STATE_FAILURE",
        0xA0 => "INTERNAL_POWER_ERROR",
        0xA5 => "ACPI_BIOS_ERROR",
        0xBE => "ATTEMPTED_WRITE_TO_READONLY_MEMORY",
        0xC1 => "SPECIAL_POOL_DETECTED_MEMORY_CORRUPTION",
        0xC2 => "BAD_POOL_CALLER",
        0xC4 => "DRIVER_VERIFIER_DETECTED_VIOLATION",
        0xC5 => "DRIVER_CORRUPTED_EXPOOL",
        0xCA => "PNP_DETECTED_FATAL_ERROR",
        0xD1 => "DRIVER_IRQL_NOT_LESS_OR_EQUAL",
        0xDE => "POOL_CORRUPTION_IN_FILE_AREA",
        0xE2 => "MANUALLY_INITIATED_CRASH",
        0xEF => "CRITICAL_PROCESS_DIED",
        0xF4 => "CRITICAL_OBJECT_TERMINATION",
        0xF7 => "DRIVER_OVERRAN_STACK_BUFFER",
        0xFC => "ATTEMPTED_EXECUTE_OF_NOEXECUTE_MEMORY",
        0x101 => "CLOCK_WATCHDOG_TIMEOUT",
        0x109 => "CRITICAL_STRUCTURE_CORRUPTION",
        0x10D => "WDF_VIOLATION",
        0x116 => "VIDEO_TDR_FAILURE",
        0x117 => "VIDEO_TDR_TIMEOUT_DETECTED",
        0x124 => "WHEA_UNCORRECTABLE_ERROR",
        0x133 => "DPC_WATCHDOG_VIOLATION",
        0x139 => "KERNEL_SECURITY_CHECK_FAILURE",
        0x13A => "KERNEL_MODE_HEAP_CORRUPTION",
        0x154 => "UNEXPECTED_STORE_EXCEPTION",
        0x18B => "SECURE_KERNEL_ERROR",
        0x1CA => "SYNTHETIC_WATCHDOG_TIMEOUT",
        0x20001 => "HYPERVISOR_ERROR",
        0xC000_021A => "WINLOGON_FATAL_ERROR",
        0xDEAD_DEAD => "MANUALLY_INITIATED_CRASH1",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOWS_10: u64 = 0x0001_040a_0000_4a65;
    const LINUX_6_1: u64 = 0x8100_0006_01c0_0000;

    fn ram() -> GuestRam {
        GuestRam::from_ranges(&[(GuestAddress(0), 0x4000)]).unwrap()
    }

    #[test]
    fn a_bugcheck_is_reported_by_name() {
        let registers = CrashRegisters::default();
        for (register, value) in (CRASH_P0..).zip([0x7b, 1, 2, 3, 4]) {
            registers.write(register, value).unwrap();
        }
        let write = registers.write(CRASH_CTL, NOTIFY).unwrap();
        assert!(write.reports);
        let report = registers.report(write, &ram(), WINDOWS_10);
        assert_eq!(report.to_string(), "Guest crash 0x7b (0x1, 0x2, 0x3, 0x4) INACCESSIBLE_BOOT_DEVICE");
    }

    #[test]
    fn the_guests_text_is_shown_without_terminal_commands() {
        let (registers, ram) = (CrashRegisters::default(), ram());
        ram.write_slice(b"sysrq\x1b[2J: crash\nline\0\0", GuestAddress(0x1000)).unwrap();
        registers.write(CRASH_P0 + 3, 0x1000).unwrap();
        registers.write(CRASH_P0 + 4, 22).unwrap();
        let write = registers.write(CRASH_CTL, NOTIFY | NOTIFY_MESSAGE).unwrap();
        let report = registers.report(write, &ram, LINUX_6_1);
        assert_eq!(report.text.as_deref(), Some("sysrq[2J: crash\nline"));
    }

    #[test]
    fn a_text_outside_of_ram_or_too_long_is_no_text() {
        let (registers, ram) = (CrashRegisters::default(), ram());
        registers.write(CRASH_P0 + 3, u64::MAX - 4).unwrap();
        registers.write(CRASH_P0 + 4, u64::MAX).unwrap();
        let write = registers.write(CRASH_CTL, NOTIFY | NOTIFY_MESSAGE).unwrap();
        assert_eq!(registers.report(write, &ram, LINUX_6_1).text, None);
        registers.write(CRASH_P0 + 3, 0).unwrap();
        assert!(registers.report(write, &ram, LINUX_6_1).text.is_some_and(|text| text.len() <= MESSAGE_MAX));
    }

    #[test]
    fn other_registers_are_not_ours() {
        let registers = CrashRegisters::default();
        assert_eq!(registers.read(CRASH_CTL + 1), None);
        assert_eq!(registers.read(CRASH_P0 - 1), None);
        assert_eq!(registers.write(u32::MAX, 0), None);
        assert_eq!(registers.read(CRASH_CTL), Some(3 << 62));
    }
}
