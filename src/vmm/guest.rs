//! Carries out what users ask of the guest: hands it to the service that does it, which replies in the guest's time.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use devices::ic::fcopy::CopyRequest;
use devices::ic::kvp::{KvpAnswer, KvpRequest, Pair, Pool};
use devices::ic::requests::GuestError;
use devices::ic::vss::VssRequest;

use super::ControlLoop;
use crate::control::{Addresses, Answer, CopyOptions, FreezeOptions, GuestCommand, Outcome, Refusal, Reply};
use crate::hv::pause::RunState;
use crate::machine::GuestServices;

impl ControlLoop<'_> {
    /// Passes a command on; nothing here waits for the guest.
    pub(super) fn guest(&self, command: GuestCommand, reply: Reply) {
        let guest = &self.machine.guest;
        match command {
            GuestCommand::CopyStatus => return reply.send(copy_status(guest)),
            GuestCommand::CancelCopy => return reply.send(cancel_copy(guest)),
            _ if self.machine.gate.state() != RunState::Running => {
                return reply.send(Err(Refusal::GuestPaused));
            }
            _ => {}
        }
        let patience = command.patience();
        let wanted = match &command {
            GuestCommand::Addresses => Wanted::Addresses,
            GuestCommand::Get(_, key) => Wanted::Value(key.clone()),
            _ => Wanted::Pairs,
        };
        let request = match command {
            GuestCommand::Pairs(pool) => KvpRequest::Enumerate(pool),
            // Linux has a message for one value, but its answer lacks the first four bytes.
            GuestCommand::Get(pool, _) => KvpRequest::Enumerate(pool),
            GuestCommand::Set(pool, pair) => KvpRequest::Set(pool, pair),
            GuestCommand::Unset(pool, key) => KvpRequest::Delete(pool, key),
            GuestCommand::Addresses => KvpRequest::Enumerate(Pool::Auto),
            // Linux compares it with upper-case letters.
            GuestCommand::Adapter(name) => KvpRequest::GetIp(name.to_uppercase()),
            GuestCommand::SetAddresses(adapter, info) => KvpRequest::SetIp(format!("{{{adapter}}}"), info),
            GuestCommand::Copy(options) => return copy(guest, options, reply),
            command => {
                let Some(vss) = &guest.vss else { return reply.send(Err(Refusal::NoGuestService("vss"))) };
                let request = match command {
                    GuestCommand::Freeze(FreezeOptions { seconds }) => {
                        VssRequest::Freeze(Duration::from_secs(seconds.get().into()))
                    }
                    GuestCommand::Thaw => VssRequest::Thaw,
                    _ => VssRequest::Check,
                };
                return vss.send(request, patience, move |outcome| {
                    reply.send(outcome.map(|()| Answer::Done).map_err(Refusal::Guest));
                });
            }
        };
        let Some(kvp) = &guest.kvp else { return reply.send(Err(Refusal::NoGuestService("kvp"))) };
        kvp.send(request, patience, move |outcome| {
            reply.send(match outcome {
                Ok(KvpAnswer::Pairs(pairs)) => wanted.of(pairs),
                Ok(KvpAnswer::Value(pair)) => Ok(Answer::Pair(pair)),
                Ok(KvpAnswer::Ip(info)) => Ok(Answer::Ip(info)),
                Ok(KvpAnswer::Done) => Ok(Answer::Done),
                Err(error) => Err(Refusal::Guest(error)),
            });
        });
    }
}

/// What is wanted of a pool's pairs.
enum Wanted {
    Pairs,
    Value(String),
    Addresses,
}

impl Wanted {
    fn of(self, pairs: Vec<Pair>) -> Outcome {
        match self {
            Wanted::Pairs => Ok(Answer::Pairs(pairs)),
            Wanted::Addresses => Ok(Answer::Addresses(Addresses::of(&pairs))),
            Wanted::Value(key) => {
                let pair = pairs.into_iter().find(|pair| pair.key == key);
                pair.map(Answer::Pair)
                    .ok_or(Refusal::Guest(GuestError::NotNow("The guest has no such value")))
            }
        }
    }
}

fn copy(guest: &GuestServices, options: CopyOptions, reply: Reply) {
    let Some(fcopy) = &guest.fcopy else { return reply.send(Err(Refusal::NoGuestService("fcopy"))) };
    let CopyOptions { from, to, overwrite, create_path } = options;
    let (file, size) = match open(&from) {
        Ok(opened) => opened,
        Err(source) => return reply.send(Err(Refusal::Source { path: from.display().to_string(), source })),
    };
    let request = CopyRequest { source: Box::new(file), size, to, overwrite, create_path };
    fcopy.start(request, move |outcome| reply.send(outcome.map(Answer::Copy).map_err(Refusal::Guest)));
}

/// A file that can be read without waiting, and its bytes.
fn open(path: &Path) -> io::Result<(File, u64)> {
    // A pipe without a writer must not hold the control loop.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    Ok((file, metadata.len()))
}

fn copy_status(guest: &GuestServices) -> Outcome {
    let fcopy = guest.fcopy.as_ref().ok_or(Refusal::NoGuestService("fcopy"))?;
    let status = fcopy.status();
    let status = status.ok_or(GuestError::NotNow("No file was copied since the machine started"));
    status.map(Answer::Copy).map_err(Refusal::Guest)
}

fn cancel_copy(guest: &GuestServices) -> Outcome {
    let fcopy = guest.fcopy.as_ref().ok_or(Refusal::NoGuestService("fcopy"))?;
    fcopy.cancel().map(|()| Answer::Done).map_err(Refusal::Guest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use vmm_sys_util::tempdir::TempDir;

    #[test]
    fn only_files_are_copied() {
        let (file, size) = open(&std::env::current_exe().unwrap()).unwrap();
        assert_eq!(file.metadata().unwrap().len(), size);
        // Nobody will ever write to this one.
        let directory = TempDir::new_with_prefix("/tmp/busman-copy").unwrap();
        let fifo = directory.as_path().join("fifo");
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR, 0).unwrap();
        for path in [Path::new("/"), Path::new("/dev/null"), Path::new("/nowhere"), &fifo] {
            assert!(open(path).is_err(), "{}", path.display());
        }
    }
}
