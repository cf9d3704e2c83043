//! Synthetic video (Linux: hyperv_drm, hyperv_fb; Windows: HyperVideo; firmware: VideoDxe), protocol 3.0 to 3.5.
//!
//! The guest says where in its address space the video memory is to be, and how the picture lies in it; from then on
//! it draws by writing to memory. Whoever looks holds a [`VideoScreen`], which is a [`Screen`](crate::display::Screen)
//! and copies rows out of that memory without the guest. Most guests tell what they have drawn, as long as somebody
//! looks; of those that do not (firmware, boot loaders) the hypervisor tells which pages were written.
//!
//! | module | what it holds |
//! |---|---|
//! | [`protocol`] | messages as they lie in a packet |
//! | [`memory`] | video memory; the platform's part of it, as a trait |
//! | [`resolutions`] | which resolutions there are, and the monitor's description (EDID) |
//! | `picture` | how the picture lies in memory; rows out of it |
//! | `pointer` | the pointer's picture, part by part |
//! | `screen` | what whoever looks sees |
//! | `written` | watches pages for guests that do not tell |
//! | `device` | the offer |
//! | `worker` | the channel's thread: requests and answers |

mod device;
pub mod memory;
mod picture;
mod pointer;
pub mod protocol;
pub mod resolutions;
mod screen;
#[cfg(test)]
mod tests;
mod worker;
mod written;

pub use device::Video;
pub use memory::VideoMemory;
pub use screen::VideoScreen;
pub use worker::VideoWorker;
