//! Everything that is needed to run guests here, made ready once, and the place that runs them.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cache::Cache;
use crate::guest::Images;
use crate::host::{self, Place};
use crate::nested::{self, L1};
use crate::session::Session;
use crate::vm::{Guest, Vm, Vmm};
use crate::wire::Program;
use crate::{agent, busman, packages, progress};

/// Programs that the lab always needs here, and their packages.
const TOOLS: [(&str, &str); 4] = [
    ("depmod", "kmod"),
    ("xz", "xz-utils"),
    ("lz4", "lz4"),
    ("zstd", "zstd"),
];

/// The lab, ready to run guests.
pub struct Lab {
    /// Where guests run.
    pub place: Place,
    /// What guests boot.
    pub images: Images,
    /// The VMM's executable.
    pub busman: PathBuf,
    /// What is used to run guests.
    pub vmm: Vmm,
    logs: PathBuf,
    l1: Option<(nested::Image, Option<L1>)>,
    shares: Vec<PathBuf>,
    session: Option<Session>,
    reports: u32,
}

/// What the command line says about the lab.
#[derive(Debug, Clone, Copy)]
pub struct Wishes {
    /// Where to run guests, instead of the best place there is.
    pub place: Option<Place>,
    /// The VMM.
    pub vmm: Vmm,
}

impl Lab {
    /// Installs, fetches and builds what is missing. `shares` are folders that programs may write to.
    pub fn prepare(wishes: Wishes, shares: Vec<PathBuf>) -> Result<Self> {
        let (best, why) = host::place();
        let place = wishes.place.unwrap_or(best);
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
        let images = Images::prepare(&cache)?;
        let l1 = match place {
            Place::Direct => None,
            Place::Nested => Some((nested::Image::prepare(&cache)?, None)),
        };
        let logs = busman::logs()?;
        let shares = shares.into_iter().chain([logs.clone()]).collect();
        Ok(Self {
            place,
            images,
            busman,
            vmm: wishes.vmm,
            logs,
            l1,
            shares,
            session: None,
            reports: 0,
        })
    }

    /// Starts a guest.
    pub fn start(&mut self, guest: &Guest) -> Result<Vm<'_>> {
        self.reports += 1;
        let report = self.logs.join(format!("report-{}.json", self.reports));
        let _ = std::fs::remove_file(&report);
        let program = guest.program(self.vmm, &self.busman, &self.images, &report)?;
        Vm::start(self.session()?, program, report)
    }

    /// Starts any program where guests run.
    pub fn start_program(&mut self, program: Program) -> Result<Vm<'_>> {
        Vm::start(self.session()?, program, PathBuf::new())
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
            self.session = Some(self.connect()?);
        }
        self.session.as_mut().context("no session")
    }

    fn connect(&mut self) -> Result<Session> {
        if let Some((image, running)) = &mut self.l1 {
            *running = None;
            let shares: Vec<&Path> = self.shares.iter().map(PathBuf::as_path).collect();
            let (l1, session) = L1::boot(image, &shares, &self.logs)?;
            *running = Some(l1);
            return Ok(session);
        }
        let (ours, theirs) = UnixStream::pair()?;
        let input = theirs.try_clone()?;
        thread::spawn(move || agent::serve(input, Box::new(theirs)));
        Session::connect(ours.try_clone()?, Box::new(ours), Duration::from_secs(10))
    }
}
