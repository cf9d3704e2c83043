//! Hyper-V's features by name, as users choose them: `--hyperv default,-stimer-direct,+reset`.
//!
//! What a name stands for is one row of `FEATURES`.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::{Registers, bit};
use ByDefault::{Hidden, Shown, WithoutApicv};

/// A row of the table.
pub(super) struct Feature {
    pub name: &'static str,
    /// Bits of leaf FEATURES.
    pub features: Registers,
    /// Bits of leaf RECOMMENDATIONS, register EAX.
    pub hints: u32,
    by_default: ByDefault,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ByDefault {
    Shown,
    Hidden,
    /// Shown where the host's processors do not virtualize the APIC.
    WithoutApicv,
}

const fn row(name: &'static str, features: Registers, hints: u32, by_default: ByDefault) -> Feature {
    Feature { name, features, hints, by_default }
}

/// Every feature by name; the defaults are what Windows is said to want (QEMU's and OpenVMM's experience).
const FEATURES: &[Feature] = &[
    row("runtime", [bit(0), 0, 0, 0], 0, Shown),
    row("time", [bit(1) | bit(9), 0, 0, 0], 0, Shown),
    row("synic", [bit(2), bit(4) | bit(5), 0, 0], 0, Shown),
    row("stimer", [bit(3), 0, 0, 0], 0, Shown),
    row("vapic", [bit(4), 0, 0, 0], 0, Shown),
    row("hypercall", [bit(5), 0, 0, 0], 0, Shown),
    row("vpindex", [bit(6), 0, 0, 0], 0, Shown),
    row("frequencies", [bit(11), 0, 0, bit(8)], 0, Shown),
    row("xmm-input", [0, 0, 0, bit(4)], 0, Shown),
    row("crash", [0, 0, 0, bit(10)], 0, Shown),
    row("stimer-direct", [0, 0, 0, bit(19)], 0, Shown),
    row("tlbflush", [0; 4], bit(2), Shown),
    row("relaxed", [0; 4], bit(5), Shown),
    row("no-autoeoi", [0; 4], bit(9), Shown),
    row("ipi", [0; 4], bit(10), Shown),
    row("ex-masks", [0; 4], bit(11), Shown),
    row("reset", [bit(7), 0, 0, 0], 0, Hidden),
    row("reenlightenment", [bit(13), 0, 0, 0], 0, Hidden),
    // The guest then ends interrupts through its VP assist page, for the most part without an exit, or else through a
    // register of Hyper-V's, which is an exit where the APIC's own would be none.
    row("apic-msr", [0; 4], bit(3), WithoutApicv),
    row(NESTED, [0; 4], 0, Hidden),
];

/// Shows VMX or SVM. Off by default: a Windows guest that sees them starts its own hypervisor.
pub(super) const NESTED: &str = "nested";

/// Without these there is no VMBus, so no machine.
const REQUIRED: &[&str] = &["synic", "hypercall", "vpindex"];

/// A choice of Hyper-V features.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HypervFeatures {
    /// As many as there are rows in [`FEATURES`].
    choices: Vec<Choice>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    Off,
    /// Shown where the host can serve it.
    IfPossible,
    /// Shown where the host can serve it and its processors do not make it useless.
    IfUseful,
    /// The user asked for it by name: shown, or the machine does not start.
    Asked,
}

/// Why a choice of features cannot be had.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum FeatureError {
    /// No row has this name.
    #[error("There is no Hyper-V feature {name:?}; the features are {known}", known = HypervFeatures::names())]
    Unknown {
        /// What the user wrote.
        name: String,
    },
    /// The machine cannot do without it.
    #[error("The Hyper-V feature {0:?} cannot be left out: VMBus stands on it")]
    Required(&'static str),
    /// This host cannot serve it.
    #[error("This host's KVM cannot serve the Hyper-V feature {name:?}: do not ask for it with --hyperv")]
    Unsupported {
        /// The feature's name.
        name: &'static str,
    },
}

impl Default for HypervFeatures {
    fn default() -> Self {
        let choice = |feature: &Feature| match feature.by_default {
            _ if REQUIRED.contains(&feature.name) => Choice::Asked,
            Shown => Choice::IfPossible,
            Hidden => Choice::Off,
            WithoutApicv => Choice::IfUseful,
        };
        HypervFeatures { choices: FEATURES.iter().map(choice).collect() }
    }
}

impl FromStr for HypervFeatures {
    type Err = FeatureError;

    /// Reads a list such as `default,-stimer-direct,+reset`; `none` starts from nothing but what is required.
    fn from_str(list: &str) -> Result<Self, FeatureError> {
        let mut features = HypervFeatures::default();
        for word in list.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            match word {
                "default" => features = HypervFeatures::default(),
                "none" => features.keep_required(),
                _ => features.choose(word)?,
            }
        }
        Ok(features)
    }
}

impl HypervFeatures {
    /// The names of all features, for messages.
    #[must_use]
    pub fn names() -> String {
        FEATURES.iter().map(|feature| feature.name).collect::<Vec<_>>().join(", ")
    }

    /// Whether a feature was chosen, if only where the host can serve it.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.rows().any(|(feature, _)| feature.name == name)
    }

    fn keep_required(&mut self) {
        for (choice, feature) in self.choices.iter_mut().zip(FEATURES) {
            *choice = if REQUIRED.contains(&feature.name) { Choice::Asked } else { Choice::Off };
        }
    }

    fn choose(&mut self, word: &str) -> Result<(), FeatureError> {
        let (on, name) = match word.strip_prefix('-') {
            Some(name) => (false, name),
            None => (true, word.strip_prefix('+').unwrap_or(word)),
        };
        let found = self.choices.iter_mut().zip(FEATURES).find(|(_, feature)| feature.name == name);
        let (choice, feature) = found.ok_or_else(|| FeatureError::Unknown { name: name.to_owned() })?;
        if !on && REQUIRED.contains(&feature.name) {
            return Err(FeatureError::Required(feature.name));
        }
        *choice = if on { Choice::Asked } else { Choice::Off };
        Ok(())
    }

    /// What was chosen.
    pub(super) fn rows(&self) -> impl Iterator<Item = (&'static Feature, Choice)> {
        FEATURES.iter().zip(self.choices.iter().copied()).filter(|(_, choice)| *choice != Choice::Off)
    }
}

impl fmt::Display for HypervFeatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.rows().map(|(feature, _)| feature.name).collect();
        f.write_str(&names.join(","))
    }
}
