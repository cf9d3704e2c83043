//! What the guest says of itself: drivers, devices, services; and whether its devices are those that the host offered.

use super::{Evidence, Line};
use crate::busman::{Channel, Report};
use crate::windows::evidence::Profile;
use crate::windows::results::{Device, File, Results};

/// How ids of devices on the bus begin.
const BUS: &str = r"VMBUS\";

pub fn lines(evidence: &Evidence) -> Vec<Line> {
    const CHECK: &str = "results of the guest";
    let results = match &evidence.guest {
        Ok(results) => results,
        Err(why) => {
            let text = match &evidence.run.said {
                Some(said) => format!("{why}; its script said: {said}"),
                None if evidence.run.began => format!("{why}; its script began"),
                None => format!("{why}; its script never said that it began"),
            };
            return vec![Line::fail(CHECK, text)];
        }
    };
    let system = results.system.as_ref();
    let name =
        system.map_or_else(|| "no system".to_owned(), |system| format!("{} {}", system.name, system.version));
    let mut lines = vec![match &results.errors[..] {
        [] => Line::pass(CHECK, name),
        errors => Line::fail(CHECK, format!("{name}; parts of its script failed: {}", errors.join("; "))),
    }];
    lines.push(hypervisor(results));
    lines.extend(files(evidence.profile, results));
    lines.extend(services(evidence.profile, results));
    lines.push(problems(results));
    lines.push(match &evidence.host {
        Ok(report) => devices_are_ours(evidence.profile, report, results),
        Err(why) => Line::not_seen(DEVICES, why),
    });
    lines
}

fn hypervisor(results: &Results) -> Line {
    const CHECK: &str = "the guest sees a hypervisor";
    match results.system.as_ref().map(|system| system.hypervisor) {
        Some(true) => Line::pass(CHECK, "yes"),
        Some(false) => Line::fail(CHECK, "no"),
        None => Line::not_seen(CHECK, "the results do not tell"),
    }
}

/// The files that must be there, and whatever else was looked at.
fn files(profile: &Profile, results: &Results) -> Vec<Line> {
    let find = |name: &str| results.files.iter().find(|file| file.name.eq_ignore_ascii_case(name));
    let wanted = profile.files.iter().map(|name| {
        let check = format!("{name} loaded and signed");
        find(name).map_or_else(
            || Line::fail(&check, format!("the guest has no {name}")),
            |file| judge(&check, file, profile.signer),
        )
    });
    let is_wanted = |file: &File| profile.files.iter().any(|name| file.name.eq_ignore_ascii_case(name));
    // What is not loaded does no harm, however it is signed.
    let others = results.files.iter().filter(|file| !is_wanted(file) && file.loaded);
    let others = others.map(|file| judge(&format!("{} signed", file.name), file, profile.signer));
    wanted.chain(others).collect()
}

fn judge(check: &str, file: &File, signer: &str) -> Line {
    let text = format!("version {}, signature {}, signer {:?}", file.version, file.signature, file.signer);
    if !file.loaded {
        return Line::fail(check, format!("{} is not loaded; {text}", file.name));
    }
    if file.signature != "Valid" {
        return Line::fail(check, format!("{} is not signed validly; {text}", file.name));
    }
    if !file.signer.contains(signer) {
        return Line::fail(
            check,
            format!("{} is signed by somebody else than {signer:?}; {text}", file.name),
        );
    }
    Line::pass(check, text)
}

/// The services that must run; others are told.
fn services(profile: &Profile, results: &Results) -> Vec<Line> {
    let find = |name: &str| results.services.iter().find(|service| service.name.eq_ignore_ascii_case(name));
    let wanted = profile.services.iter().map(|name| {
        let check = format!("service {name} runs");
        match find(name) {
            Some(service) if service.state == "Running" => {
                Line::pass(check, format!("start {}", service.start))
            }
            Some(service) => Line::fail(check, format!("it is {}, start {}", service.state, service.start)),
            None => Line::fail(check, "the guest has no such service"),
        }
    });
    let is_wanted = |name: &str| profile.services.iter().any(|wanted| wanted.eq_ignore_ascii_case(name));
    let others = results.services.iter().filter(|service| !is_wanted(&service.name));
    let others: Vec<String> = others.map(|service| format!("{} {}", service.name, service.state)).collect();
    let told =
        (!others.is_empty()).then(|| Line::pass("other services", others.join(", ")).required_if(false));
    wanted.chain(told).collect()
}

fn problems(results: &Results) -> Line {
    const CHECK: &str = "devices without problems";
    if results.devices.is_empty() {
        return Line::fail(CHECK, "the guest shows no device of the bus");
    }
    let problems: Vec<String> = results
        .devices
        .iter()
        .filter(|device| device.problem != 0)
        .map(|device| format!("{} ({}) has problem code {}", device.name, device.id, device.problem))
        .collect();
    if problems.is_empty() {
        Line::pass(CHECK, format!("{} devices", results.devices.len()))
    } else {
        Line::fail(CHECK, problems.join("; "))
    }
}

const DEVICES: &str = "the guest's devices are those of the host";

/// The cross-check, by instance GUID: what the host served is a device in the guest, and each device on its bus is one
/// that the host offered.
fn devices_are_ours(profile: &Profile, report: &Report, results: &Results) -> Line {
    let on_bus: Vec<&Device> =
        results.devices.iter().filter(|device| device.id.to_uppercase().starts_with(BUS)).collect();
    let is = |device: &Device, channel: &Channel| {
        let id = device.id.to_lowercase();
        !channel.instance.is_empty() && id.contains(&channel.instance.to_lowercase())
    };
    let mut wrong = Vec::new();
    for name in profile.devices.iter().take(profile.shown) {
        let channels: Vec<&Channel> =
            report.channels.iter().filter(|c| c.device.starts_with(name) && c.opens > 0).collect();
        if channels.is_empty() {
            wrong.push(format!("the host served no {name}"));
        }
        let absent = channels.iter().filter(|channel| !on_bus.iter().any(|device| is(device, channel)));
        wrong.extend(absent.map(|c| format!("{} ({}) is no device in the guest", c.device, c.instance)));
    }
    let strange = on_bus.iter().filter(|device| !report.channels.iter().any(|channel| is(device, channel)));
    wrong.extend(strange.map(|device| format!("the host offered nothing that {} could be", device.id)));
    if wrong.is_empty() {
        let same = report.channels.iter().filter(|channel| on_bus.iter().any(|device| is(device, channel)));
        let names: Vec<&str> = same.map(|channel| channel.device.as_str()).collect();
        Line::pass(DEVICES, format!("the same instances: {}", names.join(", ")))
    } else {
        Line::fail(DEVICES, wrong.join("; "))
    }
}
