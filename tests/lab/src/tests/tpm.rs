//! The TPM, for the family `platform`: the synthetic firmware and Linux drive it, swtpm is behind it.

use anyhow::{Context, Result, ensure};

use super::platform;
use crate::lab::Lab;
use crate::tpm2;
use crate::vm::Outcome;

/// Where the machines run; nothing there outlives the lab's machine.
const STATE: &str = "/tmp/busman-lab-tpm";
const ZEROS: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// SHA-256 of that and 32 bytes of 1.
const EXTENDED: &str = "5c85955f709283ecce2b74f1b1552918819f390911816e7bb466805a38ab87f3";

/// A TPM that nobody has used.
fn new_state(lab: &mut Lab) -> Result<()> {
    lab.sh(&format!("rm -rf {STATE}"), &[]).map(|_| ())
}

/// All values of a name, one for each life of the guest.
fn values<'a>(outcome: &'a Outcome, name: &str) -> Vec<&'a str> {
    let of = |value: &'a str| value.split_once('=').filter(|(found, _)| *found == name);
    outcome.said("value").filter_map(of).map(|(_, value)| value).collect()
}

pub fn firmware(lab: &mut Lab) -> Result<()> {
    new_state(lab)?;
    for expected in [&["false", "true", "false"][..], &["true"]] {
        let mut vm = platform::start(lab, 1, "512M", &["--tpm", STATE])?;
        if expected.len() == 3 {
            vm.tell("reboot")?;
            vm.expect("lab: ready")?;
            vm.tell("clear tpm")?;
            vm.tell("reboot")?;
            vm.expect("lab: ready")?;
        }
        vm.tell("poweroff")?;
        let outcome = vm.finish_well()?;
        let flags = outcome.value("flags")?;
        ensure!(flags == "0x122000a1", "the firmware's flags are {flags}");
        let found = values(&outcome, "tpm_remembers");
        ensure!(found == expected, "the TPM remembers {found:?} instead of {expected:?}");
    }
    Ok(())
}

pub fn linux(lab: &mut Lab) -> Result<()> {
    new_state(lab)?;
    let guest = tpm2::guest(lab)?.tpm(STATE);
    for expected in [&["new", "busman01"][..], &["busman01"]] {
        let mut vm = lab.start(&guest)?;
        for _ in 1..expected.len() {
            vm.expect("lab: ready")?;
            vm.tell("reboot")?;
        }
        vm.expect("lab: ready")?;
        vm.tell("poweroff")?;
        let outcome = vm.finish_well()?;
        check(&outcome, expected)?;
    }
    Ok(())
}

/// Looks at every life of a guest; `expected` is what its TPM kept from before.
fn check(outcome: &Outcome, expected: &[&str]) -> Result<()> {
    let all = |name: &str, wanted: &str| -> Result<()> {
        let found = values(outcome, name);
        let right = found.len() == expected.len() && found.iter().all(|value| *value == wanted);
        ensure!(right, "the TPM's {name} is {found:?} instead of {wanted:?}");
        Ok(())
    };
    all("driver", "tpm_crb")?;
    all("version", "2")?;
    all("fresh", ZEROS)?;
    all("extended", EXTENDED)?;
    all("read", &format!("0x{}", EXTENDED.to_uppercase()))?;
    let kept = values(outcome, "kept");
    ensure!(kept == expected, "the TPM kept {kept:?} instead of {expected:?}");
    let random: Vec<&str> = values(outcome, "random");
    let first = random.first().context("no random numbers")?;
    ensure!(first.len() == 32 && random.iter().skip(1).all(|next| next != first), "random are {random:?}");
    Ok(())
}
