//! Family `windows`: `cargo lab windows`, with Linux in Windows' place (resources/guest/tests/windows.sh).
//!
//! That tests the test: that it sees what is there, and that it fails for what is not. It says nothing of Windows.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Test;
use crate::cache::Cache;
use crate::cpio::Archive;
use crate::lab::Lab;
use crate::packages::Packages;
use crate::vmm::Vmm;
use crate::windows::{self, Input, Line, Machine, Media, Outcome, Patience, Shape};
use crate::{firmware, guest};

pub const TESTS: &[Test] = &[
    Test { name: "two contacts, all drivers, a clean end", run: passes },
    Test { name: "a file without a signature fails", run: unsigned },
    Test { name: "results that are cut off fail", run: truncated },
    Test { name: "a guest that never shuts down is stopped and fails", run: busy },
    Test { name: "a firmware that finds no system is stopped and fails", run: no_system },
];

/// What a guest needs to write results.
const MODULES: [&str; 3] = ["vfat", "nls_cp437", "nls_ascii"];

/// The Linux guest's files, and around them those of one that starts it through kexec.
fn initrd(lab: &Lab) -> Result<PathBuf> {
    let cache = Cache::open()?;
    let packages = Packages::fetch(&cache, &["kexec-tools"], &guest::NEEDS, |_, _| Ok(()))?;
    let mut modules = Archive::default();
    guest::add_modules(&mut modules, &lab.images.kernel, &MODULES)?;
    let second = [std::fs::read(&lab.images.base)?, modules.finish()].concat();
    let mut first = Archive::default();
    first.copy("/kexec/vmlinuz", &lab.images.kernel.bzimage)?;
    first.file("/kexec/initramfs", &second);
    guest::add_kexec(&packages, &mut first)?;
    cache.content("images/guest-windows", &[std::fs::read(&lab.images.base)?, first.finish()].concat())
}

/// Runs the guest with one flaw, and gives the verdict.
fn judge(lab: &mut Lab, flaw: &str, patience: Patience) -> Result<Vec<Line>> {
    ensure!(lab.wishes.vmm == Vmm::Busman, "only busman leaves what is judged here");
    let initrd = initrd(lab)?;
    let kernel = lab.images.kernel.vmlinux.clone();
    let media = Media::make(lab, "windows-test", None)?;
    let words =
        "console=ttyS0 quiet panic=-1 lab.script=windows lab.part=firmware lab.modules=hv_vmbus,hv_storvsc";
    let cmdline = format!("{words} lab.flaw={flaw}");
    let machine = Machine::linux(&media, &kernel, &initrd, &cmdline, patience);
    windows::judge(lab, &machine, &media)
}

const PATIENCE: Patience = Patience { results: Duration::from_secs(280), shutdown: Duration::from_secs(120) };

fn passes(lab: &mut Lab) -> Result<()> {
    let lines = judge(lab, "none", PATIENCE)?;
    let wrong: Vec<String> = lines
        .iter()
        .filter(|line| line.required && line.outcome != Outcome::Pass)
        .map(|line| format!("{}: {} ({})", line.outcome.word(), line.check, line.evidence))
        .collect();
    ensure!(wrong.is_empty(), "{}", wrong.join(" | "));
    for check in ["contact of the first kernel", "contact of the operating system", "the bus was handed over"]
    {
        must(&lines, check, Outcome::Pass, "")?;
    }
    must(&lines, "storage rings of the first kernel", Outcome::Pass, "pages, the ring to the guest from page")
}

fn unsigned(lab: &mut Lab) -> Result<()> {
    let lines = judge(lab, "unsigned", PATIENCE)?;
    must(&lines, "hv_utils.ko loaded and signed", Outcome::Fail, "hv_utils.ko is not signed validly")?;
    only(&lines, &["hv_utils.ko loaded and signed"])
}

fn truncated(lab: &mut Lab) -> Result<()> {
    let lines = judge(lab, "truncated", PATIENCE)?;
    must(&lines, "results of the guest", Outcome::Fail, "are cut off or broken")?;
    only(&lines, &["results of the guest"])
}

fn busy(lab: &mut Lab) -> Result<()> {
    let lines = judge(lab, "busy", Patience { shutdown: Duration::from_secs(10), ..PATIENCE })?;
    must(&lines, "shut down by its service", Outcome::Fail, "it was asked to and did not; it was stopped")?;
    only(&lines, &["shut down by its service"])
}

/// The way of the command itself, with the synthetic firmware and an empty disk.
fn no_system(lab: &mut Lab) -> Result<()> {
    ensure!(lab.wishes.vmm == Vmm::Busman, "only busman boots this firmware");
    let image = lab.logs().join("empty.vhdx");
    let path = image.display().to_string();
    lab.sh("rm -f \"$1\"", &[&path])?;
    lab.run_busman(&["image", "create", &path, "--size", "1G"])?;
    let before = std::fs::read(&image)?;
    let input = Input { image, firmware: firmware::image()? };
    let media = Media::make(lab, "windows-test", Some(&input.image))?;
    let shape = Shape { cpus: 1, memory: "512M", tpm: false, more: &[] };
    let patience = Patience { results: Duration::from_secs(60), ..PATIENCE };
    let machine = Machine::windows(lab, &media, &input, &shape, patience)?;
    let lines = windows::judge(lab, &machine, &media)?;
    must(&lines, "contact of the firmware", Outcome::Pass, "asked for 6.0, 6.0 granted")?;
    must(&lines, "contact of the operating system", Outcome::NotSeen, "nobody made contact")?;
    must(&lines, "results of the guest", Outcome::Fail, "its script never said that it began")?;
    must(&lines, "shut down by its service", Outcome::NotSeen, "it was stopped when its time was over")?;
    ensure!(std::fs::read(&input.image)? == before, "the image itself was written to");
    Ok(())
}

/// A line of the verdict must say so.
fn must(lines: &[Line], check: &str, outcome: Outcome, text: &str) -> Result<()> {
    let line = lines.iter().find(|line| line.check == check);
    let line = line.with_context(|| format!("the verdict has no line {check:?}"))?;
    ensure!(
        line.outcome == outcome && line.evidence.contains(text),
        "{check:?} is {} ({})",
        line.outcome.word(),
        line.evidence
    );
    Ok(())
}

/// No other line may have failed.
fn only(lines: &[Line], checks: &[&str]) -> Result<()> {
    let failed = lines.iter().filter(|line| line.required && line.outcome != Outcome::Pass);
    let others: Vec<&str> =
        failed.map(|line| line.check.as_str()).filter(|check| !checks.contains(check)).collect();
    ensure!(others.is_empty(), "these lines failed too: {}", others.join(", "));
    Ok(())
}
