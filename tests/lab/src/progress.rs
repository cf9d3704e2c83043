//! Says what the lab is doing, on standard error: one line per step, with the time since the start.
//!
//! On a terminal the line of the step under way counts up; elsewhere, and with CI=true, lines are plain.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

static START: OnceLock<Instant> = OnceLock::new();

/// The step whose line is on the terminal: a step within another one has it until it ends. Zero for none.
static SHOWN: AtomicU64 = AtomicU64::new(0);

/// Numbers the steps.
static LAST: AtomicU64 = AtomicU64::new(0);

/// Seconds since the first step.
pub fn elapsed() -> Duration {
    START.get_or_init(Instant::now).elapsed()
}

/// A finished step, or anything else worth a line.
pub fn say(text: &str) {
    eprintln!("{}{text}", stamp());
}

/// A step under way; ends with [`Step::done`] or, when it is dropped first, as failed.
pub struct Step {
    text: String,
    outer: u64,
    counting: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

/// Starts a step.
pub fn step(text: impl Into<String>) -> Step {
    let text = text.into();
    let number = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    let outer = SHOWN.swap(number, Ordering::Relaxed);
    if !io::stderr().is_terminal() || std::env::var_os("CI").is_some() {
        say(&format!("{text} ..."));
        return Step { text, outer, counting: None };
    }
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, line) = (Arc::clone(&stop), text.clone());
    let thread = thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            if SHOWN.load(Ordering::Relaxed) == number {
                eprint!("\r\x1b[K{}{line} ...", stamp());
                let _ = io::stderr().flush();
            }
            thread::sleep(Duration::from_millis(100));
        }
    });
    Step { text, outer, counting: Some((stop, thread)) }
}

impl Step {
    /// Ends the step well, with a word on the result.
    pub fn done(mut self, result: &str) {
        self.end(result);
    }

    fn end(&mut self, result: &str) {
        SHOWN.store(self.outer, Ordering::Relaxed);
        if let Some((stop, thread)) = self.counting.take() {
            stop.store(true, Ordering::Relaxed);
            let _ = thread.join();
            eprint!("\r\x1b[K");
        }
        say(&format!("{}: {result}", self.text));
        self.text.clear();
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if !self.text.is_empty() {
            self.end("FAILED");
        }
    }
}

fn stamp() -> String {
    format!("[{:6.1} s] ", elapsed().as_secs_f64())
}
