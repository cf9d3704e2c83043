//! The control socket without a machine: a [`FakeVm`] stands in its place, clients are plain sockets.

mod hostile;
mod openapi;
mod schema;

use std::io::{Read, Write};
use std::num::NonZeroU32;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use devices::ic::fcopy::{CopyState, CopyStatus};
use devices::ic::kvp::{IpInfo, Pair, Pool};
use devices::ic::requests::GuestError;
use devices::ic::shutdown::{ShutdownError, ShutdownKind};
use devices::vmbus::table::ChannelRow;
use serde_json::{Value, json};
use vmm_sys_util::tempdir::TempDir;

use super::{Limits, Server, Vm};
use crate::config::{Config, Options};
use crate::control::{
    Addresses, Answer, Command, DeviceRow, FreezeOptions, Generation, GuestCommand, Outcome, Refusal, Status,
    command_channel,
};
use crate::disks::{DiskRow, DvdOptions, Place, Unit};
use crate::display::Picture;
use crate::hv::pause::RunState;
use crate::machine::MachineError;
use crate::report::{Counters, HeartbeatReport, LoopbackReport, Vcpu, Vmbus};
use crate::vnc::tests::desk::TestScreen;

/// Answers like a machine; remembers what it was asked.
#[derive(Default)]
pub(crate) struct FakeVm {
    asked: Mutex<Vec<Command>>,
    /// What comes instead of the next answers.
    pub(crate) refuse: Mutex<Vec<Refusal>>,
}

impl Vm for FakeVm {
    fn execute(&self, command: Command) -> Outcome {
        self.asked.lock().unwrap().push(command.clone());
        if let Some(refusal) = self.refuse.lock().unwrap().pop() {
            return Err(refusal);
        }
        Ok(match command {
            Command::Shutdown => Answer::Asked(ShutdownKind::PowerOff),
            Command::Reboot => Answer::Asked(ShutdownKind::Reboot),
            Command::Hibernate => Answer::Asked(ShutdownKind::Hibernate),
            Command::NewGeneration => Answer::Generation(Generation {
                generation_id: "00112233-4455-6677-8899-aabbccddeeff".into(),
            }),
            Command::State => Answer::State(status()),
            Command::Config => Answer::Config(Box::new(config())),
            Command::Channels => Answer::Channels(vec![channel("heartbeat"), channel("disk")]),
            Command::Counters => Answer::Counters(counters()),
            Command::Devices => Answer::Devices(vec![DeviceRow {
                name: "heartbeat".into(),
                about: "the host sees whether the guest is alive".into(),
                on_bus: true,
            }]),
            Command::Add(name) | Command::Remove(name) if name == "disk" => {
                return Err(Refusal::Device(MachineError::UnknownDevice { name }));
            }
            Command::Disks => Answer::Disks(vec![disk_row()]),
            Command::AddDisk(_) => Answer::Disk(Box::new(disk_row())),
            Command::Guest(command) => guest(&command),
            Command::Display => Answer::Display(Picture(TestScreen::new(32, 20))),
            Command::Resolution(_) => Answer::AskedToResize,
            Command::Screen => Answer::Screen(Picture(TestScreen::new(32, 20))),
            Command::Help => Answer::Help,
            _ => Answer::Done,
        })
    }
}

fn guest(command: &GuestCommand) -> Answer {
    let pair = || Pair { key: "OSName".into(), value: "Debian".into() };
    match command {
        GuestCommand::Pairs(_) => Answer::Pairs(vec![pair()]),
        GuestCommand::Get(..) => Answer::Pair(pair()),
        GuestCommand::Addresses => {
            Answer::Addresses(Addresses { ipv4: vec!["10.0.0.2".into()], ipv6: Vec::new() })
        }
        GuestCommand::Adapter(_) => Answer::Ip(IpInfo {
            dhcp: true,
            addresses: vec!["10.0.0.2/24".parse().unwrap()],
            gateways: vec!["fe80::1".parse().unwrap()],
            dns: Vec::new(),
        }),
        GuestCommand::Copy(_) | GuestCommand::CopyStatus => Answer::Copy(CopyStatus {
            to: "/b".into(),
            state: CopyState::Done,
            copied: 7,
            size: 7,
            error: None,
        }),
        _ => Answer::Done,
    }
}

