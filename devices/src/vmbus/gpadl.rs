//! GPADLs (guest physical address descriptor lists): pages that the guest lends to the host.
//!
//! The control plane fills a [`Gpadl`] from the guest's messages, unit by unit, with a [`GpadlParser`]; the bus
//! resolves it into memory when a channel opens or a device asks. Page numbers are checked against the RAM only
//! then.
//!
//! On the wire all ranges are one stream of 64-bit units: a range's header, then its page numbers. Messages split
//! the stream anywhere between two units.

use std::sync::Arc;

use thiserror::Error;

use crate::mem::PAGE_SIZE;

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

impl Gpadl {
    /// Pages in all ranges; a page that is listed twice counts twice.
    #[must_use]
    pub fn page_count(&self) -> usize {
        self.ranges.iter().map(|range| range.pfns.len()).sum()
    }

    /// The pages, if they are one range of whole pages, as rings must be.
    #[must_use]
    pub fn whole_pages(&self) -> Option<&[u64]> {
        match &*self.ranges {
            [range]
                if range.byte_offset == 0 && range.byte_count as usize == range.pfns.len() * PAGE_SIZE =>
            {
                Some(&range.pfns)
            }
            _ => None,
        }
    }
}

/// Why a guest's list is no GPADL.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum GpadlError {
    /// No ranges at all.
    #[error("A GPADL without ranges")]
    Empty,
    /// A range of no bytes, or that starts outside of its first page.
    #[error("A GPADL range of {byte_count} bytes at offset {byte_offset}")]
    Range {
        /// Offset within the first page.
        byte_offset: u32,
        /// Length, bytes.
        byte_count: u32,
    },
    /// The ranges need more or less room than the header announced.
    #[error("GPADL ranges of {needed} bytes where the header announces {announced}")]
    Length {
        /// What the ranges seen so far need at least, bytes.
        needed: usize,
        /// What the header says, bytes.
        announced: u16,
    },
    /// The guest lends more than the host keeps books on.
    #[error("A GPADL of {0} units is over the budget")]
    Budget(usize),
}

/// A GPADL whose units are still arriving. It grows with them: a header that promises much costs nothing yet.
#[derive(Debug)]
pub struct GpadlParser {
    ranges: Vec<GpadlRange>,
    /// Ranges whose header has not arrived.
    ranges_left: u16,
    /// Page numbers of the last range that have not arrived.
    pfns_left: usize,
    /// Units of all ranges whose header has arrived: what was taken from the budget.
    needed: usize,
    /// Whether there is one range only, so that `announced` may have wrapped.
    single: bool,
    announced: u16,
}

impl GpadlParser {
    /// Starts with what the header message says: the number of ranges and their length in bytes.
    ///
    /// # Errors
    /// [`GpadlError::Empty`] without ranges.
    pub fn new(range_count: u16, range_buflen: u16) -> Result<Self, GpadlError> {
        if range_count == 0 {
            return Err(GpadlError::Empty);
        }
        Ok(GpadlParser {
            ranges: Vec::new(),
            ranges_left: range_count,
            pfns_left: 0,
            needed: 0,
            single: range_count == 1,
            announced: range_buflen,
        })
    }

    /// Takes the units of one message; true when the GPADL is complete. Whatever comes behind is ignored, as
    /// guests pad their messages. Each range takes its units from `budget` as soon as its header is seen.
    ///
    /// # Errors
    /// See [`GpadlError`]. The list is lost then; [`GpadlParser::cost`] says what goes back to the budget.
    pub fn push(&mut self, bytes: &[u8], budget: &mut usize) -> Result<bool, GpadlError> {
        for unit in bytes.as_chunks::<8>().0 {
            if self.is_complete() {
                break;
            }
            match self.ranges.last_mut() {
                Some(range) if self.pfns_left > 0 => {
                    range.pfns.push(u64::from_le_bytes(*unit));
                    self.pfns_left -= 1;
                }
                _ => self.push_range(*unit, budget)?,
            }
        }
        Ok(self.is_complete())
    }

    /// Units taken from the budget so far.
    #[must_use]
    pub fn cost(&self) -> usize {
        self.needed
    }

    /// The list, once it is complete.
    #[must_use]
    pub fn finish(mut self) -> Gpadl {
        for range in &mut self.ranges {
            range.pfns.shrink_to_fit();
        }
        Gpadl { ranges: self.ranges.into() }
    }

    fn is_complete(&self) -> bool {
        self.ranges_left == 0 && self.pfns_left == 0
    }

    fn push_range(&mut self, unit: [u8; 8], budget: &mut usize) -> Result<(), GpadlError> {
        let [c0, c1, c2, c3, o0, o1, o2, o3] = unit;
        let byte_count = u32::from_le_bytes([c0, c1, c2, c3]);
        let byte_offset = u32::from_le_bytes([o0, o1, o2, o3]);
        if byte_count == 0 || byte_offset as usize >= PAGE_SIZE {
            return Err(GpadlError::Range { byte_offset, byte_count });
        }
        let pages = (byte_count as usize + byte_offset as usize).div_ceil(PAGE_SIZE);
        let units = 1 + pages;
        self.check_length((self.needed + units) * size_of::<u64>())?;
        *budget = budget.checked_sub(units).ok_or(GpadlError::Budget(units))?;
        self.needed += units;
        self.ranges_left -= 1;
        self.pfns_left = pages;
        self.ranges.push(GpadlRange { byte_offset, byte_count, pfns: Vec::new() });
        Ok(())
    }

