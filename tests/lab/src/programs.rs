//! Programs of Debian's packages for guests: each with the shared libraries that it needs.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::cpio::Archive;

/// Debian's folder of shared libraries.
pub const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// Adds `program` as `to`, and its shared libraries: those in `folders` come first, others are this machine's.
pub fn add(archive: &mut Archive, program: &Path, to: &str, folders: &[PathBuf]) -> Result<()> {
    archive.copy(to, program)?;
    let search = std::env::join_paths(folders)?;
    let output =
        Command::new("ldd").arg(program).env("LD_LIBRARY_PATH", search).output().context("run ldd")?;
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        ensure!(!line.contains("not found"), "{} lacks a library: {}", program.display(), line.trim());
        if let Some(path) = line.split_whitespace().find(|word| word.starts_with('/')) {
            let name = path.rsplit('/').next().unwrap_or(path);
            // The program names its loader by its path; the loader looks for the rest in LIBRARIES.
            let is_loader = path.starts_with("/lib64/");
            let to = if is_loader { path.to_owned() } else { format!("/{LIBRARIES}/{name}") };
            archive.copy(&to, Path::new(path))?;
        }
    }
    Ok(())
}
