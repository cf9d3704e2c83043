//! One run: firmware, guest, its results, its shutdown.
//!
//! Nobody hurries the guest before its time is over: Windows is silent for minutes. When it has left its results, it is
//! asked to shut down through the shutdown service; a guest that does not is stopped, so that busman's report is
//! written in any case.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::evidence::{LINUX, Profile, WINDOWS};
use super::media::SERIAL;
use super::options::{Input, Shape};
use super::results::Results;
use super::{Evidence, Media, trace};
use crate::disk;
use crate::host::{self, Place};
use crate::lab::Lab;
use crate::progress;
use crate::vm::{Outcome, Vm, Waited};

/// How the script's lines on COM1 begin.
const MARKER: &str = "busman-check: ";
/// The line after which the script shuts the guest down itself.
const NOBODY: &str = "busman-check: nobody shut Windows down";
/// How often the results' disk is looked at, for guests whose COM1 is taken.
const LOOK: Duration = Duration::from_secs(15);
/// How long a stopped machine may take to write its report.
const STOP: Duration = Duration::from_secs(60);

/// A machine to run.
pub struct Machine {
    profile: &'static Profile,
    /// For `busman run`.
    arguments: Vec<String>,
    patience: Patience,
}

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// From the start to the results.
    pub results: Duration,
    /// From the request to the end.
    pub shutdown: Duration,
}

/// How a run went.
#[derive(Debug, Default, Serialize)]
pub struct Run {
    /// The arguments of busman.
    pub arguments: Vec<String>,
    pub seconds: u64,
    /// Whether the script said that it begins.
    pub began: bool,
    /// What the script said last, if that was not all.
    pub said: Option<String>,
    /// What came of the request to shut down: empty if it was accepted, `None` if it was not made.
    pub asked: Option<String>,
    /// Whether the script shut the guest down in the end, since nobody else did.
    pub by_script: bool,
    pub end: End,
    /// What busman could not be followed to its end for.
    pub failure: Option<String>,
    /// busman's warnings and errors, and what the guest said of crashes.
    pub warnings: Vec<String>,
}

/// How it ended.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// The guest shut down, after it was asked or by itself.
    #[default]
    ShutDown,
    /// It was stopped: it left no results in time.
    NoResults,
    /// It was stopped: it did not shut down.
    NoShutDown,
    /// busman failed, or the machine that ran it.
    Failed,
}

impl Machine {
    /// Windows on the overlay of an image.
    pub fn windows(
        lab: &mut Lab,
        media: &Media,
        input: &Input,
        shape: &Shape<'_>,
        patience: Patience,
    ) -> Result<Self> {
        let overlay = media.overlay.as_ref().context("no overlay")?;
        let folder = input.image.parent().unwrap_or_else(|| Path::new("/"));
        let mut arguments = words(&["--memory", shape.memory, "--display"]);
        arguments.extend(["--cpus".to_owned(), shape.cpus.to_string()]);
        arguments.extend(["--firmware".to_owned(), text(&input.firmware)]);
        arguments.extend(["--nvram".to_owned(), text(&media.nvram)]);
        let parents = disk::escaped(folder);
        arguments.extend(["--disk".to_owned(), format!("{},parents={parents}", disk::escaped(overlay))]);
        arguments.extend(media.arguments());
        if shape.tpm {
            let help = lab.run_busman(&["run", "--help"])?;
            ensure!(help.contains("--tpm"), "--tpm: this busman has no TPM");
            arguments.extend(["--tpm".to_owned(), text(&media.tpm)]);
        }
        arguments.extend(shape.more.iter().cloned());
        Ok(Machine { profile: &WINDOWS, arguments, patience })
    }

    /// Linux in its place: a kernel and its files, with resources/guest/tests/windows.sh.
    pub fn linux(media: &Media, kernel: &Path, initrd: &Path, cmdline: &str, patience: Patience) -> Self {
        const DEVICES: &str = "shutdown,heartbeat,timesync,keyboard,mouse";
        let mut arguments = words(&["--cpus", "2", "--memory", "512M", "--devices", DEVICES]);
        arguments.extend(["--kernel".to_owned(), text(kernel), "--initrd".to_owned(), text(initrd)]);
        arguments.extend(["--cmdline".to_owned(), cmdline.to_owned()]);
        arguments.extend(media.arguments());
        Machine { profile: &LINUX, arguments, patience }
    }
}

impl Media {
    /// The disc and the results' disk.
    fn arguments(&self) -> [String; 4] {
        let results = format!("{},format=raw,serial={SERIAL}", disk::escaped(&self.results));
        ["--dvd".to_owned(), disk::escaped(&self.disc), "--disk".to_owned(), results]
    }
}

