//! Memory of our own between a disk and guest memory, where one cannot reach the other.

use std::fmt::{self, Debug};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const PAGE: usize = 4096;

/// Aligned as every kind of direct I/O wants it.
#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(4096))]
struct Page([u8; PAGE]);

/// A buffer that is there once it is needed. What it holds is of no meaning from one use to the next.
#[derive(Default)]
pub(crate) struct Bounce {
    pages: Vec<Page>,
}

impl Bounce {
    /// So many bytes, aligned to a page.
    pub(crate) fn bytes(&mut self, len: usize) -> &mut [u8] {
        let pages = len.div_ceil(PAGE);
        if self.pages.len() < pages {
            self.pages.resize(pages, Page([0; PAGE]));
        }
        let bytes = self.pages.as_mut_slice().as_mut_bytes();
        bytes.get_mut(..len).unwrap_or_default()
    }
}

impl Debug for Bounce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bounce").field("pages", &self.pages.len()).finish()
    }
}
