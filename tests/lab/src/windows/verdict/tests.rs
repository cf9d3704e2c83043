//! Verdicts over evidence that was made up: what a good Windows could leave, and each thing that can be wrong with it.

use serde_json::{Value, json};

use super::{Line, Outcome, of, passed};
use crate::windows::Evidence;
use crate::windows::evidence::WINDOWS;
use crate::windows::results::Results;
use crate::windows::run::{End, Run};
use crate::windows::trace::{Contact, Opening};

const SCSI: &str = "c5f1d2a6-5e0b-4b7c-9d43-7a16e2f4b800";
const STORAGE: &str = "ba6163d9-04a1-4d29-b605-72e2ffb1dc7f";

fn channel(device: &str, instance: &str, protocol: &str) -> Value {
    json!({
        "device": device, "interface": STORAGE, "instance": instance, "id": 1, "state": "open",
        "protocol": protocol, "opens": 1, "gpadl_pages": 64, "outgoing_pages": 32, "incoming_pages": 32,
        "outgoing_bytes": 126_976, "incoming_bytes": 126_976, "packets_in": 9, "packets_out": 9
    })
}

fn contact(id: &str, guest: &str, version: &str, granted: bool) -> Value {
    json!({"resets": 0, "guest_os_id": id, "guest": guest, "version": version, "granted": granted})
}

fn host() -> Value {
    json!({
        "end": "power-off", "resets": 0,
        "vmbus": {"refusals": {"contact refused": 1}},
        "contacts": [
            contact("0x0001000000000001", "vendor 0x1, system 0, version 0.0, build 1", "6.0", true),
            contact("0x0001040a00004f7c", "Windows 10.0, build 20348, service pack 0", "9.0", false),
            contact("0x0001040a00004f7c", "Windows 10.0, build 20348, service pack 0", "5.3", true),
        ],
        "channels": [
            channel("scsi0", SCSI, "6.2"), channel("scsi0.1", SCSI, ""), channel("video", "11111111-0", "3.5"),
            channel("keyboard", "22222222-0", "1.0"), channel("mouse", "33333333-0", "2.0"),
            channel("shutdown", "44444444-0", "3.2"), channel("heartbeat", "55555555-0", "3.0"),
        ],
    })
}

fn file(name: &str) -> Value {
    json!({
        "name": name, "path": format!("C:\\Windows\\System32\\drivers\\{name}"), "version": "10.0.20348.1",
        "loaded": true, "signature": "Valid", "sha256": "00",
        "signer": "CN=Microsoft Windows, O=Microsoft Corporation, L=Redmond, S=Washington, C=US"
    })
}

fn device(instance: &str) -> Value {
    json!({
        "id": format!("VMBUS\\{{{}}}\\{{{}}}", STORAGE.to_uppercase(), instance.to_uppercase()),
        "name": "a device", "class": "System", "service": "x", "problem": 0
    })
}

fn guest() -> Value {
    let service = |name: &str| json!({"name": name, "state": "Running", "start": "Boot"});
    let services = ["vmbus", "storvsc", "vmicshutdown", "vmicheartbeat"].map(service);
    let files = ["vmbus.sys", "vmbkmcl.sys", "winhv.sys", "storvsc.sys", "netvsc.sys"].map(file);
    let vmbus =
        json!({"id": "ACPI\\VMBUS\\0", "name": "VM bus", "class": "", "service": "vmbus", "problem": 0});
    json!({
        "schema": 1, "finished": true, "errors": [], "disks": [],
        "system": {"name": "Microsoft Windows Server 2022", "version": "10.0.20348", "hypervisor": true},
        "files": files,
        "services": services,
        "devices": [vmbus, device(SCSI), device("11111111-0"), device("22222222-0"), device("33333333-0")],
    })
}

fn opening(instance: &str, pages: u32, offset: u32) -> Opening {
    Opening {
        channel: 7,
        interface: STORAGE.to_owned(),
        instance: instance.to_owned(),
        sub_channel: 0,
        pages,
        offset,
        opened: Some(true),
        closed: true,
    }
}

