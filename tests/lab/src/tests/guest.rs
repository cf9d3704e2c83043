//! Family `guest`: `busman guest` and Debian's hyperv-daemons.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::api::Machine;
use super::{Test, check_warnings};
use crate::disk::Disk;
use crate::lab::Lab;
use crate::vmm::Guest;
use crate::wire::Said;
use crate::{daemons, storage};

pub const TESTS: &[Test] = &[
    Test { name: "a guest without daemons refuses and goes on", run: no_daemons },
    Test { name: "the guest says what it is and which addresses it has", run: info },
    Test { name: "an adapter's addresses are set", run: set_ip },
    Test { name: "values are kept, told and taken back", run: values },
    Test { name: "a daemon that says nothing costs a request and no more", run: silence },
    Test { name: "a frozen file system takes no writes until it is thawed", run: freeze },
    Test { name: "files of every size arrive whole", run: copy },
    Test { name: "a copy is cancelled, and ends with its device", run: cancel },
];

/// What is said of a guest whose driver has not agreed on versions yet.
const DEAF: &str = "The guest does not listen";
/// How often the guest is asked until it must have answered; 20 s at least.
const ATTEMPTS: u32 = 100;
/// Hardware address of the guest's adapter.
const ADAPTER: &str = "00:15:5d:00:00:07";
/// The adapter's instance on the bus.
const DEVICE: &str = "f8615163-df3e-46c5-913f-f2d2f965ed0e";

impl Machine<'_> {
    /// Runs `busman guest` to its end.
    fn try_guest(&mut self, words: &[&str]) -> Result<Said> {
        let socket = self.socket.display().to_string();
        let args: Vec<&str> = ["guest", "--socket", &socket].iter().chain(words).copied().collect();
        self.run(&self.busman.clone(), &args)
    }

    /// What `busman guest` prints.
    fn guest(&mut self, words: &[&str]) -> Result<String> {
        let said = self.try_guest(words)?;
        ensure!(said.code == 0, "busman guest {words:?}: {}", said.errors.trim_end());
        Ok(said.output)
    }

    /// What `busman guest --json` prints.
    fn guest_json(&mut self, words: &[&str]) -> Result<Value> {
        let answer = self.guest(&[&["--json"], words].concat())?;
        serde_json::from_str(&answer).with_context(|| format!("busman guest --json {words:?}: {answer:?}"))
    }

    /// The same, until the guest's driver has agreed on versions.
    fn try_guest_that_listens(&mut self, words: &[&str]) -> Result<Said> {
        for _ in 0..ATTEMPTS {
            let said = self.try_guest(words)?;
            if !said.errors.contains(DEAF) {
                return Ok(said);
            }
            self.vm.run_for(Duration::from_millis(200))?;
        }
        bail!("busman guest {words:?}: the guest never listens")
    }

    /// Why the guest does not do it.
    fn guest_refuses(&mut self, words: &[&str], why: &str) -> Result<()> {
        let said = self.try_guest_that_listens(words)?;
        ensure!(said.code != 0, "busman guest {words:?} is not refused: {:?}", said.output);
        ensure!(said.errors.contains(why), "busman guest {words:?}: {}", said.errors);
        Ok(())
    }

    /// Starts a daemon, and waits until the guest's kernel has it.
    fn start_daemon(&mut self, service: &str, question: &[&str]) -> Result<()> {
        self.tell(&format!("start {service}"))?;
        for _ in 0..ATTEMPTS {
            let said = self.try_guest_that_listens(question)?;
            if said.code == 0 {
                return Ok(());
            }
            ensure!(said.errors.contains("0x80004005"), "busman guest {question:?}: {}", said.errors);
            self.vm.run_for(Duration::from_millis(200))?;
        }
        bail!("hv_{service}_daemon does not register")
    }

    /// The guest turns itself off; its kernel must have been content.
    fn end(self) -> Result<()> {
        self.vm.tell("end")?;
        check_warnings(&self.vm.finish_well()?)
    }
}