fn status() -> Status {
    Status {
        state: RunState::Paused,
        version: "0.1.0".into(),
        pid: 1,
        uptime_ms: 12,
        resets: 0,
        cpus: 2,
        memory: 1 << 30,
        protocol: "5.3".into(),
        heartbeat: None,
        crash: Some("Guest crash".into()),
    }
}

fn config() -> Config {
    let kernel = std::env::current_exe().unwrap();
    let disks = vec!["a.img,cache=none,bandwidth=3M".parse().unwrap()];
    let dvds = vec!["lun=1".parse().unwrap()];
    Options { kernel: Some(kernel), trace: Some("t".into()), disks, dvds, ..Options::default() }
        .check()
        .unwrap()
}

fn channel(device: &str) -> ChannelRow {
    ChannelRow { device: device.into(), id: 1, state: "open".into(), packets_in: 7, ..ChannelRow::default() }
}

fn disk_row() -> DiskRow {
    DiskRow { kind: "disk".into(), path: Some("a.img".into()), ..DiskRow::default() }
}

fn counters() -> Counters {
    let refusals = [("too short".to_owned(), 3)].into();
    Counters {
        vcpus: vec![Vcpu::default(); 2],
        vmbus: Vmbus { protocol: "5.3".into(), refusals, ..Vmbus::default() },
        heartbeat: Some(HeartbeatReport { pulse: "alive".into(), beats: 2 }),
        loopback: Some(LoopbackReport { dropped: 1, refused: 2 }),
    }
}

/// Limits that a test does not have to wait for.
fn quick() -> Limits {
    let short = Duration::from_millis(100);
    Limits { connections: 4, idle: short, request: short, response: short, end: short }
}

pub(crate) struct Fixture {
    pub(crate) vm: Arc<FakeVm>,
    pub(crate) path: PathBuf,
    server: Option<Server>,
    _directory: TempDir,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Fixture::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        let directory = TempDir::new_with_prefix("/tmp/busman-api").unwrap();
        let (vm, path) = (Arc::new(FakeVm::default()), directory.as_path().join("api"));
        let server = Server::with_limits(&path, Arc::clone(&vm) as Arc<dyn Vm>, limits).unwrap();
        Fixture { vm, path, server: Some(server), _directory: directory }
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.path).unwrap();
        // No test waits for ever.
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// Sends bytes and reads until the server ends the connection.
    fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        // A client that is turned away cannot write, but reads why.
        let _ = stream.write_all(bytes);
        let mut response = Vec::new();
        // An end with unread bytes is a reset; what came before it counts.
        let _ = stream.read_to_end(&mut response);
        // A picture is no text; nobody here looks at it but for its beginning.
        String::from_utf8_lossy(&response).into_owned()
    }

    /// One request; gives the status and the body, null if there is none.
    fn call(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let length = body.len();
        let head =
            format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
        split(&self.raw(format!("{head}{body}").as_bytes()))
    }

    pub(crate) fn asked(&self) -> Vec<Command> {
        std::mem::take(&mut *self.vm.asked.lock().unwrap())
    }

    /// The server still serves.
    fn is_well(&self) {
        assert_eq!(self.call("GET", "/api/v1/vm", "").0, 200);
    }
}

