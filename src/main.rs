//! The busman binary: parse, validate, build, run, exit code.

use std::io;
use std::process::ExitCode;
use std::time::Instant;

use busman::cli::{self, Cli, Command};
use busman::config::ConfigError;
use busman::report::End;
use busman::vmm;
use clap::Parser;

/// Something went wrong.
const FAILURE: u8 = 1;
/// The command line or a config file asks for what cannot be.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let started = Instant::now();
    let cli = Cli::parse();
    env_logger::Builder::from_env(env_logger::Env::new().filter_or("BUSMAN_LOG", "info")).init();
    match execute(cli, started) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("busman: error: {error:#}");
            ExitCode::from(if error.is::<ConfigError>() { USAGE } else { FAILURE })
        }
    }
}

fn execute(cli: Cli, started: Instant) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Run(run) => Ok(exit_code(vmm::run(&run.into_config()?, started)?)),
        Command::Ctl(ctl) => {
            ctl.execute()?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Guest(guest) => {
            guest.execute()?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Screenshot(screenshot) => {
            screenshot.execute()?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Image(image) => {
            Ok(if image.execute()? { ExitCode::SUCCESS } else { ExitCode::from(FAILURE) })
        }
        Command::Nvram(nvram) => {
            nvram.execute()?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Imc(imc) => {
            imc.execute()?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Completions { shell } => {
            cli::completions(shell, &mut io::stdout());
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn exit_code(end: End) -> ExitCode {
    match end {
        End::PowerOff | End::Reset => ExitCode::SUCCESS,
        End::TripleFault => {
            eprintln!("busman: error: the guest ended in a triple fault");
            ExitCode::from(FAILURE)
        }
        End::Stopped => {
            eprintln!("busman: error: stopped before the guest powered off");
            ExitCode::from(FAILURE)
        }
    }
}
