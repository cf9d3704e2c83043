//! The fuzz targets, a short run each: they build, and find nothing at once. A finding is left in fuzz/artifacts.
//!
//! cargo-fuzz is this machine's, or one that is built once into the lab's cache. Its sanitizer needs what Rust calls
//! unstable, which RUSTC_BOOTSTRAP allows with any toolchain.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};

use crate::cache::Cache;
use crate::{busman, host, progress};

/// The cargo-fuzz that is built where there is none.
const VERSION: &str = "0.13.2";

/// How long each target runs.
const SECONDS: u32 = 5;

/// Runs every target; gives how many passed and failed.
pub fn run_all() -> Result<(u64, u64)> {
    let fuzz = Fuzz { program: program()?, target: busman::target()?.join("fuzz") };
    let step = progress::step("fuzz targets: cargo fuzz build");
    let built = fuzz.run(&["build"])?;
    ensure!(built.status.success(), "the fuzz targets do not build:\n{}", text(&built.stderr));
    step.done("built");
    let list = fuzz.run(&["list"])?;
    let (mut passed, mut failed) = (0, 0);
    for name in text(&list.stdout).lines() {
        let time = format!("-max_total_time={SECONDS}");
        let step = progress::step(format!("fuzz targets: cargo fuzz run {name} -- {time}"));
        let run = fuzz.run(&["run", name, "--", &time])?;
        if run.status.success() {
            passed += 1;
            step.done("passed");
        } else {
            failed += 1;
            drop(step);
            eprintln!("{}", text(&run.stderr));
        }
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
