//! The device: its offer, and what lives as long as it does.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::memory::VideoMemory;
use super::protocol::{INSTANCE, INTERFACE, Resolution, Resolutions};
use super::screen::{Shared, VideoScreen};
use super::worker::{RESOLUTIONS_MAX, VideoWorker};
use crate::display::Mode;
use crate::vmbus::channel::{ChannelError, Offer, Opening, RingNeeds, VmbusDevice};
use crate::vmbus::pipe::Head;

/// The device. Dropping it takes video memory from the guest.
#[derive(Debug)]
pub struct Video {
    shared: Arc<Shared>,
    windows: Arc<[Range<u64>]>,
}

impl Video {
    /// The device, and what whoever looks sees. A guest may place video memory anywhere within one of `windows`, and
    /// is to begin with the resolution `preferred`, which must fit into it.
    ///
    /// # Errors
    /// When the host has no more descriptors, or `memory` is not whole pages.
    pub fn device(
        memory: Box<dyn VideoMemory>,
        windows: &[Range<u64>],
        preferred: Mode,
    ) -> io::Result<(Video, VideoScreen)> {
        let shared = Shared::new(memory, preferred)?;
        Ok((Video { shared: Arc::clone(&shared), windows: windows.into() }, VideoScreen(shared)))
    }
}

impl VmbusDevice for Video {
    type Worker = VideoWorker;

    fn offer(&self) -> Offer {
        let mmio_megabytes = u16::try_from(self.shared.pages.size() >> 20).unwrap_or(u16::MAX);
        Offer { mmio_megabytes, ..Offer::message_pipe("video", INTERFACE, INSTANCE) }
    }

    fn ring_needs(&self, _: &Opening) -> RingNeeds {
        let list = RESOLUTIONS_MAX * size_of::<Resolution>();
        RingNeeds::of_payload(size_of::<Head>() + size_of::<Resolutions>() + list)
    }

    fn open(&mut self, _: &Opening) -> Result<VideoWorker, ChannelError> {
        Ok(VideoWorker::new(Arc::clone(&self.shared), Arc::clone(&self.windows)))
    }

    fn closed(&mut self, _: Option<VideoWorker>) {
        // Once more for a worker that panicked. Picture and video memory stay.
        self.shared.silent();
    }
}

impl Drop for Video {
    fn drop(&mut self) {
        self.shared.end();
    }
}
