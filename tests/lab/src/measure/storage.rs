//! Family `storage`: what a request costs in exits, CPU time and wake-ups, and how fast disks are beside QEMU's.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Figures, KVM_COUNTERS, Options, criterion};
use crate::busman::Report;
use crate::disk::{Cache, Disk};
use crate::lab::Lab;
use crate::vm::Vm;
use crate::vmm::Vmm;
use crate::wire::Sample;
use crate::{progress, storage};

/// MiB of the disk.
const SIZE: u32 = 256;

/// Requests of the run that is looked at, and of the one that it is compared with: what both have cancels out.
const MANY: u64 = 4000;
const FEW: u64 = 100;

/// One run of fio.
struct Job {
    name: &'static str,
    how: &'static str,
    size: &'static str,
    depth: u32,
    requests: u64,
}

/// What disks are compared by.
const JOBS: [Job; 6] = [
    Job { name: "sequential read, 1 MiB", how: "read", size: "1m", depth: 4, requests: 200 },
    Job { name: "sequential write, 1 MiB", how: "write", size: "1m", depth: 4, requests: 200 },
    Job { name: "random read, 4 KiB, depth 1", how: "randread", size: "4k", depth: 1, requests: 2000 },
    Job { name: "random read, 4 KiB, depth 32", how: "randread", size: "4k", depth: 32, requests: 10_000 },
    Job { name: "random write, 4 KiB, depth 1", how: "randwrite", size: "4k", depth: 1, requests: 2000 },
    Job { name: "random write, 4 KiB, depth 32", how: "randwrite", size: "4k", depth: 32, requests: 10_000 },
];

/// Takes the figures.
pub fn measure(lab: &mut Lab, options: &Options, figures: &mut Figures) -> Result<()> {
    criterion::add("storvsp", figures)?;
    let disk = image(lab)?;
    if lab.wishes.vmm == Vmm::Busman && !options.only_pairs {
        for (cpus, depth) in [(1, 1), (2, 1), (2, 32)] {
            costs(lab, &disk, cpus, depth, figures)?;
        }
    }
    compare(lab, &disk, options, figures)
}

/// A raw image without holes, which both VMMs use in turn. Nothing of it is in the page cache: what is cached there
/// would cost the first to write past the cache.
fn image(lab: &mut Lab) -> Result<Disk> {
    let path = storage::scratch(lab)?.join("disk.img");
    let words = [&*path.display().to_string(), &SIZE.to_string()];
    lab.sh("dd if=/dev/urandom of=\"$1\" bs=1M count=\"$2\" oflag=direct conv=fsync", &words)?;
    Ok(Disk::new(&path, "raw").cache(Cache::None))
}

