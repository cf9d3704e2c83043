//! Integration service messages as they lie in a packet, behind the pipe header.
//!
//! Source: Linux `include/linux/hyperv.h` (`icmsg_hdr`, `icmsg_negotiate`, `shutdown_msg_data`, `ictimesync_data`,
//! `ictimesync_ref_data`, `heartbeat_msg_data`) and OpenVMM's `hyperv_ic_protocol`.

use std::fmt;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A framework or message version: major and minor.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct IcVersion {
    /// Major number.
    pub major: U16,
    /// Minor number.
    pub minor: U16,
}

const _: () = assert!(size_of::<IcVersion>() == 4);

impl IcVersion {
    /// The version `major.minor`.
    #[must_use]
    pub const fn new(major: u16, minor: u16) -> Self {
        IcVersion { major: U16::new(major), minor: U16::new(minor) }
    }

    /// Major in the upper half, minor in the lower.
    #[must_use]
    pub fn numbers(self) -> u32 {
        u32::from(self.major.get()) << 16 | u32::from(self.minor.get())
    }
}

impl fmt::Display for IcVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Message types.
pub mod message_type {
    /// Versions are agreed on.
    pub const NEGOTIATE: u16 = 0;
    /// Heartbeat.
    pub const HEARTBEAT: u16 = 1;
    /// Key-value pair exchange.
    pub const KVP: u16 = 2;
    /// Shutdown.
    pub const SHUTDOWN: u16 = 3;
    /// Time synchronisation.
    pub const TIME_SYNC: u16 = 4;
    /// Volume shadow copy.
    pub const VSS: u16 = 5;
    /// Guest file copy.
    pub const FCOPY: u16 = 7;
}

/// How a guest's answer says what came of a request: HRESULTs (Linux `include/uapi/linux/hyperv.h`).
pub mod status {
    /// It is done.
    pub const SUCCESS: u32 = 0;
    /// It is not done, and that is all that is said.
    pub const FAIL: u32 = 0x8000_4005;
    /// There is no such item.
    pub const NOT_FOUND: u32 = 0x8004_1002;
    /// The guest does not know how.
    pub const NOT_SUPPORTED: u32 = 0x8007_0032;
    /// It is there already.
    pub const ALREADY_EXISTS: u32 = 0x8007_0050;
    /// A value is wrong.
    pub const INVALID_ARGUMENT: u32 = 0x8007_0057;
    /// No room on the guest's disk.
    pub const DISK_FULL: u32 = 0x8007_0070;
    /// The last item was the one before.
    pub const NO_MORE_ITEMS: u32 = 0x8007_0103;
    /// The device is not connected.
    pub const NOT_CONNECTED: u32 = 0x8007_048F;
    /// The machine is locked.
    pub const MACHINE_LOCKED: u32 = 0x8007_04F7;

    /// The number and what it means, for people.
    #[must_use]
    pub fn meaning(status: u32) -> String {
        let words = match status {
            SUCCESS => "it succeeded",
            // Linux, for instance, when its daemon is not there or says nothing for 30 s.
            FAIL => "it failed, or the program that does it is not running",
            NOT_FOUND => "there is no such thing",
            NOT_SUPPORTED => "it does not support that",
            ALREADY_EXISTS => "the file exists already",
            INVALID_ARGUMENT => "a value is wrong",
            DISK_FULL => "its disk is full",
            NO_MORE_ITEMS => "there is no such item",
            NOT_CONNECTED => "the device is not connected",
            MACHINE_LOCKED => "the machine is locked",
            _ => "a reason of its own",
        };
        format!("{words} (status {status:#010x})")
    }
}

/// Header flag: the message belongs to a transaction.
pub const FLAG_TRANSACTION: u8 = 1;
/// Header flag: a request of the host.
pub const FLAG_REQUEST: u8 = 2;
/// Header flag: the guest's answer.
pub const FLAG_RESPONSE: u8 = 4;

