//! One line for each thing that must be so: what was seen, and whether that is a pass.
//!
//! Made of [`Evidence`] alone, so recorded evidence tests it. What was not seen is no pass.

mod guest;
mod host;
#[cfg(test)]
mod tests;

use serde::Serialize;

use super::Evidence;

/// What one line comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Pass,
    Fail,
    /// Nothing tells whether it is so.
    NotSeen,
}

impl Outcome {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "FAIL",
            Self::NotSeen => "not seen",
        }
    }
}

/// A line of the verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// What is judged.
    pub check: String,
    pub outcome: Outcome,
    /// Whether the run fails if this is no pass.
    pub required: bool,
    /// What was seen.
    pub evidence: String,
}

impl Line {
    fn new(check: impl Into<String>, outcome: Outcome, evidence: impl Into<String>) -> Self {
        Line { check: check.into(), outcome, required: true, evidence: evidence.into() }
    }

    fn pass(check: impl Into<String>, evidence: impl Into<String>) -> Self {
        Self::new(check, Outcome::Pass, evidence)
    }

    fn fail(check: impl Into<String>, evidence: impl Into<String>) -> Self {
        Self::new(check, Outcome::Fail, evidence)
    }

    fn not_seen(check: impl Into<String>, evidence: impl Into<String>) -> Self {
        Self::new(check, Outcome::NotSeen, evidence)
    }

    fn required_if(self, required: bool) -> Self {
        Line { required, ..self }
    }
}

/// The verdict: first what the host saw, then what the guest says of itself.
pub fn of(evidence: &Evidence) -> Vec<Line> {
    let mut lines = host::lines(evidence);
    lines.extend(guest::lines(evidence));
    lines
}

/// Whether every required line is a pass.
pub fn passed(lines: &[Line]) -> bool {
    lines.iter().all(|line| !line.required || line.outcome == Outcome::Pass)
}
