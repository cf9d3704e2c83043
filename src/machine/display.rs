//! Adds display, keyboard and mouse to the bus.

use std::sync::Arc;

use devices::display::ResolutionError;
use devices::keyboard::Keyboard;
use devices::mouse::Mouse;
use devices::video::{Video, resolutions};

use super::{Machine, MachineError};
use crate::display::DisplaySize;
use crate::hv::video::KvmVideoMemory;
use crate::layout;

impl Machine {
    pub(super) fn add_video(&mut self) -> Result<(), MachineError> {
        let size = resolutions::vram_size(self.display_size.0);
        let memory = KvmVideoMemory::new(Arc::clone(&self.vm), size)?;
        let windows = [layout::LOW_MMIO, layout::high_mmio(self.memory)];
        let (device, screen) = Video::device(Box::new(memory), &windows, self.preferred.0)?;
        self.offer("video", device)?;
        self.display.screen = Some(Arc::new(screen));
        Ok(())
    }

    /// Asks the guest for a resolution, now and whenever its display comes back.
    pub(crate) fn prefer(&mut self, size: DisplaySize) -> Result<(), ResolutionError> {
        if let Some(screen) = &self.display.screen {
            screen.prefer(size.0)?;
        }
        self.preferred = size;
        Ok(())
    }

    pub(super) fn add_keyboard(&mut self) -> Result<(), MachineError> {
        let (device, keys) = Keyboard::device()?;
        self.offer("keyboard", device)?;
        self.display.keys = Some(Arc::new(keys));
        Ok(())
    }

    pub(super) fn add_mouse(&mut self) -> Result<(), MachineError> {
        let (device, pointer) = Mouse::device()?;
        self.offer("mouse", device)?;
        self.display.pointer = Some(Arc::new(pointer));
        Ok(())
    }
}
