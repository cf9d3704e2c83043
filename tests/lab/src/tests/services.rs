//! Family `services`: shutdown, heartbeat and time synchronisation, as the host uses them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};

use super::{Test, check_warnings};
use crate::lab::Lab;
use crate::vm::Vm;
use crate::vmm::Guest;

pub const TESTS: &[Test] = &[
    Test { name: "SIGTERM shuts the guest down", run: |lab| shutdown(lab, |vm| vm.terminate()) },
    Test { name: "Ctrl-A s shuts the guest down", run: |lab| shutdown(lab, |vm| vm.type_in("\x01s")) },
    Test {
        name: "the command shutdown shuts the guest down",
        run: |lab| shutdown(lab, |vm| vm.control("shutdown")),
    },
    Test { name: "Ctrl-A r restarts the guest", run: restart },
    Test { name: "a request to hibernate reaches the guest", run: hibernate },
    Test { name: "heartbeats come, and their loss is seen", run: heartbeat },
    Test { name: "a paused guest stands still and goes on", run: pause },
    Test { name: "the guest's clock is set", run: time },
];

fn shutdown(lab: &mut Lab, ask: fn(&Vm<'_>) -> Result<()>) -> Result<()> {
    let mut vm = lab.start(&Guest::new("console"))?;
    vm.expect("lab: ready")?;
    ask(&vm)?;
    vm.expect("lab: the kernel asked for poweroff")?;
    let end = vm.finish_well()?.report()?.end;
    ensure!(end == "power-off", "the report ends with {end:?}");
    Ok(())
}

fn restart(lab: &mut Lab) -> Result<()> {
    let mut vm = lab.start(&Guest::new("console"))?;
    vm.expect("lab: ready")?;
    vm.type_in("\x01r")?;
    vm.expect("lab: the kernel asked for reboot")?;
    vm.expect("lab: ready")?;
    vm.tell("poweroff")?;
    let resets = vm.finish_well()?.report()?.resets;
    ensure!(resets == 1, "the report tells of {resets} resets");
    Ok(())
}

/// The guest has nowhere to hibernate to, but it says that it was asked.
fn hibernate(lab: &mut Lab) -> Result<()> {
    let mut vm = lab.start(&Guest::new("console"))?;
    vm.expect("lab: ready")?;
    vm.control("hibernate")?;
    vm.tell("said Hibernation request received")?;
    vm.expect("lab: ready")?;
    vm.tell("poweroff")?;
    vm.finish_well()?;
    Ok(())
}

/// A guest that no longer hears the host cannot answer.
fn heartbeat(lab: &mut Lab) -> Result<()> {
    let mut vm = lab.start(&Guest::new("console"))?;
    vm.expect("lab: ready")?;
    vm.expect_log("The guest's heart beats")?;
    vm.run_for(Duration::from_secs(5))?;
    vm.tell("deafen")?;
    vm.expect("lab: ready")?;
    vm.expect_log("The guest's heartbeat is lost")?;
    // The first request to end asks the guest, which cannot hear it; the second one does not ask.
    vm.terminate()?;
    // A signal that comes before the first one is taken is the same signal.
    vm.expect_log("The guest is asked to power off")?;
    vm.terminate()?;
    let outcome = vm.finish()?;
    let report = outcome.report()?;
    let heartbeat = report.heartbeat.context("the report has no heartbeat")?;
    ensure!(heartbeat.beats >= 2, "only {} heartbeats came", heartbeat.beats);
    Ok(())
}

/// Its heart stands still, too.
fn pause(lab: &mut Lab) -> Result<()> {
    let mut vm = lab.start(&Guest::new("console"))?;
    vm.expect("lab: ready")?;
    vm.expect_log("The guest's heart beats")?;
    vm.control("pause")?;
    vm.expect_log("The machine is paused")?;
    vm.expect_log("The guest's heartbeat is lost")?;
    vm.control("resume")?;
    vm.expect_log("The guest's heart beats")?;
    vm.tell("warnings")?;
    vm.expect("lab: ready")?;
    vm.tell("poweroff")?;
    check_warnings(&vm.finish_well()?)
}

fn time(lab: &mut Lab) -> Result<()> {
    let mut vm = lab.start(&Guest::new("console").append("lab.modules=hv_vmbus"))?;
    vm.expect("lab: ready")?;
    vm.tell("date 2001-01-01 00:00")?;
    vm.expect("lab: ready")?;
    vm.tell("load hv_utils")?;
    vm.expect("lab: ready")?;
    vm.run_for(Duration::from_secs(5))?;
    vm.tell("now")?;
    let guest: u64 = vm.expect("lab: value now=")?.parse().context("no time")?;
    let host = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    ensure!(guest.abs_diff(host) < 60, "the guest's clock is {} s off", guest.abs_diff(host));
    vm.tell("poweroff")?;
    vm.finish_well()?;
    Ok(())
}
