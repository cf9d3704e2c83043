//! The host side of VMBus and every device on it.
//!
//! Read in this order: [`vmbus`] (the bus: control plane, rings, channels), then one device folder, for
//! instance [`ic`]. Nothing in here knows a hypervisor or a command line: the hypervisor's part is behind
//! [`vmbus::synic::Synic`], which `busman` implements on KVM and `testing` implements in memory.
//!
//! | module | what it holds |
//! |---|---|
//! | [`hvdef`] | the hypervisor interface: MSRs, hypercalls, SynIC pages (TLFS) |
//! | [`guid`] | GUIDs as they lie on the wire |
//! | [`mem`] | guest memory: pages resolved once, copy in, copy out, atomic words |
//! | [`ratelimit`] | log lines that a guest can trigger |
//! | [`vmbus`] | the bus |
//! | [`disk`] | disk images and the I/O engine |
//! | [`display`] | what a guest shows and what a person types, for those who look at it |
//! | [`storage`] | SCSI controllers and their units |
//! | [`ic`] | integration services: shutdown, heartbeat, time synchronisation, and those that users ask guests with |
//! | [`keyboard`], [`mouse`] | where a person types and points |
//! | [`video`] | what a guest shows |
//! | [`vmbfs`] | files that a guest reads before it has a disk |
//! | [`loopback`] | a device for tests: sends a guest its own packets back |
//! | [`firmware`] | what UEFI firmware asks of the host: BIOS device, EFI variables, watchdogs, generation id |
//! | [`legacy`] | port and MMIO devices: serial console, CMOS clock, power management |
//! | `testing` | a guest in memory, for tests, benches and fuzz targets (feature `testing`) |
//!
//! # Writing a device
//!
//! A device says what it offers and makes a worker for each opening of its channel. The worker has a thread of its
//! own while the channel is open; it reads packets in batches and answers into the other ring. The guest chose the
//! sizes of both rings: the device says what packets they must be able to carry, and when the one to the guest is
//! full it keeps what it could not send, stops reading, and goes on when it is called again. This is all of an echo
//! device, with a guest that uses it; [`loopback`] is the same with more to ask for.
//!
//! ```
//! use devices::guid::Guid;
//! use devices::testing::TestGuest;
//! use devices::vmbus::channel::{
//!     Channel, ChannelError, ChannelWorker, Flow, Offer, Opening, RingNeeds, Sent, VmbusDevice,
//! };
//! use devices::vmbus::ring::PacketOut;
//!
//! const ECHO: Guid = Guid::parse("0d9d3a3c-58a8-4c1f-9b0e-6f1f8a4f7c21");
//! const LARGEST: usize = 2048;
//!
//! #[derive(Debug)]
//! struct Echo;
//!
//! #[derive(Debug, Default)]
//! struct EchoWorker {
//!     /// An answer that found no room.
//!     held: Option<(u64, Vec<u8>)>,
//! }
//!
//! impl VmbusDevice for Echo {
//!     type Worker = EchoWorker;
//!
//!     fn offer(&self) -> Offer {
//!         Offer::new("echo", ECHO, ECHO)
//!     }
//!
//!     fn ring_needs(&self, _: &Opening) -> RingNeeds {
//!         RingNeeds::of_payload(LARGEST)
//!     }
//!
//!     fn open(&mut self, _: &Opening) -> Result<EchoWorker, ChannelError> {
//!         Ok(EchoWorker::default())
//!     }
//!
//!     fn closed(&mut self, _: Option<EchoWorker>) {}
//! }
//!
//! impl ChannelWorker for EchoWorker {
//!     fn doorbell(&mut self, channel: &mut Channel) -> Result<(), ChannelError> {
//!         if let Some((id, payload)) = &self.held {
//!             if channel.send(&PacketOut::completion(*id, &[payload]))? == Sent::Later {
//!                 return Ok(());
//!             }
//!             self.held = None;
//!         }
//!         channel.receive(|packet, replies| {
//!             if packet.payload.len() > LARGEST {
//!                 return Err(ChannelError::Protocol(format!("{} bytes", packet.payload.len())));
//!             }
//!             match replies.send(&PacketOut::completion(packet.transaction_id, &[packet.payload]))? {
//!                 Sent::Yes => Ok(Flow::Continue),
//!                 Sent::Later => {
//!                     self.held = Some((packet.transaction_id, packet.payload.to_vec()));
//!                     Ok(Flow::Pause)
//!                 }
//!             }
//!         })
//!     }
//! }
//!
//! let mut guest = TestGuest::default();
//! guest.bus.add(Echo)?;
//! let offer = guest.connect_to(ECHO);
//!
//! // Rings of 5 and 2 pages; the host has room for 3 answers of this size, the others wait in the guest's ring.
//! let mut channel = guest.open(&offer, 5, 2);
//! for id in 0..10 {
//!     channel.send(&PacketOut::in_band(id, &[&[id as u8; 1024]]));
//! }
//! for id in 0..10 {
//!     channel.receive(|packet| {
//!         assert_eq!(packet.transaction_id, id);
//!         assert_eq!(packet.payload, [id as u8; 1024]);
//!     });
//! }
//! guest.close(channel);
//! assert_eq!(guest.bus.channels()[0].packets_out, 10);
//! # Ok::<(), devices::vmbus::bus::BusError>(())
//! ```

#![warn(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![cfg_attr(
    test,
    expect(
        clippy::cast_possible_truncation,
        clippy::panic,
        reason = "a panic is how a test fails, and a test's numbers are small"
    )
)]

pub mod disk;
pub mod display;
pub mod firmware;
pub mod guid;
pub mod hvdef;
pub mod ic;
pub mod keyboard;
pub mod legacy;
pub mod loopback;
pub mod mem;
pub mod mouse;
pub mod ratelimit;
pub mod storage;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod tpm;
pub mod video;
pub mod vmbfs;
pub mod vmbus;
