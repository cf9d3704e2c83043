//! Family `platform`: UEFI firmware starts, finds the machine that it was promised, and ends in every way.
//!
//! The firmware is the synthetic one, which checks most by itself and says the rest.

use anyhow::{Context, Result, ensure};

use super::{Test, display, generation, imc, tpm, viewers};
use crate::firmware;
use crate::lab::Lab;
use crate::vm::{Outcome, Vm};
use crate::vmm::Vmm;

pub const TESTS: &[Test] = &[
    Test { name: "1 vCPU, 512 MiB", run: |lab| starts(lab, 1, "512M", &["0x0..0x20000000"]) },
    Test { name: "4 vCPUs, 512 MiB", run: |lab| starts(lab, 4, "512M", &["0x0..0x20000000"]) },
    Test { name: "1 vCPU, 6 GiB", run: |lab| starts(lab, 1, "6G", &BOTH_SIDES) },
    Test { name: "4 vCPUs, 6 GiB", run: |lab| starts(lab, 4, "6G", &BOTH_SIDES) },
    Test { name: "a reset loads the firmware again and keeps its variables", run: resets },
    Test { name: "variables are in a file when the machine starts again", run: keeps_variables },
    Test { name: "a guest's initial configuration is read from the bus", run: imc::reads },
    Test { name: "what is no initial configuration is refused", run: imc::refuses },
    Test { name: "a new generation is told, and only that", run: generation::firmware },
    Test { name: "Linux knows a new generation", run: generation::linux },
    Test { name: "what is no firmware is refused", run: refuses },
    Test { name: "the firmware drives the TPM, and has it cleared", run: tpm::firmware },
    Test { name: "the TPM under Linux, through a reboot and a new run", run: tpm::linux },
    Test {
        name: "the guest begins with the resolution asked for, and what it draws is seen",
        run: display::resolution,
    },
    Test { name: "the console is shown, and what is typed at it", run: display::console },
    Test { name: "keys and the mouse reach the guest", run: display::input },
    Test { name: "a driver goes and comes back", run: display::reload },
    Test { name: "what is typed in TigerVNC's viewer is in the screenshot", run: viewers::types },
    Test {
        name: "a viewer follows the guest's modes and gets what changes, told or not",
        run: viewers::watches,
    },
];

/// RAM of 6 GiB: below the low gap, and from 4 GiB on.
const BOTH_SIDES: [&str; 2] = ["0x0..0xf8000000", "0x100000000..0x188000000"];
/// What the bus has, and how many offers that is.
const DEVICES: &str = "shutdown,heartbeat,timesync";
pub(super) const OFFERS: u32 = 3;
const UUID: &str = "00112233-4455-6677-8899-aabbccddeeff";

/// Starts the firmware and waits until it has checked everything.
pub(super) fn start<'a>(lab: &'a mut Lab, cpus: u32, memory: &str, more: &[&str]) -> Result<Vm<'a>> {
    ensure!(lab.wishes.vmm == Vmm::Busman, "only busman boots this firmware");
    let image = firmware::image()?;
    let image = image.to_str().context("a path that is no text")?;
    let cpus = cpus.to_string();
    let machine = ["--firmware", image, "--cpus", &cpus, "--memory", memory, "--devices", DEVICES];
    let mut vm = lab.start_busman(&[&machine[..], more].concat())?;
    vm.expect("lab: ready")?;
    Ok(vm)
}

fn starts(lab: &mut Lab, cpus: u32, memory: &str, ram: &[&str]) -> Result<()> {
    let vm = start(lab, cpus, memory, &["--uuid", UUID])?;
    vm.tell("poweroff")?;
    let outcome = vm.finish_well()?;
    check(&outcome, cpus, ram)?;
    let end = outcome.report()?.end;
    ensure!(end == "power-off", "the report ends with {end:?}");
    Ok(())
}

/// Compares what the firmware was told with what it should have been.
fn check(outcome: &Outcome, cpus: u32, ram: &[&str]) -> Result<()> {
    let value = |name: &str, expected: &str| -> Result<()> {
        let value = outcome.value(name)?;
        ensure!(value == expected, "the firmware's {name} is {value:?} instead of {expected:?}");
        Ok(())
    };
    value("cpus", &cpus.to_string())?;
    value("madt_processors", &cpus.to_string())?;
    value("processors_started", &(cpus - 1).to_string())?;
    value("uuid", "[33, 22, 11, 00, 55, 44, 77, 66, 88, 99, aa, bb, cc, dd, ee, ff]")?;
    value("flags", "0x10200081")?;
    value("low_mmio", "0xf8000000..0x100000000")?;
    let high = if ram.len() > 1 { "0x1c0000000..0x1e0000000" } else { "0x100000000..0x120000000" };
    value("high_mmio", high)?;
    value("vmbus", "6.0")?;
    value("offers", &OFFERS.to_string())?;
    value("boots", "1")?;
    let found: Vec<&str> = outcome.said("value").filter_map(|value| value.strip_prefix("ram=")).collect();
    ensure!(found == ram, "the firmware's RAM is {found:?} instead of {ram:?}");
    let year: u32 = outcome.value("year")?.parse().context("no year")?;
    ensure!((2025..2100).contains(&year), "the firmware's clock is in the year {year}");
    Ok(())
}

fn resets(lab: &mut Lab) -> Result<()> {
    let mut vm = start(lab, 2, "512M", &[])?;
    for _ in 0..2 {
        vm.tell("reboot")?;
        vm.expect("lab: ready")?;
    }
    vm.tell("poweroff")?;
    let outcome = vm.finish_well()?;
    let resets = outcome.report()?.resets;
    ensure!(resets == 2, "the report tells of {resets} resets instead of 2");
    let uuids: Vec<&str> = outcome.said("value").filter(|value| value.starts_with("uuid=")).collect();
    ensure!(uuids.len() == 3 && uuids.windows(2).all(|pair| pair[0] == pair[1]), "the UUIDs are {uuids:?}");
    let boots: Vec<&str> = outcome.said("value").filter_map(|value| value.strip_prefix("boots=")).collect();
    ensure!(boots == ["1", "2", "3"], "the firmware's variable counts {boots:?}");
    Ok(())
}

fn keeps_variables(lab: &mut Lab) -> Result<()> {
    let nvram = lab.logs().join("platform.nvram");
    let _ = std::fs::remove_file(&nvram);
    let nvram = nvram.to_str().context("a path that is no text")?;
    let mut uuids = Vec::new();
    for boots in ["1", "2"] {
        let vm = start(lab, 1, "512M", &["--nvram", nvram])?;
        vm.tell("poweroff")?;
        let outcome = vm.finish_well()?;
        let found = outcome.value("boots")?;
        ensure!(found == boots, "the firmware's variable counts {found} at start {boots}");
        uuids.push(outcome.value("uuid")?.to_owned());
    }
    ensure!(uuids.windows(2).all(|pair| pair[0] == pair[1]), "the UUIDs are {uuids:?}");
    Ok(())
}

fn refuses(lab: &mut Lab) -> Result<()> {
    let kernel = lab.images.kernel.bzimage.clone();
    let outcome =
        lab.start_busman(&["--firmware", kernel.to_str().context("a path that is no text")?])?.finish()?;
    ensure!(outcome.code == 1, "a kernel as firmware ends with exit code {}", outcome.code);
    let reason = "cannot be booted as firmware (mu_msvm's MSVM.fd): it has ";
    ensure!(outcome.log.contains(reason), "a kernel as firmware is refused with {:?}", outcome.log);
    Ok(())
}
