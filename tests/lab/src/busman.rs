//! The VMM under test: how it is built, its command line, and the report that it leaves.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::{host, progress, wire};

/// Builds busman as users get it (release profile) and gives its path.
pub fn build() -> Result<PathBuf> {
    let step = progress::step("Building busman");
    let log = logs()?.join("build.log");
    let output = cargo(&["build", "--release", "--package", "busman", "--bin", "busman"])
        .output()
        .context("run cargo")?;
    if !output.status.success() {
        bail!("busman does not build:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    std::fs::write(&log, &output.stderr)?;
    step.done("built");
    Ok(target()?.join("release/busman"))
}

/// A cargo command in the workspace, with the target folder that this lab was built into.
pub fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(host::workspace());
    if let Ok(target) = target() {
        command.env("CARGO_TARGET_DIR", target);
    }
    // What cargo set for this lab's own run is not meant for the builds that it starts.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CARGO_PKG_"))
    {
        command.env_remove(name);
    }
    command.env_remove("CARGO_MANIFEST_DIR").env_remove("CARGO_MANIFEST_PATH");
    command
}

/// Cargo's target folder: this executable is in one of its profiles' folders.
pub fn target() -> Result<PathBuf> {
    let exe = std::env::current_exe()?;
    Ok(exe.ancestors().nth(2).context("the lab is not in a target folder")?.to_owned())
}

/// The folder of everything that a run of the lab writes.
pub fn logs() -> Result<PathBuf> {
    let logs = target()?.join("lab");
    std::fs::create_dir_all(&logs).with_context(|| format!("create {}", logs.display()))?;
    Ok(logs)
}

/// What `busman run --report` writes. Absent parts are zero: the lab must be able to say what is missing.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
pub struct Report {
    pub end: String,
    pub resets: u64,
    pub start_to_guest_us: u64,
    pub crash: Option<String>,
    pub heartbeat: Option<Heartbeat>,
    pub loopback: Option<Loopback>,
    pub vcpus: Vec<Vcpu>,
    pub vmbus: Vmbus,
    pub channels: Vec<Channel>,
    pub contacts: Vec<Contact>,
}

/// One contact of a guest with the bus.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
pub struct Contact {
    pub resets: u64,
    pub guest_os_id: String,
    pub guest: String,
    pub version: String,
    pub granted: bool,
    pub features: u32,
    pub client_id: Option<String>,
    pub message_vp: u32,
}

/// One vCPU: its exits to user space, by reason.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
pub struct Vcpu {
    pub exits: std::collections::BTreeMap<String, u64>,
}

/// The heartbeat.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
pub struct Heartbeat {
    pub beats: u64,
}

/// What the loopback device would not do.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Loopback {
    pub dropped: u64,
    pub refused: u64,
}

/// The control plane.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
pub struct Vmbus {
    pub protocol: String,
    pub messages_in: u64,
    pub messages_out: u64,
    pub contacts: u64,
    pub refusals: std::collections::BTreeMap<String, u64>,
}

/// One channel; "outgoing" is from guest to host, as the guest says it.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
pub struct Channel {
    pub device: String,
    pub interface: String,
    pub instance: String,
    pub id: u64,
    pub state: String,
    pub protocol: String,
    pub opens: u64,
    pub gpadl_pages: u64,
    pub outgoing_pages: u64,
    pub incoming_pages: u64,
    pub outgoing_bytes: u64,
    pub incoming_bytes: u64,
    pub packets_in: u64,
    pub bytes_in: u64,
    pub packets_out: u64,
    pub bytes_out: u64,
    pub signals_in: u64,
    pub signals_out: u64,
    pub exits: u64,
}

impl Report {
    /// Reads a report.
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read(path).with_context(|| format!("busman left no report {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is no report", path.display()))
    }

    /// Exits to user space of all vCPUs, by reason.
    pub fn exits(&self) -> std::collections::BTreeMap<String, u64> {
        let mut sum = std::collections::BTreeMap::new();
        for (reason, count) in self.vcpus.iter().flat_map(|vcpu| &vcpu.exits) {
            *sum.entry(reason.clone()).or_default() += count;
        }
        sum
    }

    /// How many of them there are beyond another run's.
    pub fn exits_beyond(&self, other: &Report) -> std::collections::BTreeMap<String, u64> {
        wire::growth(self.exits(), &other.exits())
    }

    /// The channel of a device.
    pub fn channel(&self, device: &str) -> Result<&Channel> {
        self.channels.iter().find(|channel| channel.device == device).with_context(|| {
            let names: Vec<&str> = self.channels.iter().map(|channel| channel.device.as_str()).collect();
            format!("the report has no channel of {device}; it has {}", names.join(", "))
        })
    }
}
