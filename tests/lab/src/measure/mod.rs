//! `cargo lab measure`: figures as a table and, for machines, as JSON.
//!
//! In the nested lab an exit costs fifty times what it does on hardware, so counts are the figures that carry
//! over; times are given only as ratios of interleaved runs, each of them shown.

mod bench;
mod boot;
mod bus;
mod criterion;
mod platform;
mod rings;
mod storage;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Map, Value, json};

use crate::lab::{Lab, Wishes};
use crate::table::Table;

/// KVM's counters that are worth a line.
const KVM_COUNTERS: [&str; 8] = [
    "exits",
    "io_exits",
    "mmio_exits",
    "halt_exits",
    "hypercalls",
    "irq_injections",
    "signal_exits",
    "host_state_reload",
];

/// What to measure.
#[derive(Debug, Args)]
pub struct Options {
    /// boot, bus, platform, rings or storage
    family: String,
    /// Write the figures to this file as well
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Number of boots and reboots in a row (family boot)
    #[arg(long, default_value_t = 12)]
    boots: u32,
    /// Seconds of traffic with random openings and closings, 7200 for instance (family rings)
    #[arg(long, default_value_t = 0)]
    soak: u64,
    /// Leave out what needs no guest: packets between two threads, a minute (family rings)
    #[arg(long)]
    no_bench: bool,
    /// Seconds of idling (families bus and platform; for the latter 60 at least)
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Only the comparison with QEMU (family storage)
    #[arg(long)]
    only_pairs: bool,
    /// Pairs of runs, busman and QEMU in turn, which are compared (families platform and storage)
    #[arg(long, default_value_t = 3)]
    pairs: usize,
}

/// Figures in the order in which they were taken.
#[derive(Debug, Default)]
pub struct Figures {
    rows: Vec<(String, Value, &'static str)>,
}

impl Figures {
    /// Adds a figure with its unit.
    fn add(&mut self, name: &str, value: impl Into<Value>, unit: &'static str) {
        self.rows.push((name.to_owned(), value.into(), unit));
    }

    fn table(&self) -> Table {
        let mut table = Table::new(&["figure", "value", "unit"]);
        for (name, value, unit) in &self.rows {
            table.row([name.clone(), text(value), (*unit).to_owned()]);
        }
        table
    }

    fn json(&self) -> Map<String, Value> {
        let row = |(name, value, unit): &(String, Value, &'static str)| {
            (name.clone(), json!({ "value": value, "unit": unit }))
        };
        self.rows.iter().map(row).collect()
    }
}

/// Takes the figures of a family.
pub fn run(wishes: Wishes, options: &Options) -> Result<ExitCode> {
    let family = match options.family.as_str() {
        "boot" => boot::measure,
        "bus" => bus::measure,
        "platform" => platform::measure,
        "rings" => rings::measure,
        "storage" => storage::measure,
        other => {
            bail!("there is nothing to measure for {other}; there are boot, bus, platform, rings and storage")
        }
    };
    let mut lab = Lab::prepare(wishes, Vec::new())?;
    lab.label(&format!("measure-{}", options.family));
    let mut figures = Figures::default();
    // What was measured before a failure is worth having.
    let result = family(&mut lab, options, &mut figures);
    println!("\n{}", figures.table());
    if let Some(path) = &options.json {
        let value = json!({ "family": options.family, "figures": figures.json() });
        std::fs::write(path, format!("{value:#}\n")).with_context(|| format!("write {}", path.display()))?;
    }
    result?;
    Ok(ExitCode::SUCCESS)
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<String>>().join(" "),
        Value::Object(named) => {
            let item = |(name, value): (&String, &Value)| format!("{} {name}", text(value));
            named.iter().map(item).collect::<Vec<String>>().join(", ")
        }
        Value::Number(number) if number.is_f64() => {
            format!("{:.2}", number.as_f64().unwrap_or_default())
        }
        other => other.to_string(),
    }
}

/// The middle one.
fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}
