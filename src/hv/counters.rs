//! Counters of exits to user space, one set for each virtual processor.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

macro_rules! exit_counters {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// How often a virtual processor came out to user space, by reason.
        #[derive(Debug, Default)]
        pub struct ExitCounters { $($(#[$doc])* pub $name: Counter),+ }

        /// [`ExitCounters`] at one moment.
        #[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
        pub struct ExitCounts { $($(#[$doc])* pub $name: u64),+ }

        impl ExitCounts {
            /// All of them.
            #[must_use]
            pub fn sum(&self) -> u64 {
                [$(self.$name),+].iter().sum()
            }
        }

        impl ExitCounters {
            /// Reads all counters.
            #[must_use]
            pub fn snapshot(&self) -> ExitCounts {
                ExitCounts { $($name: self.$name.get()),+ }
            }
        }
    };
}

/// A counter that one thread writes and others read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts one more.
    pub fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The count so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

exit_counters! {
    /// Port reads and writes.
    io,
    /// Reads and writes of memory that is not RAM.
    mmio,
    /// Changes of SynIC pages.
    synic,
    /// HvPostMessage.
    post_message,
    /// HvSignalEvent that no eventfd took.
    signal_event,
    /// Crash registers.
    msr,
    /// Kicks from other threads of this program.
    kick,
    /// Resets that the guest asked the hypervisor for.
    system_event,
    /// Everything else.
    other,
}
