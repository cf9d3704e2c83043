//! Family `platform`: guests learn that their machine is of another generation, and of nothing else.

use anyhow::{Context, Result, ensure};

use super::platform::start;
use crate::cache::Cache;
use crate::guest;
use crate::kernel::{self, Kernel};
use crate::lab::Lab;
use crate::packages::Packages;
use crate::vm::Vm;
use crate::vmm::Guest;

/// The generation that the firmware names after it started or was told of another one.
fn named(vm: &mut Vm<'_>) -> Result<String> {
    vm.expect("lab: value generation=")
}

/// Starts the firmware, ends it and gives its generation.
fn of_a_start(lab: &mut Lab, options: &[&str]) -> Result<String> {
    let vm = start(lab, 1, "512M", options)?;
    vm.tell("poweroff")?;
    Ok(vm.finish_well()?.value("generation")?.to_owned())
}

pub fn firmware(lab: &mut Lab) -> Result<()> {
    let nvram = lab.logs().join("generation.nvram");
    let _ = std::fs::remove_file(&nvram);
    let nvram = ["--nvram", nvram.to_str().context("a path that is no text")?];
    let first = of_a_start(lab, &nvram)?;
    let second = of_a_start(lab, &nvram)?;
    ensure!(first == second, "a start that is none of a copy changes {first} to {second}");

    let mut vm = start(lab, 1, "512M", &nvram)?;
    vm.control("new-generation")?;
    let told = vm.expect_log("The machine is of a new generation, ")?;
    vm.tell("generation")?;
    let third = named(&mut vm)?;
    ensure!(third != second, "the firmware finds the old generation {third}");
    vm.tell("reboot")?;
    let after = named(&mut vm)?;
    ensure!(after == third, "a reset changes {third} to {after}");
    vm.expect("lab: ready")?;
    vm.tell("poweroff")?;
    vm.finish_well()?;

    let kept = of_a_start(lab, &nvram)?;
    ensure!(kept == third, "the new generation {third} is not kept: {kept}");
    let new = of_a_start(lab, &[&nvram[..], &["--generation-id", "new"]].concat())?;
    ensure!(![first, third].contains(&new), "{new} is no new generation");
    let given = of_a_start(lab, &[&nvram[..], &["--generation-id", &told]].concat())?;
    ensure!(given == kept, "the generation {told} is {given} to the firmware instead of {kept}");
    Ok(())
}

/// Linux makes new random numbers, so that two copies of a guest do not have the same.
pub fn linux(lab: &mut Lab) -> Result<()> {
    let cache = Cache::open()?;
    let packages =
        Packages::fetch(&cache, &[kernel::STOCK, "busybox-static"], &guest::NEEDS, Kernel::finish)?;
    let kernel = Kernel::of(kernel::STOCK, &packages)?;
    let tree = guest::tree(&packages, &kernel, &["hv_vmbus"])?.finish();
    let initrd = cache.content("images/guest-generation", &tree)?;
    let guest = Guest::new("console").kernel(&kernel.vmlinux).initrd(&initrd).append("lab.modules=hv_vmbus");
    let mut vm = lab.start(&guest)?;
    vm.expect("lab: ready")?;
    vm.tell("unsaid virtual machine fork")?;
    vm.expect("lab: ready")?;
    for _ in 0..2 {
        vm.tell("forget")?;
        vm.expect("lab: ready")?;
        vm.control("new-generation")?;
        vm.expect_log("The machine is of a new generation, ")?;
        vm.tell("said crng reseeded due to virtual machine fork")?;
        vm.expect("lab: ready")?;
    }
    vm.tell("warnings")?;
    vm.expect("lab: ready")?;
    vm.tell("poweroff")?;
    super::check_warnings(&vm.finish_well()?)
}
