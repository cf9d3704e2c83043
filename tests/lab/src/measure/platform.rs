//! Family `platform`: what a display costs that shows a still picture, and what a viewer gets of it over the wire.
//!
//! The same console with busman and with QEMU's VGA card in its place, in turn: first nobody looks, then a viewer does,
//! then one character is drawn, then a cursor blinks.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use super::{Figures, Options};
use crate::lab::Lab;
use crate::progress;
use crate::tests::{display, viewers};
use crate::viewer::{Count, Viewer};
use crate::vm::Vm;
use crate::vmm::Vmm;
use crate::wire::Sample;

/// After this long, nothing of what came before goes on.
const SETTLE: Duration = Duration::from_secs(8);
/// How long a cursor blinks.
const BLINKING: Duration = Duration::from_secs(10);
/// The least time of idling.
const LEAST: u64 = 60;
/// The picture's size.
const SIZE: &str = "1024x768";

/// What one guest came to.
struct Run {
    /// Nobody looks.
    alone: Sample,
    /// A viewer looks.
    watched: Sample,
    /// What it got until it had the picture, and from then on.
    first: Count,
    still: Count,
    /// Of one character.
    character: Count,
    /// Of a cursor.
    blinking: Count,
}

/// Takes the figures.
pub fn measure(lab: &mut Lab, options: &Options, figures: &mut Figures) -> Result<()> {
    let time = Duration::from_secs(options.seconds.max(LEAST));
    let vmms: &[Vmm] = if lab.wishes.vmm == Vmm::Busman { &[Vmm::Busman, Vmm::Qemu] } else { &[Vmm::Qemu] };
    for pair in 1..=options.pairs {
        for vmm in vmms {
            let step = progress::step(format!("Run {pair} of {} with {}", options.pairs, vmm.name()));
            let before = std::mem::replace(&mut lab.wishes.vmm, *vmm);
            let run = run(lab, *vmm, time);
            lab.wishes.vmm = before;
            run?.add(&format!("{}, run {pair}", vmm.name()), time, figures);
            step.done("done");
        }
    }
    Ok(())
}

fn run(lab: &mut Lab, vmm: Vmm, time: Duration) -> Result<Run> {
    let socket: PathBuf = viewers::socket();
    let guest = display::guest_of(vmm, SIZE)?.vnc(&socket);
    let mut vm = lab.start(&guest)?;
    vm.expect("lab: ready")?;
    let alone = idle(&mut vm, time)?;
    let viewer = Viewer::start(&mut vm, &socket)?;
    let watched = idle(&mut vm, time)?;
    let seen = viewer.end(&mut vm)?;
    let (first, still) = (seen.first, seen.later);
    let viewer = Viewer::start(&mut vm, &socket)?;
    display::tell(&mut vm, "print 3 X")?;
    vm.run_for(SETTLE)?;
    let character = viewer.end(&mut vm)?.later;
    let viewer = Viewer::start(&mut vm, &socket)?;
    display::tell(&mut vm, "cursor")?;
    vm.run_for(BLINKING)?;
    let blinking = viewer.end(&mut vm)?.later;
    vm.tell("poweroff")?;
    vm.finish_well()?;
    Ok(Run { alone, watched, first, still, character, blinking })
}

/// What the VMM did while its guest did nothing.
fn idle(vm: &mut Vm<'_>, time: Duration) -> Result<Sample> {
    vm.run_for(SETTLE)?;
    let before = vm.sample()?;
    vm.run_for(time)?;
    Ok(vm.sample()?.since(&before))
}

impl Run {
    fn add(&self, who: &str, time: Duration, figures: &mut Figures) {
        let seconds = time.as_secs_f64();
        for (sample, how) in [(&self.alone, "still, no viewer"), (&self.watched, "still, a viewer")] {
            let mut add = |what: &str, count: u64, unit| {
                figures.add(&format!("{who}: {how}: {what}"), count as f64 / seconds, unit);
            };
            add("host CPU outside the guest", sample.host_cpu_us, "µs/s");
            add("CPU of threads that are no vCPUs", sample.service_us, "µs/s");
            add("wake-ups of threads that are no vCPUs", sample.service_waits, "1/s");
            add("wake-ups of vCPUs' threads", sample.vcpu_waits, "1/s");
            let exits = sample.kvm.get("exits").copied().unwrap_or_default();
            add("KVM's exits", exits, "1/s");
        }
        for (count, what) in [
            (&self.first, "the first picture".to_owned()),
            (&self.still, format!("{seconds} s of a still picture")),
            (&self.character, "one character".to_owned()),
            (&self.blinking, format!("{} s of a blinking cursor", BLINKING.as_secs())),
        ] {
            let mut add = |unit: &str, value| figures.add(&format!("{who}: {what}: {unit}"), value, "");
            add("bytes", count.bytes);
            add("updates", count.updates);
            add("rectangles", count.rectangles);
            add("pixels", count.pixels);
        }
    }
}
