//! VSS with a guest in memory.

use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::*;
use crate::ic::protocol::IcHeader;
use crate::ic::tests::{answer, negotiate, next, open, soon, v};
use crate::testing::{TestChannel, TestGuest};

/// Nobody waits for its end.
const FREEZE: VssRequest = VssRequest::Freeze(Duration::from_secs(3600));

type Outcome = Receiver<Result<(), GuestError>>;

fn ask(handle: &VssHandle, request: VssRequest, patience: Duration) -> Outcome {
    let (told, outcome) = channel();
    // Nobody may wait for it any more.
    handle.send(request, patience, move |result| drop(told.send(result)));
    outcome
}

fn ask_long(handle: &VssHandle, request: VssRequest) -> Outcome {
    ask(handle, request, Duration::from_secs(3600))
}

/// A guest that has negotiated and answered a check.
fn ready() -> (TestGuest, TestChannel, VssHandle) {
    let (device, handle) = Vss::device().unwrap();
    let (guest, mut channel) = open::<Vss>(device);
    negotiate(&mut channel, v(3, 0), v(5, 0));
    soon(|| ask_long(&handle, VssRequest::Check).try_recv().is_err());
    say(&mut channel, operation::CHECK_HOT_BACKUP, 0);
    (guest, channel, handle)
}

/// The host's next message of an operation; Linux takes none that is shorter than 12 bytes.
fn expect(channel: &mut TestChannel, operation: u8) -> (IcHeader, Vec<u8>) {
    let (header, body) = next(channel);
    assert_eq!((header.message_type.get(), body[0]), (message_type::VSS, operation));
    assert!(body.len() >= 12);
    (header, body)
}

fn say(channel: &mut TestChannel, operation: u8, status: u32) {
    let (header, body) = expect(channel, operation);
    answer(channel, header, status, &body);
}

#[test]
fn a_guest_is_frozen_after_it_said_that_it_can_and_thawed() {
    let (_guest, mut channel, handle) = ready();
    let outcome = ask_long(&handle, FREEZE);
    say(&mut channel, operation::CHECK_HOT_BACKUP, 0);
    say(&mut channel, operation::FREEZE, 0);
    assert_eq!(outcome.recv().unwrap(), Ok(()));
    let again = ask_long(&handle, FREEZE).recv().unwrap().unwrap_err();
    assert_eq!(again.to_string(), "The guest's file systems are frozen already");
    let outcome = ask_long(&handle, VssRequest::Thaw);
    say(&mut channel, operation::THAW, 0);
    assert_eq!(outcome.recv().unwrap(), Ok(()));
}

#[test]
fn a_guest_that_cannot_is_not_frozen() {
    let (_guest, mut channel, handle) = ready();
    let outcome = ask_long(&handle, FREEZE);
    say(&mut channel, operation::CHECK_HOT_BACKUP, status::FAIL);
    assert_eq!(outcome.recv().unwrap(), Err(GuestError::Refused(status::FAIL)));
    let outcome = ask_long(&handle, VssRequest::Thaw);
    say(&mut channel, operation::THAW, 0);
    assert_eq!(outcome.recv().unwrap(), Ok(()));
}

#[test]
fn a_freeze_that_comes_too_late_is_undone() {
    let (_guest, mut channel, handle) = ready();
    let outcome = ask(&handle, FREEZE, Duration::from_millis(300));
    say(&mut channel, operation::CHECK_HOT_BACKUP, 0);
    let (header, body) = expect(&mut channel, operation::FREEZE);
    assert!(matches!(outcome.recv().unwrap(), Err(GuestError::NoAnswer(_))));
    answer(&mut channel, header, 0, &body);
    say(&mut channel, operation::THAW, 0);
    let outcome = ask_long(&handle, FREEZE);
    say(&mut channel, operation::CHECK_HOT_BACKUP, 0);
    say(&mut channel, operation::FREEZE, 0);
    assert_eq!(outcome.recv().unwrap(), Ok(()));
}

#[test]
fn nobody_is_frozen_for_nobody() {
    let (_guest, mut channel, handle) = ready();
    let outcome = ask(&handle, FREEZE, Duration::from_millis(100));
    let (header, body) = expect(&mut channel, operation::CHECK_HOT_BACKUP);
    assert!(matches!(outcome.recv().unwrap(), Err(GuestError::NoAnswer(_))));
    answer(&mut channel, header, 0, &body);
    assert!(channel.try_receive(Instant::now() + Duration::from_millis(50), |_| ()).is_none());
}

#[test]
fn a_frozen_guest_whose_driver_went_away_can_be_frozen_again() {
    let (mut guest, mut channel, handle) = ready();
    let outcome = ask_long(&handle, FREEZE);
    say(&mut channel, operation::CHECK_HOT_BACKUP, 0);
    say(&mut channel, operation::FREEZE, 0);
    assert_eq!(outcome.recv().unwrap(), Ok(()));
    guest.close(channel);
    let refused = ask_long(&handle, VssRequest::Thaw).recv().unwrap();
    assert_eq!(refused, Err(GuestError::NotListening("hv_vss_daemon")));
    let offer = *guest.offered();
    let mut channel = guest.open(&offer, 4, 4);
    negotiate(&mut channel, v(3, 0), v(5, 0));
    soon(|| ask_long(&handle, FREEZE).try_recv().is_err());
    say(&mut channel, operation::CHECK_HOT_BACKUP, 0);
    say(&mut channel, operation::FREEZE, 0);
}

#[test]
fn a_guest_that_nobody_thaws_does_not_stay_frozen() {
    let (_guest, mut channel, handle) = ready();
    let outcome = ask_long(&handle, VssRequest::Freeze(Duration::from_millis(1)));
    say(&mut channel, operation::CHECK_HOT_BACKUP, 0);
    say(&mut channel, operation::FREEZE, 0);
    assert_eq!(outcome.recv().unwrap(), Ok(()));
    // One that fails is tried again.
    say(&mut channel, operation::THAW, status::FAIL);
    say(&mut channel, operation::THAW, 0);
    // Who comes too late is told, once.
    let late = ask_long(&handle, VssRequest::Thaw).recv().unwrap();
    assert!(matches!(late, Err(GuestError::NotNow(_))), "{late:?}");
    let outcome = ask_long(&handle, VssRequest::Thaw);
    say(&mut channel, operation::THAW, 0);
    assert_eq!(outcome.recv().unwrap(), Ok(()));
    let outcome = ask_long(&handle, FREEZE);
    say(&mut channel, operation::CHECK_HOT_BACKUP, 0);
    say(&mut channel, operation::FREEZE, 0);
    assert_eq!(outcome.recv().unwrap(), Ok(()));
    // Thawed in time, it is thawed once.
    let outcome = ask_long(&handle, VssRequest::Thaw);
    say(&mut channel, operation::THAW, 0);
    assert_eq!(outcome.recv().unwrap(), Ok(()));
    assert!(channel.try_receive(Instant::now() + Duration::from_millis(50), |_| ()).is_none());
}
