//! Commands about disks, as people type them: what follows the command's words may have spaces in it.

use super::{Command, CommandError};
use crate::disks::{Place, Unit};

/// The command of a line; `None` if it is another one.
pub(super) fn command(line: &str) -> Result<Option<Command>, CommandError> {
    let (verb, rest) = split(line);
    let (what, words) = split(rest);
    let command = match (verb, what) {
        ("add", "disk") => Command::AddDisk(Unit::Disk(words.parse()?)),
        ("add", "dvd") => Command::AddDisk(Unit::Dvd(words.parse()?)),
        ("remove", "disk" | "dvd") => Command::RemoveDisk(words.parse()?),
        ("insert", place) if !words.is_empty() => Command::Insert(place.parse()?, words.into()),
        ("insert", _) => {
            return Err(CommandError::NeedsDisk(
                "insert",
                "a drive and an image, for instance: insert 0:1 disc.iso",
            ));
        }
        ("eject", "") => return Err(CommandError::NeedsDisk("eject", "a drive, for instance: eject 0:1")),
        ("eject", place) => Command::Eject { place: place.parse::<Place>()?, force: force(words)? },
        _ => return Ok(None),
    };
    Ok(Some(command))
}

fn force(words: &str) -> Result<bool, CommandError> {
    match words {
        "" => Ok(false),
        "force" => Ok(true),
        _ => Err(CommandError::TooMany(words.to_owned())),
    }
}

/// The first word, and what follows it.
fn split(line: &str) -> (&str, &str) {
    let line = line.trim();
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    (word, rest.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disks::{DiskOptions, DvdOptions};

    #[test]
    fn lines_about_disks_are_commands() {
        let place = Place { controller: 0, lun: 9 };
        let disk = DiskOptions { path: "a b.vhdx".into(), lun: Some(9), ..DiskOptions::default() };
        let dvd = DvdOptions { path: Some("c.iso".into()), ..DvdOptions::default() };
        for (line, wanted) in [
            ("add disk a b.vhdx,lun=9", Command::AddDisk(Unit::Disk(disk))),
            (" add  dvd c.iso ", Command::AddDisk(Unit::Dvd(dvd))),
            ("remove disk 0:9", Command::RemoveDisk(place)),
            ("remove dvd controller=0,lun=9", Command::RemoveDisk(place)),
            ("insert 0:9 a b.iso", Command::Insert(place, "a b.iso".into())),
            ("eject 0:9", Command::Eject { place, force: false }),
            ("eject 0:9 force", Command::Eject { place, force: true }),
            ("add heartbeat", Command::Add("heartbeat".into())),
            ("remove scsi0", Command::Remove("scsi0".into())),
            ("disks", Command::Disks),
        ] {
            assert_eq!(line.parse(), Ok(wanted), "{line}");
        }
        for (line, sentence) in [
            ("add disk", "write path=FILE"),
            ("remove disk", "\"\" is no place of a disk; write CONTROLLER:LUN"),
            ("insert 0:9", "for instance: insert 0:1 disc.iso"),
            ("eject", "for instance: eject 0:1"),
            ("eject 0:9 now", "\"now\" has no meaning here"),
            ("eject 9", "\"9\" is no place of a disk"),
        ] {
            let error = line.parse::<Command>().unwrap_err().to_string();
            assert!(error.contains(sentence), "{line}: {error}");
        }
    }
}
