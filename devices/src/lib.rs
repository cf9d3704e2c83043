//! The host side of VMBus and every device on it.
//!
//! Read in this order: [`vmbus`] (the bus: control plane, rings, channels), then one device folder, for
//! instance [`ic`]. Nothing in here knows a hypervisor or a command line: the hypervisor's part is behind
//! [`vmbus::synic::Synic`], which `busman` implements on KVM and [`testing`] implements in memory.
//!
//! | module | what it holds |
//! |---|---|
//! | [`hvdef`] | the hypervisor interface: MSRs, hypercalls, SynIC pages (TLFS) |
//! | [`guid`] | GUIDs as they lie on the wire |
//! | [`mem`] | guest memory: pages resolved once, copy in, copy out, atomic words |
//! | [`ratelimit`] | log lines that a guest can trigger |
//! | [`vmbus`] | the bus |
//! | [`ic`] | integration services: shutdown, heartbeat, time synchronisation |
//! | [`loopback`] | a device for tests: sends a guest its own packets back |
//! | [`legacy`] | port and MMIO devices: serial console, CMOS clock, power management |
//! | `testing` | a guest in memory, for tests, benches and fuzz targets (feature `testing`) |

#![warn(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![cfg_attr(
    test,
    expect(
        clippy::cast_possible_truncation,
        clippy::panic,
        reason = "a panic is how a test fails, and a test's numbers are small"
    )
)]

pub mod guid;
pub mod hvdef;
pub mod ic;
pub mod legacy;
pub mod loopback;
pub mod mem;
pub mod ratelimit;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod vmbus;