fn split(response: &str) -> (u16, Value) {
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{response:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let is_json = head.contains("Content-Type: application/json\r\n");
    let body = match body {
        "" => Value::Null,
        text if is_json => serde_json::from_str(text).unwrap(),
        other => other.into(),
    };
    (status, body)
}

#[test]
fn paths_are_commands() {
    let api = Fixture::new();
    let add = || Command::Add("heartbeat".into());
    let disk = |words: &str| Command::AddDisk(Unit::Disk(words.parse().unwrap()));
    let place = Place { controller: 0, lun: 1 };
    let freeze = |seconds| {
        Command::Guest(GuestCommand::Freeze(FreezeOptions { seconds: NonZeroU32::new(seconds).unwrap() }))
    };
    for (method, path, body, status, command) in [
        ("GET", "vm", "", 200, Command::State),
        ("GET", "vm/config", "", 200, Command::Config),
        ("PUT", "vm/pause", "", 204, Command::Pause),
        ("PUT", "vm/resume", "{}", 204, Command::Resume),
        ("PUT", "vm/shutdown", "", 202, Command::Shutdown),
        ("PUT", "vm/shutdown", r#"{"now": false}"#, 202, Command::Shutdown),
        ("PUT", "vm/shutdown", r#"{"now": true}"#, 204, Command::Stop),
        ("PUT", "vm/reboot", "", 202, Command::Reboot),
        ("PUT", "vm/reboot", r#" {"now": true} "#, 204, Command::Reset),
        ("PUT", "vm/hibernate", "", 202, Command::Hibernate),
        ("GET", "vm/channels", "", 200, Command::Channels),
        ("GET", "vm/counters", "", 200, Command::Counters),
        ("GET", "vm/devices", "", 200, Command::Devices),
        ("PUT", "vm/devices/heartbeat", "", 204, add()),
        ("DELETE", "vm/devices/heartbeat", "", 204, Command::Remove("heartbeat".into())),
        ("GET", "vm/disks", "", 200, Command::Disks),
        ("POST", "vm/disks", r#"{"path": "a,b", "iops": 9}"#, 200, disk("a,,b,iops=9")),
        ("POST", "vm/dvds", "", 200, Command::AddDisk(Unit::Dvd(DvdOptions::default()))),
        ("DELETE", "vm/disks/0:1", "", 204, Command::RemoveDisk(place)),
        ("PUT", "vm/discs/0:1", r#"{"path": "a.iso"}"#, 204, Command::Insert(place, "a.iso".into())),
        ("GET", "vm/guest/values/auto", "", 200, Command::Guest(GuestCommand::Pairs(Pool::Auto))),
        (
            "PUT",
            "vm/guest/addresses",
            r#"{"adapter": "f8615163-df3e-46c5-913f-f2d2f965ed0e", "dhcp": true}"#,
            204,
            Command::Guest(GuestCommand::SetAddresses(
                "f8615163-df3e-46c5-913f-f2d2f965ed0e".parse().unwrap(),
                IpInfo { dhcp: true, ..IpInfo::default() },
            )),
        ),
        ("GET", "vm/guest/freeze", "", 204, Command::Guest(GuestCommand::Check)),
        ("PUT", "vm/guest/freeze", "", 204, freeze(60)),
        ("PUT", "vm/guest/freeze", r#"{"seconds": 5}"#, 204, freeze(5)),
        ("DELETE", "vm/guest/freeze", "{}", 204, Command::Guest(GuestCommand::Thaw)),
        ("DELETE", "vm/discs/0:1", r#"{"force": true}"#, 204, Command::Eject { place, force: true }),
    ] {
        assert_eq!(api.call(method, &format!("/api/v1/{path}"), body).0, status, "{method} {path}");
        assert_eq!(api.asked(), [command], "{method} {path}");
    }
}

#[test]
fn mistakes_are_sentences_and_reach_no_machine() {
    let api = Fixture::new();
    for (method, path, body, status, sentence) in [
        ("GET", "/", "", 404, "There is nothing at \"/\"; GET /api/v1/openapi.json tells what there is"),
        ("GET", "/api/v1/vm/", "", 404, "There is nothing at"),
        ("GET", "/api/v1/vm?x", "", 404, "There is nothing at"),
        ("PUT", "/api/v1/vm/devices/", "", 404, "There is nothing at"),
        ("PUT", "/api/v1/vm/devices/a/b", "", 404, "There is nothing at"),
        ("POST", "/api/v1/vm/pause", "", 405, "POST is not for /api/v1/vm/pause, which has PUT"),
        (
            "GET",
            "/api/v1/vm/devices/x",
            "",
            405,
            "GET is not for /api/v1/vm/devices/x, which has PUT, DELETE",
        ),
        ("PUT", "/api/v1/vm/shutdown", "{", 400, "The request is not understood: EOF"),
        (
            "PUT",
            "/api/v1/vm/shutdown",
            r#"{"nwo": true}"#,
            400,
            "The request is not understood: unknown field `nwo`",
        ),
        ("PUT", "/api/v1/vm/shutdown", r#"{"now": 1}"#, 400, "The request is not understood: invalid type"),
        (
            "PUT",
            "/api/v1/vm/pause",
            r#"{"now": true}"#,
            400,
            "The request is not understood: unknown field `now`",
        ),
    ] {
        let (got, answer) = api.call(method, path, body);
        assert_eq!(got, status, "{method} {path} {body}");
        let error = answer["error"].as_str().unwrap();
        assert!(error.starts_with(sentence), "{error}");
    }
    assert!(api.asked().is_empty());
    let allow = api.raw(b"PATCH /api/v1/vm HTTP/1.0\r\n\r\n");
    assert!(allow.contains("\r\nAllow: GET\r\n"), "{allow}");
}

#[test]
fn refusals_have_their_status() {
    let api = Fixture::new();
    let shutdown = ShutdownKind::PowerOff;
    for (refusal, status) in [
        (Refusal::Device(MachineError::NotThere("x".into())), 404),
        (Refusal::Device(MachineError::AlreadyThere("x".into())), 409),
        (Refusal::Device(MachineError::Resources(std::io::ErrorKind::OutOfMemory.into())), 500),
        (Refusal::NoShutdownDevice(shutdown), 409),
        (Refusal::NotListening { kind: shutdown, source: ShutdownError::NotListening }, 409),
        (Refusal::Paused(shutdown), 409),
        (Refusal::Resumed, 409),
        (Refusal::NoGuestService("kvp"), 409),
        (Refusal::GuestPaused, 409),
        (Refusal::Source { path: "a".into(), source: std::io::ErrorKind::NotFound.into() }, 409),
        (Refusal::Guest(GuestError::NotListening("x")), 409),
        (Refusal::Guest(GuestError::Refused(0x8000_4005)), 409),
        (Refusal::Guest(GuestError::Invalid("x")), 400),
        (Refusal::Guest(GuestError::Busy), 503),
        (Refusal::Guest(GuestError::NoAnswer(Duration::from_secs(1))), 504),
        (Refusal::Ended, 503),
        (Refusal::Busy, 503),
        (Refusal::Late(5), 504),
    ] {
        let sentence = refusal.sentence();
        api.vm.refuse.lock().unwrap().push(refusal);
        assert_eq!(api.call("PUT", "/api/v1/vm/shutdown", ""), (status, json!({ "error": sentence })));
    }
}

#[test]
fn one_connection_carries_many_requests_even_at_once() {
    let api = Fixture::new();
    let requests = b"PUT /api/v1/vm/pause HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}\
                     GET /api/v1/vm HTTP/1.1\r\n\r\nPUT /api/v1/vm/resume HTTP/1.1\r\nConnection: close\r\n\r\n";
    let responses = api.raw(requests);
    assert_eq!(responses.matches("HTTP/1.1 20").count(), 3, "{responses}");
    assert_eq!(api.asked(), [Command::Pause, Command::State, Command::Resume]);
}

#[test]
fn the_answer_to_the_command_that_ends_busman_still_arrives() {
    let api = Fixture::new();
    let (sender, commands) = command_channel().unwrap();
    let path = api.path.with_extension("own");
    let server = Server::start(&path, Arc::new(sender)).unwrap();
    let (answered, ended) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut stream = UnixStream::connect(&path).unwrap();
            let stop = "PUT /api/v1/vm/shutdown HTTP/1.1\r\nContent-Length: 12\r\n\r\n{\"now\":true}";
            stream.write_all(stop.as_bytes()).unwrap();
            let mut response = String::new();
            stream.read_to_string(&mut response).unwrap();
            answered.send(response).unwrap();
        });
        let reply = loop {
            if let Some((Command::Stop, reply)) = commands.next() {
                break reply;
            }
            thread::yield_now();
        };
        reply.send(Ok(Answer::Done));
        drop(commands);
        drop(server);
    });
    assert_eq!(ended.recv().unwrap(), "HTTP/1.1 204 No Content\r\n\r\n");
    assert!(!path.exists());
}
