//! What the host saw: contacts, channels, errors, crashes, the end.

use std::fmt::Write;

use super::{Evidence, Line, Outcome};
use crate::busman::{Channel, Contact, Report};
use crate::windows::run::End;
use crate::windows::trace::{self, Opening};

/// Interface of storage channels, by its start.
const STORAGE: &str = "ba6163d9";
/// A refusal that is no error: a client asks for one version after the other.
const VERSION_REFUSED: &str = "contact refused";

pub fn lines(evidence: &Evidence) -> Vec<Line> {
    let mut lines = match &evidence.host {
        Ok(report) => seen(evidence, report),
        Err(why) => vec![Line::not_seen("busman's report", why)],
    };
    lines.push(crashes(evidence));
    lines.push(end(evidence));
    lines
}

fn seen(evidence: &Evidence, report: &Report) -> Vec<Line> {
    let profile = evidence.profile;
    let clients = clients(&report.contacts);
    let os = clients.iter().rposition(|c| c.granted().is_some() && c.guest().starts_with(profile.guest));
    let life = os.and_then(|os| clients.get(os)).or_else(|| clients.last()).map(Client::life);
    let of_life = |client: &&Client<'_>| Some(client.life()) == life;
    let first = clients.iter().take(os.unwrap_or(clients.len())).find(of_life);
    let os = os.and_then(|os| clients.get(os));
    let traced = Traced::of(evidence, &report.contacts);

    let mut lines = vec![
        contact(&format!("contact of the {}", profile.first), first),
        contact("contact of the operating system", os),
        told_apart(first, os).required_if(profile.is_told_apart),
        let_go(first, os, &traced).required_if(false),
    ];
    lines.extend(first.map(|first| first_rings(evidence, first, &traced).required_if(false)));
    let openings = os.and_then(|os| traced.find(os)).map(|contact| &contact.openings[..]);
    lines.extend(channels(evidence, report, openings));
    lines.push(protocol_errors(evidence, report));
    let starts = report.resets + 1;
    lines.push(Line::pass("starts of the machine", starts.to_string()).required_if(false));
    lines
}

/// Contacts of one client: all but the last were refused.
struct Client<'a> {
    contacts: &'a [Contact],
    /// Index of the first of them.
    index: usize,
}

impl<'a> Client<'a> {
    fn last(&self) -> Option<&'a Contact> {
        self.contacts.last()
    }

    fn granted(&self) -> Option<&'a str> {
        self.last().filter(|contact| contact.granted).map(|contact| contact.version.as_str())
    }

    fn guest(&self) -> &'a str {
        self.last().map_or("", |contact| &contact.guest)
    }

    fn id(&self) -> &'a str {
        self.last().map_or("", |contact| &contact.guest_os_id)
    }

    fn life(&self) -> u64 {
        self.last().map_or(0, |contact| contact.resets)
    }

    fn describe(&self) -> String {
        let asked: Vec<&str> = self.contacts.iter().map(|contact| contact.version.as_str()).collect();
        let granted =
            self.granted().map_or_else(|| "none granted".to_owned(), |version| format!("{version} granted"));
        let mut text = format!("asked for {}, {granted}", asked.join(", "));
        if let Some(contact) = self.last() {
            let _ = write!(text, "; features {:#x}", contact.features);
            let _ = write!(text, ", client id {}", contact.client_id.as_deref().unwrap_or("none"));
            let _ = write!(text, ", messages to VP {}", contact.message_vp);
        }
        let _ = write!(text, "; GUEST_OS_ID {}: {}", self.id(), self.guest());
        text
    }
}

/// Who made contact, one after the other.
fn clients(contacts: &[Contact]) -> Vec<Client<'_>> {
    let mut index = 0;
    let same =
        |a: &Contact, b: &Contact| !a.granted && a.resets == b.resets && a.guest_os_id == b.guest_os_id;
    let groups = contacts.chunk_by(same);
    groups
        .map(|contacts| {
            index += contacts.len();
            Client { contacts, index: index - contacts.len() }
        })
        .collect()
}

/// The trace's contacts, if they are those of the report, which keeps the latest only.
struct Traced<'a>(&'a [trace::Contact]);

