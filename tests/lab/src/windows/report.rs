//! The verdict for people (a table) and for programs (JSON, described in resources/windows/README.md).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;

use super::results::Results;
use super::run::Run;
use super::trace::Contact;
use super::{Evidence, Line, Outcome, verdict};

/// Version of the JSON.
const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Report<'a> {
    schema: u32,
    version: &'static str,
    expected: &'static str,
    verdict: &'static str,
    lines: &'a [Line],
    run: &'a Run,
    /// busman's report as it is.
    host: Option<Value>,
    trace: Option<&'a [Contact]>,
    guest: Option<&'a Results>,
    /// Why a part is not there.
    missing: BTreeMap<&'static str, &'a str>,
}

/// Writes the JSON; `host` is busman's report.
pub fn write(path: &Path, evidence: &Evidence, lines: &[Line], host: &Path) -> Result<()> {
    let Evidence { profile, run, trace, guest, .. } = evidence;
    let missing = [
        ("host", evidence.host.as_ref().err()),
        ("trace", trace.as_ref().err()),
        ("guest", guest.as_ref().err()),
    ];
    let report = Report {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION"),
        expected: profile.name,
        verdict: if verdict::passed(lines) { "pass" } else { "fail" },
        lines,
        run,
        host: fs::read(host).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()),
        trace: trace.as_deref().ok(),
        guest: guest.as_ref().ok(),
        missing: missing.into_iter().filter_map(|(part, why)| Some((part, why?.as_str()))).collect(),
    };
    Ok(serde_json::to_writer_pretty(File::create(path)?, &report)?)
}

/// The table: a line each, those that a pass needs first.
pub fn text(evidence: &Evidence, lines: &[Line]) -> String {
    let mut text = String::new();
    let width = lines.iter().map(|line| line.check.len()).max().unwrap_or(0);
    let (required, told): (Vec<&Line>, Vec<&Line>) = lines.iter().partition(|line| line.required);
    let row =
        |line: &&Line| format!("{:<8}  {:<width$}  {}\n", line.outcome.word(), line.check, line.evidence);
    text.extend(required.iter().map(row));
    if !told.is_empty() {
        text.push_str("\nand, without a part in the verdict:\n");
        text.extend(told.iter().map(row));
    }
    let passed = required.iter().filter(|line| line.outcome == Outcome::Pass).count();
    let end = if passed == required.len() { "PASS" } else { "FAIL" };
    text.push_str(&format!(
        "\n{end}: {}, {passed} of {} lines passed, {} s\n",
        evidence.profile.name,
        required.len(),
        evidence.run.seconds
    ));
    text
}
