//! `cargo lab demo`: from a fresh clone to a guest that talks over VMBus, and back.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::busman::{Channel, Report};
use crate::lab::{Lab, Wishes};
use crate::progress;
use crate::table::Table;
use crate::vmm::Guest;

/// How long the guest runs before it is asked to shut down: a few heartbeats.
const RUN: Duration = Duration::from_secs(8);

/// Runs the demo.
pub fn run(wishes: Wishes) -> Result<ExitCode> {
    let mut lab = Lab::prepare(wishes, Vec::new())?;
    let transcript = lab.label("demo");
    let boot = progress::step("Booting Linux on busman: 2 vCPUs, 512 MiB");
    let mut vm = lab.start(&Guest::new("console"))?;
    let kernel = vm.expect("lab: value kernel=")?;
    let protocol = vm.expect("lab: value vmbus=")?;
    vm.expect("lab: ready")?;
    boot.done(&format!("Linux {kernel} is up, its VMBus driver connected with version {protocol}"));

    let running = progress::step(format!("Letting host and guest talk for {} s", RUN.as_secs()));
    vm.run_for(RUN)?;
    let sample = vm.sample()?;
    running.done(&format!(
        "busman has {} threads and {:.1} MiB beyond the guest's RAM",
        sample.threads,
        sample.overhead_kib as f64 / 1024.0
    ));

    let shutdown = progress::step("Asking the guest to shut down, through its shutdown device");
    vm.terminate()?;
    vm.expect("lab: the kernel asked for poweroff")?;
    let outcome = vm.finish_well()?;
    let report = outcome.report()?;
    ensure!(report.end == "power-off", "busman ended with {:?}, not with the guest's power-off", report.end);
    shutdown.done("it powered off, and busman ended with exit code 0");

    println!("\n{}", devices(&report));
    println!("{}", channels(&report));
    println!("Exits to user space in all, boot included: {}", exits(&report));
    println!("All that was said: {}", transcript.display());
    Ok(ExitCode::SUCCESS)
}

/// Who offered what.
pub fn devices(report: &Report) -> Table {
    let mut table = Table::new(&["device", "channel", "interface", "instance"]);
    for channel in &report.channels {
        let Channel { device, id, interface, instance, .. } = channel;
        table.row([device.clone(), id.to_string(), interface.clone(), instance.clone()]);
    }
    table
}

/// What went over the channels. Outgoing is from guest to host, the guest's word; "in" is to the host.
pub fn channels(report: &Report) -> Table {
    let mut table = Table::new(&[
        "device",
        "state",
        "version",
        "GPADL pages",
        "outgoing",
        "incoming",
        "packets in/out",
        "bytes in/out",
        "signals in/out",
        "exits",
    ]);
    for channel in &report.channels {
        table.row([
            channel.device.clone(),
            channel.state.clone(),
            report.vmbus.protocol.clone(),
            channel.gpadl_pages.to_string(),
            format!("{} p, {} B", channel.outgoing_pages, channel.outgoing_bytes),
            format!("{} p, {} B", channel.incoming_pages, channel.incoming_bytes),
            format!("{}/{}", channel.packets_in, channel.packets_out),
            format!("{}/{}", channel.bytes_in, channel.bytes_out),
            format!("{}/{}", channel.signals_in, channel.signals_out),
            channel.exits.to_string(),
        ]);
    }
    table
}

fn exits(report: &Report) -> String {
    let exits: Vec<String> =
        report.exits().iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    exits.join(", ")
}