    /// Holds the bytes that the ranges need, this one included, against the announced length.
    ///
    /// Linux computes the length of a single range in 16 bits, where it wraps above 8190 pages: there only the low
    /// bits can be compared.
    fn check_length(&self, needed: usize) -> Result<(), GpadlError> {
        let announced = usize::from(self.announced);
        let further_ranges = usize::from(self.ranges_left - 1);
        let fits = if self.single {
            needed & 0xffff == announced
        } else if further_ranges == 0 {
            needed == announced
        } else {
            needed + further_ranges * 2 * size_of::<u64>() <= announced
        };
        if fits { Ok(()) } else { Err(GpadlError::Length { needed, announced: self.announced }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(byte_count: u32, byte_offset: u32, pfns: impl IntoIterator<Item = u64>) -> Vec<u8> {
        let header = u64::from(byte_offset) << 32 | u64::from(byte_count);
        std::iter::once(header).chain(pfns).flat_map(u64::to_le_bytes).collect()
    }

    /// What a guest computes in 16 bits.
    fn buflen(len: usize) -> u16 {
        u16::try_from(len & 0xffff).unwrap()
    }

    fn parse(range_count: u16, bytes: &[u8]) -> Result<Option<Gpadl>, GpadlError> {
        let mut parser = GpadlParser::new(range_count, buflen(bytes.len()))?;
        let complete = parser.push(bytes, &mut 100_000)?;
        Ok(complete.then(|| parser.finish()))
    }

    #[test]
    fn units_may_arrive_one_by_one() {
        let bytes = [range(5000, 4000, [7, 8, 9]), range(1, 0, [7])].concat();
        let mut parser = GpadlParser::new(2, buflen(bytes.len())).unwrap();
        let mut budget = 10;
        for unit in bytes[..bytes.len() - 8].chunks(8) {
            assert_eq!(parser.push(unit, &mut budget), Ok(false));
        }
        assert_eq!(parser.push(&bytes[bytes.len() - 8..], &mut budget), Ok(true));
        assert_eq!((parser.cost(), budget), (6, 4));
        let gpadl = parser.finish();
        assert_eq!(gpadl.page_count(), 4);
        assert_eq!(gpadl.whole_pages(), None);
        assert_eq!(
            *gpadl.ranges,
            [
                GpadlRange { byte_offset: 4000, byte_count: 5000, pfns: vec![7, 8, 9] },
                GpadlRange { byte_offset: 0, byte_count: 1, pfns: vec![7] },
            ]
        );
    }

    #[test]
    fn surplus_bytes_are_ignored() {
        let mut bytes = range(8192, 0, [1, 2]);
        let announced = buflen(bytes.len());
        bytes.extend([0xff; 100]);
        let mut parser = GpadlParser::new(1, announced).unwrap();
        assert_eq!(parser.push(&bytes, &mut 100), Ok(true));
        assert_eq!(parser.push(&bytes, &mut 100), Ok(true));
        assert_eq!(parser.finish().whole_pages(), Some(&[1, 2][..]));
    }

    #[test]
    fn a_length_that_wrapped_is_taken_from_the_range() {
        let pages: u32 = 10_000;
        let gpadl = parse(1, &range(pages * 4096, 0, 0..u64::from(pages))).unwrap().unwrap();
        assert_eq!(gpadl.whole_pages().map(<[_]>::len), Some(10_000));
    }

    #[test]
    fn lists_that_are_none_are_refused() {
        assert_eq!(parse(0, &range(1, 0, [1])), Err(GpadlError::Empty));
        assert!(matches!(parse(1, &range(0, 0, [])), Err(GpadlError::Range { .. })));
        assert!(matches!(parse(1, &range(1, 4096, [1, 2])), Err(GpadlError::Range { .. })));
        assert!(
            matches!(parse(1, &range(4096, 1, [1])), Err(GpadlError::Length { .. })),
            "shorter than needed"
        );
        assert!(
            matches!(parse(1, &range(4096, 0, [1, 2])), Err(GpadlError::Length { .. })),
            "longer than needed"
        );
        assert!(
            matches!(parse(2, &range(4096, 0, [1])), Err(GpadlError::Length { .. })),
            "second range missing"
        );
        let surplus = [range(1, 0, [1]), range(1, 0, [1, 2])].concat();
        assert!(
            matches!(parse(2, &surplus), Err(GpadlError::Length { .. })),
            "second range longer than needed"
        );
    }

    #[test]
    fn a_promise_over_the_budget_is_refused_before_its_pages_arrive() {
        // 4 GiB - 1, the most that a range can have.
        let header = range(u32::MAX, 4095, []);
        let mut budget = 1_000_000;
        let needed = (1 + (1 << 20) + 1) * 8;
        let mut parser = GpadlParser::new(1, buflen(needed)).unwrap();
        assert_eq!(parser.push(&header, &mut budget), Err(GpadlError::Budget((1 << 20) + 2)));
        assert_eq!((budget, parser.cost()), (1_000_000, 0));
    }

    #[test]
    fn only_one_range_of_whole_pages_can_be_a_ring() {
        assert!(parse(1, &range(8192, 0, [1, 2])).unwrap().unwrap().whole_pages().is_some());
        assert!(parse(1, &range(8191, 0, [1, 2])).unwrap().unwrap().whole_pages().is_none());
        assert!(parse(1, &range(4096, 1, [1, 2])).unwrap().unwrap().whole_pages().is_none());
        let two = [range(4096, 0, [1]), range(4096, 0, [2])].concat();
        assert!(parse(2, &two).unwrap().unwrap().whole_pages().is_none());
    }
}
