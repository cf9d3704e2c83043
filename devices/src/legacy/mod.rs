//! Port and MMIO devices.