fn start<'lab>(lab: &'lab mut Lab, disk: Option<&Disk>) -> Result<Machine<'lab>> {
    let guest = daemons::guest(lab)?;
    let guest = disk.into_iter().fold(guest, Guest::disk);
    let mut machine = Machine::start_guest(lab, guest)?;
    machine.vm.expect("lab: ready")?;
    Ok(machine)
}

/// Linux negotiates two of the services by itself, and the third when its daemon is there.
fn no_daemons(lab: &mut Lab) -> Result<()> {
    let mut machine = start(lab, None)?;
    let said = machine.try_guest(&["info"])?;
    ensure!(said.code != 0 && said.errors.contains(DEAF), "the guest answers without a daemon: {said:?}");
    machine.guest_refuses(&["freeze"], "the program that does it is not running (status 0x80004005)")?;
    let program = machine.busman.display().to_string();
    machine.guest_refuses(&["copy", &program, "/tmp/x"], "is not running (status 0x80004005)")?;
    machine.guest_refuses(&["copy", "/nowhere", "/tmp/x"], "Cannot copy /nowhere: No such file")?;
    machine.guest_refuses(&["copy", &program, "x"], "The guest's path is none of a file")?;
    machine.ctl("pause")?;
    machine.guest_refuses(&["info"], "it is paused; resume it first")?;
    machine.ctl("resume")?;
    machine.ctl("remove kvp")?;
    machine.guest_refuses(&["info"], "the device kvp is not on the bus")?;
    machine.ctl("add kvp")?;
    machine.start_daemon("kvp", &["info"])?;
    machine.end()
}

fn find(pairs: &Value, key: &str) -> Option<String> {
    let pairs = pairs.as_array()?;
    let pair = pairs.iter().find(|pair| pair.get("key").and_then(Value::as_str) == Some(key))?;
    Some(pair.get("value")?.as_str()?.to_owned())
}

fn info(lab: &mut Lab) -> Result<()> {
    let release = lab.images.kernel.release.clone();
    let mut machine = start(lab, None)?;
    machine.tell(&format!("adapter {ADAPTER} 10.1.2.3/24"))?;
    machine.start_daemon("kvp", &["info"])?;
    let pairs = machine.guest_json(&["info"])?;
    ensure!(find(&pairs, "OSName").as_deref() == Some("Linux"), "the guest says {pairs}");
    ensure!(find(&pairs, "ProcessorArchitecture").as_deref() == Some("x86_64"), "the guest says {pairs}");
    let build = find(&pairs, "OSBuildNumber");
    ensure!(build.as_deref() == Some(release.as_str()), "the guest says {pairs}, not {release}");
    let lines = machine.guest(&["info"])?;
    ensure!(lines.contains("OSName"), "the guest's pairs are {lines:?}");

    let addresses = machine.guest_json(&["ip"])?;
    let listed = |family: &str, wanted: &str| {
        let list = addresses.get(family).and_then(Value::as_array);
        list.is_some_and(|list| list.iter().any(|address| address == wanted))
    };
    ensure!(listed("ipv4", "10.1.2.3"), "the guest's addresses are {addresses}");
    let adapter = machine.guest_json(&["ip", ADAPTER])?;
    let first = adapter.pointer("/addresses/0").and_then(Value::as_str);
    ensure!(first == Some("10.1.2.3/24"), "the adapter is {adapter}");
    machine.guest_refuses(&["ip", "00:15:5d:00:00:99"], "status 0x80004005")?;
    // The console's own way.
    machine.vm.control("guest ip")?;
    machine.vm.expect_log("ipv4  10.1.2.3")?;
    machine.end()
}

