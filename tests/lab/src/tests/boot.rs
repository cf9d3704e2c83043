//! Family `boot`: kernels start, on any number of vCPUs, again and again, and end in every way.

use anyhow::{Context, Result, ensure};

use super::{Test, check_facts};
use crate::lab::Lab;
use crate::vmm::{Boot, Guest, Vmm};

pub const TESTS: &[Test] = &[
    Test { name: "1 vCPU, bzImage", run: |lab| boots(lab, 1, Boot::BzImage) },
    Test { name: "2 vCPUs, bzImage", run: |lab| boots(lab, 2, Boot::BzImage) },
    Test { name: "4 vCPUs, bzImage", run: |lab| boots(lab, 4, Boot::BzImage) },
    Test { name: "1 vCPU, PVH", run: |lab| boots(lab, 1, Boot::Pvh) },
    Test { name: "2 vCPUs, PVH", run: |lab| boots(lab, 2, Boot::Pvh) },
    Test { name: "4 vCPUs, PVH", run: |lab| boots(lab, 4, Boot::Pvh) },
    Test { name: "RAM on both sides of the gap below 4 GiB", run: much_memory },
    Test { name: "a reboot starts the guest again", run: reboots },
    Test { name: "--once ends at a reset", run: once },
    Test { name: "COM2 leads to a file", run: com2 },
    Test { name: "a crash is reported", run: crash },
    Test { name: "kexec into a second kernel", run: kexec },
];

fn boots(lab: &mut Lab, cpus: u32, boot: Boot) -> Result<()> {
    let outcome = lab.start(&Guest::new("facts").cpus(cpus).boot(boot))?.finish_well()?;
    check_facts(lab, &outcome, cpus)
}

fn much_memory(lab: &mut Lab) -> Result<()> {
    const MIB: u32 = 3584;
    let outcome = lab.start(&Guest::new("facts").memory_mib(MIB))?.finish_well()?;
    let kib: u32 = outcome.value("memory")?.parse().context("no number")?;
    ensure!(kib > MIB * 1024 / 100 * 95, "the guest found only {} of {MIB} MiB", kib / 1024);
    check_facts(lab, &outcome, 2)
}

fn reboots(lab: &mut Lab) -> Result<()> {
    let mut vm = lab.start(&Guest::new("console"))?;
    for _ in 0..3 {
        vm.expect("lab: ready")?;
        vm.tell("reboot")?;
    }
    vm.expect("lab: ready")?;
    vm.tell("poweroff")?;
    let outcome = vm.finish_well()?;
    if lab.wishes.vmm == Vmm::Busman {
        let report = outcome.report()?;
        ensure!(report.resets == 3, "the report tells of {} resets instead of 3", report.resets);
        ensure!(report.end == "power-off", "the report ends with {:?}", report.end);
    }
    Ok(())
}

fn once(lab: &mut Lab) -> Result<()> {
    let mut vm = lab.start(&Guest::new("console").once())?;
    vm.expect("lab: ready")?;
    vm.tell("reboot")?;
    let outcome = vm.finish_well()?;
    if lab.wishes.vmm == Vmm::Busman {
        let end = outcome.report()?.end;
        ensure!(end == "reset", "the report ends with {end:?}");
    }
    Ok(())
}

/// As much as several buffers of the port take, by interrupts.
fn com2(lab: &mut Lab) -> Result<()> {
    ensure!(lab.wishes.vmm == Vmm::Busman, "only busman takes --com2");
    let path = lab.logs().join("boot-com2.txt");
    std::fs::write(&path, "from the last run\n")?;
    let mut vm = lab.start(&Guest::new("console").com2(&path))?;
    vm.expect("lab: ready")?;
    vm.tell("second 2000")?;
    vm.expect("lab: ready")?;
    vm.tell("poweroff")?;
    vm.finish_well()?;
    let text = std::fs::read_to_string(&path)?;
    let lines: Vec<&str> = text.lines().collect();
    ensure!(lines.first() == Some(&"from the last run"), "the file begins with {:?}", lines.first());
    let numbers = (1..=2000).map(|number| number.to_string());
    let arrived = lines.iter().skip(1).map(|line| line.trim_end());
    ensure!(numbers.eq(arrived), "COM2 brought {} lines of 2000, or others", lines.len() - 1);
    Ok(())
}

fn crash(lab: &mut Lab) -> Result<()> {
    let mut vm = lab.start(&Guest::new("console").once())?;
    vm.expect("lab: ready")?;
    vm.tell("crash")?;
    let outcome = vm.finish()?;
    if lab.wishes.vmm == Vmm::Busman {
        let report = outcome.report()?;
        ensure!(report.crash.is_some(), "the report does not tell of the crash");
        ensure!(outcome.log.contains("crash"), "the log does not tell of the crash: {:?}", outcome.log);
    }
    Ok(())
}

fn kexec(lab: &mut Lab) -> Result<()> {
    let outcome = lab.start(&Guest::new("kexec").kexec())?.finish_well()?;
    let first = outcome.value("first")?;
    ensure!(!first.is_empty(), "the first kernel did not connect");
    check_facts(lab, &outcome, 2)
}
