//! Guest file copy: a file of the host becomes a file of the guest, piece by piece.
//!
//! Whoever runs the machine holds an [`FcopyHandle`], which starts a copy, tells how it goes and cancels it; one at a
//! time. The service's thread reads the file and sends the next piece when the guest has answered the last one. In
//! Linux a program (`hv_fcopy_daemon`) writes. A file that will not be complete is removed by the guest; one that the
//! guest did not start to write is left alone, since removing it would remove another file of that name.

pub mod protocol;
mod status;
#[cfg(test)]
mod tests;

use std::fmt::{self, Debug};
use std::io::{self, Read};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use zerocopy::{FromZeros, IntoBytes};

use self::protocol::{CREATE_PATH, FcopyHeader, OVERWRITE, PIECE, StartMessage, WriteMessage, operation};
pub use self::status::{CopyState, CopyStatus};
use self::status::{Latest, Progress};
use super::device::{IcDevice, Service};
use super::protocol::{IcVersion, message_type};
use super::requests::{GuestError, RequestQueue, RequestSender};
use super::text;
use crate::guest_warn;
use crate::guid::Guid;

/// How long the guest may take for each message. Linux itself gives up after 30 s, and says so.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// Bytes of a path in the guest: Linux cuts off what is longer, and adds a slash.
const PATH_BYTES: usize = 258;

/// A file that is to be copied.
pub struct CopyRequest {
    /// What is read from it becomes the guest's file.
    pub source: Box<dyn Read + Send>,
    /// Bytes that are copied; it must have them.
    pub size: u64,
    /// The file in the guest: its folder, a slash or backslash, its name.
    pub to: String,
    /// Replaces a file that is there.
    pub overwrite: bool,
    /// Makes folders that are missing.
    pub create_path: bool,
}

impl Debug for CopyRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CopyRequest").field("to", &self.to).field("size", &self.size).finish_non_exhaustive()
    }
}

impl CopyRequest {
    /// The first message.
    fn start(&self) -> Result<Vec<u8>, GuestError> {
        const NO_FILE: GuestError = GuestError::Invalid(
            "The guest's path is none of a file: write its folder, a slash and its name, for instance /tmp/file",
        );
        let cut = self.to.rfind(['/', '\\']).ok_or(NO_FILE)? + 1;
        let (folder, name) = self.to.split_at_checked(cut).ok_or(NO_FILE)?;
        if name.is_empty() {
            return Err(NO_FILE);
        }
        let what = "The guest's path";
        if self.to.len() > PATH_BYTES {
            return Err(GuestError::TooLong { what, max: PATH_BYTES, unit: "bytes" });
        }
        let mut message = StartMessage::new_zeroed();
        message.header.operation = operation::START.into();
        text::write(what, name, &mut message.name)?;
        text::write(what, folder, &mut message.folder)?;
        let flag = |wanted, flag| if wanted { flag } else { 0 };
        message.flags = (flag(self.overwrite, OVERWRITE) | flag(self.create_path, CREATE_PATH)).into();
        message.size = self.size.into();
        Ok(message.as_bytes().to_vec())
    }
}

/// Copies files into the guest.
#[derive(Clone, Debug)]
pub struct FcopyHandle {
    requests: RequestSender<Job, ()>,
    latest: Latest,
}

impl FcopyHandle {
    /// Starts a copy. The reply comes when the guest has made the file; the copy goes on then.
    pub fn start(
        &self,
        request: CopyRequest,
        reply: impl FnOnce(Result<CopyStatus, GuestError>) + Send + 'static,
    ) {
        let progress = Arc::new(Progress::new(&request.to, request.size));
        let begun = request.start().and_then(|message| {
            self.latest.begin(&progress)?;
            Ok(message)
        });
        let message = match begun {
            Ok(message) => message,
            Err(error) => return reply(Err(error)),
        };
        let job = Job { request, progress: Arc::clone(&progress), phase: Phase::Start, message };
        self.requests.send(job, PATIENCE, move |outcome| {
            if let Err(error) = &outcome {
                progress.fail(error);
            }
            reply(outcome.map(|()| progress.status()));
        });
    }

    /// How the latest copy goes or went.
    #[must_use]
    pub fn status(&self) -> Option<CopyStatus> {
        self.latest.get().map(|progress| progress.status())
    }

    /// Cancels the copy that is on its way: no more pieces are sent, and the guest is asked to remove the file.
    ///
    /// # Errors
    /// When there is none.
    pub fn cancel(&self) -> Result<(), GuestError> {
        let running = self.latest.get().filter(|progress| progress.is_running());
        running.ok_or(GuestError::NotNow("No file is being copied"))?.end(CopyState::Cancelled);
        Ok(())
    }
}

/// What the guest was asked last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Start,
    /// To write a piece that begins here and has so many bytes.
    Write(u64, u32),
    Complete,
    Cancel,
}

/// A copy on its way. Whoever waits for a copy that is dropped is told that the guest is gone.
#[derive(Debug)]
struct Job {
    request: CopyRequest,
    progress: Arc<Progress>,
    phase: Phase,
    /// The message of this phase.
    message: Vec<u8>,
}

