//! Data of PERSISTENT RESERVE IN and OUT.

use zerocopy::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Parameters of PERSISTENT RESERVE OUT (SPC-4 6.16.3).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct OutParameters {
    /// Whom it comes from.
    pub key: U64,
    /// Depends on the action.
    pub service_action_key: U64,
    /// Nothing that is used.
    pub obsolete: [u8; 4],
    /// [`SPEC_I_PT`], [`ALL_TG_PT`], [`APTPL`].
    pub flags: u8,
    /// Always 0.
    pub reserved: u8,
    /// Nothing that is used.
    pub obsolete2: [u8; 2],
}
const _: () = assert!(size_of::<OutParameters>() == 24);

/// Names of other initiators follow.
pub const SPEC_I_PT: u8 = 0x08;
/// For all target ports.
pub const ALL_TG_PT: u8 = 0x04;
/// Persists through a loss of power.
pub const APTPL: u8 = 0x01;

/// In front of READ KEYS, READ RESERVATION and READ FULL STATUS (SPC-4 6.15).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct InHeader {
    /// Counts changes of registrations.
    pub generation: U32,
    /// Bytes behind this header.
    pub length: U32,
}
const _: () = assert!(size_of::<InHeader>() == 8);

/// A reservation (READ RESERVATION).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct Reservation {
    /// The holder's; 0 if all registrants are.
    pub key: U64,
    /// Nothing that is used.
    pub obsolete: [u8; 4],
    /// Always 0.
    pub reserved: u8,
    /// Scope, bits 7 to 4, and type.
    pub scope_and_type: u8,
    /// Nothing that is used.
    pub obsolete2: [u8; 2],
}
const _: () = assert!(size_of::<Reservation>() == 16);

/// What is served (REPORT CAPABILITIES).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct Capabilities {
    /// Bytes, of all of it.
    pub length: U16,
    /// None of [`SPEC_I_PT`], [`ALL_TG_PT`], [`APTPL`].
    pub flags: u8,
    /// Bit 7: the types are told.
    pub more_flags: u8,
    /// Bits of the types: number 1 in bit 9, 8 in bit 0.
    pub types: U16,
    /// Always 0.
    pub reserved: [u8; 2],
}
const _: () = assert!(size_of::<Capabilities>() == 8);

/// A registration (READ FULL STATUS), with the initiator's name as of an SRP port: it takes any 16 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct FullStatus {
    /// The registrant's.
    pub key: U64,
    /// Always 0.
    pub reserved: [u8; 4],
    /// Bit 0: holds the reservation.
    pub flags: u8,
    /// Scope, bits 7 to 4, and type; 0 of who holds nothing.
    pub scope_and_type: u8,
    /// Always 0.
    pub reserved2: [u8; 4],
    /// The only one: 1.
    pub target_port: U16,
    /// Bytes that follow this field.
    pub length: U32,
    /// SRP: 4.
    pub protocol: u8,
    /// Always 0.
    pub reserved3: [u8; 7],
    /// The initiator's port.
    pub port: [u8; 16],
}
const _: () = assert!(size_of::<FullStatus>() == 48);
