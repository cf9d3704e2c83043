//! `busman guest`: what the guest of a running machine says of itself, freezing its file systems, files for it.
//!
//! A client of the control socket like `busman ctl`, with more patience: the guest answers in its own time.

use std::io::{self, IsTerminal, Write};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use clap::{Args, Subcommand};
use devices::guid::{Guid, GuidError};
use devices::ic::fcopy::{CopyState, CopyStatus};
use devices::ic::kvp::{Network, Pool};
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::client::{Answer, Client};
use super::{CtlError, Request, VM, absolute, print, segment, understand};
use crate::control::{CopyOptions, FreezeOptions};

/// How long an answer may take: longer than the machine gives any guest.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often a copy is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Arguments of `busman guest`.
#[derive(Args, Debug)]
pub struct Guest {
    /// The machine's control socket
    #[arg(long, value_name = "PATH", env = "BUSMAN_SOCKET", global = true)]
    socket: Option<PathBuf>,
    /// Print the answer as the machine gives it, in JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
enum Command {
    /// What the guest says of itself: names, versions, addresses
    Info {
        /// external, guest, auto or auto-external
        #[arg(long, default_value = "auto", value_name = "POOL")]
        pool: Pool,
    },
    /// One value
    Get {
        /// Its key
        key: String,
        /// external, guest, auto or auto-external
        #[arg(long, default_value = "external", value_name = "POOL")]
        pool: Pool,
    },
    /// Give the guest a value, for its programs to read
    Set {
        /// Its key
        key: String,
        /// The value
        value: String,
        /// external, guest, auto or auto-external
        #[arg(long, default_value = "external", value_name = "POOL")]
        pool: Pool,
    },
    /// Take a value back
    Unset {
        /// Its key
        key: String,
        /// external, guest, auto or auto-external
        #[arg(long, default_value = "external", value_name = "POOL")]
        pool: Pool,
    },
    /// The guest's addresses, or those of one network adapter with gateways and name servers
    Ip {
        /// The adapter's hardware address, for instance 00:15:5D:00:00:01
        adapter: Option<String>,
    },
    /// Set the addresses of a network adapter of the guest
    SetIp(SetIp),
    /// Whether the guest can freeze its file systems
    Check,
    /// Have the guest write all that it has in memory, and hold its writes until it is thawed
    Freeze {
        /// Thaw it after so many seconds if nobody has done it
        #[arg(long = "for", value_name = "SECONDS", default_value_t = FreezeOptions::default().seconds)]
        seconds: NonZeroU32,
    },
    /// Let the guest's writes go on
    Thaw,
    /// Copy a file into the guest, and wait until it is there; Ctrl-C cancels the copy
    Copy {
        /// The file, which busman itself must be allowed to read
        from: PathBuf,
        /// The file in the guest: folder and name, for instance /var/tmp/file
        to: String,
        /// Replace a file that is there
        #[arg(long)]
        overwrite: bool,
        /// Make folders that are missing
        #[arg(long)]
        create_path: bool,
    },
    /// How the latest copy goes or went
    CopyStatus,
    /// Cancel the copy that is on its way
    CopyCancel,
}

#[derive(Args, Clone, Debug, PartialEq, Eq)]
struct SetIp {
    /// The GUID of the adapter's device; Linux has it in /sys/class/net/NAME/device/device_id
    #[arg(value_parser = adapter)]
    adapter: Guid,
    /// Its addresses with the lengths of their prefixes, for instance 10.0.0.2/24
    #[arg(value_name = "ADDRESS/PREFIX", required_unless_present = "dhcp", conflicts_with = "dhcp")]
    addresses: Vec<Network>,
    /// Have addresses, gateways and name servers come by DHCP
    #[arg(long, conflicts_with_all = ["gateways", "dns"])]
    dhcp: bool,
    /// A gateway; may be given again
    #[arg(long = "gateway", value_name = "ADDRESS")]
    gateways: Vec<IpAddr>,
    /// A name server; may be given again
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<IpAddr>,
}

impl SetIp {
    fn body(&self) -> String {
        let SetIp { adapter, addresses, dhcp, gateways, dns } = self;
        let adapter = adapter.to_string();
        json!({"adapter": adapter, "dhcp": dhcp, "addresses": addresses, "gateways": gateways, "dns": dns})
            .to_string()
    }
}

/// A GUID, perhaps in the braces in which Linux has it.
fn adapter(text: &str) -> Result<Guid, GuidError> {
    text.trim().trim_start_matches('{').trim_end_matches('}').parse()
}

impl Command {
    fn request(&self) -> Request {
        let values = |pool: &Pool| format!("{VM}/guest/values/{}", pool.name());
        let at = |path: &str| format!("{VM}/guest/{path}");
        match self {
            Command::Info { pool } => ("GET", values(pool), None),
            Command::Get { key, pool } => ("POST", values(pool), Some(json!({"key": key}).to_string())),
            Command::Set { key, value, pool } => {
                ("PUT", values(pool), Some(json!({"key": key, "value": value}).to_string()))
            }
            Command::Unset { key, pool } => ("DELETE", values(pool), Some(json!({"key": key}).to_string())),
            Command::Ip { adapter: None } => ("GET", at("addresses"), None),
            Command::Ip { adapter: Some(name) } => ("GET", at(&format!("adapters/{}", segment(name))), None),
            Command::SetIp(set) => ("PUT", at("addresses"), Some(set.body())),
            Command::Check => ("GET", at("freeze"), None),
            Command::Freeze { seconds } => {
                ("PUT", at("freeze"), Some(json!(FreezeOptions { seconds: *seconds }).to_string()))
            }
            Command::Thaw => ("DELETE", at("freeze"), None),
            Command::Copy { from, to, overwrite, create_path } => {
                let (from, to) = (absolute(from), to.clone());
                let options = CopyOptions { from, to, overwrite: *overwrite, create_path: *create_path };
                ("PUT", at("copy"), Some(json!(options).to_string()))
            }
            Command::CopyStatus => ("GET", at("copy"), None),
            Command::CopyCancel => ("DELETE", at("copy"), None),
        }
    }
}

impl Guest {
    /// Asks the machine, and prints what it answers.
    ///
    /// # Errors
    /// A sentence for the user.
    pub fn execute(&self) -> Result<(), CtlError> {
        let mut client = Client::new(self.socket.clone().ok_or(CtlError::NoSocket)?).patient(PATIENCE);
        let mut answer = ask(&mut client, &self.command)?;
        if matches!(self.command, Command::Copy { .. }) {
            answer = follow(&mut client, answer)?;
        }
        print(&answer, self.json, &mut io::stdout())
    }
}

fn ask(client: &mut Client, command: &Command) -> Result<Answer, CtlError> {
    let (method, path, body) = command.request();
    client.call(method, &path, body.as_deref())
}

/// Watches a copy that has begun until it ends.
fn follow(client: &mut Client, mut answer: Answer) -> Result<Answer, CtlError> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
    }
    let mut bar = Bar(io::stderr().is_terminal());
    loop {
        let status: CopyStatus = understand(&answer.body)?;
        match status.state {
            CopyState::Copying => bar.show(&status),
            CopyState::Done => return Ok(answer),
            CopyState::Failed => return Err(CtlError::Refused(status.error.unwrap_or_default())),
            CopyState::Cancelled => return Err(CtlError::Cancelled),
        }
        if interrupted.load(Ordering::Relaxed) {
            match ask(client, &Command::CopyCancel) {
                // It has ended meanwhile.
                Err(CtlError::Refused(_)) | Ok(_) => {}
                Err(error) => return Err(error),
            }
        } else {
            thread::sleep(LOOK);
        }
        answer = ask(client, &Command::CopyStatus)?;
    }
}

