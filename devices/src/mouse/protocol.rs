//! Mouse messages as they lie in a packet, behind the frame of [`pipe`](crate::vmbus::pipe), and the HID report.
//!
//! Source: Linux `drivers/hid/hid-hyperv.c` (`synthhid_*`), OpenVMM's `uidevices::mouse`, and USB's Device Class
//! Definition for HID 1.11 for the descriptors.

use zerocopy::little_endian::{I16, U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::display::POINTER_MAX;
use crate::guid::Guid;

/// Chooses the guest's driver.
pub const INTERFACE: Guid = Guid::parse("cfa8b69e-5b4a-4cc0-b98b-8ba1a1f3f95a");
/// Names the device.
pub const INSTANCE: Guid = Guid::parse("58f75a6d-d949-4320-99e1-a2a2576d581c");
/// The protocol's only version, 2.0.
pub const VERSION: u32 = 2 << 16;

/// First word of every message.
pub mod message_type {
    /// The guest asks for a version.
    pub const PROTOCOL_REQUEST: u32 = 0;
    /// The host's answer.
    pub const PROTOCOL_RESPONSE: u32 = 1;
    /// What kind of device this is; comes behind the answer.
    pub const DEVICE_INFO: u32 = 2;
    /// The guest has taken it in.
    pub const DEVICE_INFO_ACK: u32 = 3;
    /// What the device reports.
    pub const INPUT_REPORT: u32 = 4;
}

/// Starts the conversation (Linux: `synthhid_protocol_request`).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct ProtocolRequest {
    /// Minor version in the lower half, major in the upper.
    pub version: U32,
}
const _: () = assert!(size_of::<ProtocolRequest>() == 4);

/// Whether it goes on (Linux: `synthhid_protocol_response`).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct ProtocolResponse {
    /// What was asked for.
    pub version: U32,
    /// 1: it does.
    pub approved: u8,
}
const _: () = assert!(size_of::<ProtocolResponse>() == 5);

/// Who made the device (Linux: `hv_input_dev_info`).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct Attributes {
    /// Bytes of this struct.
    pub size: U32,
    /// USB vendor.
    pub vendor: U16,
    /// USB product.
    pub product: U16,
    /// Of the product.
    pub version: U16,
    /// 0.
    pub reserved: [U16; 11],
}
const _: () = assert!(size_of::<Attributes>() == 32);

/// HID descriptor with one subordinate (HID 1.11, 6.2.1; Linux: `hid_descriptor`).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct HidDescriptor {
    /// Bytes of this struct.
    pub length: u8,
    /// 0x21: HID.
    pub kind: u8,
    /// Release of the specification, decimal coded.
    pub release: U16,
    /// 0: no country.
    pub country: u8,
    /// One.
    pub count: u8,
    /// 0x22: a report descriptor.
    pub report_kind: u8,
    /// Its bytes.
    pub report_length: U16,
}
const _: () = assert!(size_of::<HidDescriptor>() == 9);

/// What kind of device this is (Linux: `synthhid_device_info`). Hyper-V's report descriptor lies in a field of 128
/// bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct DeviceInfo {
    /// Who made it.
    pub attributes: Attributes,
    /// How long its report descriptor is.
    pub descriptor: HidDescriptor,
    /// The report descriptor, then zeros.
    pub report_descriptor: [u8; 128],
}
const _: () = assert!(size_of::<DeviceInfo>() == 169);

impl DeviceInfo {
    /// This device: Microsoft's own numbers, which Windows has a driver for.
    #[must_use]
    pub fn this() -> Self {
        let mut report_descriptor = [0; 128];
        for (to, from) in report_descriptor.iter_mut().zip(REPORT_DESCRIPTOR) {
            *to = from;
        }
        DeviceInfo {
            attributes: Attributes {
                size: 32.into(),
                vendor: 0x045e.into(),
                product: 0x0621.into(),
                version: 1.into(),
                reserved: [U16::ZERO; 11],
            },
            descriptor: HidDescriptor {
                length: 9,
                kind: 0x21,
                release: 0x0101.into(),
                country: 0,
                count: 1,
                report_kind: 0x22,
                report_length: REPORT_LENGTH.into(),
            },
            report_descriptor,
        }
    }

    /// What its header says: the report descriptor without the zeros behind it.
    pub const SIZE: usize = size_of::<Attributes>() + size_of::<HidDescriptor>() + REPORT_DESCRIPTOR.len();
}

/// Bytes of [`REPORT_DESCRIPTOR`].
const REPORT_LENGTH: u16 = 67;
const AXIS_MAX: [u8; 2] = POINTER_MAX.to_le_bytes();
const WHEEL_MIN: [u8; 2] = (-POINTER_MAX.cast_signed()).to_le_bytes();

/// Describes a [`Report`] (HID 1.11, 6.2.2).
#[rustfmt::skip]
pub const REPORT_DESCRIPTOR: [u8; REPORT_LENGTH as usize] = [
    0x05, 0x01,                         // usage page: generic desktop
    0x09, 0x02,                         // usage: mouse
    0xa1, 0x01,                         // collection: application
    0x09, 0x01,                         //   usage: pointer
    0xa1, 0x00,                         //   collection: physical
    0x05, 0x09,                         //     usage page: buttons
    0x19, 0x01, 0x29, 0x05,             //     usages 1 to 5
    0x15, 0x00, 0x25, 0x01,             //     values 0 to 1
    0x95, 0x05, 0x75, 0x01, 0x81, 0x02, //     five fields of one bit: input, variable, absolute
    0x95, 0x01, 0x75, 0x03, 0x81, 0x01, //     one of three bits: constant
    0x05, 0x01,                         //     usage page: generic desktop
    0x09, 0x30, 0x09, 0x31,             //     usages X and Y
    0x15, 0x00, 0x26, AXIS_MAX[0], AXIS_MAX[1], // values from 0
    0x75, 0x10, 0x95, 0x02, 0x81, 0x02, //     two fields of 16 bits: input, variable, absolute
    0x05, 0x01,                         //     usage page: generic desktop
    0x09, 0x38,                         //     usage: wheel
    0x16, WHEEL_MIN[0], WHEEL_MIN[1], 0x26, AXIS_MAX[0], AXIS_MAX[1],
    0x75, 0x10, 0x95, 0x01, 0x81, 0x06, //     one field of 16 bits: input, variable, relative
    0xc0,                               //   end of collection
    0xc0,                               // end of collection
];

/// What [`REPORT_DESCRIPTOR`] describes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct Report {
    /// Bits of [`display::button`](crate::display::button).
    pub buttons: u8,
    /// 0 to [`POINTER_MAX`].
    pub x: U16,
    /// 0 to [`POINTER_MAX`].
    pub y: U16,
    /// Notches, positive away from the user.
    pub wheel: I16,
}
const _: () = assert!(size_of::<Report>() == 7);
