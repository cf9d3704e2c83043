//! Family `boot`: does it always boot, how fast against QEMU, and what does the VMM cost beyond the guest.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{Figures, Options, median};
use crate::lab::Lab;
use crate::vmm::{Boot, Guest, Vmm};
use crate::wire::Sample;
use crate::{busman, progress};

/// Pairs of runs, busman and QEMU in turn, of which ratios are taken.
const PAIRS: usize = 3;

/// Takes the figures.
pub fn measure(lab: &mut Lab, options: &Options, figures: &mut Figures) -> Result<()> {
    boots(lab, options.boots, figures)?;
    if lab.wishes.vmm == Vmm::Qemu {
        return Ok(());
    }
    project(lab, figures)?;
    compare(lab, figures)
}

/// Boots guests of all sizes and forms in turn, each one with a reboot in between.
fn boots(lab: &mut Lab, wanted: u32, figures: &mut Figures) -> Result<()> {
    let sizes = [1, 2, 4].into_iter().cycle();
    let mut guests = sizes.zip([Boot::Pvh, Boot::BzImage].into_iter().cycle());
    let (mut done, mut failures, mut starts) = (0, Vec::new(), Vec::new());
    while done < wanted {
        let (cpus, boot) = guests.next().context("no guest")?;
        let step = progress::step(format!(
            "Boots {} and {} of {wanted}: {cpus} vCPUs, {boot:?}",
            done + 1,
            done + 2
        ));
        done += 2;
        match boot_twice(lab, &Guest::new("console").cpus(cpus).boot(boot)) {
            Ok(microseconds) => {
                starts.push(microseconds);
                step.done("good");
            }
            Err(error) => failures.push(format!("{cpus} vCPUs, {boot:?}: {error:#}")),
        }
    }
    figures.add("boots and reboots in a row", done, "");
    figures.add("guests that failed", failures.len(), "");
    figures.add("start to first guest instruction, median", median(starts), "µs");
    for failure in failures {
        figures.add("failure", failure, "");
    }
    Ok(())
}

fn boot_twice(lab: &mut Lab, guest: &Guest) -> Result<u64> {
    let mut vm = lab.start(guest)?;
    vm.expect("lab: ready")?;
    vm.tell("reboot")?;
    vm.expect("lab: ready")?;
    vm.tell("poweroff")?;
    let outcome = vm.finish_well()?;
    if lab.wishes.vmm == Vmm::Qemu {
        return Ok(0);
    }
    let report = outcome.report()?;
    ensure!(report.resets == 1, "the report tells of {} resets", report.resets);
    Ok(report.start_to_guest_us)
}

/// Time to user space and cost beyond the guest, with QEMU in the VMM's place every other time.
fn compare(lab: &mut Lab, figures: &mut Figures) -> Result<()> {
    let before = lab.wishes.vmm;
    let mut ratios = Vec::new();
    let mut costs = Vec::new();
    for _ in 0..PAIRS {
        let step = progress::step("One boot each of busman and QEMU");
        lab.wishes.vmm = Vmm::Busman;
        let (ours, our_cost) = boot_once(lab)?;
        lab.wishes.vmm = Vmm::Qemu;
        let (theirs, their_cost) = boot_once(lab)?;
        ratios.push(ours.as_secs_f64() / theirs.as_secs_f64());
        costs = vec![("busman", our_cost), ("QEMU", their_cost)];
        step.done("done");
    }
    lab.wishes.vmm = before;
    figures.add("start to user space, busman / QEMU", ratios, "ratio");
    for (name, cost) in costs {
        figures.add(&format!("resident beyond guest RAM, {name}"), cost.overhead_kib, "KiB");
        figures.add(&format!("threads, {name}"), cost.threads, "");
    }
    Ok(())
}

fn boot_once(lab: &mut Lab) -> Result<(Duration, Sample)> {
    let begin = Instant::now();
    let mut vm = lab.start(&Guest::new("console"))?;
    vm.expect("lab: ready")?;
    let time = begin.elapsed();
    vm.run_for(Duration::from_secs(2))?;
    let sample = vm.sample()?;
    vm.tell("poweroff")?;
    vm.finish_well()?;
    Ok((time, sample))
}

/// What the executable is made of.
fn project(lab: &Lab, figures: &mut Figures) -> Result<()> {
    let size = std::fs::metadata(&lab.busman)?.len();
    figures.add("size of the stripped executable", size / 1024, "KiB");
    let arguments = ["tree", "--package", "busman", "--edges", "normal", "--prefix", "none"];
    let output = busman::cargo(&arguments).output().context("run cargo tree")?;
    ensure!(output.status.success(), "cargo tree failed: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let crates: BTreeSet<String> =
        text.lines().map(|line| line.trim_end_matches(" (*)").to_owned()).collect();
    figures.add("crates", crates.len(), "");
    Ok(())
}
