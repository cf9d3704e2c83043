//! A change of the file's structure: pages of the BAT and of sector bitmaps as they will be. It is put together from
//! what memory has, by the holder of the writer's lock, and is nothing until [`super::writer`] commits it.

use std::collections::BTreeMap;

use super::super::image::DiskError;
use super::bat::{Page, WORDS};
use super::bitmap::{self, SECTORS, SectorBitmaps};
use super::error::{VhdxError, damaged};
use super::image::Vhdx;
use super::protocol::{BatEntry, BlockState};
use super::region::Span;

/// A page of the file's structure. Sector bitmaps come first: they are seen before the block that needs them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PageId {
    /// Of the sector bitmaps.
    Bitmap(usize),
    /// Of the BAT.
    Bat(usize),
}

/// Pages as they will be.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// The pages.
    pub pages: BTreeMap<PageId, Box<Page>>,
    /// Sector bitmap blocks that come with this change, by chunk.
    pub bitmap_blocks: BTreeMap<u64, u64>,
}

impl Change {
    /// Changes an entry of the BAT.
    pub fn set_entry(&mut self, vhdx: &Vhdx, index: u64, entry: BatEntry) {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        let page =
            self.pages.entry(PageId::Bat(index / WORDS)).or_insert_with(|| vhdx.bat.page(index / WORDS));
        if let Some(bytes) = page.as_chunks_mut().0.get_mut(index % WORDS) {
            *bytes = entry.0.to_le_bytes();
        }
    }

    /// Changes the entry of a block.
    pub fn set_block(&mut self, vhdx: &Vhdx, block: u64, state: BlockState, place: u64) {
        self.set_entry(vhdx, vhdx.layout.block_entry(block), BatEntry::new(state, place));
    }

    /// Marks sectors of one block present, and all others of the block not if it is `fresh`. Returns whether all of
    /// the block's are present then.
    pub fn set_sectors(
        &mut self,
        vhdx: &Vhdx,
        sectors: Span,
        block: u64,
        fresh: bool,
    ) -> Result<bool, DiskError> {
        let layout = &vhdx.layout;
        let whole = Span {
            start: block * (layout.block_size / layout.sector),
            len: layout.block_len(block) / layout.sector,
        };
        let mut all = true;
        let mut at = whole.start;
        while at < whole.end() {
            let end = whole.end().min((at / SECTORS + 1) * SECTORS);
            vhdx.bitmaps.load(&*vhdx.medium, &vhdx.bat, at)?;
            let index = bitmap::page_of(at);
            let mut page = vhdx.bitmaps.page(index);
            let before = page.clone();
            if fresh {
                bitmap::set_bits(&mut page, at, end - at, false);
            }
            let (from, to) = (at.max(sectors.start), end.min(sectors.end()));
            if from < to {
                bitmap::set_bits(&mut page, from, to - from, true);
            }
            all &= bitmap::all_set(&page, at, end - at);
            if page != before {
                self.pages.insert(PageId::Bitmap(index), page);
            }
            at = end;
        }
        Ok(all)
    }

    /// Where a page is in the file.
    pub fn place(&self, vhdx: &Vhdx, id: PageId) -> Result<u64, VhdxError> {
        match id {
            PageId::Bat(page) => Ok(vhdx.bat.page_place(page)),
            PageId::Bitmap(page) => {
                let new = self.bitmap_blocks.get(&SectorBitmaps::chunk_of(page));
                new.map(|block| SectorBitmaps::place_in(*block, page))
                    .or_else(|| SectorBitmaps::place(&vhdx.bat, page))
                    .ok_or_else(|| damaged("a sector bitmap has no place"))
            }
        }
    }
}
