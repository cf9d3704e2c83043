//! Key-value pair messages as they lie in a packet, behind the integration services' header.
//!
//! Source: Linux `include/uapi/linux/hyperv.h` (`hv_kvp_msg`, `hv_kvp_ip_msg`) and OpenVMM's `hyperv_ic_protocol`,
//! which knows the binary form of version 5.0. A body is as large as the largest message of its kind, whatever its
//! operation: guests answer by sending the same buffer back.

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// What the guest is to do.
pub mod operation {
    /// Tell the value of a key.
    pub const GET: u8 = 0;
    /// Keep a value.
    pub const SET: u8 = 1;
    /// Forget a key.
    pub const DELETE: u8 = 2;
    /// Tell key and value at an index.
    pub const ENUMERATE: u8 = 3;
    /// Tell a network adapter's addresses.
    pub const GET_IP_INFO: u8 = 4;
    /// Set a network adapter's addresses.
    pub const SET_IP_INFO: u8 = 5;
}

/// In front of every message (Linux `hv_kvp_hdr`). Text addresses follow at once, all else after two more bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct KvpHeader {
    /// See [`operation`].
    pub operation: u8,
    /// See [`Pool`](super::Pool).
    pub pool: u8,
}

const _: () = assert!(size_of::<KvpHeader>() == 2);

/// Types of values; numbers are those of the Windows registry.
pub mod value_type {
    /// UTF-16 text.
    pub const STRING: u32 = 1;
    /// UTF-16 text with names of variables in it.
    pub const EXPAND_STRING: u32 = 2;
    /// A 32-bit number.
    pub const U32: u32 = 4;
    /// A 64-bit number, as Linux has it.
    pub const U64_LINUX: u32 = 8;
    /// A 64-bit number.
    pub const U64: u32 = 11;
}

/// Bytes of a value.
pub const VALUE_BYTES: usize = 2048;

/// UTF-16 units of a key, its zero included.
pub const KEY_UNITS: usize = 256;

/// A key and its value (Linux `hv_kvp_exchg_msg_value`).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct Record {
    /// See [`value_type`].
    pub value_type: U32,
    /// Bytes of the key, its zero included.
    pub key_size: U32,
    /// Bytes of the value, a text's zero included.
    pub value_size: U32,
    /// UTF-16 text.
    pub key: [U16; KEY_UNITS],
    /// UTF-16 text or a number.
    pub value: [u8; VALUE_BYTES],
}

const _: () = assert!(size_of::<Record>() == 2572);

/// Get and set.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct RecordMessage {
    /// The header.
    pub header: KvpHeader,
    /// Always 0.
    pub reserved: U16,
    /// The record.
    pub record: Record,
    /// Enumeration has four bytes more.
    pub unused: U32,
}

const _: () = assert!(size_of::<RecordMessage>() == size_of::<EnumerateMessage>());

/// Enumeration.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct EnumerateMessage {
    /// The header.
    pub header: KvpHeader,
    /// Always 0.
    pub reserved: U16,
    /// Counted from 0.
    pub index: U32,
    /// What is there.
    pub record: Record,
}

const _: () = assert!(size_of::<EnumerateMessage>() == 2580);

/// Deletion.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct DeleteMessage {
    /// The header.
    pub header: KvpHeader,
    /// Always 0.
    pub reserved: U16,
    /// Bytes of the key, its zero included.
    pub key_size: U32,
    /// UTF-16 text.
    pub key: [U16; KEY_UNITS],
    /// As long as the others.
    pub unused: [u8; 2060],
}

const _: () = assert!(size_of::<DeleteMessage>() == size_of::<EnumerateMessage>());

/// Which addresses are meant.
pub mod address_family {
    /// IPv4 ones.
    pub const IPV4: u8 = 1;
    /// IPv6 ones.
    pub const IPV6: u8 = 2;
}

/// UTF-16 units of an adapter's name.
pub const ADAPTER_UNITS: usize = 128;

/// A network adapter's addresses as texts, up to version 4.0 (Linux `hv_kvp_ip_msg`). Lists have semicolons.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct IpTextMessage {
    /// The header.
    pub header: KvpHeader,
    /// Which adapter.
    pub adapter: [U16; ADAPTER_UNITS],
    /// See [`address_family`].
    pub family: u8,
    /// Not 0: addresses come by DHCP.
    pub dhcp: u8,
    /// Addresses.
    pub addresses: [U16; 1024],
    /// Their netmasks (IPv4) or prefixes (IPv6: `/64`).
    pub subnets: [U16; 1024],
    /// Gateways.
    pub gateways: [U16; 512],
    /// Name servers.
    pub dns: [U16; 1024],
}

const _: () = assert!(size_of::<IpTextMessage>() == 7428);

/// A network adapter's addresses, binary, version 5.0. Addresses are in network byte order.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct IpBinaryMessage {
    /// The header.
    pub header: KvpHeader,
    /// Always 0.
    pub reserved: U16,
    /// How many IPv4 addresses and netmasks there are.
    pub ipv4_count: U32,
    /// How many IPv6 addresses and prefixes there are.
    pub ipv6_count: U32,
    /// How many IPv4 gateways there are.
    pub ipv4_gateway_count: U32,
    /// How many IPv6 gateways there are.
    pub ipv6_gateway_count: U32,
    /// How many IPv4 name servers there are.
    pub ipv4_dns_count: U32,
    /// How many IPv6 name servers there are.
    pub ipv6_dns_count: U32,
    /// Which adapter.
    pub adapter: [U16; ADAPTER_UNITS],
    /// See [`address_family`].
    pub family: u8,
    /// Not 0: addresses come by DHCP.
    pub dhcp: u8,
    /// Always 0.
    pub reserved2: U16,
    /// IPv4 addresses.
    pub ipv4: [[u8; 4]; 64],
    /// IPv6 addresses.
    pub ipv6: [[u8; 16]; 64],
    /// Netmasks of the IPv4 addresses.
    pub ipv4_masks: [[u8; 4]; 64],
    /// Lengths of the IPv6 addresses' prefixes.
    pub ipv6_prefixes: [U32; 64],
    /// IPv4 gateways.
    pub ipv4_gateways: [[u8; 4]; 5],
    /// IPv6 gateways.
    pub ipv6_gateways: [[u8; 16]; 5],
    /// IPv4 name servers.
    pub ipv4_dns: [[u8; 4]; 64],
    /// IPv6 name servers.
    pub ipv6_dns: [[u8; 16]; 64],
    /// Where each address comes from: 1 not set by hand, 2 set by hand; IPv4 first, IPv6 right behind.
    pub origins: [U16; 128],
    /// As long as the text form.
    pub unused: [u8; 3712],
}

const _: () = assert!(size_of::<IpBinaryMessage>() == size_of::<IpTextMessage>());
