//! `busman ctl top`: the channels once a second, on the terminal or as lines.

mod rates;
mod screen;

use std::io::{self, IsTerminal, Write};
use std::thread;
use std::time::{Duration, Instant};

use devices::vmbus::table::ChannelRow;

use self::rates::{Row, rows};
use self::screen::{Screen, Wake};
use super::client::Client;
use super::{CtlError, VM, understand};
use crate::control::Status;
use crate::report::Counters;

const PERIOD: Duration = Duration::from_secs(1);

/// Arguments of `busman ctl top`.
#[derive(clap::Args, Clone, Debug, PartialEq, Eq)]
pub(super) struct Options {
    /// End after so many seconds [default: when q or Ctrl-C is pressed]
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
}

/// The machine at one moment.
struct Snapshot {
    at: Instant,
    status: Status,
    channels: Vec<ChannelRow>,
    counters: Counters,
}

impl Snapshot {
    fn take(client: &mut Client) -> Result<Self, CtlError> {
        Ok(Snapshot {
            status: understand(&client.call("GET", VM, None)?.body)?,
            counters: understand(&client.call("GET", &format!("{VM}/counters"), None)?.body)?,
            channels: understand(&client.call("GET", &format!("{VM}/channels"), None)?.body)?,
            at: Instant::now(),
        })
    }

    /// Exits of all virtual processors.
    fn exits(&self) -> u64 {
        let exits = |vcpu: &crate::report::Vcpu| vcpu.exits.sum();
        self.counters.vcpus.iter().map(exits).sum()
    }
}

/// Shows the machine until the user has seen enough, or it ends.
pub(super) fn run(client: Client, options: &Options) -> Result<(), CtlError> {
    if io::stdout().is_terminal() { run_screen(client, options) } else { run_lines(client, options) }
}

fn run_screen(mut client: Client, options: &Options) -> Result<(), CtlError> {
    let mut last = Snapshot::take(&mut client)?;
    let mut screen = Screen::enter()?;
    let mut lines = frame(&last, None);
    for number in 0.. {
        screen.show(&lines)?;
        if options.count.is_some_and(|count| number >= count)
            || screen.wait_until(last.at + PERIOD)? == Wake::Quit
        {
            break;
        }
        let now = Snapshot::take(&mut client)?;
        lines = frame(&now, Some(&last));
        last = now;
    }
    Ok(())
}

/// One line for each channel and second: for files and other programs.
fn run_lines(mut client: Client, options: &Options) -> Result<(), CtlError> {
    let mut out = io::stdout();
    let start = Snapshot::take(&mut client)?;
    let first = start.at;
    let mut last = start;
    for (heading, second) in rates::HEADING.iter().zip(["", "second"]) {
        writeln!(out, "{second:>7} {heading}")?;
    }
    for number in 1.. {
        if options.count.is_some_and(|count| number > count) {
            break;
        }
        thread::sleep((last.at + PERIOD).saturating_duration_since(Instant::now()));
        let now = Snapshot::take(&mut client)?;
        for row in rows(&now.channels, Some((&last.channels, now.at - last.at))) {
            writeln!(out, "{:>7.1} {row}", (now.at - first).as_secs_f64())?;
        }
        out.flush()?;
        last = now;
    }
    Ok(())
}

/// What is on the screen.
fn frame(now: &Snapshot, last: Option<&Snapshot>) -> Vec<String> {
    let Status { state, version, uptime_ms, cpus, memory, protocol, heartbeat, .. } = &now.status;
    let seconds = uptime_ms / 1000;
    let state = serde_json::to_value(state).ok();
    let state = state.as_ref().and_then(|state| state.as_str()).unwrap_or_default();
    let exits = last.map(|last| rates::per_second(last.exits(), now.exits(), now.at - last.at));
    let mut lines = vec![
        format!(
            "busman {version}  {state}  up {}:{:02}:{:02}  {cpus} CPUs  {} MiB  VMBus {protocol}  heartbeat {}",
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60,
            memory >> 20,
            heartbeat.as_deref().unwrap_or("-"),
        ),
        format!("exits to user space: {}/s, {} in all", rates::short(exits), now.exits()),
        String::new(),
    ];
    lines.extend(rates::HEADING.map(str::to_owned));
    let last = last.map(|last| (last.channels.as_slice(), now.at - last.at));
    lines.extend(rows(&now.channels, last).iter().map(Row::to_string));
    lines.push(String::new());
    lines.push("in: from the guest; out: to the guest; ring fill: what waits in it; q ends".to_owned());
    lines
}
