//! A guest that runs: waits for what it says, types at it, ends it.
//!
//! A guest that hangs is killed at its deadline, and the place that ran it lives on.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::busman::Report;
use crate::session::Session;
use crate::wire::{Event, Frame, Program, Request, Said, Sample};

/// How long guest and VMM may be silent while something is expected of them. A quiet boot is silent for 10 s; four
/// vCPUs on L1's one processor have taken a minute while the machine had other work.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long anything may take, however much is said meanwhile: a guest may start again for ever.
const LIMIT: Duration = Duration::from_secs(300);

/// How long a program beside the VMM may take to end when the VMM has.
const BESIDE: Duration = Duration::from_secs(20);

/// What became of a wait that may end without a word.
#[derive(Debug)]
pub enum Waited {
    /// A line was said; this is its rest.
    Said(String),
    /// The VMM has ended.
    Ended,
    /// Neither, for so long.
    Quiet,
}

/// How a guest ended and what it said.
#[derive(Debug)]
pub struct Outcome {
    /// The VMM's exit code.
    pub code: i32,
    /// Everything on the guest's console.
    pub console: String,
    /// Everything on the VMM's standard error.
    pub log: String,
    /// Where the report is, if one was written.
    pub report: PathBuf,
}

impl Outcome {
    /// What came after `lab: WORD ` on the guest's console, one item a line.
    pub fn said<'a>(&'a self, word: &str) -> impl Iterator<Item = &'a str> {
        let start = format!("lab: {word} ");
        self.console.lines().filter_map(move |line| Some(line.split_once(start.as_str())?.1.trim_end()))
    }

    /// The value that the guest last gave for a name.
    pub fn value(&self, name: &str) -> Result<&str> {
        let start = format!("{name}=");
        let values = self.said("value").filter_map(|value| value.strip_prefix(start.as_str()));
        values.last().with_context(|| format!("the guest gave no value for {name}"))
    }

    /// The VMM's report.
    pub fn report(&self) -> Result<Report> {
        Report::read(&self.report)
    }
}

/// A guest that runs.
pub struct Vm<'lab> {
    session: &'lab mut Session,
    console: String,
    log: String,
    read_to: usize,
    log_read_to: usize,
    ended: Option<i32>,
    sample: Option<Sample>,
    beside: BTreeMap<u32, Option<Said>>,
    transcript: File,
    report: PathBuf,
}

impl<'lab> Vm<'lab> {
    /// Starts `program`, which will write its report to `report`; what it says is added to `transcript`.
    pub fn start(
        session: &'lab mut Session,
        program: Program,
        report: PathBuf,
        transcript: File,
    ) -> Result<Self> {
        session.send(&Frame::Message(Request::Start(program)))?;
        let (console, log) = (String::new(), String::new());
        Ok(Self {
            session,
            console,
            log,
            read_to: 0,
            log_read_to: 0,
            ended: None,
            sample: None,
            beside: BTreeMap::new(),
            transcript,
            report,
        })
    }

    /// Waits for a line of the guest's console that contains `text`, after those found before; gives its rest.
    pub fn expect(&mut self, text: &str) -> Result<String> {
        let limit = Instant::now() + LIMIT;
        loop {
            if let Some(rest) = find(&self.console, &mut self.read_to, text) {
                return Ok(rest);
            }
            if let Some(why) = find(&self.console, &mut self.read_to.clone(), "lab: fail ") {
                bail!("the guest says: {why}");
            }
            self.advance(limit).with_context(|| format!("while waiting for the guest to say {text:?}"))?;
        }
    }

    /// Waits for a line of the VMM's log that contains `text`, after those found before; gives its rest.
    pub fn expect_log(&mut self, text: &str) -> Result<String> {
        let limit = Instant::now() + LIMIT;
        loop {
            if let Some(rest) = find(&self.log, &mut self.log_read_to, text) {
                return Ok(rest);
            }
            self.advance(limit).with_context(|| format!("while waiting for the VMM to log {text:?}"))?;
        }
    }

