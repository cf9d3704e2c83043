//! The hypervisor interface as numbers: MSRs, CPUID leaves, hypercalls, status codes, SynIC pages.
//!
//! Source: Hypervisor Top-Level Functional Specification (TLFS). The one home of these numbers; `busman`'s `hv`
//! room and the bus both read them here. Nothing in here does anything.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Model specific registers (TLFS, appendix "MSRs").
pub mod msr {
    /// Identity of the guest's operating system; hypercalls are illegal while it is 0.
    pub const GUEST_OS_ID: u32 = 0x4000_0000;
    /// Hypercall page: bit 0 enable, bits 63:12 page number.
    pub const HYPERCALL: u32 = 0x4000_0001;
    /// Index of this virtual processor, read only.
    pub const VP_INDEX: u32 = 0x4000_0002;
    /// Bit 0 resets the partition.
    pub const RESET: u32 = 0x4000_0003;
    /// Time since the partition was made, 100 ns units, read only.
    pub const TIME_REF_COUNT: u32 = 0x4000_0020;
    /// Reference TSC page: bit 0 enable, bits 63:12 page number.
    pub const REFERENCE_TSC: u32 = 0x4000_0021;
    /// SynIC control: bit 0 enable.
    pub const SCONTROL: u32 = 0x4000_0080;
    /// Event flags page: bit 0 enable, bits 63:12 page number.
    pub const SIEFP: u32 = 0x4000_0082;
    /// Message page: bit 0 enable, bits 63:12 page number.
    pub const SIMP: u32 = 0x4000_0083;
    /// First of 16 synthetic interrupt sources.
    pub const SINT0: u32 = 0x4000_0090;
    /// First of five crash parameters.
    pub const CRASH_P0: u32 = 0x4000_0100;
    /// Crash control: writing bit 63 reports a crash.
    pub const CRASH_CTL: u32 = 0x4000_0105;
}

/// Hypercall codes (TLFS, appendix "Hypercall code reference").
pub mod hypercall {
    /// HvPostMessage.
    pub const POST_MESSAGE: u16 = 0x005C;
    /// HvSignalEvent.
    pub const SIGNAL_EVENT: u16 = 0x005D;
    /// Bit 16 of the control word: parameters are in registers.
    pub const FAST: u64 = 1 << 16;
}

/// What a hypercall answers (TLFS, `HV_STATUS`).
#[repr(u16)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HvStatus {
    /// Done.
    Success = 0x0000,
    /// Nobody serves this code, or not in this form.
    InvalidHypercallCode = 0x0002,
    /// The control word or the input is malformed.
    InvalidHypercallInput = 0x0003,
    /// The input is not aligned.
    InvalidAlignment = 0x0004,
    /// A parameter is out of range.
    InvalidParameter = 0x0005,
    /// No such connection. Linux falls back to an older VMBus version on it.
    InvalidConnectionId = 0x0012,
    /// The port's queue is full; the guest tries again.
    InsufficientBuffers = 0x0013,
}

/// SINTs of a virtual processor.
pub const SINT_COUNT: u8 = 16;
/// The SINT that VMBus uses.
pub const VMBUS_SINT: u8 = 2;
/// Event flags of one SINT.
pub const EVENT_FLAG_COUNT: u16 = 2048;
/// Bytes of one message slot, and of one SINT's event flags.
pub const SLOT_SIZE: usize = 256;
/// Largest payload of a message, bytes.
pub const MESSAGE_PAYLOAD_MAX: usize = 240;
/// Message type of a free slot.
pub const MESSAGE_TYPE_NONE: u32 = 0;
/// Message type of everything on VMBus' message ports.
pub const MESSAGE_TYPE_VMBUS: u32 = 1;
/// Offset of the flags byte in a message slot.
pub const MESSAGE_FLAGS_OFFSET: usize = 5;
/// Bit 0 of the flags byte: more messages wait, so write EOM.
pub const MESSAGE_FLAG_PENDING: u8 = 1;

/// Head of a message slot (TLFS `HV_MESSAGE_HEADER`), in front of up to 240 bytes of payload.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct MessageHeader {
    /// 0 while the slot is free.
    pub message_type: U32,
    /// Exact length of the payload, bytes.
    pub payload_size: u8,
    /// Bit 0: [`MESSAGE_FLAG_PENDING`].
    pub flags: u8,
    /// Always 0.
    pub reserved: [u8; 2],
    /// Port that the message came through; guests ignore it.
    pub origin: U64,
}

const _: () = assert!(size_of::<MessageHeader>() == 16);

/// Input of HvPostMessage (TLFS `HV_INPUT_POST_MESSAGE`), in front of up to 240 bytes of payload.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct PostMessageInput {
    /// Connection id, 24 significant bits.
    pub connection_id: U32,
    /// Always 0.
    pub reserved: U32,
    /// [`MESSAGE_TYPE_VMBUS`] from VMBus clients.
    pub message_type: U32,
    /// Length of the payload, bytes.
    pub payload_size: U32,
}

const _: () = assert!(size_of::<PostMessageInput>() == 16);
