//! Family `platform`: a guest's initial configuration is made, and the firmware reads it from the bus.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::platform::{OFFERS, start};
use crate::firmware;
use crate::lab::Lab;

/// Values that make the hive larger than the rings.
const VALUES: u32 = 40;
const VALUE: usize = 2000;

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is no text")
}

/// Writes settings as Windows' registry editor does.
fn settings(lab: &Lab) -> Result<PathBuf> {
    let mut text =
        "Windows Registry Editor Version 5.00\r\n\r\n[HKEY_LOCAL_MACHINE\\SYSTEM\\Lab]\r\n".to_owned();
    for number in 0..VALUES {
        text.push_str(&format!("\"Value{number}\"=\"{}\"\r\n", "x".repeat(VALUE)));
    }
    let path = lab.logs().join("imc.reg");
    let units = text.encode_utf16();
    let bytes: Vec<u8> = [0xfeff].into_iter().chain(units).flat_map(u16::to_le_bytes).collect();
    std::fs::write(&path, bytes)?;
    Ok(path)
}

pub fn reads(lab: &mut Lab) -> Result<()> {
    let (settings, hive) = (settings(lab)?, lab.logs().join("imc.hiv"));
    let create =
        ["imc", "create", text(&hive)?, "--reg", text(&settings)?, "--service", "lab=cmd.exe /c D:\\lab.cmd"];
    lab.run_busman(&[&create[..], &["--force"]].concat())?;
    let bytes = std::fs::read(&hive).with_context(|| format!("read {}", hive.display()))?;
    ensure!(bytes.len() > VALUES as usize * VALUE * 2, "the hive has only {} bytes", bytes.len());
    let vm = start(lab, 1, "512M", &["--imc", text(&hive)?])?;
    vm.tell("poweroff")?;
    let outcome = vm.finish_well()?;
    let sum =
        bytes.iter().fold(0x811c_9dc5u32, |sum, &byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let wanted = [
        ("offers", (OFFERS + 1).to_string()),
        ("imc_bytes", bytes.len().to_string()),
        ("imc_sum", format!("{sum:#x}")),
    ];
    for (name, wanted) in wanted {
        let value = outcome.value(name)?;
        ensure!(value == wanted, "the firmware's {name} is {value:?} instead of {wanted:?}");
    }
    Ok(())
}

pub fn refuses(lab: &mut Lab) -> Result<()> {
    let (settings, image) = (settings(lab)?, firmware::image()?);
    let outcome = lab.start_busman(&["--firmware", text(&image)?, "--imc", text(&settings)?])?.finish()?;
    let reason = "it is not a registry hive; busman imc create makes one from a .reg file";
    ensure!(
        outcome.code == 1 && outcome.log.contains(reason),
        "a .reg file is refused with {:?}",
        outcome.log
    );
    Ok(())
}
