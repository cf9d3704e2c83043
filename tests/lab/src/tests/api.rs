//! Family `api`: a guest in the hands of its control socket's clients: `busman ctl`, and others that speak HTTP.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Test, check_warnings};
use crate::lab::Lab;
use crate::vm::Vm;
use crate::vmm::Guest;
use crate::wire::Said;

pub const TESTS: &[Test] = &[
    Test { name: "the socket knows the machine, and is its owner's alone", run: knows },
    Test { name: "a client that speaks HTTP itself", run: http },
    Test { name: "a paused guest stands still until it is resumed", run: pause },
    Test { name: "a device is taken from the guest and given back", run: hot_plug },
    Test { name: "the guest is asked to reboot, reset, and asked to shut down", run: ends },
    Test { name: "a machine is ended at once", run: stop },
    Test { name: "a console that nobody reads keeps no second SIGTERM waiting", run: unread },
    Test { name: "a client that stalls within a request holds nobody up", run: stalled },
];

/// Heartbeat's class.
const HEARTBEAT: &str = "57164f39-9115-4e78-ab55-382f3bd5422d";

/// A path that is short, where the machine runs; the lab's own folders may be too far down for a socket.
fn socket() -> PathBuf {
    PathBuf::from(format!("/tmp/busman-lab-{}.sock", std::process::id()))
}

/// A guest whose console does what it is told, and the clients of its machine's socket.
pub(super) struct Machine<'lab> {
    pub vm: Vm<'lab>,
    pub busman: PathBuf,
    pub socket: PathBuf,
}

impl<'lab> Machine<'lab> {
    /// Starts it, and waits until the guest's services listen.
    fn start(lab: &'lab mut Lab) -> Result<Self> {
        let mut machine = Self::start_guest(lab, Guest::new("console"))?;
        machine.vm.expect("lab: ready")?;
        Ok(machine)
    }

    pub fn start_guest(lab: &'lab mut Lab, guest: Guest) -> Result<Self> {
        let socket = socket();
        let busman = lab.busman.clone();
        let mut vm = lab.start(&guest.socket(&socket))?;
        vm.expect_log("The guest's heart beats")?;
        Ok(Machine { vm, busman, socket })
    }

    /// Starts a guest with a display, and waits until its console does what it is told.
    pub fn start_display(lab: &'lab mut Lab, guest: Guest) -> Result<Self> {
        let socket = socket();
        let busman = lab.busman.clone();
        let mut vm = lab.start(&guest.socket(&socket))?;
        vm.expect("lab: ready")?;
        Ok(Machine { vm, busman, socket })
    }

    /// Runs `busman screenshot`.
    pub fn screenshot(&mut self, file: &Path) -> Result<()> {
        let words = [self.socket.display().to_string(), file.display().to_string()];
        let said = self.run(&self.busman.clone(), &["screenshot", "--socket", &words[0], &words[1]])?;
        ensure!(said.code == 0, "busman screenshot: {}", said.errors.trim_end());
        Ok(())
    }

    /// Types a word for the guest's console, and waits until it is done.
    pub fn tell(&mut self, words: &str) -> Result<()> {
        self.vm.tell(words)?;
        self.vm.expect("lab: ready")?;
        Ok(())
    }

    /// The guest reacts.
    fn lives(&mut self) -> Result<()> {
        self.vm.tell("now")?;
        self.vm.expect("lab: value now=")?;
        Ok(())
    }

    pub fn run(&mut self, program: &Path, args: &[&str]) -> Result<Said> {
        let number = self.vm.start_beside(program, args)?;
        self.vm.end_beside(number)
    }

    fn try_ctl(&mut self, words: &str) -> Result<Said> {
        let socket = self.socket.display().to_string();
        let args: Vec<&str> = ["ctl", "--socket", &socket].into_iter().chain(words.split(' ')).collect();
        self.run(&self.busman.clone(), &args)
    }

    /// What `busman ctl` prints.
    pub fn ctl(&mut self, words: &str) -> Result<String> {
        let said = self.try_ctl(words)?;
        ensure!(said.code == 0, "busman ctl {words}: {}", said.errors.trim_end());
        Ok(said.output)
    }

    /// What `busman ctl --json` prints.
    fn ask(&mut self, words: &str) -> Result<Value> {
        let answer = self.ctl(&format!("--json {words}"))?;
        serde_json::from_str(&answer).with_context(|| format!("busman ctl --json {words}: {answer:?}"))
    }

    /// Why the machine does not do what `busman ctl` asks for.
    pub fn refusal(&mut self, words: &str) -> Result<String> {
        let said = self.try_ctl(words)?;
        ensure!(said.code != 0, "busman ctl {words} is not refused: {:?}", said.output);
        Ok(said.errors)
    }

    /// A client that says something to the socket, and then listens until busman hangs up.
    fn say(&mut self, words: &str) -> Result<u32> {
        let socket = self.socket.display().to_string();
        self.vm.start_beside(&std::env::current_exe()?, &["say", &socket, words])
    }