/// A guest with the disk, at work.
fn with_disk<T>(
    lab: &mut Lab,
    disk: &Disk,
    cpus: u32,
    work: impl FnOnce(&mut Vm<'_>) -> Result<T>,
) -> Result<(T, Option<Report>)> {
    let vmm = lab.wishes.vmm;
    let guest = storage::guest(lab)?.cpus(cpus).disk(disk);
    let mut vm = lab.start(&guest)?;
    vm.expect("lab: ready")?;
    let result = work(&mut vm)?;
    vm.tell("end")?;
    let outcome = vm.finish_well()?;
    Ok((result, if vmm == Vmm::Busman { Some(outcome.report()?) } else { None }))
}

/// What fio says of a run, by name.
type Said = BTreeMap<String, f64>;

fn fio(vm: &mut Vm<'_>, disk: &str, job: &Job) -> Result<Said> {
    let Job { how, size, depth, requests, .. } = job;
    vm.tell(&format!("fio {disk} {how} {size} {depth} {requests} {SIZE}"))?;
    let said = vm.expect("lab: value fio=")?;
    vm.expect("lab: ready")?;
    let pairs = said.split_whitespace().filter_map(|word| word.split_once('='));
    Ok(pairs.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect())
}

/// What 4 KiB random reads cost: a guest that does many less one that does few. With two processors Linux completes
/// each request on the one that did not send it, and tells that by an interrupt between them.
fn costs(lab: &mut Lab, disk: &Disk, cpus: u32, depth: u32, figures: &mut Figures) -> Result<()> {
    let mut run = |requests| -> Result<(Sample, Report)> {
        let step = progress::step(format!("{requests} random reads, {depth} at a time, {cpus} VPs"));
        let job = Job { name: "", how: "randread", size: "4k", depth, requests };
        let name = disk.name(lab.wishes.vmm);
        let (sample, report) = with_disk(lab, disk, cpus, |vm| {
            let before = vm.sample()?;
            fio(vm, &name, &job)?;
            Ok(vm.sample()?.since(&before))
        })?;
        step.done("done");
        Ok((sample, report.context("no report")?))
    };
    let (few, few_report) = run(FEW)?;
    let (many, many_report) = run(MANY)?;
    let requests = (MANY - FEW) as f64;
    let mut add = |what: &str, count: f64, unit| {
        figures.add(
            &format!("4 KiB random read, {cpus} VPs, depth {depth}: {what}, per request"),
            count / requests,
            unit,
        );
    };
    for (reason, count) in many_report.exits_beyond(&few_report) {
        add(&format!("exits to user space, {reason}"), count as f64, "");
    }
    let more = many.since(&few);
    for name in KVM_COUNTERS {
        add(&format!("KVM's counter {name}"), more.kvm.get(name).copied().unwrap_or_default() as f64, "");
    }
    effort(&more, &mut add);
    Ok(())
}

/// CPU time and wake-ups.
fn effort(more: &Sample, add: &mut impl FnMut(&str, f64, &'static str)) {
    add("host CPU outside the guest", more.host_cpu_us as f64, "µs");
    add("CPU of threads that are no vCPUs", more.service_us as f64, "µs");
    add("wake-ups of threads that are no vCPUs", more.service_waits as f64, "");
    add("wake-ups of vCPUs' threads", more.vcpu_waits as f64, "");
}

/// One run of all jobs: requests per second and what each request cost the host.
struct Run {
    rates: Vec<f64>,
    costs: Vec<Sample>,
}

fn run(lab: &mut Lab, disk: &Disk, vmm: Vmm) -> Result<Run> {
    let before = std::mem::replace(&mut lab.wishes.vmm, vmm);
    let name = disk.name(vmm);
    let result = with_disk(lab, disk, 2, |vm| {
        let mut run = Run { rates: Vec::new(), costs: Vec::new() };
        for job in &JOBS {
            let before = vm.sample()?;
            let said = fio(vm, &name, job)?;
            run.rates.push(*said.get("iops").context("fio gives no iops")?);
            run.costs.push(vm.sample()?.since(&before));
        }
        Ok(run)
    });
    lab.wishes.vmm = before;
    Ok(result?.0)
}

/// The same jobs on the same image with busman and with QEMU in its place, in turn.
fn compare(lab: &mut Lab, disk: &Disk, options: &Options, figures: &mut Figures) -> Result<()> {
    // What is asked for on the command line may be QEMU alone: a check of the lab.
    let vmms: &[Vmm] = if lab.wishes.vmm == Vmm::Busman { &[Vmm::Busman, Vmm::Qemu] } else { &[Vmm::Qemu] };
    let mut runs: BTreeMap<&str, Vec<Run>> = BTreeMap::new();
    for pair in 1..=options.pairs {
        for vmm in vmms {
            let name = vmm.name();
            let step = progress::step(format!("Run {pair} of {} with {name}", options.pairs));
            runs.entry(name).or_default().push(run(lab, disk, *vmm)?);
            step.done("done");
        }
    }
    for (number, job) in JOBS.iter().enumerate() {
        let mut medians = BTreeMap::new();
        for vmm in vmms {
            let all = runs.get(vmm.name()).map(Vec::as_slice).unwrap_or_default();
            let rates: Vec<f64> = all.iter().filter_map(|run| run.rates.get(number).copied()).collect();
            figures.add(&format!("{}: {}", job.name, vmm.name()), rounded(&rates), "1/s");
            let costs: Vec<&Sample> = all.iter().filter_map(|run| run.costs.get(number)).collect();
            cost(job, *vmm, &costs, figures);
            medians.insert(vmm.name(), median(rates));
        }
        if let [Some(ours), Some(theirs)] = [Vmm::Busman, Vmm::Qemu].map(|vmm| medians.get(vmm.name())) {
            figures.add(&format!("{}: busman / QEMU, medians", job.name), ours / theirs, "ratio");
        }
    }
    Ok(())
}

/// What a request cost the host, fio's own start included, in each run.
fn cost(job: &Job, vmm: Vmm, costs: &[&Sample], figures: &mut Figures) {
    let mut add = |what: &str, value: fn(&Sample) -> u64, unit| {
        let each: Vec<f64> = costs.iter().map(|cost| value(cost) as f64 / job.requests as f64).collect();
        figures.add(&format!("{}: {}, {what}, per request", job.name, vmm.name()), each, unit);
    };
    add("host CPU outside the guest", |cost| cost.host_cpu_us, "µs");
    add("wake-ups of threads that are no vCPUs", |cost| cost.service_waits, "");
    add("KVM's exits", |cost| cost.kvm.get("exits").copied().unwrap_or_default(), "");
}

fn rounded(rates: &[f64]) -> Value {
    rates.iter().map(|rate| Value::from(rate.round())).collect()
}

/// The middle one.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
