//! Debian packages: some are installed (tools that run here), others only unpacked into the cache (kernels
//! and programs that run in guests). No kernel is ever installed.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::cache::Cache;
use crate::{host, progress};

/// Makes sure that the programs are there: each is a program's name and the package that has it.
pub fn install_tools(tools: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<&str> = tools
        .iter()
        .filter(|(program, _)| host::find_program(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut arguments = vec!["install", "-y", "--no-install-recommends"];
    arguments.extend(&missing);
    if !host::is_root() {
        bail!(
            "this machine lacks {}; as root: apt-get {}",
            missing.join(", "),
            arguments.join(" ")
        );
    }
    update()?;
    let step = progress::step(format!("Missing here: {}; installing", missing.join(", ")));
    run("apt-get", &arguments, None)?;
    step.done("installed");
    Ok(())
}

/// Refreshes apt's lists. A broken third-party source is no reason to stop: what is needed may still be had.
fn update() -> Result<()> {
    if !host::is_root() {
        bail!("apt's package lists are missing or too old; as root: apt-get update");
    }
    let step = progress::step("Refreshing apt's package lists");
    match run("apt-get", &["update"], None) {
        Ok(_) => step.done("done"),
        Err(error) => step.done(&format!("with errors ({error:#})")),
    }
    Ok(())
}

/// The package that a metapackage stands for now: its only dependency whose name starts with `prefix`.
pub fn resolve(metapackage: &str, prefix: &str) -> Result<String> {
    dependency(metapackage, prefix)
        .or_else(|_| update().and_then(|()| dependency(metapackage, prefix)))
        .with_context(|| format!("find what Debian's {metapackage} stands for (the lab needs Debian and its packages)"))
}

fn dependency(metapackage: &str, prefix: &str) -> Result<String> {
    let text = run("apt-cache", &["depends", metapackage], None)?;
    let names = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "));
    let found = names
        .map(|name| name.trim_matches(['<', '>']))
        .find(|name| name.starts_with(prefix));
    Ok(found
        .context("apt-cache knows no such dependency")?
        .to_owned())
}

/// The packages that a package needs, directly or not, whose names start with `prefix`.
pub fn recursive_dependencies(package: &str, prefix: &str) -> Result<Vec<String>> {
    let text = run(
        "apt-cache",
        &["depends", "--recurse", "--important", package],
        None,
    )?;
    Ok(text
        .lines()
        .filter(|line| line.starts_with(prefix))
        .map(str::to_owned)
        .collect())
}

/// The unpacked file tree of a package, in the cache; `finish` may add to it when it is new.
pub fn unpacked(
    cache: &Cache,
    package: &str,
    finish: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let file = archive_name(package).or_else(|_| update().and_then(|()| archive_name(package)))?;
    cache.entry(
        &format!("packages/{}", file.trim_end_matches(".deb")),
        |path| {
            let step = progress::step(format!("Fetching {package}"));
            let download = path.with_extension("download");
            std::fs::create_dir_all(&download)?;
            let fetch = || run("apt-get", &["download", package], Some(&download));
            // Lists older than the archive name files that are gone.
            fetch().or_else(|_| update().and_then(|()| fetch()))?;
            let archive = std::fs::read_dir(&download)?
                .next()
                .context("apt-get downloaded nothing")??
                .path();
            run(
                "dpkg",
                &["-x".as_ref(), archive.as_os_str(), path.as_os_str()],
                None,
            )?;
            std::fs::remove_dir_all(&download)?;
            finish(path)?;
            step.done("unpacked");
            Ok(())
        },
    )
}

/// The file name of a package's newest version, which tells its version too.
fn archive_name(package: &str) -> Result<String> {
    let text = run("apt-get", &["download", "--print-uris", package], None)?;
    let name = text
        .lines()
        .find(|line| line.starts_with('\''))
        .and_then(|line| line.split(' ').nth(1));
    Ok(name
        .with_context(|| format!("apt-get does not say where {package} is"))?
        .to_owned())
}

/// Runs a program to its end and gives its output; its own words when it fails.
pub fn run<A: AsRef<OsStr>>(program: &str, arguments: &[A], dir: Option<&Path>) -> Result<String> {
    let path =
        host::find_program(program).with_context(|| format!("{program} is not installed"))?;
    let mut command = Command::new(path);
    command
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C")
        .stdin(Stdio::null());
    if let Some(dir) = dir {
        command.current_dir(dir);
    }
    let output = command.output().with_context(|| format!("run {program}"))?;
    if !output.status.success() {
        bail!(
            "{program} failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
