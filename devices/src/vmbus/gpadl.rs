//! GPADLs (guest physical address descriptor lists): pages that the guest lends to the host.
//!
//! The control plane fills a [`Gpadl`] from the guest's messages; the bus resolves it into memory when a channel
//! opens or a device asks. Page numbers are checked against the RAM only then.

use std::sync::Arc;

/// Names a GPADL within a connection; chosen by the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GpadlId(pub u32);

/// One range of a GPADL: bytes that start inside of its first page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpadlRange {
    /// Offset of the first byte within the first page; less than 4096.
    pub byte_offset: u32,
    /// Length, bytes; not 0.
    pub byte_count: u32,
    /// The pages, exactly as many as offset and length need.
    pub pfns: Vec<u64>,
}

/// A complete GPADL. Invariants: at least one range, and those of [`GpadlRange`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpadl {
    /// The ranges in the guest's order.
    pub ranges: Arc<[GpadlRange]>,
}
