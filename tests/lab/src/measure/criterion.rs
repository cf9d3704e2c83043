//! What criterion found out last, from its files in the target folder.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Figures;
use crate::busman;

/// criterion's estimates.json, as far as it matters here; times are in ns for an iteration.
#[derive(Debug, Deserialize)]
struct Estimates {
    median: Estimate,
}

#[derive(Debug, Deserialize)]
struct Estimate {
    point_estimate: f64,
}

/// criterion's benchmark.json: the benchmark's name, and what an iteration does.
#[derive(Debug, Deserialize)]
struct Benchmark {
    full_id: String,
    throughput: Option<Throughput>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Throughput {
    elements: Option<f64>,
}

/// Adds the results of a group of benchmarks, if they were run here.
pub fn add(group: &str, figures: &mut Figures) -> Result<()> {
    let mut folders = Vec::new();
    results(&busman::target()?.join("criterion").join(group), &mut folders);
    folders.sort();
    for folder in folders {
        let benchmark: Benchmark = from_file(&folder.join("benchmark.json"))?;
        let median = median(&folder)?;
        let name = format!("criterion: {}", benchmark.full_id);
        match benchmark.throughput.and_then(|throughput| throughput.elements) {
            Some(elements) => figures.add(&name, (elements * 1e9 / median).round(), "1/s"),
            None => figures.add(&name, median, "ns"),
        }
    }
    Ok(())
}

/// The median of a benchmark, in nanoseconds for an iteration, from the folder of its last result.
pub fn median(folder: &Path) -> Result<f64> {
    let estimates: Estimates = from_file(&folder.join("estimates.json"))?;
    Ok(estimates.median.point_estimate)
}

/// The folders below `folder` that hold the last result of a benchmark.
fn results(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.ends_with("new") && path.join("estimates.json").exists() {
            found.push(path);
        } else if path.is_dir() {
            results(&path, found);
        }
    }
}

fn from_file<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("understand {}", path.display()))
}