    /// Waits for a line of the guest's console that contains `text`, after those found before. Silence is no failure.
    pub fn wait_for(&mut self, text: &str, within: Duration) -> Result<Waited> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(rest) = find(&self.console, &mut self.read_to, text) {
                return Ok(Waited::Said(rest));
            }
            if self.ended.is_some() {
                return Ok(Waited::Ended);
            }
            if !self.receive(deadline)? {
                return Ok(Waited::Quiet);
            }
        }
    }

    /// Waits for the VMM to end, and tells whether it has.
    pub fn wait_for_end(&mut self, within: Duration) -> Result<bool> {
        let deadline = Instant::now() + within;
        while self.ended.is_none() && self.receive(deadline)? {}
        Ok(self.ended.is_some())
    }

    /// The VMM's exit code, if it has ended.
    pub fn code(&self) -> Option<i32> {
        self.ended
    }

    /// All that was said; a VMM that still runs is killed.
    pub fn outcome(mut self) -> Outcome {
        let (console, log) = (std::mem::take(&mut self.console), std::mem::take(&mut self.log));
        Outcome { code: self.ended.unwrap_or(-1), console, log, report: self.report.clone() }
    }

    /// Types at the VMM's standard input.
    pub fn type_in(&self, text: &str) -> Result<()> {
        self.session.send(&Frame::Console(text.as_bytes().to_vec()))
    }

    /// Types one line for a guest that runs console.sh.
    pub fn tell(&self, words: &str) -> Result<()> {
        self.type_in(&format!("{words}\n"))
    }

    /// Types Ctrl-A and a command of busman's own.
    pub fn control(&self, command: &str) -> Result<()> {
        self.type_in(&format!("\x01c{command}\n"))
    }

    /// Sends the VMM a SIGTERM: the host asks the guest to shut down.
    pub fn terminate(&self) -> Result<()> {
        self.session.send(&Frame::Message(Request::Terminate))
    }

    /// Lets the guest run for a while.
    pub fn run_for(&mut self, time: Duration) -> Result<()> {
        let deadline = Instant::now() + time;
        while Instant::now() < deadline {
            ensure!(self.ended.is_none(), "the VMM ended by itself");
            self.receive(deadline)?;
        }
        Ok(())
    }

    /// Looks at the VMM from outside.
    pub fn sample(&mut self) -> Result<Sample> {
        self.session.send(&Frame::Message(Request::Sample))?;
        let limit = Instant::now() + LIMIT;
        loop {
            if let Some(sample) = self.sample.take() {
                return Ok(sample);
            }
            self.advance(limit)?;
        }
    }

    /// Starts another program beside the VMM; gives the number to ask for it.
    pub fn start_beside(&mut self, path: &Path, args: &[&str]) -> Result<u32> {
        let number = u32::try_from(self.beside.len())?;
        self.beside.insert(number, None);
        let args = args.iter().map(ToString::to_string).collect();
        let program = Program { path: path.to_owned(), args, dir: PathBuf::from("/") };
        self.session.send(&Frame::Message(Request::Beside(number, program)))?;
        Ok(number)
    }

    /// Waits for the end of a program beside the VMM. The VMM's own may be told first: of `ctl shutdown --now`, for
    /// instance.
    pub fn end_beside(&mut self, number: u32) -> Result<Said> {
        let limit = Instant::now() + LIMIT;
        loop {
            if let Some(said) = self.beside.get_mut(&number).and_then(Option::take) {
                return Ok(said);
            }
            let has_more = self.ended.is_some() && self.receive(Instant::now() + BESIDE)?;
            if !has_more {
                self.advance(limit).context("while waiting for a program beside the VMM")?;
            }
        }
    }

    /// Waits for the VMM to end by itself.
    pub fn finish(mut self) -> Result<Outcome> {
        let limit = Instant::now() + LIMIT;
        while self.ended.is_none() {
            self.advance(limit).context("while waiting for the VMM to end")?;
        }
        if let Some(why) = find(&self.console, &mut self.read_to, "lab: fail ") {
            bail!("the guest says: {why}");
        }
        Ok(self.outcome())
    }

    /// The same, and the VMM must have been content.
    pub fn finish_well(self) -> Result<Outcome> {
        let outcome = self.finish()?;
        ensure!(
            outcome.code == 0,
            "the VMM ended with exit code {}:\n{}",
            outcome.code,
            outcome.log.trim_end()
        );
        Ok(outcome)
    }

    /// Kills the VMM, as if the host's power went; gives all that was said until then.
    pub fn kill(mut self) -> Result<Outcome> {
        self.session.send(&Frame::Message(Request::Kill))?;
        let limit = Instant::now() + LIMIT;
        while self.ended.is_none() {
            self.advance(limit).context("while waiting for the VMM to be killed")?;
        }
        Ok(self.outcome())
    }

    /// Takes what is said next.
    fn advance(&mut self, limit: Instant) -> Result<()> {
        ensure!(self.ended.is_none(), "the VMM ended with exit code {}", self.ended.unwrap_or_default());
        ensure!(Instant::now() < limit, "it took more than {} s", LIMIT.as_secs());
        ensure!(self.receive(Instant::now() + PATIENCE)?, "nothing was said for {} s", PATIENCE.as_secs());
        Ok(())
    }

    /// Takes one frame; false at the deadline.
    fn receive(&mut self, deadline: Instant) -> Result<bool> {
        match self.session.next(deadline)? {
            Some(Frame::Console(bytes)) => {
                self.transcript.write_all(&bytes)?;
                self.console.push_str(&String::from_utf8_lossy(&bytes));
            }
            Some(Frame::Log(bytes)) => {
                self.transcript.write_all(&bytes)?;
                self.log.push_str(&String::from_utf8_lossy(&bytes));
            }
            Some(Frame::Message(Event::Ended(code))) => self.ended = Some(code),
            Some(Frame::Message(Event::NotStarted(why))) => {
                self.ended = Some(-1);
                bail!("the VMM could not be started: {why}");
            }
            Some(Frame::Message(Event::Sample(sample))) => self.sample = Some(sample),
            // That of an earlier guest's test is nobody's any more.
            Some(Frame::Message(Event::Beside(number, said))) => {
                self.beside.entry(number).and_modify(|waiting| *waiting = Some(said));
            }
            Some(Frame::Message(Event::Ready)) => {}
            None => return Ok(false),
        }
        Ok(true)
    }
}

