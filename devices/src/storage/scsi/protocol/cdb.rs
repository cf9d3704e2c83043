//! Command descriptor blocks.

#![expect(missing_debug_implementations, reason = "what zerocopy's derives define inside the macro")]

use zerocopy::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Defines CDBs: each is made of bytes and big-endian numbers, and is as long as said.
macro_rules! cdbs {
    ($($(#[$doc:meta])* $name:ident: $size:literal { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
        pub struct $name {
            /// Operation code.
            pub opcode: u8,
            $($(#[$field_doc])* pub $field: $type,)*
            /// Nothing that is used.
            pub control: u8,
        }
        const _: () = assert!(size_of::<$name>() == $size);
    )*};
}

/// Protection information is to be moved: bits 7 to 5 of [`Transfer10::flags`] and its sisters.
pub const PROTECT: u8 = 0xE0;
/// Force unit access: written when the command ends.
pub const FUA: u8 = 0x08;
/// What VERIFY compares: bits 2 and 1.
pub const BYTCHK: u8 = 0x06;
/// [`BYTCHK`]: the blocks with the guest's data.
pub const BYTCHK_COMPARE: u8 = 0x02;
/// WRITE SAME: anchor the blocks.
pub const ANCHOR: u8 = 0x10;
/// WRITE SAME: the blocks may be unmapped.
pub const WRITE_SAME_UNMAP: u8 = 0x08;
/// WRITE SAME (16): there is no data, write zeroes.
pub const WRITE_SAME_NDOB: u8 = 0x01;
/// WRITE SAME: the obsolete LBDATA and PBDATA.
pub const WRITE_SAME_OBSOLETE: u8 = 0x06;
/// READ CAPACITY: partial medium indicator, obsolete.
pub const PMI: u8 = 0x01;
/// INQUIRY: vital product data.
pub const EVPD: u8 = 0x01;
/// REQUEST SENSE: in descriptor format.
pub const DESCRIPTOR_FORMAT: u8 = 0x01;
/// MODE SENSE: no block descriptor.
pub const DISABLE_BLOCK_DESCRIPTORS: u8 = 0x08;
/// MODE SELECT: save the pages.
pub const SAVE_PAGES: u8 = 0x01;
/// START STOP UNIT: start.
pub const START: u8 = 0x01;
/// START STOP UNIT: load or eject.
pub const LOAD_EJECT: u8 = 0x02;
/// START STOP UNIT: do not flush.
pub const NO_FLUSH: u8 = 0x04;
/// START STOP UNIT: a power condition, bits 7 to 4.
pub const POWER_CONDITION: u8 = 0xF0;
/// READ TOC: addresses as minutes, seconds, frames.
pub const MSF: u8 = 0x02;
/// GET EVENT STATUS NOTIFICATION: answer at once.
pub const POLLED: u8 = 0x01;

cdbs! {
    /// READ (6), WRITE (6).
    Transfer6: 6 {
        /// First block, 21 bits.
        lba: [u8; 3],
        /// Blocks; 0 means 256.
        length: u8,
    }
    /// READ (10) and all of its shape; READ CAPACITY (10) has PMI in the second byte of the length.
    Transfer10: 10 {
        /// Depends on the command.
        flags: u8,
        /// First block.
        lba: U32,
        /// Group number.
        group: u8,
        /// Blocks.
        length: U16,
    }
    /// READ (12) and all of its shape.
    Transfer12: 12 {
        /// Depends on the command.
        flags: u8,
        /// First block.
        lba: U32,
        /// Blocks.
        length: U32,
        /// Group number.
        group: u8,
    }
    /// READ (16) and all of its shape.
    Transfer16: 16 {
        /// Depends on the command.
        flags: u8,
        /// First block.
        lba: U64,
        /// Blocks.
        length: U32,
        /// Group number.
        group: u8,
    }
    /// SERVICE ACTION IN (16).
    ServiceActionIn16: 16 {
        /// Service action.
        action: u8,
        /// Depends on the action.
        lba: U64,
        /// Bytes that the initiator has room for.
        allocation_length: U32,
        /// Depends on the action.
        flags: u8,
    }
    /// INQUIRY.
    Inquiry: 6 {
        /// [`EVPD`].
        flags: u8,
        /// Page of vital product data.
        page: u8,
        /// Bytes that the initiator has room for.
        allocation_length: U16,
    }
    /// REQUEST SENSE.
    RequestSense: 6 {
        /// [`DESCRIPTOR_FORMAT`].
        flags: u8,
        /// Always 0.
        reserved: [u8; 2],
        /// Bytes that the initiator has room for.
        allocation_length: u8,
    }
    /// MODE SENSE (6).
    ModeSense6: 6 {
        /// [`DISABLE_BLOCK_DESCRIPTORS`].
        flags: u8,
        /// Page control, bits 7 and 6, and page code.
        page: u8,
        /// Subpage code.
        subpage: u8,
        /// Bytes that the initiator has room for.
        allocation_length: u8,
    }
    /// MODE SENSE (10).
    ModeSense10: 10 {
        /// [`DISABLE_BLOCK_DESCRIPTORS`].
        flags: u8,
        /// Page control, bits 7 and 6, and page code.
        page: u8,
        /// Subpage code.
        subpage: u8,
        /// Always 0.
        reserved: [u8; 3],
        /// Bytes that the initiator has room for.
        allocation_length: U16,
    }
    /// MODE SELECT (6).
    ModeSelect6: 6 {
        /// [`SAVE_PAGES`].
        flags: u8,
        /// Always 0.
        reserved: [u8; 2],
        /// Bytes of the parameters.
        length: u8,
    }
    /// MODE SELECT (10).
    ModeSelect10: 10 {
        /// [`SAVE_PAGES`].
        flags: u8,
        /// Always 0.
        reserved: [u8; 5],
        /// Bytes of the parameters.
        length: U16,
    }
    /// START STOP UNIT.
    StartStopUnit: 6 {
        /// Bit 0: answer at once.
        immediate: u8,
        /// Always 0.
        reserved: u8,
        /// Modifies the power condition.
        modifier: u8,
        /// [`START`] and its neighbours.
        flags: u8,
    }
    /// SEND DIAGNOSTIC.
    SendDiagnostic: 6 {
        /// Self-test code, bits 7 to 5, and bit 2: the default self-test.
        flags: u8,
        /// Always 0.
        reserved: u8,
        /// Bytes of the parameters.
        length: U16,
    }
    /// PREVENT ALLOW MEDIUM REMOVAL.
    PreventAllow: 6 {
        /// Always 0.
        reserved: [u8; 3],
        /// Bit 0: prevent.
        prevent: u8,
    }
    /// UNMAP.
    Unmap: 10 {
        /// Bit 0: anchor the blocks.
        flags: u8,
        /// Always 0.
        reserved: [u8; 4],
        /// Group number.
        group: u8,
        /// Bytes of the parameters.
        length: U16,
    }
    /// PERSISTENT RESERVE IN.
    PersistentReserveIn: 10 {
        /// Service action.
        action: u8,
        /// Always 0.
        reserved: [u8; 5],
        /// Bytes that the initiator has room for.
        allocation_length: U16,
    }
    /// PERSISTENT RESERVE OUT.
    PersistentReserveOut: 10 {
        /// Service action.
        action: u8,
        /// Scope, bits 7 to 4, and type.
        scope_and_type: u8,
        /// Always 0.
        reserved: [u8; 2],
        /// Bytes of the parameters.
        length: U32,
    }
    /// READ TOC/PMA/ATIP.
    ReadToc: 10 {
        /// [`MSF`].
        flags: u8,
        /// Low 4 bits: which format.
        format: u8,
        /// Always 0.
        reserved: [u8; 3],
        /// Where the list starts.
        first_track: u8,
        /// Bytes that the initiator has room for.
        allocation_length: U16,
    }
    /// GET CONFIGURATION.
    GetConfiguration: 10 {
        /// Low 2 bits: which features.
        request: u8,
        /// The first of them.
        first_feature: U16,
        /// Always 0.
        reserved: [u8; 3],
        /// Bytes that the initiator has room for.
        allocation_length: U16,
    }
    /// GET EVENT STATUS NOTIFICATION.
    GetEventStatusNotification: 10 {
        /// [`POLLED`].
        flags: u8,
        /// Always 0.
        reserved: [u8; 2],
        /// A bit for each class of events.
        classes: u8,
        /// Always 0.
        reserved2: [u8; 2],
        /// Bytes that the initiator has room for.
        allocation_length: U16,
    }
    /// READ DISC INFORMATION.
    ReadDiscInformation: 10 {
        /// Low 3 bits: which information.
        data_type: u8,
        /// Always 0.
        reserved: [u8; 5],
        /// Bytes that the initiator has room for.
        allocation_length: U16,
    }
    /// READ DVD STRUCTURE.
    ReadDvdStructure: 12 {
        /// Low 4 bits: 0 for a DVD.
        media_type: u8,
        /// Depends on the format.
        address: U32,
        /// Which layer.
        layer: u8,
        /// Which structure.
        format: u8,
        /// Bytes that the initiator has room for.
        allocation_length: U16,
        /// Nothing that is used.
        agid: u8,
    }
    /// MECHANISM STATUS.
    MechanismStatus: 12 {
        /// Always 0.
        reserved: [u8; 7],
        /// Bytes that the initiator has room for.
        allocation_length: U16,
        /// Always 0.
        reserved2: u8,
    }
    /// REPORT LUNS.
    ReportLuns: 12 {
        /// Always 0.
        reserved: u8,
        /// Which of them: 0 and 2 all, 1 well-known ones.
        select: u8,
        /// Always 0.
        reserved2: [u8; 3],
        /// Bytes that the initiator has room for.
        allocation_length: U32,
        /// Always 0.
        reserved3: u8,
    }
    /// REPORT SUPPORTED OPERATION CODES.
    ReportSupportedOperationCodes: 12 {
        /// Service action.
        action: u8,
        /// Bit 7: with timeouts; low 3 bits: which commands.
        options: u8,
        /// Which operation code.
        requested_opcode: u8,
        /// Which service action.
        requested_action: U16,
        /// Bytes that the initiator has room for.
        allocation_length: U32,
        /// Always 0.
        reserved: u8,
    }
}
