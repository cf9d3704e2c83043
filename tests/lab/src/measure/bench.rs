//! What criterion measured of rings: packets between two threads of this machine, beside copies of the same bytes.
//!
//! No guest takes part. devices/benches/ring.rs says what each of the four does; ratios are of one run.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::{Figures, criterion};
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
    take(&busman::target()?.join("criterion/ring"), figures)
}

/// Takes the figures that criterion left in a folder.
fn take(estimates: &Path, figures: &mut Figures) -> Result<()> {
    for measured in MEASURED {
        for (pages, bytes) in RINGS.iter().flat_map(|pages| PAYLOADS.map(|bytes| (pages, bytes))) {
            let nanoseconds =
                |what: &str| criterion::median(&estimates.join(format!("{what}_{pages}/{bytes}/new")));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_ratios_are_those_of_the_medians() {
        let folder = std::env::temp_dir().join(format!("busman-lab-estimates-{}", std::process::id()));
        for (what, nanoseconds) in
            MEASURED.map(|what| (what, 100)).into_iter().chain([("memcpy", 25), ("memcpy_between", 80)])
        {
            for (pages, bytes) in RINGS.iter().flat_map(|pages| PAYLOADS.map(|bytes| (pages, bytes))) {
                let new = folder.join(format!("{what}_{pages}/{bytes}/new"));
                std::fs::create_dir_all(&new).unwrap();
                let text = format!(
                    r#"{{"mean":{{"point_estimate":7}},"median":{{"point_estimate":{nanoseconds}.0}}}}"#
                );
                std::fs::write(new.join("estimates.json"), text).unwrap();
            }
        }
        let mut figures = Figures::default();
        take(&folder, &mut figures).unwrap();
        assert_eq!(figures.rows.len(), 16);
        let (name, row, _) = &figures.rows[2];
        assert_eq!(name, "host_reads, 16 pages, 4096 B");
        let expected =
            json!({ "packets/s": 1e7, "GB/s": 40.96, "of memcpy": 0.25, "of memcpy_between": 0.8 });
        assert_eq!(*row, expected);
        std::fs::remove_file(folder.join("memcpy_512/64/new/estimates.json")).unwrap();
        assert!(take(&folder, &mut figures).is_err());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