impl Drop for Vm<'_> {
    /// A guest that still runs is killed; if even that brings no answer, the session is given up.
    fn drop(&mut self) {
        let _ = self.session.send(&Frame::Message(Request::Kill));
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.ended.is_none() {
            if !self.receive(deadline).unwrap_or(false) {
                self.session.abandon();
                break;
            }
        }
    }
}

/// Finds `text` after `from`, in a whole line; moves `from` behind that line and gives the line's rest.
fn find(all: &str, from: &mut usize, text: &str) -> Option<String> {
    let rest = all.get(*from..)?;
    let start = rest.find(text)? + text.len();
    let length = rest.get(start..)?.find('\n')?;
    *from += start + length;
    Some(rest.get(start..start + length)?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, sink};

    use super::*;
    use crate::wire;

    #[test]
    fn a_vmm_that_ends_before_the_program_which_told_it_to_is_no_failure() {
        let said = Said { code: 0, ..Said::default() };
        let mut stream = Vec::new();
        for event in [Event::Ready, Event::Ended(0), Event::Beside(0, said)] {
            wire::write(&mut stream, &Frame::Message(event)).unwrap();
        }
        let patience = Duration::from_secs(60);
        let mut session = Session::connect(Cursor::new(stream), Box::new(sink()), patience).unwrap();
        let program = Program { path: "/vmm".into(), args: Vec::new(), dir: "/".into() };
        let transcript = File::create("/dev/null").unwrap();
        let mut vm = Vm::start(&mut session, program, PathBuf::new(), transcript).unwrap();
        let number = vm.start_beside(Path::new("/ctl"), &["shutdown", "--now"]).unwrap();
        assert!(vm.wait_for_end(patience).unwrap());
        assert_eq!(vm.end_beside(number).unwrap().code, 0);
    }

    #[test]
    fn a_line_is_found_once_and_only_when_it_is_whole() {
        let mut from = 0;
        assert_eq!(find("lab: ready\r\nlab: rea", &mut from, "lab: ready"), Some(String::new()));
        assert_eq!(find("lab: ready\r\nlab: ready", &mut from, "lab: ready"), None);
        assert_eq!(find("lab: ready\r\nlab: ready \n", &mut from, "lab: ready"), Some(String::new()));
    }
}
