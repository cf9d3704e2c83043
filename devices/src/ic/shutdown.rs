//! Shutdown service: the host asks, the guest's own programs end, then it turns itself off through ACPI.
//!
//! Whoever runs the machine holds a [`ShutdownHandle`]; the service sends what is asked through it.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::{fmt, io};

use thiserror::Error;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};
use zerocopy::{FromZeros, IntoBytes};

use super::device::{IcDevice, Service};
use super::protocol::{
    IcVersion, SHUTDOWN_FORCE, SHUTDOWN_HIBERNATE, SHUTDOWN_REASON_PLANNED, SHUTDOWN_RESTART,
    ShutdownMessage, message_type,
};
use crate::guid::Guid;
use crate::{guest_info, guest_warn};

/// What the host asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownKind {
    /// End and power off.
    PowerOff,
    /// End and start again.
    Reboot,
    /// Save memory to disk and power off.
    Hibernate,
}

impl fmt::Display for ShutdownKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ShutdownKind::PowerOff => "power off",
            ShutdownKind::Reboot => "reboot",
            ShutdownKind::Hibernate => "hibernate",
        })
    }
}

/// Why the guest cannot be asked.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ShutdownError {
    /// No driver of the guest has the device open.
    #[error("The guest does not listen: its shutdown driver (Linux: hv_utils) is not running")]
    NotListening,
}

#[derive(Debug)]
struct Shared {
    /// The latest request that the service has not taken.
    wanted: Mutex<Option<ShutdownKind>>,
    listening: AtomicBool,
    wake: EventFd,
}

/// Asks the guest to shut down.
#[derive(Clone, Debug)]
pub struct ShutdownHandle(Arc<Shared>);

impl ShutdownHandle {
    /// Asks; the guest ends in its own time. A request that was not sent yet is replaced.
    ///
    /// # Errors
    /// When no driver listens.
    pub fn request(&self, kind: ShutdownKind) -> Result<(), ShutdownError> {
        if !self.0.listening.load(Ordering::Acquire) {
            return Err(ShutdownError::NotListening);
        }
        *self.0.wanted.lock().unwrap_or_else(PoisonError::into_inner) = Some(kind);
        // Fails only when the counter is at its end, and then the service is awake already.
        let _ = self.0.wake.write(1);
        Ok(())
    }
}

/// The service.
#[derive(Debug)]
pub struct Shutdown {
    shared: Arc<Shared>,
    /// What the guest was asked last, for the log.
    asked: Option<ShutdownKind>,
}

impl Shutdown {
    /// The device and the handle for the machine's owner.
    ///
    /// # Errors
    /// When the host has no more descriptors.
    pub fn device() -> io::Result<(IcDevice<Shutdown>, ShutdownHandle)> {
        let shared = Arc::new(Shared {
            wanted: Mutex::new(None),
            listening: AtomicBool::new(false),
            wake: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?,
        });
        let handle = ShutdownHandle(Arc::clone(&shared));
        Ok((IcDevice::new(Shutdown { shared, asked: None }), handle))
    }
}

impl Service for Shutdown {
    const NAME: &'static str = "shutdown";
    const INTERFACE: Guid = Guid::parse("0e0b6031-5213-4934-818b-38d90ced39db");
    const INSTANCE: Guid = Guid::parse("b6650ff7-33bc-4840-8048-e0676786f393");
    const MESSAGE_TYPE: u16 = message_type::SHUTDOWN;
    const VERSIONS: &'static [IcVersion] =
        &[IcVersion::new(1, 0), IcVersion::new(3, 0), IcVersion::new(3, 1), IcVersion::new(3, 2)];
    const BODY_MAX: usize = size_of::<ShutdownMessage>();

    fn ready(&mut self, _: IcVersion) {
        self.shared.listening.store(true, Ordering::Release);
    }

    fn closed(&mut self) {
        self.shared.listening.store(false, Ordering::Release);
        *self.shared.wanted.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn request(&mut self) -> Option<Vec<u8>> {
        let kind = self.shared.wanted.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        self.asked = Some(kind);
        let mut message = ShutdownMessage::new_zeroed();
        message.reason = SHUTDOWN_REASON_PLANNED.into();
        let what = match kind {
            ShutdownKind::PowerOff => 0,
            ShutdownKind::Reboot => SHUTDOWN_RESTART,
            ShutdownKind::Hibernate => SHUTDOWN_HIBERNATE,
        };
        message.flags = (SHUTDOWN_FORCE | what).into();
        Some(message.as_bytes().to_vec())
    }

    fn answer(&mut self, status: u32, _: &[u8]) {
        let Some(kind) = self.asked.take() else { return };
        if status == 0 {
            guest_info!("The guest agreed to {kind}");
        } else {
            guest_warn!("The guest refused to {kind} (status {status:#x})");
        }
    }

    fn wake(&self) -> Option<RawFd> {
        Some(self.shared.wake.as_raw_fd())
    }

    fn woken(&mut self) {
        let _ = self.shared.wake.read();
    }
}
