//! File copy with a guest in memory.

use std::io::Cursor;
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use zerocopy::FromBytes;

use super::*;
use crate::ic::protocol::{IcHeader, status};
use crate::ic::tests::{answer, negotiate, next, open, soon, v};
use crate::testing::{TestChannel, TestGuest};

type Outcome = Receiver<Result<CopyStatus, GuestError>>;

fn request(bytes: Vec<u8>) -> CopyRequest {
    CopyRequest {
        size: bytes.len() as u64,
        source: Box::new(Cursor::new(bytes)),
        to: "/var/tmp/file".into(),
        overwrite: false,
        create_path: false,
    }
}

fn start(handle: &FcopyHandle, request: CopyRequest) -> Outcome {
    let (told, outcome) = channel();
    handle.start(request, move |result| drop(told.send(result)));
    outcome
}

/// A guest that has negotiated, and the start of a first copy.
fn started(bytes: &[u8]) -> (TestGuest, TestChannel, FcopyHandle, Outcome) {
    let (device, handle) = Fcopy::device().unwrap();
    let (guest, mut channel) = open::<Fcopy>(device);
    let refused = start(&handle, request(Vec::new())).recv().unwrap().unwrap_err();
    assert_eq!(refused, GuestError::NotListening("hv_fcopy_daemon"));
    assert_eq!(handle.status().unwrap().error, Some(refused.to_string()));
    negotiate(&mut channel, v(3, 0), v(1, 1));
    let mut outcome = None;
    let copy = std::cell::RefCell::new(&mut outcome);
    soon(|| {
        let outcome = start(&handle, request(bytes.to_vec()));
        let refused = outcome.try_recv().is_ok();
        **copy.borrow_mut() = Some(outcome);
        !refused
    });
    (guest, channel, handle, outcome.unwrap())
}

/// The host's next message of an operation.
fn expect(channel: &mut TestChannel, operation: u32) -> (IcHeader, Vec<u8>) {
    let (header, body) = next(channel);
    assert_eq!(header.message_type.get(), message_type::FCOPY);
    assert_eq!(FcopyHeader::read_from_prefix(&body).unwrap().0.operation.get(), operation);
    (header, body)
}

fn say(channel: &mut TestChannel, operation: u32, status: u32) {
    let (header, body) = expect(channel, operation);
    answer(channel, header, status, &body);
}

/// Nothing more comes.
fn silent(channel: &mut TestChannel) {
    assert!(channel.try_receive(Instant::now() + Duration::from_millis(50), |_| ()).is_none());
}