impl Job {
    /// Goes on behind these bytes.
    fn go_on(&mut self, copied: u64) {
        self.progress.copied(copied);
        if !self.progress.is_running() {
            return self.enter(Phase::Cancel, &[]);
        }
        let left = self.request.size.saturating_sub(copied);
        let length = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        let mut piece = [0; PIECE];
        let piece = piece.get_mut(..length).unwrap_or_default();
        if piece.is_empty() {
            return self.enter(Phase::Complete, &[]);
        }
        match self.request.source.read_exact(piece) {
            Ok(()) => self.enter(Phase::Write(copied, u32::try_from(length).unwrap_or_default()), piece),
            Err(error) => {
                let what = match error.kind() {
                    io::ErrorKind::UnexpectedEof => "it became shorter meanwhile".to_owned(),
                    _ => error.to_string(),
                };
                self.progress.fail(&GuestError::Source(what));
                self.enter(Phase::Cancel, &[]);
            }
        }
    }

    fn enter(&mut self, phase: Phase, data: &[u8]) {
        let operation = match phase {
            Phase::Start => operation::START,
            Phase::Write(..) => operation::WRITE,
            Phase::Complete => operation::COMPLETE,
            Phase::Cancel => operation::CANCEL,
        };
        let header = FcopyHeader { operation: operation.into(), service_ids: [[0; 16]; 2] };
        self.message = if let Phase::Write(offset, size) = phase {
            let mut message = WriteMessage::new_zeroed();
            (message.header, message.offset, message.size) = (header, offset.into(), size.into());
            message.data.iter_mut().zip(data).for_each(|(to, from)| *to = *from);
            message.as_bytes().to_vec()
        } else {
            header.as_bytes().to_vec()
        };
        self.phase = phase;
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.progress.fail(&GuestError::NotListening(DAEMON));
    }
}

const DAEMON: &str = "hv_fcopy_daemon";

/// The service.
#[derive(Debug)]
pub struct Fcopy {
    queue: RequestQueue<Job, ()>,
    job: Option<Job>,
}

impl Fcopy {
    /// The device, and the handle for the machine's owner.
    ///
    /// # Errors
    /// When the host has no more descriptors.
    pub fn device() -> io::Result<(IcDevice<Fcopy>, FcopyHandle)> {
        let queue = RequestQueue::new(DAEMON)?;
        let handle = FcopyHandle { requests: queue.sender(), latest: Latest::default() };
        Ok((IcDevice::new(Fcopy { queue, job: None }), handle))
    }
}

impl Service for Fcopy {
    const NAME: &'static str = "fcopy";
    const INTERFACE: Guid = Guid::parse("34d14be3-dee4-41c8-9ae7-6b174977c192");
    const INSTANCE: Guid = Guid::parse("eb765408-105f-49b6-b4aa-c123b64d17d4");
    const MESSAGE_TYPE: u16 = message_type::FCOPY;
    const VERSIONS: &'static [IcVersion] = &[IcVersion::new(1, 1)];
    const BODY_MAX: usize = size_of::<WriteMessage>();

    fn ready(&mut self, _: IcVersion) {
        self.queue.open();
    }

    fn closed(&mut self) {
        self.job = None;
        self.queue.close();
    }

    fn request(&mut self) -> Option<Vec<u8>> {
        while self.job.is_none() {
            let job = self.queue.next()?;
            if job.progress.is_running() {
                self.job = Some(job);
            } else {
                // It has left nothing behind.
                self.queue.reply(Err(GuestError::NotNow("The copy was cancelled before it began")));
            }
        }
        self.queue.set_alarm(Some(PATIENCE));
        self.job.as_ref().map(|job| job.message.clone())
    }

    fn answer(&mut self, status: u32, _: &[u8]) {
        self.queue.set_alarm(None);
        let Some(mut job) = self.job.take() else { return };
        if status != 0 {
            guest_warn!("fcopy: the guest answers {:?} with status {status:#x}", job.phase);
            let error = GuestError::Refused(status);
            job.progress.fail(&error);
            match job.phase {
                Phase::Start => return self.queue.reply(Err(error)),
                Phase::Write(..) => job.enter(Phase::Cancel, &[]),
                Phase::Complete | Phase::Cancel => return,
            }
        } else {
            match job.phase {
                Phase::Start => {
                    self.queue.reply(Ok(()));
                    job.go_on(0);
                }
                Phase::Write(offset, size) => job.go_on(offset + u64::from(size)),
                Phase::Complete => return job.progress.end(CopyState::Done),
                Phase::Cancel => return,
            }
        }
        self.job = Some(job);
    }

    fn wake(&self) -> Option<RawFd> {
        Some(self.queue.wake())
    }

    fn woken(&mut self) {
        if self.queue.woken()
            && let Some(job) = &self.job
        {
            job.progress.fail(&GuestError::NoAnswer(PATIENCE));
        }
    }
}
