//! Family `rings`: the host's table beside what the guest asked for, and what a packet costs in exits.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Figures, Options, bench};
use crate::busman::Report;
use crate::lab::Lab;
use crate::probe::{self, Said};
use crate::progress;
use crate::table::Table;
use crate::tests::RING_SIZES;
use crate::vm::Vm;

/// Ways of exchanging packets, and the ring probe's parameters for them.
const WAYS: [(&str, &str); 4] = [
    ("echo, one packet at a time", "mode=echo burst=1"),
    ("echo, at full speed", "mode=echo burst=1000000"),
    ("guest to host, at full speed", "mode=sink"),
    ("host to guest, at full speed", "mode=source"),
];

/// Packets of the run that is looked at, and of the one that it is compared with: what both have cancels out.
const MANY: u64 = 20_000;
const FEW: u64 = 100;

/// KVM's counters that are worth a line.
const KVM_COUNTERS: [&str; 7] =
    ["exits", "io_exits", "mmio_exits", "halt_exits", "hypercalls", "irq_injections", "signal_exits"];

/// Takes the figures.
pub fn measure(lab: &mut Lab, options: &Options, figures: &mut Figures) -> Result<()> {
    sizes(lab, figures)?;
    exits(lab, figures)?;
    if !options.no_bench {
        bench::measure(figures)?;
    }
    if options.soak > 0 {
        soak(lab, Duration::from_secs(options.soak), figures)?;
    }
    Ok(())
}

/// What packets cost: a run with many of them less one with few.
fn exits(lab: &mut Lab, figures: &mut Figures) -> Result<()> {
    let (few, few_report) = exchange(lab, FEW)?;
    let (many, many_report) = exchange(lab, MANY)?;
    for (few, many) in few.iter().zip(&many) {
        let packets = many.packets.saturating_sub(few.packets).max(1) as f64;
        for name in KVM_COUNTERS {
            let count = |run: &Run| run.kvm.get(name).copied();
            if let (Some(before), Some(after)) = (count(few), count(many)) {
                let each = after.saturating_sub(before) as f64 / packets;
                figures.add(&format!("{}: KVM's counter {name}, per packet", many.way), each, "");
            }
        }
    }
    let sum = |runs: &[Run]| runs.iter().map(|run| run.packets).sum::<u64>();
    let packets = sum(&many).saturating_sub(sum(&few)).max(1);
    figures.add("packets counted, all ways", packets, "");
    let mut all = 0;
    for (reason, more) in many_report.exits_beyond(&few_report) {
        all += more;
        figures.add(&format!("exits to user space, {reason}, per packet"), more as f64 / packets as f64, "");
    }
    figures.add("exits to user space more than with few packets", all, "");
    figures.add("exits to user space charged to the channel", many_report.channel("loopback")?.exits, "");
    Ok(())
}

/// The matrix: every pair of sizes, with the host's table beside it.
fn sizes(lab: &mut Lab, figures: &mut Figures) -> Result<()> {
    let guest = probe::guest(lab)?;
    let mut vm = lab.start(&guest)?;
    vm.expect("lab: ready")?;
    let mut table =
        Table::new(&["incoming", "outgoing", "host's table", "wraps in/out", "full in/out", "agree"]);
    let mut agree = 0;
    for (incoming, outgoing) in RING_SIZES {
        let step = progress::step(format!("Rings of {incoming} and {outgoing} pages"));
        let said = probe::load(&mut vm, &format!("in={incoming} out={outgoing}"))?;
        let row = probe::table(&mut vm, "loopback")?;
        let outcome = probe::check(&row, &said);
        agree += u32::from(outcome.is_ok());
        let pair = |first: &str, second: &str| -> Result<String> {
            Ok(format!("{}/{}", said.figure(first)?, said.figure(second)?))
        };
        table.row([
            incoming.to_string(),
            outgoing.to_string(),
            row.pages.clone(),
            pair("wraps_in", "wraps_out")?,
            pair("full_in", "full_out")?,
            outcome.map_or_else(|error| error.to_string(), |()| "yes".to_owned()),
        ]);
        figures.add(
            &format!("host's table for {incoming} incoming, {outgoing} outgoing"),
            row.pages,
            "pages",
        );
        step.done("done");
    }
    vm.tell("end")?;
    vm.finish_well()?;
    println!("\n{table}");
    figures.add("pairs of sizes on which host and guest agree", agree, "");
    Ok(())
}

/// One way of exchanging packets: how many there were, and by how much KVM's counters grew.
struct Run {
    way: &'static str,
    packets: u64,
    kvm: BTreeMap<String, u64>,
}

/// A guest that exchanges packets in every way.
fn exchange(lab: &mut Lab, packets: u64) -> Result<(Vec<Run>, Report)> {
    let guest = probe::guest(lab)?;
    let mut vm = lab.start(&guest)?;
    vm.expect("lab: ready")?;
    let mut runs = Vec::new();
    for (way, parameters) in WAYS {
        let step = progress::step(format!("{packets} packets: {way}"));
        runs.push(run(&mut vm, way, &format!("{parameters} packets={packets} wraps=0 payload=512"))?);
        step.done("done");
    }
    vm.tell("end")?;
    Ok((runs, vm.finish_well()?.report()?))
}

fn run(vm: &mut Vm<'_>, way: &'static str, parameters: &str) -> Result<Run> {
    let before = vm.sample()?;
    let said: Said = probe::load(vm, parameters)?;
    let kvm = vm.sample()?.since(&before).kvm;
    Ok(Run { way, packets: said.figure("packets_in")? + said.figure("packets_out")?, kvm })
}

/// Traffic over one opening after the other, with rings of random sizes, until the time is over. Nothing may be lost,
/// and busman's memory must not grow with the number of openings.
fn soak(lab: &mut Lab, time: Duration, figures: &mut Figures) -> Result<()> {
    let guest = probe::guest(lab)?;
    let mut vm = lab.start(&guest)?;
    vm.expect("lab: ready")?;
    let step = progress::step(format!("Openings with rings of random sizes for {} s", time.as_secs()));
    let deadline = Instant::now() + time;
    let (mut seed, mut packets, mut memory) = (0, 0, Vec::new());
    while Instant::now() < deadline {
        seed += 1;
        let mode = if seed % 4 == 0 { "mode=cycles cycles=50" } else { "packets=2000 wraps=1" };
        let (incoming, outgoing) = (pages(2 * seed), pages(2 * seed + 1));
        let said = probe::load(&mut vm, &format!("{mode} seed={seed} in={incoming} out={outgoing}"))?;
        probe::check(&probe::table(&mut vm, "loopback")?, &said)?;
        packets += said.figure("packets_in")? + said.figure("packets_out")?;
        memory.push(vm.sample()?.overhead_kib);
    }
    step.done("done");
    vm.tell("end")?;
    let report = vm.finish_well()?.report()?;
    figures.add("soak: openings", report.channel("loopback")?.opens, "");
    figures.add("soak: packets, at least", packets, "");
    // The first loads make buffers as large as they ever get.
    let early = memory.get(memory.len() / 10).copied().unwrap_or_default();
    figures.add("soak: resident beyond guest RAM, after a tenth", early, "KiB");
    figures.add(
        "soak: resident beyond guest RAM, at the end",
        memory.last().copied().unwrap_or_default(),
        "KiB",
    );
    Ok(())
}

/// Pages of a ring, from 2 to 512, small sizes as often as large ones.
fn pages(number: u64) -> u64 {
    let scrambled = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    2 + scrambled % (4 << (scrambled >> 16 & 7)).min(511)
}
