//! Everything that is needed to run guests here, made ready once, and the place that runs them.

use std::fs::File;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::cache::Cache;
use crate::guest::{self, Images};
use crate::host::{self, Place};
use crate::kernel::{self, Kernel};
use crate::nested::{self, L1};
use crate::packages::Packages;
use crate::session::Session;
use crate::vm::Vm;
use crate::vmm::{Guest, Vmm};
use crate::wire::Program;
use crate::{agent, busman, packages, progress};

/// Programs that the lab always needs here, and their packages.
const TOOLS: [(&str, &str); 6] = [
    ("depmod", "kmod"),
    ("xz", "xz-utils"),
    ("lz4", "lz4"),
    ("zstd", "zstd"),
    ("swtpm", "swtpm"),
    ("tpm2", "tpm2-tools"),
];

/// The lab, ready to run guests.
pub struct Lab {
    /// What guests boot.
    pub images: Images,
    /// The VMM's executable.
    pub busman: PathBuf,
    /// What the command line says.
    pub wishes: Wishes,
    logs: PathBuf,
    /// For the files of L1 itself.
    l1_logs: PathBuf,
    machine: Machine,
    shares: Vec<PathBuf>,
    session: Option<Session>,
    gave_up: bool,
    label: String,
}

/// The machine whose KVM runs the guests.
enum Machine {
    /// This one.
    Here,
    /// An emulated one, which runs from the first guest on.
    L1 { image: Box<nested::Image>, running: Option<L1> },
}

/// What the command line says about the lab.
#[derive(Debug, Clone)]
pub struct Wishes {
    /// Where to run guests, instead of the best place there is.
    pub place: Option<Place>,
    /// The VMM.
    pub vmm: Vmm,
    /// Words for the end of every guest's kernel command line.
    pub append: String,
}

impl Lab {
    /// Installs, fetches and builds what is missing. `shares` are folders that programs may write to.
    pub fn prepare(wishes: Wishes, shares: Vec<PathBuf>) -> Result<Self> {
        let (place, why) = wishes.place.map_or_else(host::place, |place| (place, "as asked".into()));
        match place {
            Place::Direct => progress::say(&format!("Guests run on this machine: {why}")),
            Place::Nested => progress::say(&format!("Guests run in the nested lab: {why}")),
        }
        packages::install_tools(&TOOLS)?;
        if place == Place::Nested {
            packages::install_tools(&nested::TOOLS)?;
        }
        let busman = busman::build()?;
        let cache = Cache::open()?;
        let mut wanted = guest::PACKAGES.to_vec();
        if place == Place::Nested {
            wanted.push(kernel::STOCK);
        }
        let packages = Packages::fetch(&cache, &wanted, &guest::NEEDS, Kernel::finish)?;
        let images = Images::prepare(&cache, &packages)?;
        let machine = match place {
            Place::Direct => Machine::Here,
            Place::Nested => {
                Machine::L1 { image: Box::new(nested::Image::prepare(&packages)?), running: None }
            }
        };
        let logs = busman::logs()?;
        let shares = shares.into_iter().chain([logs.clone()]).collect();
        Ok(Self {
            images,
            busman,
            wishes,
            l1_logs: logs.clone(),
            logs,
            machine,
            shares,
            session: None,
            gave_up: false,
            label: "guest".to_owned(),
        })
    }

    /// Another lab of the same kind with a machine of its own, if that is an emulated one: those do not disturb each
    /// other.
    pub fn another(&self, number: usize) -> Result<Option<Self>> {
        if matches!(self.machine, Machine::Here) {
            return Ok(None);
        }
        let mut other = Self::prepare(self.wishes.clone(), self.shares.clone())?;
        other.l1_logs = self.logs.join(format!("l1-{number}"));
        std::fs::create_dir_all(&other.l1_logs)?;
        Ok(Some(other))
    }

    /// Names the files that the next guests leave; gives the path of their transcript, which is new.
    pub fn label(&mut self, name: &str) -> PathBuf {
        self.label = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let transcript = self.transcript();
        let _ = std::fs::remove_file(&transcript);
        transcript
    }

