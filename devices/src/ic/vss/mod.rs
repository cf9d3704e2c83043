//! Volume shadow copy (VSS): the guest holds its writes while the host copies its disks.
//!
//! Whoever runs the machine holds a [`VssHandle`]. Freezing is two messages: the guest says that it can, then it does.
//! In Linux a program (`hv_vss_daemon`) freezes the file systems on disks. A frozen guest whose owner has given up
//! waiting would hang: a freeze that comes too late is undone at once, and one that nobody ends has an end of its own.

pub mod protocol;
#[cfg(test)]
mod tests;

use std::io;
use std::mem;
use std::os::fd::RawFd;
use std::time::Duration;

use zerocopy::{FromZeros, IntoBytes};

use self::protocol::{FreezeMessage, VssMessage, operation};
use super::device::{IcDevice, Service};
use super::protocol::{IcVersion, message_type, status};
use super::requests::{GuestError, RequestQueue, RequestSender};
use crate::guest_warn;
use crate::guid::Guid;

/// What a guest can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VssRequest {
    /// Whether it can freeze its file systems.
    Check,
    /// To freeze them, for so long at most.
    Freeze(Duration),
    /// To let writes go on.
    Thaw,
}

/// Asks the guest.
pub type VssHandle = RequestSender<VssRequest, ()>;

/// A message that is due or has no answer yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Then the answer is for whoever asked.
    Check,
    /// Then comes [`Step::Freeze`].
    CheckFirst,
    Freeze,
    Thaw,
    /// Thaws what was frozen for nobody, or for too long.
    Undo,
}

/// The service.
#[derive(Debug)]
pub struct Vss {
    queue: RequestQueue<VssRequest, ()>,
    step: Option<Step>,
    frozen: bool,
    /// How long they may be frozen.
    limit: Duration,
    /// They are frozen for longer than that.
    overdue: bool,
    /// They were, and whoever thaws them next is to know: what was copied meanwhile may be of several moments.
    expired: bool,
}

impl Vss {
    /// The device, and the handle for the machine's owner.
    ///
    /// # Errors
    /// When the host has no more descriptors.
    pub fn device() -> io::Result<(IcDevice<Vss>, VssHandle)> {
        let queue = RequestQueue::new("hv_vss_daemon")?;
        let handle = queue.sender();
        let (step, limit) = (None, Duration::ZERO);
        Ok((IcDevice::new(Vss { queue, step, frozen: false, limit, overdue: false, expired: false }), handle))
    }

    fn next_step(&mut self) -> Option<Step> {
        loop {
            match self.queue.next()? {
                VssRequest::Check => return Some(Step::Check),
                VssRequest::Thaw if !self.frozen && mem::take(&mut self.expired) => {
                    self.queue.reply(Err(GuestError::NotNow(
                        "The guest's file systems were thawed before, when their time was over",
                    )));
                }
                VssRequest::Thaw => return Some(Step::Thaw),
                VssRequest::Freeze(limit) if !self.frozen => {
                    (self.limit, self.expired) = (limit, false);
                    return Some(Step::CheckFirst);
                }
                VssRequest::Freeze(_) => {
                    self.queue.reply(Err(GuestError::NotNow("The guest's file systems are frozen already")));
                }
            }
        }
    }
}

fn body(step: Step) -> Vec<u8> {
    let operation = match step {
        Step::Freeze => {
            let mut message = FreezeMessage::new_zeroed();
            message.header.operation = operation::FREEZE;
            return message.as_bytes().to_vec();
        }
        Step::Check | Step::CheckFirst => operation::CHECK_HOT_BACKUP,
        Step::Thaw | Step::Undo => operation::THAW,
    };
    let mut message = VssMessage::new_zeroed();
    message.header.operation = operation;
    message.as_bytes().to_vec()
}

impl Service for Vss {
    const NAME: &'static str = "vss";
    const INTERFACE: Guid = Guid::parse("35fa2e29-ea23-4236-96ae-3a6ebacba440");
    const INSTANCE: Guid = Guid::parse("2450ee40-33bf-4fbd-892e-9fb06e9214cf");
    const MESSAGE_TYPE: u16 = message_type::VSS;
    const VERSIONS: &'static [IcVersion] = &[IcVersion::new(5, 0)];
    const BODY_MAX: usize = size_of::<FreezeMessage>();

    fn ready(&mut self, _: IcVersion) {
        self.queue.open();
    }

    fn closed(&mut self) {
        (self.step, self.frozen, self.overdue, self.expired) = (None, false, false, false);
        self.queue.close();
    }

    fn request(&mut self) -> Option<Vec<u8>> {
        self.step.take_if(|step| *step != Step::Undo && !self.queue.is_awaited());
        if self.step.is_none() {
            self.step = if mem::take(&mut self.overdue) { Some(Step::Undo) } else { self.next_step() };
        }
        self.step.map(body)
    }

    fn answer(&mut self, status: u32, _: &[u8]) {
        let Some(step) = self.step.take() else { return };
        if status != status::SUCCESS {
            guest_warn!("vss: the guest answers {step:?} with status {status:#x}");
            if step == Step::Undo {
                // Once more later.
                self.queue.set_alarm(Some(self.limit));
            }
            return self.queue.reply(Err(GuestError::Refused(status)));
        }
        match step {
            Step::CheckFirst => {
                self.step = Some(Step::Freeze);
                return;
            }
            Step::Freeze => {
                log::info!("The guest's file systems are frozen");
                self.frozen = true;
                self.queue.set_alarm(Some(self.limit));
                if !self.queue.is_awaited() {
                    guest_warn!("Nobody waits for the frozen file systems any more");
                    self.step = Some(Step::Undo);
                }
            }
            Step::Thaw | Step::Undo => {
                log::info!("The guest's file systems are thawed");
                (self.frozen, self.overdue) = (false, false);
                // Whoever asks for it themselves has had all the time that it took.
                self.expired &= step == Step::Undo;
                self.queue.set_alarm(None);
            }
            Step::Check => {}
        }
        self.queue.reply(Ok(()));
    }

    fn wake(&self) -> Option<RawFd> {
        Some(self.queue.wake())
    }

    fn woken(&mut self) {
        if self.queue.woken() && self.frozen {
            log::warn!(
                "The guest's file systems were frozen for {} s and nobody has thawed them: busman does",
                self.limit.as_secs()
            );
            (self.overdue, self.expired) = (true, true);
        }
    }
}
