//! The terminal while `top` has it: another page, no cursor, keys at once; as it was before on every way out.
//!
//! Ways out are drop (also by a panic) and the signals that [`Signals`] turns into a way out.

use std::io::{self, IsTerminal, Write};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::termios::{self, LocalModes, OptionalActions, Termios};

use crate::host::Signals;

/// Another page, without a cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
const HOME: &str = "\x1b[H";
/// To the end of the line, and to the end of the page.
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";
const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;

/// Why [`Screen::wait_until`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wake {
    /// It is time.
    Tick,
    /// The user has seen enough.
    Quit,
}

pub(super) struct Screen {
    /// The keyboard's settings before; without a keyboard only signals end it.
    keyboard: Option<Termios>,
    signals: Signals,
}

impl Screen {
    pub(super) fn enter() -> io::Result<Self> {
        let signals = Signals::new()?;
        let keyboard = if io::stdin().is_terminal() { Some(termios::tcgetattr(io::stdin())?) } else { None };
        let screen = Screen { keyboard, signals };
        if let Some(before) = &screen.keyboard {
            let mut keys = before.clone();
            // No signals either: Ctrl-Z would leave this page on the terminal.
            keys.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
            termios::tcsetattr(io::stdin(), OptionalActions::Now, &keys)?;
        }
        write(ENTER)?;
        Ok(screen)
    }

    /// Shows as much of the lines as there is room for.
    pub(super) fn show(&mut self, lines: &[String]) -> io::Result<()> {
        let size = termios::tcgetwinsize(io::stdout()).ok();
        let room = |cells: u16, default: usize| if cells == 0 { default } else { usize::from(cells) };
        let width = size.map_or(80, |size| room(size.ws_col, 80));
        let height = size.map_or(24, |size| room(size.ws_row, 24));
        write(&page(lines, width, height))
    }

    /// Waits for a key that ends, for a signal, or for the moment.
    pub(super) fn wait_until(&mut self, moment: Instant) -> io::Result<Wake> {
        loop {
            let left = moment.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
            let stdin = io::stdin();
            let mut sources = vec![PollFd::new(&self.signals, PollFlags::IN)];
            if self.keyboard.is_some() {
                sources.push(PollFd::new(&stdin, PollFlags::IN));
            }
            match poll(&mut sources, Some(&timeout)) {
                Ok(0) => return Ok(Wake::Tick),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let has_keys = sources.get(1).is_some_and(|keyboard| !keyboard.revents().is_empty());
            if self.signals.take() > 0 || has_keys && ends(&stdin)? {
                return Ok(Wake::Quit);
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = write(LEAVE);
        if let Some(before) = &self.keyboard {
            let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}

/// Takes what was typed, and says whether it ends. Nothing typed is the end of the keyboard.
fn ends(stdin: &io::Stdin) -> io::Result<bool> {
    let mut keys = [0; 64];
    // Not through Stdin's buffer, which poll cannot see.
    match rustix::io::read(stdin, &mut keys) {
        Ok(0) | Err(Errno::IO) => Ok(true),
        Ok(count) => Ok(keys.iter().take(count).any(|key| matches!(key, b'q' | b'Q' | &CTRL_C | &CTRL_D))),
        Err(Errno::INTR | Errno::AGAIN) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Written over what is there: nothing flickers.
fn page(lines: &[String], width: usize, height: usize) -> String {
    let mut page = HOME.to_owned();
    for (i, line) in lines.iter().take(height).enumerate() {
        if i > 0 {
            page.push_str("\r\n");
        }
        page.extend(line.chars().filter(|c| !c.is_control()).take(width));
        page.push_str(CLEAR_LINE);
    }
    page.push_str(CLEAR_BELOW);
    page
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_fits_the_terminal_and_has_no_commands_but_ours() {
        let lines = ["12345".to_owned(), "a\x1bb".to_owned(), "unseen".to_owned()];
        assert_eq!(page(&lines, 3, 2), "\x1b[H123\x1b[K\r\nab\x1b[K\x1b[J");
    }
}
