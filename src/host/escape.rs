//! The escape key: tells what the user types for the guest from what is meant for busman.
//!
//! A pure state machine: bytes in; bytes for the guest, commands and an echo out. Reads may cut the input
//! anywhere, so all state is in here. It serves a pipe as well as a terminal.

use crate::control::{Command, CommandError};

/// Ctrl-A.
const ESCAPE: u8 = 0x01;
const CTRL_C: u8 = 0x03;
const CTRL_U: u8 = 0x15;
const BACKSPACE: u8 = 0x08;
const ESC: u8 = 0x1b;
const DELETE: u8 = 0x7f;
/// Longest command line; what is typed beyond it is ignored.
const LINE_MAX: usize = 128;
const PROMPT: &[u8] = b"\nbusman> ";
const RUB_OUT: &[u8] = b"\x08 \x08";

/// State between two reads.
#[derive(Debug, Default)]
pub struct Escape(State);

#[derive(Debug, Default)]
enum State {
    /// Everything goes to the guest.
    #[default]
    Guest,
    /// The escape key was pressed.
    Key,
    /// A command line is being typed.
    Line(Vec<u8>),
}

/// What some bytes of input mean.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// For the guest.
    pub guest: Vec<u8>,
    /// For busman, in order.
    pub commands: Vec<Result<Command, CommandError>>,
    /// For the user's eyes: the command line as it is typed.
    pub echo: Vec<u8>,
}

impl Escape {
    /// Reads on where the last call ended.
    pub fn parse(&mut self, input: &[u8]) -> Parsed {
        let mut parsed = Parsed::default();
        for &byte in input {
            self.0 = match std::mem::take(&mut self.0) {
                State::Guest if byte == ESCAPE => State::Key,
                State::Guest => {
                    parsed.guest.push(byte);
                    State::Guest
                }
                State::Key => key(byte, &mut parsed),
                State::Line(line) => edit(line, byte, &mut parsed),
            };
        }
        parsed
    }
}

fn key(byte: u8, parsed: &mut Parsed) -> State {
    let command = match byte {
        ESCAPE => {
            parsed.guest.push(ESCAPE);
            return State::Guest;
        }
        b'c' => {
            parsed.echo.extend(PROMPT);
            return State::Line(Vec::new());
        }
        b'x' => Ok(Command::Stop),
        b's' => Ok(Command::Shutdown),
        b'r' => Ok(Command::Reboot),
        b't' => Ok(Command::Channels),
        b'h' | b'?' => Ok(Command::Help),
        other => Err(CommandError::UnknownKey(other.into())),
    };
    parsed.commands.push(command);
    State::Guest
}

fn edit(mut line: Vec<u8>, byte: u8, parsed: &mut Parsed) -> State {
    match byte {
        b'\r' | b'\n' => {
            parsed.echo.push(b'\n');
            let line = String::from_utf8_lossy(&line);
            if !line.trim().is_empty() {
                parsed.commands.push(line.parse());
            }
            return State::Guest;
        }
        ESCAPE | CTRL_C | ESC => {
            parsed.echo.push(b'\n');
            return State::Guest;
        }
        BACKSPACE | DELETE => parsed.echo.extend(line.pop().map_or(b"".as_slice(), |_| RUB_OUT)),
        CTRL_U => {
            parsed.echo.extend(RUB_OUT.repeat(line.len()));
            line.clear();
        }
        b' '..=b'~' if line.len() < LINE_MAX => {
            line.push(byte);
            parsed.echo.push(byte);
        }
        _ => {}
    }
    State::Line(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(input: &[u8]) -> Parsed {
        Escape::default().parse(input)
    }

    fn commands(input: &[u8]) -> Vec<Result<Command, CommandError>> {
        parse(input).commands
    }

    #[test]
    fn ordinary_input_is_the_guests() {
        let all: Vec<u8> = (0..=255).filter(|&byte| byte != ESCAPE).collect();
        assert_eq!(parse(&all), Parsed { guest: all.clone(), ..Parsed::default() });
    }

    #[test]
    fn escape_twice_sends_it_once() {
        assert_eq!(parse(b"a\x01\x01b").guest, b"a\x01b");
    }

    #[test]
    fn keys_are_commands_and_do_not_reach_the_guest() {
        let parsed = parse(b"a\x01sb\x01r\x01t\x01h\x01xc");
        assert_eq!(parsed.guest, b"abc");
        let wanted = [Command::Shutdown, Command::Reboot, Command::Channels, Command::Help, Command::Stop];
        assert_eq!(parsed.commands, wanted.map(Ok));
        assert_eq!(commands(b"\x01q"), [Err(CommandError::UnknownKey('q'))]);
    }

    #[test]
    fn a_command_line_ends_with_return_or_newline() {
        let parsed = parse(b"\x01cremove heartbeat\nls\r\x01cadd heartbeat\r");
        assert_eq!(
            parsed.commands,
            [Ok(Command::Remove("heartbeat".into())), Ok(Command::Add("heartbeat".into()))]
        );
        assert_eq!(parsed.guest, b"ls\r");
    }

    #[test]
    fn a_command_line_can_be_edited_and_cancelled() {
        assert_eq!(commands(b"\x01cstopp\x7f\r"), [Ok(Command::Stop)]);
        assert_eq!(commands(b"\x01c\x7f\x08wrong\x15channels\r"), [Ok(Command::Channels)]);
        for cancel in [b"\x01cstop\x03", b"\x01cstop\x1b", b"\x01cstop\x01", b"\x01c    \r"] {
            assert!(commands(cancel).is_empty(), "{cancel:?}");
        }
        assert_eq!(parse(b"\x01cst\x7f").echo, b"\nbusman> st\x08 \x08");
    }

    #[test]
    fn input_may_be_cut_anywhere() {
        let input = b"x\x01\x01y\x01cadd timesync\rz\x01s";
        let whole = parse(input);
        let mut escape = Escape::default();
        let mut pieces = Parsed::default();
        for byte in input {
            let parsed = escape.parse(&[*byte]);
            pieces.guest.extend(parsed.guest);
            pieces.commands.extend(parsed.commands);
            pieces.echo.extend(parsed.echo);
        }
        assert_eq!(pieces, whole);
    }

    #[test]
    fn an_endless_command_line_does_not_grow() {
        let mut escape = Escape::default();
        escape.parse(b"\x01c");
        for _ in 0..100 {
            escape.parse(&[b'a'; 1000]);
        }
        let State::Line(line) = &escape.0 else { panic!("{escape:?}") };
        assert_eq!(line.len(), LINE_MAX);
    }
}
