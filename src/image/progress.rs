//! How far a copy is: a bar that moves on a terminal, a line for each tenth elsewhere.

use std::io::Write;
use std::time::{Duration, Instant};

use super::show::bytes;

/// Characters of the bar.
const WIDTH: usize = 40;
/// How often the bar moves.
const INTERVAL: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Progress {
    terminal: bool,
    started: Instant,
    shown: Option<Instant>,
    tenths: u64,
}

impl Progress {
    pub fn new(terminal: bool) -> Self {
        Progress { terminal, started: Instant::now(), shown: None, tenths: 0 }
    }

    /// Shows that so much is done. Where it cannot be shown, the work goes on.
    pub fn show(&mut self, out: &mut dyn Write, done: u64, total: u64) {
        if self.terminal {
            if done == total || self.shown.is_none_or(|shown| shown.elapsed() >= INTERVAL) {
                self.shown = Some(Instant::now());
                let _ = write!(out, "\r{}\x1b[K", bar(done, total, self.started.elapsed()));
                let _ = out.flush();
            }
        } else if self.tenths < portion(done, total, 10) {
            self.tenths = portion(done, total, 10);
            let _ = writeln!(out, "{} % of {}", self.tenths * 10, bytes(total));
        }
    }

    /// Leaves the bar's line.
    pub fn end(&self, out: &mut dyn Write) {
        if self.shown.is_some() {
            let _ = writeln!(out);
        }
    }
}

/// What is done, in parts of the whole.
fn portion(done: u64, total: u64, parts: u64) -> u64 {
    let portion = u128::from(done) * u128::from(parts) / u128::from(total.max(1));
    u64::try_from(portion).unwrap_or(parts)
}

fn bar(done: u64, total: u64, elapsed: Duration) -> String {
    let filled = usize::try_from(portion(done, total, WIDTH as u64)).unwrap_or(WIDTH).min(WIDTH);
    let mut line = format!(
        "[{}{}] {:3} % of {}",
        "=".repeat(filled),
        " ".repeat(WIDTH - filled),
        portion(done, total, 100),
        bytes(total)
    );
    // The first second says little.
    if done > 0 && done < total && elapsed >= Duration::from_secs(1) {
        let left = elapsed.as_secs().saturating_mul(total - done) / done;
        line += &format!(", {}:{:02} left", left / 60, left % 60);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_fills_and_says_what_is_left() {
        let line = bar(16 << 30, 64 << 30, Duration::from_secs(30));
        assert_eq!(line, format!("[{}{}]  25 % of 64 GiB, 1:30 left", "=".repeat(10), " ".repeat(30)));
        assert!(bar(64 << 30, 64 << 30, Duration::from_secs(90)).ends_with("] 100 % of 64 GiB"));
        assert!(bar(0, 0, Duration::ZERO).contains("  0 %"));
    }

    #[test]
    fn a_file_gets_one_line_for_each_tenth() {
        let (mut progress, mut out) = (Progress::new(false), Vec::new());
        for done in 0..=1000 {
            progress.show(&mut out, done << 20, 1000 << 20);
        }
        progress.end(&mut out);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().count(), 10);
        assert!(text.starts_with("10 % of 1000 MiB\n") && text.ends_with("\n100 % of 1000 MiB\n"), "{text}");
    }
}