impl<'a> Traced<'a> {
    fn of(evidence: &'a Evidence, contacts: &[Contact]) -> Self {
        let traced = evidence.trace.as_deref().unwrap_or_default();
        let latest = traced.len().checked_sub(contacts.len()).and_then(|from| traced.get(from..));
        let is_same =
            |traced: &&[trace::Contact]| traced.iter().zip(contacts).all(|(a, b)| a.version == b.version);
        Traced(latest.filter(is_same).unwrap_or_default())
    }

    /// The contact that was granted to a client.
    fn find(&self, client: &Client<'_>) -> Option<&'a trace::Contact> {
        self.0.get(client.index + client.contacts.len().checked_sub(1)?)
    }
}

fn contact(check: &str, client: Option<&Client<'_>>) -> Line {
    match client {
        Some(client) if client.granted().is_some() => Line::pass(check, client.describe()),
        Some(client) => Line::fail(check, client.describe()),
        None => Line::not_seen(check, "nobody made contact"),
    }
}

fn told_apart(first: Option<&Client<'_>>, os: Option<&Client<'_>>) -> Line {
    const CHECK: &str = "GUEST_OS_ID tells them apart";
    match (first, os) {
        (Some(first), Some(os)) if first.id() != os.id() => {
            Line::pass(CHECK, format!("{}, then {}", first.guest(), os.guest()))
        }
        (Some(first), Some(_)) => Line::fail(CHECK, format!("it was {} both times", first.guest())),
        _ => Line::not_seen(CHECK, "there were no two contacts"),
    }
}

fn let_go(first: Option<&Client<'_>>, os: Option<&Client<'_>>, traced: &Traced<'_>) -> Line {
    const CHECK: &str = "the bus was handed over";
    match (first.and_then(|first| traced.find(first)), os) {
        (Some(contact), _) if contact.unloaded => Line::pass(CHECK, "by UNLOAD"),
        (Some(_), Some(_)) => Line::pass(CHECK, "by a new contact, without UNLOAD"),
        _ => Line::not_seen(CHECK, "the trace does not tell"),
    }
}

/// The rings of the first client's storage channel, beside those that are known of mu_msvm.
fn first_rings(evidence: &Evidence, first: &Client<'_>, traced: &Traced<'_>) -> Line {
    let check = format!("storage rings of the {}", evidence.profile.first);
    let opening = traced
        .find(first)
        .and_then(|contact| contact.openings.iter().find(|opening| opening.interface.starts_with(STORAGE)));
    let Some(opening) = opening else { return Line::not_seen(check, "it opened no storage channel") };
    let rings = (opening.pages, opening.offset);
    let text = format!("{} pages, the ring to the guest from page {} on", rings.0, rings.1);
    match evidence.profile.first_rings {
        Some(known) if known != rings => {
            Line::fail(check, format!("{text}; mu_msvm is known to give {} and {}", known.0, known.1))
        }
        _ => Line::pass(check, text),
    }
}

/// A line for each channel that was opened, and for each that should have been; `openings` are the operating system's.
fn channels(evidence: &Evidence, report: &Report, openings: Option<&[Opening]>) -> Vec<Line> {
    let devices = evidence.profile.devices;
    let is_required = |channel: &Channel| {
        !channel.device.contains('.') && devices.iter().any(|device| channel.device.starts_with(device))
    };
    let mut lines: Vec<Line> = report
        .channels
        .iter()
        .map(|channel| match is_required(channel) {
            true => required_channel(channel, openings),
            false => self::channel(channel, false).required_if(false),
        })
        .collect();
    let missing = devices.iter().filter(|d| !report.channels.iter().any(|c| c.device.starts_with(**d)));
    lines.extend(
        missing.map(|device| Line::not_seen(format!("channel of {device}"), "it was not on the bus")),
    );
    lines
}

/// A channel that the operating system itself must have opened: the report counts the firmware's openings, too.
fn required_channel(channel: &Channel, openings: Option<&[Opening]>) -> Line {
    let line = self::channel(channel, true);
    if line.outcome != Outcome::Pass {
        return line;
    }
    let is_it = |opening: &Opening| {
        opening.opened == Some(true)
            && opening.sub_channel == 0
            && opening.instance.eq_ignore_ascii_case(&channel.instance)
    };
    match openings {
        None => Line::not_seen(line.check, "the trace does not tell who opened it"),
        Some(openings) if openings.iter().any(is_it) => line,
        Some(_) => Line::not_seen(line.check, "only what ran before the operating system opened it"),
    }
}

fn channel(channel: &Channel, speaks: bool) -> Line {
    let check = format!("channel of {}", channel.device);
    if channel.opens == 0 {
        return Line::not_seen(check, "the guest did not open it");
    }
    let protocol = if channel.protocol.is_empty() { "no version" } else { &channel.protocol };
    let text = format!(
        "{protocol}; type {}, instance {}; GPADL of {} pages, the ring to the guest from page {} on, so {} bytes out \
         and {} bytes in; {} packets from the guest, {} to it",
        channel.interface,
        channel.instance,
        channel.gpadl_pages,
        channel.outgoing_pages,
        channel.outgoing_bytes,
        channel.incoming_bytes,
        channel.packets_in,
        channel.packets_out
    );
    let has_spoken = channel.packets_in > 0 && channel.packets_out > 0;
    if speaks && channel.protocol.is_empty() {
        return Line::fail(check, format!("its driver agreed on no version: {text}"));
    }
    if has_spoken {
        Line::pass(check, text)
    } else {
        Line::fail(check, format!("packets went not both ways: {text}"))
    }
}

fn protocol_errors(evidence: &Evidence, report: &Report) -> Line {
    const CHECK: &str = "no protocol error";
    const SENTENCES: [&str; 3] =
        ["is no longer served", "cannot be opened", "An answer to the guest is lost"];
    let refusals = report.vmbus.refusals.iter().filter(|(why, count)| *why != VERSION_REFUSED && **count > 0);
    let mut errors: Vec<String> =
        refusals.map(|(why, count)| format!("{count} control messages refused: {why}")).collect();
    let warnings = evidence.run.warnings.iter();
    errors.extend(warnings.filter(|line| SENTENCES.iter().any(|text| line.contains(text))).cloned());
    if errors.is_empty() {
        Line::pass(CHECK, "no control message was refused, and every channel was served to its end")
    } else {
        Line::fail(CHECK, errors.join("; "))
    }
}

fn crashes(evidence: &Evidence) -> Line {
    const CHECK: &str = "no crash";
    let logged = evidence.run.warnings.iter().find_map(|line| line.find("Guest crash").map(|at| &line[at..]));
    let reported = evidence.host.as_ref().map(|report| report.crash.as_deref());
    match (logged, reported) {
        (Some(crash), _) | (None, Ok(Some(crash))) => Line::fail(CHECK, crash),
        (None, Ok(None)) => Line::pass(CHECK, "the guest reported none"),
        (None, Err(_)) => Line::not_seen(CHECK, "busman's log has none, but there is no report of its"),
    }
}

fn end(evidence: &Evidence) -> Line {
    const CHECK: &str = "shut down by its service";
    let run = &evidence.run;
    if run.end == End::ShutDown && run.by_script {
        return Line::fail(CHECK, "nobody shut it down, so its script did in the end");
    }
    match (run.end, run.asked.as_deref()) {
        (End::ShutDown, Some("")) => Line::pass(CHECK, "it was asked to, and powered off"),
        (End::ShutDown, Some(why)) => {
            Line::fail(CHECK, format!("it powered off by itself; it could not be asked to: {why}"))
        }
        (End::ShutDown, None) => Line::fail(CHECK, "it powered off before it was asked to"),
        (End::NoResults, _) => Line::not_seen(
            CHECK,
            "it was not asked to: it was stopped when its time was over, without results",
        ),
        (End::NoShutDown, _) => Line::fail(CHECK, "it was asked to and did not; it was stopped"),
        (End::Failed, _) => {
            let why = run.failure.as_deref().unwrap_or("nothing tells why");
            let words = run.warnings.last().map_or("", String::as_str);
            Line::fail(CHECK, format!("busman failed: {why} {words}").trim_end().to_owned())
        }
    }
}
