//! `cargo lab test`: every check of the project in one table.
//!
//! Nothing is skipped in silence: what cannot run is a failure. The last line is `N passed, N failed`.

use std::iter;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::lab::{Lab, Wishes};
use crate::table::Table;
use crate::tests::{FAMILIES, Family, Test};
use crate::{busman, fuzz, host, packages, progress, tshark};

/// The word for the fuzz targets, which are no guests.
const FUZZ: &str = "fuzz";

/// What one part of the suite came to.
struct Part {
    name: String,
    passed: u64,
    failed: u64,
    seconds: f64,
}

/// Which whole-VM tests to run.
pub struct Choice {
    /// One family, otherwise everything, which is more than whole-VM tests.
    pub family: Option<String>,
    /// A part of the names of the tests.
    pub filter: Option<String>,
    /// How many times each.
    pub repeat: u32,
}

impl Choice {
    fn tests<'a>(&'a self, family: &'a Family) -> impl Iterator<Item = &'a Test> {
        let chosen = |test: &&Test| self.filter.as_ref().is_none_or(|text| test.name.contains(text.as_str()));
        let slow = if self.family.is_some() { family.slow } else { &[] };
        (0..self.repeat).flat_map(move |_| family.tests.iter().chain(slow).filter(chosen))
    }
}

