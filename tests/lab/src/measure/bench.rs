//! What criterion measured of rings: packets between two threads of this machine, beside copies of the same bytes.
//!
//! No guest takes part. devices/benches/ring.rs says what each of the four does; ratios are of one run.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::Figures;
use crate::{busman, progress};

/// What is compared, and with what.
const MEASURED: [&str; 2] = ["host_reads", "host_writes"];
const COPIES: [&str; 2] = ["memcpy", "memcpy_between"];

/// Pages of a ring, and bytes of a packet's payload.
const RINGS: [u32; 2] = [16, 512];
const PAYLOADS: [u32; 4] = [64, 512, 4096, 16384];

/// Runs the benchmark and takes its figures.
pub fn measure(figures: &mut Figures) -> Result<()> {
    let step = progress::step("Packets in rings between two threads: cargo bench");
    let output = busman::cargo(&["bench", "--package", "devices", "--bench", "ring", "--", "--noplot"])
        .output()
        .context("run cargo")?;
    ensure!(output.status.success(), "the benchmark fails:\n{}", String::from_utf8_lossy(&output.stderr));
    step.done("done");
    let estimates = busman::target()?.join("criterion/ring");
    for measured in MEASURED {
        for (pages, bytes) in RINGS.iter().flat_map(|pages| PAYLOADS.map(|bytes| (pages, bytes))) {
            let nanoseconds = |what: &str| median(&estimates, &format!("{what}_{pages}/{bytes}"));
            let packet = nanoseconds(measured)?;
            let mut row = json!({ "packets/s": (1e9 / packet).round(), "GB/s": f64::from(bytes) / packet });
            for copy in COPIES {
                row[format!("of {copy}")] = json!(nanoseconds(copy)? / packet);
            }
            figures.add(&format!("{measured}, {pages} pages, {bytes} B"), row, "");
        }
    }
    Ok(())
}

/// Nanoseconds that a packet took.
fn median(estimates: &Path, id: &str) -> Result<f64> {
    let path = estimates.join(id).join("new/estimates.json");
    let text = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    let estimates: Value = serde_json::from_slice(&text)?;
    let median = estimates.pointer("/median/point_estimate").and_then(Value::as_f64);
    median.with_context(|| format!("{} has no median", path.display()))
}
