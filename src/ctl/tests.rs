//! `busman ctl` against a control socket with a machine of the tests behind it.

use super::*;
use crate::api::tests::Fixture;
use crate::control::{self, Refusal};
use crate::disks::{Place, Unit};
use crate::display::PointerEvent;
use clap::Parser;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    ctl: Ctl,
}

fn parse(line: &str) -> Result<Ctl, clap::Error> {
    Cli::try_parse_from(format!("ctl {line}").split_whitespace()).map(|cli| cli.ctl)
}

/// What a command line prints, or its error.
fn ctl(api: &Fixture, line: &str) -> Result<String, String> {
    let mut out = Vec::new();
    let ctl = parse(&format!("--socket {} {line}", api.path.display())).unwrap();
    let client = Client::new(ctl.socket.clone().unwrap());
    ctl.ask(client, &mut out).map_err(|error| error.to_string())?;
    Ok(String::from_utf8(out).unwrap())
}

#[test]
fn words_are_commands() {
    for (line, command) in [
        ("state", Command::State),
        ("shutdown", Command::Shutdown { now: false }),
        ("shutdown --now", Command::Shutdown { now: true }),
        ("reboot --now", Command::Reboot { now: true }),
        ("add heartbeat", Command::Add { name: "heartbeat".into() }),
        ("top --count 3", Command::Top(top::Options { count: Some(3) })),
    ] {
        assert_eq!(parse(line).unwrap().command, command, "{line}");
    }
    let ctl = parse("state --json --socket x").unwrap();
    assert!(ctl.json && ctl.socket == Some("x".into()));
    for line in ["", "remove", "pause now", "add a b", "sate"] {
        assert!(parse(line).is_err(), "{line}");
    }
}

#[test]
fn every_command_reaches_the_machine() {
    use control::Command as Asked;
    let api = Fixture::new();
    for (line, asked) in [
        ("state", Asked::State),
        ("config", Asked::Config),
        ("pause", Asked::Pause),
        ("resume", Asked::Resume),
        ("new-generation", Asked::NewGeneration),
        ("shutdown", Asked::Shutdown),
        ("shutdown --now", Asked::Stop),
        ("reboot", Asked::Reboot),
        ("reboot --now", Asked::Reset),
        ("hibernate", Asked::Hibernate),
        ("channels", Asked::Channels),
        ("counters", Asked::Counters),
        ("devices", Asked::Devices),
        ("add timesync", Asked::Add("timesync".into())),
        ("remove timesync", Asked::Remove("timesync".into())),
        ("disks", Asked::Disks),
        ("add-disk /a.vhdx,lun=3", Asked::AddDisk(Unit::Disk("/a.vhdx,lun=3".parse().unwrap()))),
        ("add-dvd /a.iso", Asked::AddDisk(Unit::Dvd("/a.iso".parse().unwrap()))),
        ("remove-disk 0:3", Asked::RemoveDisk(Place { controller: 0, lun: 3 })),
        ("insert 0:3 /a.iso", Asked::Insert(Place { controller: 0, lun: 3 }, "/a.iso".into())),
        ("display", Asked::Display),
        ("resolution 800x600", Asked::Resolution("800x600".parse().unwrap())),
        ("key ctrl-alt-delete", Asked::Key("ctrl-alt-delete".parse().unwrap())),
        (
            "pointer 1 2 --buttons left,back --wheel -1",
            Asked::Pointer(PointerEvent { wheel: -1, ..("1 2 left,back".parse().unwrap()) }),
        ),
        ("eject 0:3 --force", Asked::Eject { place: Place { controller: 0, lun: 3 }, force: true }),
    ] {
        ctl(&api, line).unwrap();
        assert_eq!(api.asked(), [asked], "{line}");
    }
}

#[test]
fn answers_are_for_people_or_as_they_came() {
    let api = Fixture::new();
    let state = ctl(&api, "state").unwrap();
    assert!(state.starts_with("state      paused\nversion    0.1.0\n"), "{state}");
    assert!(ctl(&api, "devices").unwrap().starts_with("name       about"));
    assert!(ctl(&api, "channels").unwrap().contains("\nheartbeat     1 open"));
    assert!(ctl(&api, "counters").unwrap().contains("\nvmbus.refusals.too short  3\n"));
    assert_eq!(ctl(&api, "pause").unwrap(), "");
    assert!(ctl(&api, "shutdown").unwrap().starts_with("The guest is asked"));
    let raw: Value = serde_json::from_str(&ctl(&api, "--json state").unwrap()).unwrap();
    assert_eq!(raw["state"], "paused");
}

#[test]
fn the_machines_refusal_is_the_error() {
    let api = Fixture::new();
    api.vm.refuse.lock().unwrap().push(Refusal::Resumed);
    assert_eq!(ctl(&api, "pause").unwrap_err(), Refusal::Resumed.sentence());
}

#[test]
fn a_devices_name_is_no_way_to_another_path() {
    let api = Fixture::new();
    ctl(&api, "add ../pause").unwrap();
    assert_eq!(api.asked(), [control::Command::Add("..%2Fpause".into())]);
}

#[test]
fn a_machine_that_is_not_there_is_said_to_be() {
    let api = Fixture::new();
    let path = api.path.with_extension("none");
    let ctl = parse(&format!("--socket {} state", path.display())).unwrap();
    let error = ctl.execute().unwrap_err().to_string();
    assert!(error.starts_with("Nothing answers at /tmp/"), "{error}");
}