/// Runs a machine to its end, and gathers what it left.
pub fn run(lab: &mut Lab, machine: &Machine, media: &Media) -> Result<Evidence> {
    // A path that is short: the lab's own folders may be too far down for a socket.
    let socket = PathBuf::from(format!("/tmp/busman-windows-{}.sock", std::process::id()));
    let pcapng = media.folder.join("bus.pcapng");
    let mut arguments = machine.arguments.clone();
    arguments.extend(["--trace".to_owned(), text(&pcapng), "--api-socket".to_owned(), text(&socket)]);
    let step = progress::step(format!("{}: waiting for its results", machine.profile.name));
    let begin = Instant::now();
    let (mut run, outcome) = drive(lab, machine, media, arguments, socket)?;
    step.done(match run.end {
        End::ShutDown => "shut down",
        End::NoResults => "stopped, without results",
        End::NoShutDown => "stopped, it did not shut down",
        End::Failed => "failed",
    });
    run.seconds = begin.elapsed().as_secs();
    // What L1 wrote, if there is still an L1.
    if let Err(error) = lab.sh("sync", &[]) {
        progress::say(&format!("What the machine wrote may not be complete: {error:#}"));
    }
    run.warnings = warnings(&outcome.log);
    run.by_script = outcome.console.contains(NOBODY);
    fs::write(media.folder.join("console.log"), &outcome.console)?;
    // Beside the rest, under a name that the next guest does not take.
    let _ = fs::copy(&outcome.report, media.report());
    Ok(gather(machine.profile, run, &outcome, media, &pcapng))
}

/// Starts the machine and follows it to its end. That the machine around it is gone is an end, too.
fn drive(
    lab: &mut Lab,
    machine: &Machine,
    media: &Media,
    arguments: Vec<String>,
    socket: PathBuf,
) -> Result<(Run, Outcome)> {
    // In L1 a file may reach this machine late; the guest's word on COM1 does not.
    let looks = lab.wishes.place.unwrap_or_else(|| host::place().0) == Place::Direct;
    let busman = lab.busman.clone();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let vm = lab.start_busman(&words)?;
    let mut guest = Guest { vm, busman, socket, run: Run { arguments, ..Run::default() } };
    if let Err(error) = guest.live(&machine.patience, media, looks) {
        (guest.run.end, guest.run.failure) = (End::Failed, Some(format!("{error:#}")));
    }
    Ok((guest.run, guest.vm.outcome()))
}

fn gather(profile: &'static Profile, run: Run, outcome: &Outcome, media: &Media, pcapng: &Path) -> Evidence {
    let trace = fs::read(pcapng).map_err(|error| format!("busman left no trace: {error}"));
    Evidence {
        profile,
        run,
        host: outcome.report().map_err(|error| format!("{error:#}")),
        trace: trace.and_then(|bytes| trace::read(&bytes)),
        guest: media.read_results().and_then(|text| Results::parse(&text)),
    }
}

/// A machine that runs.
struct Guest<'lab> {
    vm: Vm<'lab>,
    busman: PathBuf,
    socket: PathBuf,
    run: Run,
}

impl Guest<'_> {
    fn live(&mut self, patience: &Patience, media: &Media, looks: bool) -> Result<()> {
        if self.has_results(patience.results, media, looks)? {
            self.run.asked = Some(self.ask(&["shutdown"])?);
            if !self.vm.wait_for_end(patience.shutdown)? {
                self.run.end = End::NoShutDown;
            }
        } else if self.vm.code().is_none() {
            self.run.end = End::NoResults;
        }
        if self.vm.code().is_none() {
            self.ask(&["shutdown", "--now"])?;
            self.vm.wait_for_end(STOP)?;
        }
        // A machine that was stopped ends with a code of its own.
        let failed = self.vm.code().filter(|code| *code != 0 && self.run.end == End::ShutDown);
        if let Some(code) = failed {
            (self.run.end, self.run.failure) = (End::Failed, Some(format!("exit code {code}")));
        }
        Ok(())
    }

    /// Waits until the script has ended; false if the guest's time is over, or the guest.
    fn has_results(&mut self, within: Duration, media: &Media, looks: bool) -> Result<bool> {
        let limit = Instant::now() + within;
        while Instant::now() < limit {
            match self.vm.wait_for(MARKER, LOOK.min(limit - Instant::now()))? {
                Waited::Said(word) if word == "begins" => self.run.began = true,
                Waited::Said(word) => {
                    self.run.said = Some(word).filter(|word| word != "done");
                    return Ok(true);
                }
                Waited::Ended => return Ok(false),
                Waited::Quiet if looks => {
                    if media.read_results().is_ok_and(|text| Results::parse(&text).is_ok()) {
                        return Ok(true);
                    }
                }
                Waited::Quiet => {}
            }
        }
        Ok(false)
    }

    /// Tells busman something through its control socket; gives why it refuses, if it does.
    fn ask(&mut self, words: &[&str]) -> Result<String> {
        let socket = text(&self.socket);
        let words = [&["ctl", "--socket", &socket], words].concat();
        let busman = self.busman.clone();
        let number = self.vm.start_beside(&busman, &words)?;
        let said = self.vm.end_beside(number)?;
        Ok(if said.code == 0 { String::new() } else { said.errors.trim().to_owned() })
    }
}

/// Lines of busman's log that tell of something wrong, and of what the guest said of a crash. All of them: they are
/// judged, and the one that counts may come last.
fn warnings(log: &str) -> Vec<String> {
    let tells = |line: &&str| [" WARN ", " ERROR ", "Guest crash "].iter().any(|word| line.contains(word));
    log.lines().filter(tells).map(|line| line.trim().to_owned()).collect()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_after_many_warnings_is_not_lost() {
        let noise = "[1.0 WARN busman] the same again\n[1.0 INFO busman] nothing\n".repeat(1000);
        let kept = warnings(&format!("{noise}[2.0 INFO busman] Guest crash 0x7b (0x1, 0x2, 0x3, 0x4)\n"));
        assert_eq!(kept.len(), 1001);
        assert!(kept[1000].contains("Guest crash 0x7b"));
    }
}