    /// Status and body of a request's answer.
    fn http(&mut self, method: &str, path: &str, body: &str) -> Result<(u32, String)> {
        let length = body.len();
        let number = self.say(&format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        ))?;
        answer(&self.vm.end_beside(number)?)
    }

    pub fn state(&mut self) -> Result<String> {
        Ok(text(self.ask("state")?.pointer("/state")))
    }

    /// The guest turns itself off; its kernel must have been content.
    fn power_off(mut self) -> Result<()> {
        self.tell("warnings")?;
        self.vm.tell("poweroff")?;
        check_warnings(&self.vm.finish_well()?)
    }
}

/// Takes apart what a server said.
fn answer(said: &Said) -> Result<(u32, String)> {
    ensure!(said.code == 0, "the client fails: {}", said.errors.trim_end());
    let (head, body) = said.output.split_once("\r\n\r\n").context("no answer in HTTP")?;
    let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok());
    Ok((status.with_context(|| format!("no status: {head:?}"))?, body.to_owned()))
}

fn text(value: Option<&Value>) -> String {
    value.and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn knows(lab: &mut Lab) -> Result<()> {
    let mut machine = Machine::start(lab)?;
    let socket = machine.socket.display().to_string();
    let mode = machine.run(Path::new("/usr/bin/stat"), &["--format=%a", &socket])?.output;
    ensure!(mode.trim() == "600", "the socket's mode is {mode}");
    let state = machine.ask("state")?;
    ensure!(text(state.pointer("/state")) == "running", "the state is {state}");
    ensure!(text(state.pointer("/protocol")) == "5.3", "the guest's version of VMBus is not 5.3: {state}");
    let config = machine.ask("config")?;
    ensure!(config.pointer("/cpus") == Some(&2.into()), "the configuration is {config}");
    let channels = machine.ask("channels")?;
    for device in ["shutdown", "heartbeat", "timesync"] {
        let open = channels
            .as_array()
            .into_iter()
            .flatten()
            .any(|channel| text(channel.get("device")) == device && text(channel.get("state")) == "open");
        ensure!(open, "{device} is not open: {channels}");
    }
    let counters = machine.ask("counters")?;
    let vcpus = counters.pointer("/vcpus").and_then(Value::as_array).map_or(0, Vec::len);
    ensure!(vcpus == 2, "{vcpus} vCPUs count exits: {counters}");
    let messages = counters.pointer("/vmbus/messages_in").and_then(Value::as_u64);
    ensure!(messages > Some(0), "no message was counted: {counters}");
    let lines = machine.ctl("top --count 2")?;
    let beats = lines.lines().filter(|line| line.contains("heartbeat")).count();
    ensure!(beats == 2, "top has {beats} lines of heartbeat:\n{lines}");
    machine.power_off()
}

fn http(lab: &mut Lab) -> Result<()> {
    let mut machine = Machine::start(lab)?;
    let (status, body) = machine.http("GET", "/api/v1/vm", "")?;
    let state: Value = serde_json::from_str(&body)?;
    ensure!(status == 200 && text(state.pointer("/state")) == "running", "{status}: {body}");
    let (status, body) = machine.http("GET", "/api/v1/openapi.json", "")?;
    let description: Value = serde_json::from_str(&body)?;
    ensure!(status == 200 && description.get("paths").is_some(), "{status}: {body}");
    for (method, path, body, expected) in [
        ("GET", "/api/v1/vmx", "", 404),
        ("DELETE", "/api/v1/vm", "", 405),
        ("PUT", "/api/v1/vm/pause", r#"{"gently":true}"#, 400),
        ("PUT", "/api/v1/vm/devices/teapot", "", 404),
        ("PUT", "/api/v1/vm/devices/heartbeat", "", 409),
        ("PUT", "/api/v1/vm/pause", "", 204),
        ("PUT", "/api/v1/vm/shutdown", "", 409),
        ("PUT", "/api/v1/vm/resume", "", 204),
    ] {
        let (status, answer) = machine.http(method, path, body)?;
        ensure!(status == expected, "{method} {path} {body}: {status} {answer}");
    }
    machine.lives()?;
    machine.power_off()
}

/// Its processors do not exit, and what is typed at it waits.
fn pause(lab: &mut Lab) -> Result<()> {
    let mut machine = Machine::start(lab)?;
    for _ in 0..2 {
        machine.ctl("pause")?;
        ensure!(machine.state()? == "paused", "the state is not paused");
        let before = exits(&machine.ask("counters")?)?;
        machine.vm.tell("now")?;
        machine.ctl("top --count 2")?;
        let after = exits(&machine.ask("counters")?)?;
        ensure!(before == after, "exits while paused: {before}, then {after}");
        let why = machine.refusal("shutdown")?;
        ensure!(why.contains("it is paused; resume it first"), "shutdown while paused: {why}");
        machine.ctl("resume")?;
        machine.vm.expect("lab: value now=")?;
        ensure!(machine.state()? == "running", "the state is not running");
    }
    machine.power_off()
}

/// Exits of every vCPU, by reason.
fn exits(counters: &Value) -> Result<Value> {
    let vcpus = counters.pointer("/vcpus").and_then(Value::as_array).context("no vCPUs")?;
    Ok(vcpus.iter().filter_map(|vcpu| vcpu.get("exits").cloned()).collect())
}

fn port_exits(counters: &Value) -> u64 {
    let vcpus = counters.pointer("/vcpus").and_then(Value::as_array).into_iter().flatten();
    vcpus.filter_map(|vcpu| vcpu.pointer("/exits/io")?.as_u64()).sum()
}

fn hot_plug(lab: &mut Lab) -> Result<()> {
    let mut machine = Machine::start(lab)?;
    for _ in 0..2 {
        machine.ctl("remove heartbeat")?;
        machine.tell(&format!("without {HEARTBEAT}"))?;
        let why = machine.refusal("remove heartbeat")?;
        ensure!(why.contains("heartbeat"), "a device that is not there: {why}");
        machine.ctl("add heartbeat")?;
        machine.tell(&format!("with {HEARTBEAT}"))?;
        let why = machine.refusal("add heartbeat")?;
        ensure!(why.contains("heartbeat"), "a device that is there already: {why}");
    }
    let devices = machine.ctl("devices")?;
    ensure!(devices.contains("heartbeat"), "the devices are {devices}");
    machine.power_off()
}

fn ends(lab: &mut Lab) -> Result<()> {
    let mut machine = Machine::start(lab)?;
    let said = machine.ctl("reboot")?;
    ensure!(said.contains("The guest is asked"), "ctl reboot says {said:?}");
    machine.vm.expect("lab: the kernel asked for reboot")?;
    machine.vm.expect("lab: ready")?;
    machine.ctl("reboot --now")?;
    machine.vm.expect("lab: ready")?;
    let resets = machine.ask("state")?.pointer("/resets").and_then(Value::as_u64);
    ensure!(resets == Some(2), "the state tells of {resets:?} resets");
    machine.ctl("shutdown")?;
    machine.vm.expect("lab: the kernel asked for poweroff")?;
    let outcome = machine.vm.finish_well()?;
    let asked = outcome.console.matches("lab: the kernel asked for reboot").count();
    ensure!(asked == 1, "the guest was asked to reboot {asked} times");
    let report = outcome.report()?;
    ensure!(report.end == "power-off", "the report ends with {:?}", report.end);
    Ok(())
}

fn stop(lab: &mut Lab) -> Result<()> {
    let mut machine = Machine::start(lab)?;
    machine.ctl("shutdown --now")?;
    let outcome = machine.vm.finish()?;
    ensure!(outcome.code == 1, "the exit code is {}", outcome.code);
    ensure!(!outcome.console.contains("the kernel asked for"), "the guest was asked");
    let end = outcome.report()?.end;
    ensure!(end == "stopped", "the report ends with {end:?}");
    Ok(())
}

/// Some send half a request and some send nothing. Neither the guest nor another client waits for them, and in the
/// end they are told.
fn stalled(lab: &mut Lab) -> Result<()> {
    let mut machine = Machine::start(lab)?;
    let half = "PUT /api/v1/vm/pause HTTP/1.1\r\nContent-Length: 10\r\n\r\n{";
    let clients = [machine.say(half)?, machine.say("GET /api")?, machine.say("")?];
    machine.lives()?;
    ensure!(machine.state()? == "running", "the state is not running");
    for client in clients.iter().take(2) {
        let (status, body) = answer(&machine.vm.end_beside(*client)?)?;
        ensure!(status == 408, "half a request is answered with {status}: {body}");
    }
    machine.lives()?;
    machine.power_off()
}

/// A processor was held up within its write to standard output, and busman's end with it.
fn unread(lab: &mut Lab) -> Result<()> {
    let mut machine = Machine::start_guest(lab, Guest::new("console").unread())?;
    machine.vm.tell("noise 1000000")?;
    // The guest writes until busman's buffer is full, and then waits: each byte is an exit.
    let (mut before, mut exits) = (0, 0);
    while exits <= 64 << 10 || exits > before {
        before = exits;
        machine.vm.run_for(Duration::from_secs(1))?;
        exits = port_exits(&machine.ask("counters")?);
        ensure!(exits < 2_000_000, "the guest goes on writing for nobody");
    }
    machine.vm.terminate()?;
    machine.vm.expect_log("The guest is asked to power off")?;
    ensure!(machine.state()? == "running", "the state is not running");
    machine.vm.terminate()?;
    let end = machine.vm.finish()?.report()?.end;
    ensure!(end == "stopped", "the report ends with {end:?}");
    Ok(())
}