/// The guest's daemon writes what it is told to a file for a script of the distribution, which does the rest.
fn set_ip(lab: &mut Lab) -> Result<()> {
    let mut machine = start(lab, None)?;
    machine.tell(&format!("adapter {ADAPTER} 10.1.2.3/24"))?;
    machine.tell(&format!("bus_adapter {DEVICE}"))?;
    machine.tell("set_ip_script")?;
    machine.start_daemon("kvp", &["info"])?;
    let by_hand = "10.7.7.2/24 10.7.8.2/16 fd00::2/64 --gateway 10.7.7.1 --dns 9.9.9.9";
    let lines = [
        "HWADDR=00:15:5D:00:00:07",
        "DEVICE=dummy0",
        "BOOTPROTO=none",
        "IPADDR0=10.7.7.2",
        "IPADDR1=10.7.8.2",
        "IPV6ADDR=fd00:0000:0000:0000:0000:0000:0000:0002",
        "NETMASK0=255.255.255.0",
        "NETMASK1=255.255.0.0",
        "IPV6NETMASK=/64",
        "GATEWAY=10.7.7.1",
        "DNS1=9.9.9.9",
    ];
    for (words, wanted) in [(by_hand, &lines[..]), ("--dhcp", &["DEVICE=dummy0", "BOOTPROTO=dhcp"])] {
        let words: Vec<&str> = ["set-ip", DEVICE].into_iter().chain(words.split(' ')).collect();
        machine.guest(&words)?;
        machine.vm.tell("set_ip")?;
        let given = machine.vm.expect("lab: value set_ip=")?;
        machine.vm.expect("lab: ready")?;
        for line in wanted {
            ensure!(given.split_whitespace().any(|word| word == *line), "{line} is missing: {given}");
        }
    }
    machine
        .guest_refuses(&["set-ip", "00112233-4455-6677-8899-aabbccddeeff", "--dhcp"], "status 0x80041002")?;
    machine.end()
}

fn values(lab: &mut Lab) -> Result<()> {
    let mut machine = start(lab, None)?;
    machine.start_daemon("kvp", &["info"])?;
    for (key, value) in [("role", "web"), ("größe", "5 m²"), ("role", "database")] {
        machine.guest(&["set", key, value])?;
        let told = machine.guest_json(&["get", key])?;
        ensure!(told.get("value").and_then(Value::as_str) == Some(value), "{key} is {told}");
    }
    let pairs = machine.guest_json(&["info", "--pool", "external"])?;
    ensure!(find(&pairs, "role").as_deref() == Some("database"), "the values are {pairs}");
    ensure!(find(&pairs, "größe").as_deref() == Some("5 m²"), "the values are {pairs}");
    machine.guest(&["unset", "role"])?;
    machine.guest_refuses(&["get", "role"], "The guest has no such value")?;
    machine.guest_refuses(&["unset", "role"], "there is no such item")?;
    machine.guest_refuses(&["set", "key", &"v".repeat(1024)], "The value is too long: it may have 1023")?;
    machine.end()
}

/// Linux would answer for it after 30 s; whoever asks waits for 10.
fn silence(lab: &mut Lab) -> Result<()> {
    let mut machine = start(lab, None)?;
    machine.start_daemon("kvp", &["info"])?;
    machine.tell("halt kvp")?;
    machine.guest_refuses(&["info"], "The guest has not answered within 10 s")?;
    ensure!(machine.state()? == "running", "the state is not running");
    machine.tell("go_on kvp")?;
    machine.guest(&["info"])?;
    machine.end()
}

fn freeze(lab: &mut Lab) -> Result<()> {
    let folder = storage::scratch(lab)?;
    let path = folder.join("disk.img");
    lab.sh("truncate -s 64M \"$1\"", &[&path.display().to_string()])?;
    let mut machine = start(lab, Some(&Disk::new(&path, "raw")))?;
    machine.tell("disk")?;
    machine.start_daemon("vss", &["check"])?;
    for name in ["first", "second"] {
        machine.guest(&["freeze"])?;
        machine.guest_refuses(&["freeze"], "frozen already")?;
        machine.tell(&format!("write {name}"))?;
        machine.tell(&format!("unwritten {name}"))?;
        machine.guest(&["thaw"])?;
        machine.tell(&format!("written {name}"))?;
    }
    // Nobody thaws this one.
    machine.guest(&["freeze", "--for", "3"])?;
    machine.tell("write third")?;
    machine.tell("written third")?;
    machine.guest_refuses(&["thaw"], "when their time was over")?;
    machine.guest(&["freeze"])?;
    machine.guest(&["thaw"])?;
    machine.end()
}