fn trace() -> Vec<Contact> {
    let contact = |version: &str, granted| Contact {
        version: version.to_owned(),
        granted: Some(granted),
        ..Contact::default()
    };
    let openings = vec![opening(SCSI, 22, 11)];
    let firmware = Contact { unloaded: true, openings, ..contact("6.0", true) };
    let instances = [SCSI, "11111111-0", "22222222-0", "33333333-0", "44444444-0", "55555555-0"];
    let openings = instances.map(|instance| opening(instance, 64, 32)).to_vec();
    vec![firmware, contact("9.0", false), Contact { openings, ..contact("5.3", true) }]
}

fn evidence(host: &Value, guest: &str) -> Evidence {
    Evidence {
        profile: &WINDOWS,
        run: Run { began: true, asked: Some(String::new()), ..Run::default() },
        host: serde_json::from_value(host.clone()).map_err(|error| error.to_string()),
        trace: Ok(trace()),
        guest: Results::parse(guest),
    }
}

/// The only required line that is no pass.
fn wrong(evidence: &Evidence) -> Line {
    let lines = of(evidence);
    assert!(!passed(&lines));
    let wrong: Vec<Line> =
        lines.into_iter().filter(|line| line.required && line.outcome != Outcome::Pass).collect();
    let [line] = &wrong[..] else { panic!("{wrong:#?}") };
    line.clone()
}

/// That line with a change to what the guest wrote, or to what the host saw.
fn wrong_in_guest(change: impl FnOnce(&mut Value)) -> Line {
    let mut guest = guest();
    change(&mut guest);
    wrong(&evidence(&host(), &guest.to_string()))
}

fn wrong_on_host(change: impl FnOnce(&mut Value)) -> Line {
    let mut host = host();
    change(&mut host);
    wrong(&evidence(&host, &guest().to_string()))
}

#[track_caller]
fn fails(line: &Line, check: &str, text: &str) {
    assert_eq!((line.check.as_str(), line.outcome), (check, Outcome::Fail), "{line:#?}");
    assert!(line.evidence.contains(text), "{}", line.evidence);
}

#[test]
fn good_evidence_passes_and_tells_what_was_seen() {
    let lines = of(&evidence(&host(), &guest().to_string()));
    assert!(passed(&lines), "{lines:#?}");
    let find = |check: &str| lines.iter().find(|line| line.check == check).unwrap().evidence.clone();
    assert!(find("contact of the firmware").starts_with("asked for 6.0, 6.0 granted"));
    assert!(find("contact of the operating system").starts_with("asked for 9.0, 5.3, 5.3 granted"));
    assert!(
        find("storage rings of the firmware").starts_with("22 pages, the ring to the guest from page 11")
    );
    assert_eq!(find("the bus was handed over"), "by UNLOAD");
    assert!(find("channel of scsi0").contains("GPADL of 64 pages, the ring to the guest from page 32 on"));
    assert!(find("vmbkmcl.sys loaded and signed").starts_with("version 10.0.20348.1, signature Valid"));
}

#[test]
fn a_driver_that_is_not_there_fails() {
    let line = wrong_in_guest(|guest| drop(guest["files"].as_array_mut().unwrap().remove(1)));
    fails(&line, "vmbkmcl.sys loaded and signed", "the guest has no vmbkmcl.sys");
    let line = wrong_in_guest(|guest| guest["files"][1]["loaded"] = json!(false));
    fails(&line, "vmbkmcl.sys loaded and signed", "vmbkmcl.sys is not loaded");
}

#[test]
fn a_file_without_a_good_signature_fails() {
    let line = wrong_in_guest(|guest| guest["files"][0]["signature"] = json!("NotSigned"));
    fails(&line, "vmbus.sys loaded and signed", "vmbus.sys is not signed validly");
    let line = wrong_in_guest(|guest| guest["files"][0]["signer"] = json!("CN=Somebody, O=Else"));
    fails(&line, "vmbus.sys loaded and signed", "is signed by somebody else than");
    let line = wrong_in_guest(|guest| guest["files"][4]["signature"] = json!("HashMismatch"));
    fails(&line, "netvsc.sys signed", "netvsc.sys is not signed validly");
}