/// In front of every message (Linux `icmsg_hdr`).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct IcHeader {
    /// Version of the framework; 0.0 in negotiation.
    pub framework: IcVersion,
    /// See [`message_type`].
    pub message_type: U16,
    /// Version of the service's messages; 0.0 in negotiation.
    pub version: IcVersion,
    /// Bytes that follow this header.
    pub size: U16,
    /// HRESULT; 0 is success.
    pub status: U32,
    /// Chosen by the host, echoed by the guest.
    pub transaction_id: u8,
    /// [`FLAG_TRANSACTION`] and its neighbours.
    pub flags: u8,
    /// Always 0.
    pub reserved: [u8; 2],
}

const _: () = assert!(size_of::<IcHeader>() == 20);

/// Body of a negotiation, in front of the framework versions and then the message versions
/// (Linux `icmsg_negotiate`).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct Negotiate {
    /// How many framework versions follow.
    pub framework_count: U16,
    /// How many message versions follow them.
    pub version_count: U16,
    /// Always 0.
    pub reserved: U32,
}

const _: () = assert!(size_of::<Negotiate>() == 8);

/// Shutdown: the guest forces programs to end.
pub const SHUTDOWN_FORCE: u32 = 1;
/// Shutdown: the guest reboots.
pub const SHUTDOWN_RESTART: u32 = 2;
/// Shutdown: the guest hibernates.
pub const SHUTDOWN_HIBERNATE: u32 = 4;
/// Reason code of a shutdown that somebody planned (Windows `SHTDN_REASON_FLAG_PLANNED`).
pub const SHUTDOWN_REASON_PLANNED: u32 = 0x8000_0000;

/// Body of a shutdown request (Linux `shutdown_msg_data`).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct ShutdownMessage {
    /// See [`SHUTDOWN_REASON_PLANNED`].
    pub reason: U32,
    /// Time that programs get to end, seconds.
    pub timeout: U32,
    /// [`SHUTDOWN_FORCE`] and its neighbours.
    pub flags: U32,
    /// What the guest shows its users.
    pub text: [u8; 2048],
}

const _: () = assert!(size_of::<ShutdownMessage>() == 2060);

/// Time synchronisation: the guest sets its clock.
pub const TIME_SYNC_SYNC: u8 = 1;
/// Time synchronisation: one of a series of samples.
pub const TIME_SYNC_SAMPLE: u8 = 2;

/// Body of a time synchronisation message, versions 1.0 and 3.0 (Linux `ictimesync_data`).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct TimeSyncV3 {
    /// The host's time, 100 ns units since 1601-01-01 UTC.
    pub parent_time: U64,
    /// Unused.
    pub child_time: U64,
    /// Unused.
    pub round_trip_time: U64,
    /// [`TIME_SYNC_SYNC`] or [`TIME_SYNC_SAMPLE`].
    pub flags: u8,
}

const _: () = assert!(size_of::<TimeSyncV3>() == 25);

/// Body of a time synchronisation message, version 4.0 (Linux `ictimesync_ref_data`).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct TimeSyncV4 {
    /// The host's time, 100 ns units since 1601-01-01 UTC.
    pub parent_time: U64,
    /// The partition's reference time when that was read, 100 ns units.
    pub vm_reference_time: U64,
    /// [`TIME_SYNC_SYNC`] or [`TIME_SYNC_SAMPLE`].
    pub flags: u8,
    /// NTP leap flags.
    pub leap_flags: u8,
    /// NTP stratum.
    pub stratum: u8,
    /// Always 0.
    pub reserved: [u8; 5],
}

const _: () = assert!(size_of::<TimeSyncV4>() == 24);

/// Body of a heartbeat.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct Heartbeat {
    /// The guest answers with the next number.
    pub sequence: U64,
    /// State of the guest's applications, see [`application_state`].
    pub application_state: U32,
    /// Always 0.
    pub reserved: [U32; 7],
}

const _: () = assert!(size_of::<Heartbeat>() == 40);

/// What a guest says of its applications.
pub mod application_state {
    /// Nobody told the guest.
    pub const UNKNOWN: u32 = 0;
    /// All is well.
    pub const HEALTHY: u32 = 1;
    /// Something is wrong.
    pub const CRITICAL: u32 = 2;
    /// The application has stopped.
    pub const STOPPED: u32 = 3;
}