    /// Starts a guest.
    pub fn start(&mut self, guest: &Guest) -> Result<Vm<'_>> {
        let report = self.new_report();
        let program = self.program(guest, &report)?;
        self.start_program(program, report)
    }

    /// Starts a guest that is no Linux kernel, by busman's arguments.
    pub fn start_busman(&mut self, arguments: &[&str]) -> Result<Vm<'_>> {
        let report = self.new_report();
        let run = ["run".to_owned(), "--report".to_owned(), report.display().to_string()];
        let args = run.into_iter().chain(arguments.iter().map(ToString::to_string)).collect();
        self.start_program(Program { path: self.busman.clone(), args, dir: "/".into() }, report)
    }

    fn new_report(&self) -> PathBuf {
        let report = self.logs.join(format!("{}.json", self.label));
        let _ = std::fs::remove_file(&report);
        report
    }

    fn start_program(&mut self, program: Program, report: PathBuf) -> Result<Vm<'_>> {
        let mut transcript = File::options().create(true).append(true).open(self.transcript())?;
        writeln!(transcript, "$ {} {:?}", program.path.display(), program.args)?;
        Vm::start(self.session()?, program, report, transcript)
    }

    /// The VMM's command line for a guest.
    pub fn program(&self, guest: &Guest, report: &Path) -> Result<Program> {
        guest.clone().append(&self.wishes.append).program(self.wishes.vmm, &self.busman, &self.images, report)
    }

    /// Runs a shell script to its end where guests run, and gives what it said.
    pub fn sh(&mut self, script: &str, arguments: &[&str]) -> Result<String> {
        let mut args = vec!["-c", script, "sh"];
        args.extend(arguments);
        self.run(Program {
            path: "/bin/sh".into(),
            args: args.into_iter().map(str::to_owned).collect(),
            dir: "/".into(),
        })
    }

    /// Runs busman to its end where guests run, and gives what it said.
    pub fn run_busman(&mut self, arguments: &[&str]) -> Result<String> {
        let args = arguments.iter().map(ToString::to_string).collect();
        self.run(Program { path: self.busman.clone(), args, dir: "/".into() })
    }

    fn run(&mut self, program: Program) -> Result<String> {
        let words = format!("$ {} {:?}", program.path.display(), program.args);
        let mut transcript = File::options().create(true).append(true).open(self.transcript())?;
        writeln!(transcript, "{words}")?;
        let outcome = Vm::start(self.session()?, program, PathBuf::new(), transcript)?.finish()?;
        ensure!(outcome.code == 0, "{words} failed: {}", outcome.log.trim());
        Ok(outcome.console)
    }

    /// The tree of the kernel that runs in L1, if there is an L1.
    pub fn l1_modules(&self) -> Option<&Path> {
        match &self.machine {
            Machine::Here => None,
            Machine::L1 { image, .. } => Some(&image.modules),
        }
    }

    fn transcript(&self) -> PathBuf {
        self.logs.join(format!("{}.log", self.label))
    }

    /// The folder of logs.
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// The agent of the place; a new one (and a new L1) when there is none or the last one is lost.
    pub fn session(&mut self) -> Result<&mut Session> {
        if self.session.as_ref().is_some_and(Session::is_broken) {
            progress::say("The machine that runs the guests was lost; starting another one");
            self.session = None;
        }
        if self.session.is_none() {
            ensure!(!self.gave_up, "there is no machine to run guests on");
            // Not tried again for every test.
            self.gave_up = true;
            self.session = Some(self.connect()?);
            self.gave_up = false;
        }
        self.session.as_mut().context("no session")
    }

    fn connect(&mut self) -> Result<Session> {
        match &mut self.machine {
            Machine::Here => {
                let (ours, theirs) = UnixStream::pair()?;
                let input = theirs.try_clone()?;
                thread::spawn(move || agent::serve(input, Box::new(theirs)));
                Session::connect(ours.try_clone()?, Box::new(ours), Duration::from_secs(10))
            }
            Machine::L1 { image, running } => {
                *running = None;
                let shares: Vec<&Path> = self.shares.iter().map(PathBuf::as_path).collect();
                let (l1, session) = L1::boot(image, &shares, &self.l1_logs)?;
                *running = Some(l1);
                Ok(session)
            }
        }
    }
}