#[test]
fn a_device_with_a_problem_fails() {
    let line = wrong_in_guest(|guest| guest["devices"][1]["problem"] = json!(10));
    fails(&line, "devices without problems", "has problem code 10");
    let line = wrong_in_guest(|guest| guest["services"][2]["state"] = json!("Stopped"));
    fails(&line, "service vmicshutdown runs", "it is Stopped");
    let line = wrong_in_guest(|guest| guest["system"]["hypervisor"] = json!(false));
    fails(&line, "the guest sees a hypervisor", "no");
    let line = wrong_in_guest(|guest| guest["errors"] = json!(["files: access denied"]));
    fails(&line, "results of the guest", "parts of its script failed: files: access denied");
}

#[test]
fn devices_that_the_host_did_not_serve_fail() {
    let line = wrong_in_guest(|guest| drop(guest["devices"].as_array_mut().unwrap().remove(1)));
    fails(&line, "the guest's devices are those of the host", "scsi0 (c5f1d2a6");
    let line = wrong_in_guest(|guest| guest["devices"].as_array_mut().unwrap().push(device("99999999-0")));
    fails(&line, "the guest's devices are those of the host", "the host offered nothing that VMBUS\\");
}

#[test]
fn results_that_are_cut_off_or_not_there_fail() {
    let whole = guest().to_string();
    for length in [0, 1, whole.len() / 2, whole.len() - 1] {
        let line = wrong(&evidence(&host(), &whole[..length]));
        fails(&line, "results of the guest", "are cut off or broken");
    }
    let line = wrong_in_guest(|guest| guest["finished"] = json!(false));
    fails(&line, "results of the guest", "its results are not finished");
    let line = wrong_in_guest(|guest| guest["schema"] = json!(2));
    fails(&line, "results of the guest", "of version 2 instead of 1");
    let mut evidence = evidence(&host(), "");
    evidence.guest = Err("there is no RESULTS.JSON on its disk".to_owned());
    evidence.run.said = Some("cannot write the results: no disk".to_owned());
    fails(
        &wrong(&evidence),
        "results of the guest",
        "RESULTS.JSON on its disk; its script said: cannot write",
    );
    (evidence.run.said, evidence.run.began) = (None, false);
    fails(&wrong(&evidence), "results of the guest", "its script never said that it began");
}

#[test]
fn a_guest_that_does_not_shut_down_as_asked_fails() {
    const CHECK: &str = "shut down by its service";
    let mut evidence = evidence(&host(), &guest().to_string());
    evidence.run.end = End::NoShutDown;
    fails(&wrong(&evidence), CHECK, "it was asked to and did not; it was stopped");
    evidence.run.end = End::ShutDown;
    evidence.run.asked = Some("the guest has no driver for it".to_owned());
    fails(&wrong(&evidence), CHECK, "could not be asked to: the guest has no driver for it");
    evidence.run.asked = None;
    fails(&wrong(&evidence), CHECK, "it powered off before it was asked to");
    evidence.run.end = End::NoResults;
    assert_eq!(wrong(&evidence).outcome, Outcome::NotSeen);
    (evidence.run.end, evidence.run.asked) = (End::ShutDown, Some(String::new()));
    evidence.run.warnings =
        vec!["WARN busman] Guest crash 0x7b (0x1, 0x2, 0x3, 0x4) INACCESSIBLE_BOOT_DEVICE".to_owned()];
    fails(&wrong(&evidence), "no crash", "Guest crash 0x7b (0x1, 0x2, 0x3, 0x4) INACCESSIBLE_BOOT_DEVICE");
}

#[test]
fn a_crash_that_only_the_report_tells_of_fails() {
    const CRASH: &str = "Guest crash 0x7b (0x1, 0x2, 0x3, 0x4)";
    let line = wrong_on_host(|host| host["crash"] = json!(CRASH));
    fails(&line, "no crash", CRASH);
}

