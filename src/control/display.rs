//! Commands about display, keyboard and mouse, as people type them.

use super::{Command, CommandError};

/// The command of a line; `None` if it is another one.
pub(super) fn command(line: &str) -> Result<Option<Command>, CommandError> {
    let line = line.trim();
    let (verb, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    Ok(Some(match verb {
        "key" => Command::Key(rest.trim().parse()?),
        "pointer" => Command::Pointer(rest.parse()?),
        "resolution" => Command::Resolution(rest.trim().parse()?),
        _ => return Ok(None),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_about_the_display_are_commands() {
        for (line, wanted) in [
            ("display", Command::Display),
            (" key  ctrl-alt-delete ", Command::Key("ctrl-alt-delete".parse().unwrap())),
            ("resolution 1280x1024", Command::Resolution("1280x1024".parse().unwrap())),
            ("pointer 1 2 left", Command::Pointer("1 2 left".parse().unwrap())),
        ] {
            assert_eq!(line.parse(), Ok(wanted), "{line}");
        }
        for (line, sentence) in [
            ("key", "There is no key \"\""),
            ("key a b", "There is no key \"a b\""),
            ("pointer 1", "write X Y"),
            ("resolution 4", "\"4\" is no resolution"),
            ("display now", "\"now\" has no meaning here"),
        ] {
            let error = line.parse::<Command>().unwrap_err().to_string();
            assert!(error.contains(sentence), "{line}: {error}");
        }
    }
}
