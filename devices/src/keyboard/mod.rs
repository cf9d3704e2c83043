//! The synthetic keyboard (Linux: hyperv-keyboard; Windows: hyperkbd; firmware: SynthKeyDxe).
//!
//! Whoever sits in front of the machine holds a [`KeyboardHandle`], which is [`Keys`](crate::display::Keys).
//!
//! | module | what it holds |
//! |---|---|
//! | [`protocol`] | messages as they lie in a packet |
//! | `queue` | keys on their way to the guest |
//! | `device` | the offer, negotiation, and the channel's thread |

mod device;
pub mod protocol;
mod queue;
#[cfg(test)]
mod tests;

pub use device::{Keyboard, KeyboardHandle, KeyboardWorker};
