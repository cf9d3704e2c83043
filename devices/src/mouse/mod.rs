//! The synthetic mouse: a HID pointer with absolute coordinates (Linux: hid-hyperv; Windows: VMBusHID).
//!
//! Whoever sits in front of the machine holds a [`MouseHandle`], which is [`Pointer`](crate::display::Pointer).
//!
//! | module | what it holds |
//! |---|---|
//! | [`protocol`] | messages as they lie in a packet, and the HID report |
//! | `queue` | motion and clicks on their way to the guest |
//! | `device` | the offer, negotiation, and the channel's thread |

mod device;
pub mod protocol;
mod queue;
#[cfg(test)]
mod tests;

pub use device::{Mouse, MouseHandle, MouseWorker};
