//! `cargo lab`: runs busman with real guests, wherever this machine can run them.
//!
//! The way down: a command here → lab.rs (everything ready) → vm.rs (one guest) → session.rs and wire.rs (the
//! stream) → agent.rs (where the KVM is: here, or in the L1 of nested.rs).

mod agent;
mod busman;
mod cache;
mod cpio;
mod daemons;
mod demo;
mod disk;
mod fio;
mod firmware;
mod fuzz;
mod guest;
mod host;
mod kernel;
mod lab;
mod measure;
mod nested;
mod packages;
mod probe;
mod programs;
mod progress;
mod sample;
mod session;
mod storage;
mod suite;
mod table;
mod terminal;
mod tests;
mod tpm2;
mod tshark;
mod viewer;
mod vm;
mod vmm;
mod windows;
mod wire;

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use lab::{Lab, Wishes};

/// Run busman with real Linux guests: a demo, any command line, the tests, the measures.
#[derive(Debug, Parser)]
#[command(name = "cargo lab", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Where guests run [default: here if /dev/kvm has Hyper-V emulation, else nested]
    #[arg(long, global = true, value_name = "PLACE")]
    place: Option<host::Place>,
    /// The VMM; another one than busman tells whether a failure is the lab's
    #[arg(long, global = true, default_value = "busman", hide = true)]
    vmm: vmm::Vmm,
    /// Words for the end of every guest's kernel command line, for instance loglevel=7
    #[arg(long, global = true, default_value = "", hide = true)]
    append: String,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Boot a Linux guest, show what goes over its VMBus, shut it down
    Demo,
    /// Run a busman command line, for instance: cargo lab run -- run --help
    Run {
        /// busman's arguments; files that it writes must be in the current folder
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// A shell in a guest, on this terminal
    Shell,
    /// Run everything that tells whether this tree is good, or one family of whole-VM tests
    Test {
        /// boot, platform, bus, services, guest, rings, api, storage or windows; or fuzz, the fuzz targets
        family: Option<String>,
        /// Only the family's tests whose names contain this
        #[arg(requires = "family")]
        filter: Option<String>,
        /// Run each of these tests so many times
        #[arg(long, default_value_t = 1)]
        repeat: u32,
    },
    /// Print a family's figures as a table
    Measure(measure::Options),
    Windows(windows::Options),
    /// Any program where guests run
    #[command(hide = true)]
    Exec {
        #[arg(last = true, required = true)]
        program: Vec<String>,
    },
    /// Says something to a socket, and prints what is answered until the other side ends
    #[command(hide = true)]
    Say {
        socket: PathBuf,
        words: String,
    },
    /// Watches a VNC server, and says what came of it once a file `stop` in the folder says so
    #[command(hide = true)]
    Watch {
        socket: PathBuf,
        folder: PathBuf,
    },
    /// The lab's agent, started by the lab itself
    #[command(hide = true)]
    Agent {
        port: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    let wishes = Wishes { place: cli.place, vmm: cli.vmm, append: cli.append };
    match cli.command {
        Command::Demo => demo::run(wishes),
        Command::Measure(options) => measure::run(wishes, &options),
        Command::Run { arguments } => {
            let mut lab = Lab::prepare(wishes, vec![std::env::current_dir()?])?;
            if arguments.is_empty() {
                let example = lab.program(&vmm::Guest::new("shell"), Path::new("report.json"))?;
                let quoted = |word: &String| {
                    if word.contains(' ') { format!("\"{word}\"") } else { word.clone() }
                };
                let words: Vec<String> = example.args.iter().map(quoted).collect();
                println!("For instance, a guest with a shell:\n  cargo lab run -- {}", words.join(" "));
                return Ok(ExitCode::SUCCESS);
            }
            let path = lab.busman.clone();
            terminal::run(&mut lab, path, arguments)
        }
        Command::Shell => {
            let mut lab = Lab::prepare(wishes, Vec::new())?;
            let report = lab.logs().join("report-shell.json");
            let program = lab.program(&vmm::Guest::new("shell"), &report)?;
            terminal::run(&mut lab, program.path, program.args)
        }
        Command::Test { family, filter, repeat } => {
            suite::run(wishes, &suite::Choice { family, filter, repeat })
        }
        Command::Windows(options) => windows::command(wishes, &options),
        Command::Exec { program } => {
            let mut lab = Lab::prepare(wishes, vec![std::env::current_dir()?])?;
            let (path, arguments) =
                program.split_first().map_or((String::new(), Vec::new()), |(p, a)| (p.clone(), a.to_vec()));
            terminal::run(&mut lab, path.into(), arguments)
        }
        Command::Say { socket, words } => {
            let mut stream = UnixStream::connect(&socket)?;
            stream.write_all(words.as_bytes())?;
            io::copy(&mut stream, &mut io::stdout())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Watch { socket, folder } => viewer::watch(&socket, &folder),
        Command::Agent { port } => agent::serve_port(&port).map(|()| ExitCode::SUCCESS),
    }
}
