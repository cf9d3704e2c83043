//! Family `bus`: what heartbeats and idling cost in exits to user space, and what KVM counted.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Figures, KVM_COUNTERS, Options};
use crate::busman::Report;
use crate::lab::Lab;
use crate::vmm::Guest;
use crate::{demo, progress};

/// The short run that the long one is compared with: boot and shutdown cancel out.
const SHORT: Duration = Duration::from_secs(5);

/// Takes the figures.
pub fn measure(lab: &mut Lab, options: &Options, figures: &mut Figures) -> Result<()> {
    let (short, _) = idle(lab, SHORT)?;
    let time = Duration::from_secs(options.seconds);
    let (long, counters) = idle(lab, SHORT + time)?;
    println!("\n{}\n{}", demo::devices(&long), demo::channels(&long));

    let heartbeats = packets(&long)?.saturating_sub(packets(&short)?);
    figures.add("idle time counted", options.seconds, "s");
    figures.add("heartbeats in it", heartbeats, "");
    ensure!(heartbeats > 0, "no heartbeat came in {} s", options.seconds);
    for (reason, count) in long.exits_beyond(&short) {
        figures.add(
            &format!("exits to user space, {reason}, per heartbeat"),
            count as f64 / heartbeats as f64,
            "",
        );
    }
    figures.add("exits to user space charged to the heartbeat channel", long.channel("heartbeat")?.exits, "");
    for name in KVM_COUNTERS {
        if let Some(count) = counters.get(name) {
            let per_second = *count as f64 / time.as_secs_f64();
            figures.add(&format!("KVM's counter {name}, idle"), per_second, "1/s");
        }
    }
    figures.add("messages from the guest", long.vmbus.messages_in, "");
    figures.add("messages to the guest", long.vmbus.messages_out, "");
    Ok(())
}

/// Runs an idle guest; gives the report, and by how much KVM's counters grew in all but its first moments.
fn idle(lab: &mut Lab, time: Duration) -> Result<(Report, BTreeMap<String, u64>)> {
    let step = progress::step(format!("A guest that idles for {} s", time.as_secs()));
    let mut vm = lab.start(&Guest::new("console"))?;
    vm.expect("lab: ready")?;
    vm.run_for(SHORT)?;
    let before = vm.sample()?;
    vm.run_for(time.saturating_sub(SHORT))?;
    let counters = vm.sample()?.since(&before).kvm;
    vm.tell("poweroff")?;
    let report = vm.finish_well()?.report()?;
    step.done("done");
    Ok((report, counters))
}

fn packets(report: &Report) -> Result<u64> {
    Ok(report.channel("heartbeat")?.packets_in)
}
