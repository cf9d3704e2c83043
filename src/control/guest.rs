//! What a user can ask of the guest itself, through its integration services.
//!
//! The guest answers in its own time, or not at all: each command has its patience.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use devices::guid::Guid;
use devices::ic::fcopy;
use devices::ic::kvp::{IpInfo, Pair, Pool};
use serde::{Deserialize, Serialize};

use super::CommandError;

/// A request to the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuestCommand {
    /// Tell all pairs of a pool.
    Pairs(Pool),
    /// Tell the value of a key.
    Get(Pool, String),
    /// Keep a value.
    Set(Pool, Pair),
    /// Forget a key.
    Unset(Pool, String),
    /// Tell all addresses.
    Addresses,
    /// Tell what the network adapter with this hardware address is set to.
    Adapter(String),
    /// Set the addresses of the network adapter whose instance on the bus has this GUID.
    SetAddresses(Guid, IpInfo),
    /// Tell whether file systems can be frozen.
    Check,
    /// Freeze file systems.
    Freeze(FreezeOptions),
    /// Thaw them.
    Thaw,
    /// Take a copy of a file. The outcome comes when it is begun.
    Copy(CopyOptions),
    /// Tell how the latest copy goes; the guest is not asked.
    CopyStatus,
    /// Cancel the copy; the guest is not waited for.
    CancelCopy,
}

/// How long file systems may be frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FreezeOptions {
    /// They are thawed after so many seconds if nobody has done it.
    pub seconds: NonZeroU32,
}

impl Default for FreezeOptions {
    /// Time for a snapshot, or for a copy of a file that shares blocks.
    fn default() -> Self {
        FreezeOptions { seconds: const { NonZeroU32::new(60).unwrap() } }
    }
}

/// A copy of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CopyOptions {
    /// The host's file.
    pub from: PathBuf,
    /// The guest's file: folder and name.
    pub to: String,
    /// Replaces a file that is there.
    #[serde(default)]
    pub overwrite: bool,
    /// Makes folders that are missing.
    #[serde(default)]
    pub create_path: bool,
}

/// The guest's addresses, as it says them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// IPv4 ones.
    pub ipv4: Vec<String>,
    /// IPv6 ones.
    pub ipv6: Vec<String>,
}

impl Addresses {
    /// Finds them among the pairs of [`Pool::Auto`]: lists with semicolons.
    #[must_use]
    pub fn of(pairs: &[Pair]) -> Self {
        let list = |key: &str| {
            let lists = pairs.iter().filter(|pair| pair.key == key).flat_map(|pair| pair.value.split(';'));
            lists.map(str::trim).filter(|address| !address.is_empty()).map(str::to_owned).collect()
        };
        Addresses { ipv4: list("NetworkAddressIPv4"), ipv6: list("NetworkAddressIPv6") }
    }
}

impl GuestCommand {
    /// How long the guest may take.
    #[must_use]
    pub fn patience(&self) -> Duration {
        match self {
            GuestCommand::CopyStatus | GuestCommand::CancelCopy => Duration::ZERO,
            GuestCommand::Copy(_) => fcopy::PATIENCE,
            // All that is in memory is written first.
            GuestCommand::Freeze(_) | GuestCommand::Thaw => Duration::from_secs(60),
            // A script of the guest sets the adapter up, and may wait for DHCP's answer.
            GuestCommand::SetAddresses(..) => Duration::from_secs(60),
            _ => Duration::from_secs(10),
        }
    }
}

/// The words after `guest`. A path of the host has no spaces here; the control socket takes any.
impl FromStr for GuestCommand {
    type Err = CommandError;

    fn from_str(words: &str) -> Result<Self, CommandError> {
        const HELP: CommandError = CommandError::NeedsWhat(
            "guest needs info [POOL], ip [ADAPTER], check, freeze, thaw, copy FROM TO, copy-status or copy-cancel",
        );
        let words: Vec<&str> = words.split_whitespace().collect();
        Ok(match *words.as_slice() {
            ["info"] => GuestCommand::Pairs(Pool::Auto),
            ["info", pool] => GuestCommand::Pairs(pool.parse()?),
            ["ip"] => GuestCommand::Addresses,
            ["ip", adapter] => GuestCommand::Adapter(adapter.to_owned()),
            ["check"] => GuestCommand::Check,
            ["freeze"] => GuestCommand::Freeze(FreezeOptions::default()),
            ["thaw"] => GuestCommand::Thaw,
            ["copy", from, to] => GuestCommand::Copy(CopyOptions {
                from: from.into(),
                to: to.to_owned(),
                overwrite: false,
                create_path: false,
            }),
            ["copy-status"] => GuestCommand::CopyStatus,
            ["copy-cancel"] => GuestCommand::CancelCopy,
            _ => return Err(HELP),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Command;

    #[test]
    fn lines_about_the_guest_are_commands() {
        let copy = CopyOptions { from: "a".into(), to: "/b".into(), overwrite: false, create_path: false };
        for (line, wanted) in [
            ("guest info", GuestCommand::Pairs(Pool::Auto)),
            ("guest info external", GuestCommand::Pairs(Pool::External)),
            (" guest  ip ", GuestCommand::Addresses),
            ("guest ip 00:15:5D:00:00:01", GuestCommand::Adapter("00:15:5D:00:00:01".into())),
            ("guest freeze", GuestCommand::Freeze(FreezeOptions::default())),
            ("guest thaw", GuestCommand::Thaw),
            ("guest copy a /b", GuestCommand::Copy(copy)),
            ("guest copy-cancel", GuestCommand::CancelCopy),
        ] {
            assert_eq!(line.parse(), Ok(Command::Guest(wanted)), "{line}");
        }
        for (line, sentence) in [
            ("guest", "guest needs info [POOL]"),
            ("guest copy a", "guest needs info [POOL]"),
            ("guest info auto x", "guest needs info [POOL]"),
            ("guest info own", "There is no pool \"own\"; pools are external, guest, auto and auto-external"),
        ] {
            let error = line.parse::<Command>().unwrap_err().to_string();
            assert!(error.starts_with(sentence), "{line}: {error}");
        }
    }

    #[test]
    fn addresses_are_found_in_what_the_guest_says() {
        let pair = |key: &str, value: &str| Pair { key: key.into(), value: value.into() };
        let addresses = Addresses::of(&[
            pair("OSName", "Debian"),
            pair("NetworkAddressIPv4", "10.0.0.2;10.0.0.3;"),
            pair("NetworkAddressIPv6", ""),
        ]);
        assert_eq!(
            addresses,
            Addresses { ipv4: vec!["10.0.0.2".into(), "10.0.0.3".into()], ipv6: Vec::new() }
        );
    }
}
