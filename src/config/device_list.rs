//! Which devices are on the bus: their names, those that every machine has, and those that other options bring.

use super::ConfigError;

/// Devices on the bus that `--devices` can name. The last few are there only when they are asked for.
pub const DEVICES: [&str; 10] = [
    "shutdown",
    "heartbeat",
    "timesync",
    "kvp",
    "vss",
    "fcopy",
    DISPLAY[0],
    DISPLAY[1],
    DISPLAY[2],
    LOOPBACK,
];
/// How many of [`DEVICES`] a machine has by default.
pub(super) const DEFAULT_DEVICES: usize = 6;
/// What a person needs in front of a machine; `--display` is short for them.
pub(super) const DISPLAY: [&str; 3] = ["video", "keyboard", "mouse"];
/// The device for tests of the bus; `--loopback` is short for it.
pub(super) const LOOPBACK: &str = "loopback";
/// The word for an empty list of devices.
pub(super) const NO_DEVICES: &str = "none";

/// The devices that the user named, or the default ones, and those that other options ask for.
pub(super) fn check(
    names: Option<Vec<String>>,
    display: bool,
    loopback: bool,
) -> Result<Vec<String>, ConfigError> {
    let defaults = || DEVICES[..DEFAULT_DEVICES].iter().map(|&name| name.to_owned()).collect();
    let mut names: Vec<String> = names.unwrap_or_else(defaults);
    if names == [NO_DEVICES] {
        names.clear();
    }
    for (i, name) in names.iter().enumerate() {
        if !DEVICES.contains(&name.as_str()) {
            return Err(ConfigError::UnknownDevice(name.clone()));
        }
        if names[..i].contains(name) {
            return Err(ConfigError::DeviceTwice(name.clone()));
        }
    }
    let display = DISPLAY.into_iter().filter(|_| display);
    for name in display.chain(loopback.then_some(LOOPBACK)) {
        if !names.iter().any(|have| have == name) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}