/// Runs what was chosen.
pub fn run(wishes: Wishes, choice: &Choice) -> Result<ExitCode> {
    let family = choice.family.as_deref();
    let mut parts = Vec::new();
    if family.is_none() {
        parts.push(command("format", &["fmt", "--all", "--check"])?);
        parts.push(command(
            "lints",
            &["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"],
        )?);
        parts.push(command("documentation", &["doc", "--workspace", "--no-deps", "--all-features"])?);
        parts.push(command("unit, property and doc tests", &["test", "--workspace", "--no-fail-fast"])?);
        parts.push(dissector()?);
        parts.push(images()?);
        parts.push(viewers()?);
        parts.push(hives()?);
        parts.push(tpms()?);
    }
    if family.is_none_or(|name| name == FUZZ) {
        parts.push(fuzz_targets());
    }
    let chosen = |f: &&Family| family.is_none_or(|name| name == f.name);
    let families: Vec<&Family> = FAMILIES.iter().filter(chosen).collect();
    if families.is_empty() && parts.is_empty() {
        let names: Vec<&str> = FAMILIES.iter().map(|family| family.name).chain([FUZZ]).collect();
        bail!("there is no family {}; there are {}", family.unwrap_or_default(), names.join(", "));
    }
    if !families.is_empty() {
        parts.extend(guests(wishes, &families, choice));
    }

    let mut table = Table::new(&["part", "passed", "failed", "seconds"]);
    for part in &parts {
        let seconds = format!("{:.0}", part.seconds);
        table.row([part.name.clone(), part.passed.to_string(), part.failed.to_string(), seconds]);
    }
    let passed: u64 = parts.iter().map(|part| part.passed).sum();
    let failed: u64 = parts.iter().map(|part| part.failed).sum();
    println!("\n{table}");
    for left_out in FAMILIES.iter().filter(|f| family.is_none() && !f.slow.is_empty()) {
        for test in left_out.slow {
            println!("not run, because it takes minutes: {} (`cargo lab test {}`)", test.name, left_out.name);
        }
    }
    println!("{passed} passed, {failed} failed");
    Ok(if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The tests that need tshark; without it they fail, and say so.
fn dissector() -> Result<Part> {
    if let Err(error) = packages::install_tools(&tshark::TOOLS) {
        progress::say(&format!("No Wireshark: {error:#}"));
    }
    let test =
        ["test", "--package", "devices", "--features", "testing", "--test", "trace", "--", "--ignored"];
    command("Wireshark dissector", &test)
}

/// A short run of each fuzz target.
fn fuzz_targets() -> Part {
    let begin = Instant::now();
    let (passed, failed) = fuzz::run_all().unwrap_or_else(|error| {
        progress::say(&format!("No fuzzing: {error:#}"));
        (0, 1)
    });
    Part { name: "fuzz targets".to_owned(), passed, failed, seconds: begin.elapsed().as_secs_f64() }
}

/// The tests of disks that need other people's programs; without them they fail, and say so.
fn images() -> Result<Part> {
    let tools = [
        ("qemu-img", "qemu-utils"),
        ("vhdiinfo", "libvhdi-utils"),
        ("fusermount", "fuse3"),
        ("sg_inq", "sg3-utils"),
    ];
    if let Err(error) = packages::install_tools(&tools) {
        progress::say(&format!("Nothing to compare disk images with: {error:#}"));
    }
    command(
        "disks, by other programs",
        &["test", "--package", "devices", "--lib", "--test", "vhdx", "--test", "images", "--", "--ignored"],
    )
}

/// The tests of the VNC server that need other people's viewers; without them they fail, and say so.
fn viewers() -> Result<Part> {
    let tools = [
        ("gvnccapture", "gvncviewer"),
        ("vncsnapshot", "vncsnapshot"),
        ("xtigervncviewer", "tigervnc-viewer"),
        ("tigervncpasswd", "tigervnc-tools"),
        ("Xvfb", "xvfb"),
        ("xdotool", "xdotool"),
        ("setxkbmap", "x11-xkb-utils"),
        ("xtightvncviewer", "xtightvncviewer"),
        ("djpeg", "libjpeg-turbo-progs"),
    ];
    if let Err(error) = packages::install_tools(&tools) {
        progress::say(&format!("Nothing to look at the VNC server with: {error:#}"));
    }
    command("VNC, by other viewers", &["test", "--package", "busman", "--lib", "vnc::", "--", "--ignored"])
}

/// The tests of registry hives that need other people's programs; without them they fail, and say so.
fn hives() -> Result<Part> {
    let tools = [("hivexregedit", "libwin-hivex-perl"), ("reglookup", "reglookup"), ("reged", "chntpw")];
    if let Err(error) = packages::install_tools(&tools) {
        progress::say(&format!("Nothing to read hives with: {error:#}"));
    }
    command("hives, by other programs", &["test", "--package", "busman", "--lib", "imc::", "--", "--ignored"])
}

/// The tests of the TPM that need swtpm; without it they fail, and say so.
fn tpms() -> Result<Part> {
    if let Err(error) = packages::install_tools(&[("swtpm", "swtpm")]) {
        progress::say(&format!("No TPM: {error:#}"));
    }
    command("TPM, by swtpm", &["test", "--package", "busman", "--lib", "tpm::", "--", "--ignored"])
}

/// A part that is one cargo command: as many checks as it says test results, otherwise one.
fn command(name: &str, arguments: &[&str]) -> Result<Part> {
    let begin = Instant::now();
    let step = progress::step(format!("{name}: cargo {}", arguments.join(" ")));
    let output = busman::cargo(arguments).env("RUSTDOCFLAGS", "-Dwarnings").output().context("run cargo")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let (mut passed, mut failed) = count(&text);
    if passed + failed == 0 || (failed == 0 && !output.status.success()) {
        *(if output.status.success() { &mut passed } else { &mut failed }) += 1;
    }
    if output.status.success() {
        step.done("passed");
    } else {
        drop(step);
        eprintln!("{text}\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(Part { name: name.to_owned(), passed, failed, seconds: begin.elapsed().as_secs_f64() })
}

/// Sums up lines such as `test result: ok. 12 passed; 0 failed; ...`.
fn count(text: &str) -> (u64, u64) {
    let number = |line: &str, word: &str| -> u64 {
        let before = line.split(word).next().and_then(|before| before.split_whitespace().last());
        before.and_then(|number| number.parse().ok()).unwrap_or(0)
    };
    let results = text.lines().filter(|line| line.starts_with("test result:"));
    results.fold((0, 0), |(passed, failed), line| {
        (passed + number(line, " passed"), failed + number(line, " failed"))
    })
}

/// The whole-VM tests, families side by side where that disturbs nobody. A lab that cannot be made ready fails all.
fn guests(wishes: Wishes, families: &[&Family], choice: &Choice) -> Vec<Part> {
    let labs = labs(wishes, families.len()).unwrap_or_else(|error| {
        progress::say(&format!("No guest can run: {error:#}"));
        Vec::new()
    });
    let waiting = Mutex::new(families.iter());
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
    let mut parts: Vec<Part> = thread::scope(|scope| {
        let work = |mut lab: Lab| {
            iter::from_fn(next).map(|family| part(&mut lab, family, choice)).collect::<Vec<_>>()
        };
        let lanes: Vec<_> = labs.into_iter().map(|lab| scope.spawn(move || work(lab))).collect();
        lanes.into_iter().flat_map(|lane| lane.join().unwrap_or_default()).collect()
    });
    // Of those that no lab took: there was none, or its thread panicked.
    let left = families.iter().filter(|family| parts.iter().all(|part| part.name != part_name(family)));
    let left: Vec<Part> = left
        .map(|family| Part {
            name: part_name(family),
            passed: 0,
            failed: choice.tests(family).count() as u64,
            seconds: 0.0,
        })
        .collect();
    parts.extend(left);
    parts.sort_by_key(|part| families.iter().position(|family| part_name(family) == part.name));
    parts
}

fn part_name(family: &Family) -> String {
    format!("guests: {}", family.name)
}

/// As many labs as this machine has room for: an emulated machine keeps one processor busy and takes up to 5 GiB.
fn labs(wishes: Wishes, families: usize) -> Result<Vec<Lab>> {
    const MEMORY: u64 = 8 << 30;
    let processors = thread::available_parallelism()?.get();
    let memory = usize::try_from(host::available_memory()? / MEMORY)?;
    let first = Lab::prepare(wishes, Vec::new())?;
    let more = (2..=families.min(processors).min(memory).min(2)).map(|number| first.another(number));
    let more = more.collect::<Result<Vec<_>>>()?;
    Ok(iter::once(first).chain(more.into_iter().flatten()).collect())
}

/// One family's tests.
fn part(lab: &mut Lab, family: &Family, choice: &Choice) -> Part {
    let begin = Instant::now();
    let (mut passed, mut failed) = (0, 0);
    for test in choice.tests(family) {
        let step = progress::step(format!("{}: {}", family.name, test.name));
        let transcript = lab.label(&format!("{}-{}", family.name, test.name));
        match (test.run)(lab) {
            Ok(()) => {
                passed += 1;
                step.done("passed");
            }
            Err(error) => {
                failed += 1;
                drop(step);
                eprintln!("    {error:#}\n    all that was said: {}; its end:", transcript.display());
                eprintln!("{}", end_of(&transcript));
            }
        }
    }
    Part { name: part_name(family), passed, failed, seconds: begin.elapsed().as_secs_f64() }
}

/// The last lines of a file, indented.
fn end_of(path: &Path) -> String {
    const LINES: usize = 25;
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines.iter().skip(lines.len().saturating_sub(LINES));
    tail.map(|line| format!("      | {}\n", line.trim_end())).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn results_of_all_test_programs_are_added() {
        let text = "test result: ok. 12 passed; 0 failed; 0 ignored\nx\ntest result: FAILED. 3 passed; 2 failed; 1 ignored";
        assert_eq!(super::count(text), (15, 2));
    }
}
