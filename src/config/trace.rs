//! A recording of the bus, as users ask for it.

use std::path::PathBuf;

use devices::vmbus::trace::TracedPackets;
use serde::{Serialize, Serializer};

use super::{ConfigError, DEVICES, check_directory_of, path_as_text};
use crate::imc;
use crate::size::FileSize;

/// The word for every device, in `--trace-packets`.
const ALL_DEVICES: &str = "all";
/// Limit of a trace that the user does not limit, bytes.
const TRACE_LIMIT: u64 = 256 << 20;

/// A recording of the bus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trace {
    /// The file, in pcapng format.
    #[serde(serialize_with = "path_as_text")]
    pub file: PathBuf,
    /// Channels whose packets are recorded too.
    #[serde(serialize_with = "packets_as_names")]
    pub packets: TracedPackets,
    /// Bytes at which recording stops.
    pub limit: u64,
}

/// As in `--trace-packets`.
fn packets_as_names<S: Serializer>(packets: &TracedPackets, serializer: S) -> Result<S::Ok, S::Error> {
    match packets {
        TracedPackets::None => serializer.collect_seq([""; 0]),
        TracedPackets::Of(names) => serializer.collect_seq(names),
        TracedPackets::All => serializer.collect_seq([ALL_DEVICES]),
    }
}

/// Whether a device can have this name: a controller comes with its first disk, which may be later.
fn is_device(name: &str) -> bool {
    name == imc::DEVICE
        || DEVICES.contains(&name)
        || (0..=u8::MAX).any(|number| name == devices::storage::name(number))
}

/// Whether the bus is to be recorded, and how much of it.
pub(super) fn check(
    file: Option<PathBuf>,
    packets: Option<Vec<String>>,
    limit: Option<FileSize>,
) -> Result<Option<Trace>, ConfigError> {
    let Some(file) = file else {
        return match (packets, limit) {
            (Some(_), _) => Err(ConfigError::NoTrace("trace-packets")),
            (_, Some(_)) => Err(ConfigError::NoTrace("trace-limit")),
            _ => Ok(None),
        };
    };
    check_directory_of("trace", &file)?;
    let packets = match packets {
        None => TracedPackets::None,
        Some(names) if names == [ALL_DEVICES] => TracedPackets::All,
        Some(names) => match names.iter().find(|name| !is_device(name)) {
            Some(name) => return Err(ConfigError::UnknownTracedDevice(name.clone())),
            None => TracedPackets::Of(names.into_iter().collect()),
        },
    };
    Ok(Some(Trace { file, packets, limit: limit.map_or(TRACE_LIMIT, |FileSize(bytes)| bytes) }))
}