/// Shows how far a copy is, on a terminal.
struct Bar(bool);

impl Bar {
    fn show(&mut self, status: &CopyStatus) {
        if self.0 {
            let percent = status.copied.saturating_mul(100).checked_div(status.size).unwrap_or(100);
            // Without a reader nobody misses it.
            let _ = write!(io::stderr(), "\r{percent:3} % of {} bytes", status.size);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if self.0 {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::Fixture;
    use crate::control::{Command as Asked, GuestCommand, Refusal};
    use clap::Parser;
    use devices::ic::kvp::{IpInfo, Pair};

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        guest: Guest,
    }

    fn guest(api: &Fixture, line: &str) -> Result<Guest, clap::Error> {
        let line = format!("guest --socket {} {line}", api.path.display());
        Cli::try_parse_from(line.split_whitespace()).map(|cli| cli.guest)
    }

    #[test]
    fn every_command_reaches_the_machine() {
        let api = Fixture::new();
        let copy = CopyOptions { from: "/a".into(), to: "/b".into(), overwrite: true, create_path: true };
        let pair = Pair { key: "k".into(), value: "v".into() };
        let adapter = "f8615163-df3e-46c5-913f-f2d2f965ed0e".parse().unwrap();
        let by_dhcp = IpInfo { dhcp: true, ..IpInfo::default() };
        let by_hand = IpInfo {
            dhcp: false,
            addresses: ["10.0.0.2/24", "fd00::2/64"].map(|address| address.parse().unwrap()).to_vec(),
            gateways: vec!["10.0.0.1".parse().unwrap()],
            dns: ["9.9.9.9", "fd00::1"].map(|address| address.parse().unwrap()).to_vec(),
        };
        for (line, asked) in [
            ("info", GuestCommand::Pairs(Pool::Auto)),
            ("info --pool guest", GuestCommand::Pairs(Pool::Guest)),
            ("get k", GuestCommand::Get(Pool::External, "k".into())),
            ("set k v --pool auto-external", GuestCommand::Set(Pool::AutoExternal, pair)),
            ("unset k", GuestCommand::Unset(Pool::External, "k".into())),
            ("ip", GuestCommand::Addresses),
            ("ip 00:15:5d:00:00:01", GuestCommand::Adapter("00:15:5d:00:00:01".into())),
            (
                "set-ip {f8615163-df3e-46c5-913f-f2d2f965ed0e} --dhcp",
                GuestCommand::SetAddresses(adapter, by_dhcp),
            ),
            (
                "set-ip f8615163-df3e-46c5-913f-f2d2f965ed0e 10.0.0.2/24 fd00::2/64 --gateway 10.0.0.1 --dns 9.9.9.9 --dns fd00::1",
                GuestCommand::SetAddresses(adapter, by_hand),
            ),
            ("check", GuestCommand::Check),
            ("freeze", GuestCommand::Freeze(FreezeOptions::default())),
            ("freeze --for 5", GuestCommand::Freeze(FreezeOptions { seconds: NonZeroU32::new(5).unwrap() })),
            ("thaw", GuestCommand::Thaw),
            ("copy-status", GuestCommand::CopyStatus),
            ("copy-cancel", GuestCommand::CancelCopy),
            ("copy /a /b --overwrite --create-path", GuestCommand::Copy(copy)),
        ] {
            guest(&api, line).unwrap().execute().unwrap();
            assert_eq!(api.asked().first(), Some(&Asked::Guest(asked)), "{line}");
        }
        for line in [
            "",
            "info --pool own",
            "copy /a",
            "set k",
            "freeze now",
            "freeze --for 0",
            "set-ip f8615163-df3e-46c5-913f-f2d2f965ed0e",
            "set-ip f8615163-df3e-46c5-913f-f2d2f965ed0e 10.0.0.2",
            "set-ip f8615163-df3e-46c5-913f-f2d2f965ed0e 10.0.0.2/24 --dhcp",
            "set-ip f8615163-df3e-46c5-913f-f2d2f965ed0e --dhcp --dns 9.9.9.9",
            "set-ip 00:15:5d:00:00:01 --dhcp",
        ] {
            assert!(guest(&api, line).is_err(), "{line}");
        }
    }

    #[test]
    fn the_machines_refusal_is_the_error() {
        let api = Fixture::new();
        api.vm.refuse.lock().unwrap().push(Refusal::GuestPaused);
        let error = guest(&api, "freeze").unwrap().execute().unwrap_err();
        assert_eq!(error.to_string(), Refusal::GuestPaused.sentence());
    }
}
