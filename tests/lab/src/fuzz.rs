//! The fuzz targets, a short run each: they build, and find nothing at once. A finding is left in fuzz/artifacts.
//!
//! cargo-fuzz is this machine's, or one that is built once into the lab's cache. Its sanitizer needs what Rust calls
//! unstable, which RUSTC_BOOTSTRAP allows with any toolchain.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, bail, ensure};

use crate::cache::Cache;
use crate::{busman, host, progress};

/// The cargo-fuzz that is built where there is none.
const VERSION: &str = "0.13.2";

/// How long each target runs.
const SECONDS: u32 = 5;
/// How many run at a time.
const LANES: usize = 2;

/// Runs every target; gives how many passed and failed.
pub fn run_all() -> Result<(u64, u64)> {
    let fuzz = Fuzz { program: program()?, target: busman::target()?.join("fuzz") };
    let step = progress::step("fuzz targets: cargo fuzz build");
    let built = fuzz.run(&["build"])?;
    ensure!(built.status.success(), "the fuzz targets do not build:\n{}", text(&built.stderr));
    step.done("built");
    let list = fuzz.run(&["list"])?;
    let targets = text(&list.stdout);
    let next = Mutex::new(targets.lines());
    let take = || next.lock().unwrap_or_else(PoisonError::into_inner).next();
    let lane = || -> Result<(u64, u64)> {
        let (mut passed, mut failed) = (0, 0);
        while let Some(name) = take() {
            if fuzz.passes(name)? { passed += 1 } else { failed += 1 }
        }
        Ok((passed, failed))
    };
    let done = thread::scope(|scope| {
        let lanes = [(); LANES].map(|()| scope.spawn(lane));
        lanes.map(|lane| lane.join().unwrap_or_else(|_| bail!("a lane of fuzz targets panicked")))
    });
    let (mut passed, mut failed) = (0, 0);
    for lane in done {
        let (more_passed, more_failed) = lane?;
        (passed, failed) = (passed + more_passed, failed + more_failed);
    }
    ensure!(passed + failed > 0, "there are no fuzz targets: {}", text(&list.stderr));
    Ok((passed, failed))
}

struct Fuzz {
    program: PathBuf,
    /// A target folder of its own: everything is built with a sanitizer.
    target: PathBuf,
}

impl Fuzz {
    /// Runs one target for a while.
    fn passes(&self, name: &str) -> Result<bool> {
        let time = format!("-max_total_time={SECONDS}");
        let run = self.run(&["run", name, "--", &time])?;
        let passed = run.status.success();
        progress::say(&format!(
            "fuzz target {name}, {SECONDS} s: {}",
            if passed { "passed" } else { "FAILED" }
        ));
        if !passed {
            eprintln!("{}", text(&run.stderr));
        }
        Ok(passed)
    }

    fn run(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(&self.program);
        command.args(arguments).current_dir(host::workspace());
        command.env("RUSTC_BOOTSTRAP", "1").env("CARGO_TARGET_DIR", &self.target);
        command.output().context("run cargo-fuzz")
    }
}

fn program() -> Result<PathBuf> {
    if let Some(program) = host::find_program("cargo-fuzz") {
        return Ok(program);
    }
    let root = Cache::open()?.entry(&format!("cargo-fuzz-{VERSION}"), install)?;
    Ok(root.join("bin/cargo-fuzz"))
}

fn install(root: &Path) -> Result<()> {
    let step = progress::step(format!("Building cargo-fuzz {VERSION}"));
    let output = busman::cargo(&["install", "cargo-fuzz", "--version", VERSION, "--locked", "--root"])
        .arg(root)
        .env_remove("CARGO_TARGET_DIR")
        .output()
        .context("run cargo")?;
    ensure!(output.status.success(), "cargo-fuzz does not build:\n{}", text(&output.stderr));
    step.done("built");
    Ok(())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
