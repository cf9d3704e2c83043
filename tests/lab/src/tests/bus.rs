//! Family `bus`: guests connect with every protocol version, again and again, and see devices come and go.

use anyhow::{Context, Result, ensure};

use super::{Test, check_warnings};
use crate::lab::Lab;
use crate::tshark;
use crate::vmm::Guest;

pub const TESTS: &[Test] = &[
    Test { name: "every protocol version from 5.3 to 2.4", run: versions },
    Test { name: "a guest capped at 4.1 from its first contact", run: |lab| capped(lab, "4.1") },
    Test { name: "a guest capped at 3.0 from its first contact", run: |lab| capped(lab, "3.0") },
    Test { name: "a timer's message in the slot keeps no answer out", run: timer_messages },
    Test { name: "every module unloaded and loaded 10 times", run: modules },
    Test { name: "a device removed and added", run: hot_plug },
    Test { name: "packets cost no exits", run: no_exits },
    Test { name: "a trace of the bus has every packet and reads well", run: trace },
];

/// A guest whose hv_vmbus can be unloaded: when it goes, Linux stops its timers, and lets others take over only if
/// they are not direct ones.
fn unloading(script: &str) -> Guest {
    Guest::new(script).hyperv("default,-stimer-direct")
}

fn versions(lab: &mut Lab) -> Result<()> {
    let outcome = lab.start(&unloading("versions").append("lab.modules=none"))?.finish_well()?;
    let connected = outcome.said("ok").filter(|text| text.starts_with("version ")).count();
    ensure!(connected == 8, "only {connected} versions were tried");
    let report = outcome.report()?;
    ensure!(report.vmbus.contacts >= 8, "busman counted {} contacts", report.vmbus.contacts);
    check_warnings(&outcome)
}

fn capped(lab: &mut Lab, version: &str) -> Result<()> {
    let (major, minor) = version.split_once('.').context("no version")?;
    let code = major.parse::<u32>()? << 16 | minor.parse::<u32>()?;
    let guest =
        Guest::new("facts").append(&format!("hv_vmbus.max_version={code:#x} lab.modules=hv_vmbus,hv_utils"));
    let outcome = lab.start(&guest)?.finish_well()?;
    let value = outcome.value("vmbus")?;
    ensure!(value == version, "the guest connected with {value:?}");
    ensure!(
        outcome.said("value").any(|value| value.starts_with("device=")),
        "the guest was offered no device"
    );
    let protocol = outcome.report()?.vmbus.protocol;
    ensure!(protocol == version, "busman reports version {protocol:?}");
    check_warnings(&outcome)
}

/// Timers that are not direct use VMBus' message slot. A first answer that found it busy was never delivered: two
/// guests of five hung at their first contact.
fn timer_messages(lab: &mut Lab) -> Result<()> {
    for _ in 0..3 {
        let outcome = lab.start(&Guest::new("facts").hyperv("default,-stimer-direct"))?.finish_well()?;
        check_warnings(&outcome)?;
    }
    Ok(())
}

fn modules(lab: &mut Lab) -> Result<()> {
    let outcome = lab.start(&unloading("modules").append("lab.modules=removable"))?.finish_well()?;
    let heartbeat = outcome.report()?;
    let opens = heartbeat.channel("heartbeat")?.opens;
    ensure!(opens >= 1, "the heartbeat channel was not opened again");
    let contacts = heartbeat.vmbus.contacts;
    ensure!(contacts >= 11, "busman counted {contacts} contacts instead of 11");
    check_warnings(&outcome)
}

fn hot_plug(lab: &mut Lab) -> Result<()> {
    const HEARTBEAT: &str = "57164f39-9115-4e78-ab55-382f3bd5422d";
    let mut vm = lab.start(&Guest::new("console"))?;
    vm.expect("lab: ready")?;
    for _ in 0..3 {
        vm.control("remove heartbeat")?;
        vm.tell(&format!("without {HEARTBEAT}"))?;
        vm.expect("lab: ready")?;
        vm.control("add heartbeat")?;
        vm.tell(&format!("with {HEARTBEAT}"))?;
        vm.expect("lab: ready")?;
    }
    vm.tell("warnings")?;
    vm.expect("lab: ready")?;
    vm.tell("poweroff")?;
    let outcome = vm.finish_well()?;
    check_warnings(&outcome)
}

/// In steady state a packet costs no exit to user space: heartbeats go by, and nothing is counted.
fn no_exits(lab: &mut Lab) -> Result<()> {
    let mut vm = lab.start(&Guest::new("console"))?;
    vm.expect("lab: ready")?;
    vm.run_for(std::time::Duration::from_secs(10))?;
    vm.tell("poweroff")?;
    let report = vm.finish_well()?.report()?;
    let heartbeat = report.channel("heartbeat")?;
    ensure!(heartbeat.packets_in >= 3, "only {} heartbeats came", heartbeat.packets_in);
    ensure!(heartbeat.exits == 0, "{} heartbeats cost {} exits", heartbeat.packets_in, heartbeat.exits);
    Ok(())
}

/// What busman recorded, Wireshark reads: the guest's contact, its rings, and as many packets as the report counts.
fn trace(lab: &mut Lab) -> Result<()> {
    let outcome = lab.start(&Guest::new("facts").trace())?.finish_well()?;
    let file = outcome.report.with_extension("pcapng");
    let messages = tshark::info(&file, "vmbus.kind == 0")?;
    for start in [
        "INITIATE_CONTACT version 5.3, answers to VP ",
        "VERSION_RESPONSE yes, post to connection id 4",
        "OFFER_CHANNEL channel 1 ",
        "GPADL_HEADER channel 1 (",
        "OPEN_CHANNEL_RESULT channel 1 (",
    ] {
        let found = messages.iter().any(|line| line.starts_with(start));
        ensure!(found, "no message in {} starts with {start:?}", file.display());
    }
    for channel in &outcome.report()?.channels {
        let recorded = tshark::info(&file, &format!("frame.interface_name == \"{}\"", channel.device))?.len();
        let counted = channel.packets_in + channel.packets_out;
        ensure!(counted > 0, "{} was silent", channel.device);
        ensure!(recorded as u64 == counted, "{}: {recorded} of {counted} packets", channel.device);
    }
    let odd = tshark::info(&file, "vmbus.short || vmbus.unknown || _ws.lua.error || _ws.malformed")?;
    ensure!(odd.is_empty(), "records that are not understood: {}", odd.join(" | "));
    Ok(())
}