#[test]
fn a_shutdown_by_the_script_is_none_by_the_service() {
    let mut evidence = evidence(&host(), &guest().to_string());
    evidence.run.by_script = true;
    fails(&wrong(&evidence), "shut down by its service", "nobody shut it down, so its script did");
}

#[test]
fn contacts_that_did_not_happen_are_no_pass() {
    let line = wrong_on_host(|host| host["contacts"][0]["guest_os_id"] = json!("0x0001040a00004f7c"));
    fails(&line, "GUEST_OS_ID tells them apart", "both times");
    let mut only_firmware = host();
    only_firmware["contacts"].as_array_mut().unwrap().truncate(1);
    let lines = of(&evidence(&only_firmware, &guest().to_string()));
    for check in ["contact of the operating system", "GUEST_OS_ID tells them apart"] {
        let line = lines.iter().find(|line| line.check == check).unwrap();
        assert_eq!(line.outcome, Outcome::NotSeen, "{check}");
    }
    assert!(!passed(&lines));
}

#[test]
fn a_channel_that_was_not_served_well_fails() {
    let line = wrong_on_host(|host| host["channels"][6]["opens"] = json!(0));
    assert_eq!((line.check.as_str(), line.outcome), ("channel of heartbeat", Outcome::NotSeen));
    let line = wrong_on_host(|host| host["channels"][0]["protocol"] = json!(""));
    fails(&line, "channel of scsi0", "its driver agreed on no version");
    let line = wrong_on_host(|host| host["channels"][0]["packets_out"] = json!(0));
    fails(&line, "channel of scsi0", "packets went not both ways");
    let line = wrong_on_host(|host| host["vmbus"]["refusals"]["too short"] = json!(2));
    fails(&line, "no protocol error", "2 control messages refused: too short");
}

#[test]
fn a_channel_that_only_the_firmware_opened_is_no_pass() {
    let not_seen = |evidence: &Evidence, text: &str| {
        let line = wrong(evidence);
        assert_eq!((line.check.as_str(), line.outcome), ("channel of scsi0", Outcome::NotSeen));
        assert!(line.evidence.contains(text), "{}", line.evidence);
    };
    let mut traced = trace();
    traced[2].openings.remove(0);
    let mut evidence = evidence(&host(), &guest().to_string());
    evidence.trace = Ok(traced.clone());
    not_seen(&evidence, "only what ran before the operating system opened it");
    // A sub-channel of the same device, and an opening that was refused.
    traced[2].openings.push(Opening { sub_channel: 1, ..opening(SCSI, 64, 32) });
    traced[2].openings.push(Opening { opened: Some(false), ..opening(SCSI, 64, 32) });
    evidence.trace = Ok(traced);
    not_seen(&evidence, "only what ran before the operating system opened it");
}

#[test]
fn a_machine_that_started_often_has_more_contacts_in_its_trace_than_in_its_report() {
    let mut evidence = evidence(&host(), &guest().to_string());
    evidence.trace = Ok([trace(), trace()].concat());
    assert!(passed(&of(&evidence)));
}

#[test]
fn without_a_trace_no_channel_that_the_firmware_may_have_opened_passes() {
    let mut evidence = evidence(&host(), &guest().to_string());
    for trace in [Err("busman left no trace".to_owned()), Ok(Vec::new())] {
        evidence.trace = trace;
        let lines = of(&evidence);
        let line = lines.iter().find(|line| line.check == "channel of scsi0").unwrap();
        assert_eq!((line.required, line.outcome), (true, Outcome::NotSeen));
        assert_eq!(line.evidence, "the trace does not tell who opened it");
    }
}

#[test]
fn without_busmans_report_nothing_of_the_host_passes() {
    let mut evidence = evidence(&host(), &guest().to_string());
    evidence.host = Err("busman left no report".to_owned());
    let lines = of(&evidence);
    assert!(!passed(&lines));
    for check in ["busman's report", "no crash"] {
        assert!(lines.iter().any(|line| line.check == check && line.outcome == Outcome::NotSeen), "{check}");
    }
}
