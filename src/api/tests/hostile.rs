//! Clients that are slow, broken or many: each is dealt with, and nobody else notices.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use super::{Fixture, quick, split};
use crate::api::http::{BODY_MAX, HEAD_MAX};
use crate::api::{Limits, Server, Vm};
use crate::control::{Answer, Command, Outcome};

#[test]
fn a_request_that_never_ends_is_ended() {
    let api = Fixture::with(Limits { request: Duration::from_millis(100), ..Limits::default() });
    let mut slow = api.connect();
    let mut response = String::new();
    // Each byte comes before a timeout of its own would end it.
    for byte in b"GET /api/v1/vm HTTP/1.1\r\nX: ".iter().chain(&[b'y'; 200]) {
        if slow.write_all(&[*byte]).is_err() {
            break;
        }
        thread::sleep(Duration::from_millis(5));
    }
    let _ = slow.read_to_string(&mut response);
    assert_eq!(split(&response).0, 408);
    assert!(api.asked().is_empty());
    api.is_well();
}

#[test]
fn a_silent_client_is_disconnected() {
    let api = Fixture::with(quick());
    let mut silent = api.connect();
    assert_eq!(silent.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn oversized_requests_are_refused_before_they_are_complete() {
    let api = Fixture::new();
    let endless_head = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'x'; 4 * HEAD_MAX]].concat();
    assert_eq!(split(&api.raw(&endless_head)).0, 431);
    let length = BODY_MAX + 1;
    let head = format!("PUT /api/v1/vm/pause HTTP/1.1\r\nContent-Length: {length}\r\n\r\n");
    assert_eq!(split(&api.raw(head.as_bytes())).0, 413);
    // A client that sends all of it before it reads gets the answer nevertheless.
    let whole = [head.as_bytes(), &vec![b' '; 512 << 10]].concat();
    assert_eq!(split(&api.raw(&whole)).0, 413);
    api.is_well();
}

#[test]
fn garbage_is_refused() {
    let api = Fixture::new();
    let mut state = 1_u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_le_bytes()[3]
    };
    for len in 1..100 {
        let mut bytes: Vec<u8> = (0..len).map(|_| random()).collect();
        bytes.extend(b"\r\n\r\n");
        assert!(matches!(split(&api.raw(&bytes)).0, 400 | 404 | 405), "{bytes:?}");
    }
    assert!(api.asked().is_empty());
    api.is_well();
}

#[test]
fn clients_that_leave_in_the_middle_are_forgotten() {
    let api = Fixture::with(Limits { connections: 2, ..Limits::default() });
    for _ in 0..50 {
        let mut client = api.connect();
        // Some are turned away while others are not forgotten yet.
        let _ = client.write_all(b"PUT /api/v1/vm/pause HTTP/1.1\r\nContent-Length: 10\r\n\r\n{");
    }
    for _ in 0..50 {
        let mut client = api.connect();
        let _ = client.write_all(&b"GET /api/v1/openapi.json HTTP/1.1\r\n\r\n".repeat(20));
        let _ = client.read(&mut [0; 10]);
    }
    while api.call("GET", "/api/v1/vm", "").0 != 200 {
        thread::yield_now();
    }
    assert!(!api.asked().contains(&Command::Pause));
}

#[test]
fn a_client_that_reads_no_responses_is_ended() {
    let api = Fixture::with(Limits { response: Duration::from_millis(100), ..Limits::default() });
    let mut client = api.connect();
    let request = b"GET /api/v1/openapi.json HTTP/1.1\r\n\r\n";
    // Until the server reads no more and then ends: writing fails, it does not wait for ever.
    client.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    let ended = (0..1_000_000).find_map(|_| client.write_all(request).err()).unwrap();
    assert!(matches!(ended.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{ended}");
    api.is_well();
}

#[test]
fn more_clients_than_there_are_places_are_turned_away() {
    let api = Fixture::with(Limits { connections: 3, ..Limits::default() });
    let get = b"GET /api/v1/vm HTTP/1.1\r\n\r\n";
    let mut places = Vec::new();
    for _ in 0..3 {
        let mut client = api.connect();
        client.write_all(get).unwrap();
        assert!(client.read(&mut [0; 1024]).unwrap() > 0, "it is served");
        places.push(client);
    }
    for _ in 0..20 {
        let (status, body) = api.call("GET", "/api/v1/vm", "");
        assert_eq!(
            (status, body["error"].as_str().unwrap().starts_with("Too many connections")),
            (503, true)
        );
    }
    places.pop().unwrap().shutdown(Shutdown::Both).unwrap();
    while api.call("GET", "/api/v1/vm", "").0 != 200 {
        thread::yield_now();
    }
}

/// A machine that answers when the test says so.
struct Stuck(Mutex<(Sender<()>, Receiver<()>)>);

impl Vm for Stuck {
    fn execute(&self, command: Command) -> Outcome {
        if command == Command::Pause {
            let stuck = self.0.lock().unwrap();
            stuck.0.send(()).unwrap();
            stuck.1.recv().unwrap();
        }
        Ok(Answer::Done)
    }
}

#[test]
fn a_command_that_takes_long_keeps_nobody_else_waiting() {
    let api = Fixture::new();
    let path = api.path.with_extension("stuck");
    let ((begun, has_begun), (release, released)) = (channel(), channel());
    let _server = Server::start(&path, Arc::new(Stuck(Mutex::new((begun, released))))).unwrap();
    let mut first = std::os::unix::net::UnixStream::connect(&path).unwrap();
    first.write_all(b"PUT /api/v1/vm/pause HTTP/1.1\r\n\r\n").unwrap();
    has_begun.recv().unwrap();
    let mut second = std::os::unix::net::UnixStream::connect(&path).unwrap();
    second.write_all(b"PUT /api/v1/vm/resume HTTP/1.0\r\n\r\n").unwrap();
    let mut response = String::new();
    second.read_to_string(&mut response).unwrap();
    assert_eq!(split(&response).0, 204);
    release.send(()).unwrap();
    let mut bytes = [0; 100];
    let read = first.read(&mut bytes).unwrap();
    assert!(bytes[..read].starts_with(b"HTTP/1.1 204"));
}

#[test]
fn clients_that_wait_do_not_keep_busman_from_ending() {
    let mut api = Fixture::new();
    let served = || {
        let mut client = api.connect();
        client.write_all(b"GET /api/v1/vm HTTP/1.1\r\n\r\n").unwrap();
        assert!(client.read(&mut [0; 1024]).unwrap() > 0);
        client
    };
    let (mut silent, mut half) = (served(), served());
    half.write_all(b"GET /").unwrap();
    drop(api.server.take());
    assert!(!api.path.exists());
    assert_eq!(silent.read(&mut [0; 1]).unwrap(), 0);
    // What it sent may not have been read.
    let end = half.read(&mut [0; 1]);
    assert!(end.map_or_else(|error| error.kind() == ErrorKind::ConnectionReset, |read| read == 0));
}
