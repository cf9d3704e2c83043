//! `cargo lab windows`: the test of real Windows, for people who have an image of it.
//!
//! | module | what it does |
//! |---|---|
//! | [`options`] | the command line, and what is missing of what it names |
//! | [`media`] | the overlay, the disc with our script, the disk for its results |
//! | [`run`] | firmware, Windows, shutdown: one run of busman, and what was seen of it |
//! | [`trace`] | contacts and openings of channels, out of busman's trace |
//! | [`results`] | what the script in the guest wrote |
//! | [`evidence`] | all of that together, and who is expected to have left it |
//! | [`verdict`] | one line for each thing that must be so |
//! | [`report`] | table and JSON |
//!
//! Nothing here knows which guest it is but for [`evidence::Profile`]: the family `windows` of the tests runs the same
//! way with Linux in Windows' place. What is not seen has failed.

mod evidence;
mod media;
mod options;
mod report;
mod results;
mod run;
#[cfg(test)]
mod tests;
mod trace;
mod verdict;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};

use evidence::Evidence;
pub use media::Media;
pub use options::{Input, Options, Shape};
pub use run::{Machine, Patience};
pub use verdict::{Line, Outcome};

use crate::host::{self, Place};
use crate::lab::{Lab, Wishes};
use crate::progress;

/// How long Windows may take to shut down: it may have updates to finish. The script in it waits longer before it does
/// that itself.
const SHUTDOWN: Duration = Duration::from_secs(600);

/// Runs the test; fails unless every required line of the verdict is a pass.
pub fn command(wishes: Wishes, options: &Options) -> Result<ExitCode> {
    // What is missing is told before anything is built or fetched.
    let input = options.check()?;
    let place = wishes.place.unwrap_or_else(|| host::place().0);
    if place == Place::Nested {
        progress::say(
            "This machine cannot run guests by itself, so Windows runs in an emulated machine: it may be far too \
             slow there to start at all, and the emulator may abort. Give it a large --timeout, or use a host whose \
             KVM has Hyper-V emulation",
        );
    }
    let patience = Patience { results: Duration::from_secs(options.timeout * 60), shutdown: SHUTDOWN };
    let mut lab = Lab::prepare(wishes, Vec::new())?;
    lab.label("windows");
    let media = Media::make(&mut lab, "windows", Some(&input.image))?;
    let machine = Machine::windows(&mut lab, &media, &input, &options.shape(place), patience)?;
    let evidence = run::run(&mut lab, &machine, &media);
    if options.keep {
        progress::say(&format!("The overlay and all else is kept in {}", media.folder.display()));
    } else {
        media.remove();
    }
    let evidence = evidence?;
    let lines = verdict::of(&evidence);
    // First of all: a report that cannot be written must not cost what took an hour to see.
    println!("\n{}", report::text(&evidence, &lines));
    report::write(&options.out, &evidence, &lines, &media.report())
        .with_context(|| format!("write the report {}", options.out.display()))?;
    println!("The report is {}; busman's own files are in {}", options.out.display(), media.folder.display());
    Ok(if verdict::passed(&lines) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs a machine and judges what it left: for the tests.
pub fn judge(lab: &mut Lab, machine: &Machine, media: &Media) -> Result<Vec<Line>> {
    let evidence = run::run(lab, machine, media)?;
    let lines = verdict::of(&evidence);
    report::write(&media.folder.join("verdict.json"), &evidence, &lines, &media.report())?;
    Ok(lines)
}