fn ends(handle: &FcopyHandle, state: CopyState) -> CopyStatus {
    soon(|| handle.status().unwrap().state != CopyState::Copying);
    let status = handle.status().unwrap();
    assert_eq!(status.state, state, "{status:?}");
    status
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

#[test]
fn every_size_of_file_arrives_whole() {
    for len in [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE] {
        let (_guest, mut channel, handle, outcome) = started(&bytes(len));
        let (header, body) = expect(&mut channel, operation::START);
        let message = StartMessage::read_from_bytes(&body).unwrap();
        assert_eq!((message.size.get(), message.flags.get()), (len as u64, 0));
        assert_eq!(text::until_zero(&message.folder), "/var/tmp/");
        assert_eq!(text::until_zero(&message.name), "file");
        answer(&mut channel, header, 0, &body);
        assert_eq!(outcome.recv().unwrap().unwrap().state, CopyState::Copying);
        let mut file: Vec<u8> = Vec::new();
        while file.len() < len {
            let (header, body) = expect(&mut channel, operation::WRITE);
            let message = WriteMessage::read_from_bytes(&body).unwrap();
            assert_eq!(message.offset.get(), file.len() as u64);
            file.extend(&message.data[..message.size.get() as usize]);
            answer(&mut channel, header, 0, &body);
        }
        assert_eq!(file, bytes(len));
        assert_eq!(handle.status().unwrap().state, CopyState::Copying);
        say(&mut channel, operation::COMPLETE, 0);
        assert_eq!(ends(&handle, CopyState::Done).copied, len as u64);
    }
}

#[test]
fn a_file_that_is_there_already_is_not_removed() {
    let (_guest, mut channel, handle, outcome) = started(&bytes(9));
    say(&mut channel, operation::START, status::ALREADY_EXISTS);
    let error = outcome.recv().unwrap().unwrap_err();
    assert_eq!(error.to_string(), "The guest refuses: the file exists already (status 0x80070050)");
    silent(&mut channel);
    assert_eq!(ends(&handle, CopyState::Failed).error, Some(error.to_string()));
    let wishes = CopyRequest { overwrite: true, create_path: true, ..request(bytes(9)) };
    let outcome = start(&handle, wishes);
    let (header, body) = expect(&mut channel, operation::START);
    assert_eq!(StartMessage::ref_from_bytes(&body).unwrap().flags.get(), 3);
    answer(&mut channel, header, 0, &body);
    assert!(outcome.recv().unwrap().is_ok());
}

#[test]
fn a_guest_whose_disk_is_full_removes_the_piece_that_it_has() {
    let (_guest, mut channel, handle, outcome) = started(&bytes(2 * PIECE));
    say(&mut channel, operation::START, 0);
    assert!(outcome.recv().unwrap().is_ok());
    say(&mut channel, operation::WRITE, 0);
    say(&mut channel, operation::WRITE, status::DISK_FULL);
    say(&mut channel, operation::CANCEL, 0);
    let status = ends(&handle, CopyState::Failed);
    assert_eq!(status.error.unwrap(), "The guest refuses: its disk is full (status 0x80070070)");
    assert_eq!(status.copied, PIECE as u64);
    silent(&mut channel);
}

#[test]
fn a_file_that_becomes_shorter_is_not_copied() {
    let (_guest, mut channel, handle, outcome) = started(&[]);
    say(&mut channel, operation::START, 0);
    say(&mut channel, operation::COMPLETE, 0);
    assert!(outcome.recv().unwrap().is_ok());
    ends(&handle, CopyState::Done);
    let outcome = start(&handle, CopyRequest { size: 7000, ..request(bytes(6999)) });
    say(&mut channel, operation::START, 0);
    assert!(outcome.recv().unwrap().is_ok());
    say(&mut channel, operation::WRITE, 0);
    say(&mut channel, operation::CANCEL, 0);
    let error = ends(&handle, CopyState::Failed).error.unwrap();
    assert_eq!(error, "The file cannot be read: it became shorter meanwhile");
}

#[test]
fn a_copy_is_cancelled_even_if_the_guest_is_silent() {
    let (_guest, mut channel, handle, outcome) = started(&bytes(3 * PIECE));
    say(&mut channel, operation::START, 0);
    assert!(outcome.recv().unwrap().is_ok());
    let other = start(&handle, request(bytes(1))).recv().unwrap().unwrap_err();
    assert_eq!(other.to_string(), "A file is being copied already; wait for its end, or cancel it");
    let (header, body) = expect(&mut channel, operation::WRITE);
    handle.cancel().unwrap();
    assert_eq!(handle.status().unwrap().state, CopyState::Cancelled);
    assert_eq!(handle.cancel().unwrap_err().to_string(), "No file is being copied");
    // The next copy waits for the end of the last one.
    let given_up = start(&handle, request(bytes(1)));
    handle.cancel().unwrap();
    let next_one = start(&handle, request(bytes(1)));
    answer(&mut channel, header, 0, &body);
    say(&mut channel, operation::CANCEL, 0);
    say(&mut channel, operation::START, 0);
    assert_eq!(given_up.recv().unwrap().unwrap_err().to_string(), "The copy was cancelled before it began");
    assert!(next_one.recv().unwrap().is_ok());
    say(&mut channel, operation::WRITE, 0);
    say(&mut channel, operation::COMPLETE, 0);
    ends(&handle, CopyState::Done);
}

#[test]
fn a_copy_that_is_cancelled_before_the_guest_has_started_is_undone_only_if_it_does() {
    for (status, undone) in [(0, true), (status::ALREADY_EXISTS, false)] {
        let (_guest, mut channel, handle, _outcome) = started(&bytes(1));
        let (header, body) = expect(&mut channel, operation::START);
        handle.cancel().unwrap();
        answer(&mut channel, header, status, &body);
        if undone {
            say(&mut channel, operation::CANCEL, 0);
        }
        silent(&mut channel);
        ends(&handle, CopyState::Cancelled);
    }
}

#[test]
fn a_copy_fails_when_the_driver_goes_away() {
    let (mut guest, mut channel, handle, outcome) = started(&bytes(3 * PIECE));
    say(&mut channel, operation::START, 0);
    assert!(outcome.recv().unwrap().is_ok());
    say(&mut channel, operation::WRITE, 0);
    guest.close(channel);
    let error = ends(&handle, CopyState::Failed).error.unwrap();
    assert!(error.starts_with("The guest does not listen"), "{error}");
}

#[test]
fn linux_daemon_lives_on_after_a_file_was_complete_or_cancelled() {
    let (_guest, mut channel, handle, outcome) = started(&[]);
    say(&mut channel, operation::START, 0);
    assert!(outcome.recv().unwrap().is_ok());
    // It is given these messages with their headers, and ends when there is more than a piece of a file.
    let (header, body) = expect(&mut channel, operation::COMPLETE);
    assert_eq!(body.len(), size_of::<FcopyHeader>());
    answer(&mut channel, header, 0, &body);
    ends(&handle, CopyState::Done);
    let outcome = start(&handle, request(bytes(2)));
    say(&mut channel, operation::START, 0);
    assert!(outcome.recv().unwrap().is_ok());
    say(&mut channel, operation::WRITE, status::FAIL);
    let (header, body) = expect(&mut channel, operation::CANCEL);
    assert_eq!(body.len(), size_of::<FcopyHeader>());
    answer(&mut channel, header, 0, &body);
}

#[test]
fn paths_name_a_file_in_a_folder() {
    let start = |to: &str| CopyRequest { to: to.into(), ..request(Vec::new()) }.start();
    for (to, folder, name) in [("/x", "/", "x"), ("C:\\dir\\x y", "C:\\dir\\", "x y"), ("/ä/ö", "/ä/", "ö")]
    {
        let message = StartMessage::read_from_bytes(&start(to).unwrap()).unwrap();
        assert_eq!(text::until_zero(&message.folder), folder);
        assert_eq!(text::until_zero(&message.name), name);
    }
    for to in ["", "x", "/", "/tmp/", "C:\\"] {
        assert!(matches!(start(to), Err(GuestError::Invalid(_))), "{to}");
    }
    assert!(start(&format!("/{}", "x".repeat(257))).is_ok());
    let error = start(&format!("/{}", "x".repeat(258))).unwrap_err();
    assert_eq!(error.to_string(), "The guest's path is too long: it may have 258 bytes");
}
