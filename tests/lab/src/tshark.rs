//! Wireshark's opinion of a trace that busman recorded, with the project's dissector.

use std::path::Path;

use anyhow::Result;

use crate::{host, packages};

/// Programs that this needs here, and their packages.
pub const TOOLS: [(&str, &str); 1] = [("tshark", "tshark")];

/// The info column of the records of `trace` that a display filter selects, a line each.
pub fn info(trace: &Path, filter: &str) -> Result<Vec<String>> {
    packages::install_tools(&TOOLS)?;
    let dissector = host::workspace().join("resources/wireshark/busman-vmbus.lua");
    let script = format!("lua_script:{}", dissector.display());
    let file = trace.display().to_string();
    let arguments = ["-X", &script, "-r", &file, "-Y", filter, "-T", "fields", "-e", "_ws.col.Info"];
    Ok(packages::run("tshark", &arguments, None)?.lines().map(str::to_owned).collect())
}