/// Makes a file of so many bytes; gives its checksum.
fn make(machine: &mut Machine<'_>, path: &Path, bytes: u64) -> Result<String> {
    const MAKE: &str = "head -c \"$2\" /dev/urandom >\"$1\"; sha256sum <\"$1\" | cut -d ' ' -f 1";
    let (path, bytes) = (path.display().to_string(), bytes.to_string());
    let said = machine.run(Path::new("/bin/sh"), &["-c", MAKE, "sh", &path, &bytes])?;
    Ok(said.output.trim().to_owned())
}

fn copy(lab: &mut Lab) -> Result<()> {
    let folder = storage::scratch(lab)?;
    let mut machine = start(lab, None)?;
    let from = folder.join("file");
    let path = from.display().to_string();
    make(&mut machine, &from, 1)?;
    machine.start_daemon("fcopy", &["copy", &path, "/tmp/first", "--overwrite"])?;
    for (number, bytes) in [0, 1, 6143, 6144, 6145, 1_000_000].into_iter().enumerate() {
        let sum = make(&mut machine, &from, bytes)?;
        let to = format!("/tmp/{number}");
        machine.guest(&["copy", &path, &to])?;
        machine.vm.tell(&format!("sum {to}"))?;
        let arrived = machine.vm.expect("lab: value sum=")?;
        ensure!(arrived == sum, "{bytes} bytes arrive as others");
        machine.vm.expect("lab: ready")?;
    }
    let sum = make(&mut machine, &from, 20_000)?;
    machine.guest_refuses(&["copy", &path, "/tmp/0"], "the file exists already (status 0x80070050)")?;
    machine.guest_refuses(&["copy", &path, "/tmp/a/b/c"], "(status 0x80004005)")?;
    for words in [["copy", &path, "/tmp/0", "--overwrite"], ["copy", &path, "/tmp/a/b/c", "--create-path"]] {
        machine.guest(&words)?;
        let to = words.get(2).context("no path")?;
        machine.vm.tell(&format!("sum {to}"))?;
        ensure!(machine.vm.expect("lab: value sum=")? == sum, "{to} is another file");
        machine.vm.expect("lab: ready")?;
    }
    machine.end()
}

fn cancel(lab: &mut Lab) -> Result<()> {
    let folder = storage::scratch(lab)?;
    let mut machine = start(lab, None)?;
    let (small, large) =
        (folder.join("small").display().to_string(), folder.join("large").display().to_string());
    let make = "echo text >\"$1\"; truncate -s 2G \"$2\"";
    machine.run(Path::new("/bin/sh"), &["-c", make, "sh", &small, &large])?;
    machine.start_daemon("fcopy", &["copy", &small, "/tmp/first", "--overwrite"])?;
    let words = ["guest", "--socket", &machine.socket.display().to_string(), "copy", &large, "/tmp/big"];
    let busman = machine.busman.clone();
    let copying = machine.vm.start_beside(&busman, &words)?;
    machine.tell("there /tmp/big")?;
    machine.guest_refuses(&["copy", &small, "/tmp/other"], "A file is being copied already")?;
    machine.guest(&["copy-cancel"])?;
    let said = machine.vm.end_beside(copying)?;
    ensure!(said.errors.contains("The copy was cancelled"), "the cancelled copy says {:?}", said.errors);
    machine.tell("gone /tmp/big")?;
    machine.guest_refuses(&["copy-cancel"], "No file is being copied")?;
    let status = machine.guest_json(&["copy-status"])?;
    ensure!(status.get("copied").and_then(Value::as_u64) > Some(0), "nothing was copied: {status}");

    let copying = machine.vm.start_beside(&busman, &words)?;
    machine.vm.run_for(Duration::from_secs(1))?;
    machine.ctl("remove fcopy")?;
    let said = machine.vm.end_beside(copying)?;
    ensure!(said.code != 0, "a copy without its device goes on");
    machine.end()
}
