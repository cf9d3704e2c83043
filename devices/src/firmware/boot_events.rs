//! What the firmware tells about its attempts to boot: a channel of events in guest memory, flushed once or twice a
//! boot. It becomes lines in the host's log.

use zerocopy::FromBytes;

use super::memory;
use super::protocol::{BOOT_EVENT, BootEvent, EventChannel, EventDescriptor};
use crate::mem::{GuestRam, MemError};
use crate::{guest_debug, guest_log, guest_warn};

/// Bytes of events that are looked at; a boot makes a few hundred.
const DATA_MAX: u32 = 16 << 10;

/// Names of what came of an attempt (`BOOT_DEVICE_STATUS`).
const OUTCOMES: [(u32, &str); 16] = [
    (0x1_0000, "it has no file system"),
    (0x1_0001, "it has no boot loader"),
    (0x1_0002, "its boot loader is for another processor"),
    (0x1_0003, "its boot loader returned an error"),
    (0x1_0004, "no operating system was loaded"),
    (OS_LOADED, "the operating system is loaded"),
    (0x1_0006, "there is no device to boot"),
    (0x1_0007, "its boot loader cannot be read"),
    (0x2_0000, "Secure Boot refuses it"),
    (0x2_0001, "Secure Boot refuses it by policy"),
    (0x2_0002, "Secure Boot refuses it: its hash is forbidden"),
    (0x2_0003, "Secure Boot refuses it: its certificate is forbidden"),
    (0x2_0004, "Secure Boot refuses it: it is no image"),
    (0x2_0005, "Secure Boot refuses it: it is not signed"),
    (0x2_0006, "Secure Boot refuses it: its hash is not known"),
    (0x2_0007, "Secure Boot refuses it: neither its certificate nor its hash is known"),
];
const OS_LOADED: u32 = 0x1_0005;

/// Reads a channel and logs its events.
pub(super) fn flush(ram: &GuestRam, address: u64) -> Result<(), MemError> {
    let channel: EventChannel = memory::read(ram, address)?;
    let bytes = channel.data_bytes.get().min(DATA_MAX);
    // An overflow is caught where the bytes are read.
    let data = address.saturating_add(size_of::<EventChannel>() as u64);
    let data = memory::read_bytes(ram, data, usize::try_from(bytes).unwrap_or(0))?;
    for event in boot_events(&data) {
        report(&event);
    }
    if channel.lost.get() != 0 {
        guest_warn!("The firmware lost {} events of the boot", channel.lost.get());
    }
    Ok(())
}

/// The attempts to boot among the events, up to the first that makes no sense.
fn boot_events(mut data: &[u8]) -> Vec<BootEvent> {
    let mut events = Vec::new();
    while let Ok((event, _)) = EventDescriptor::read_from_prefix(data) {
        let sizes = [event.header_bytes.get(), event.data_bytes.get()].map(usize::try_from);
        let [Ok(header), Ok(body)] = sizes else { break };
        if header < size_of::<EventDescriptor>() {
            break;
        }
        let Some((body, rest)) = data.get(header..).and_then(|rest| rest.split_at_checked(body)) else {
            break;
        };
        if event.id.get() == BOOT_EVENT {
            events.extend(BootEvent::read_from_prefix(body).map(|(event, _)| event));
        } else {
            guest_debug!("The firmware tells of event {}", event.id.get());
        }
        data = rest;
    }
    events
}

fn report(event: &BootEvent) {
    let status = event.status.get();
    let outcome = OUTCOMES.iter().find(|(code, _)| *code == status).map(|(_, text)| *text);
    let (number, error) = (event.boot_number.get(), event.extended_status.get());
    let text = outcome.map_or_else(|| format!("status {status:#x}"), str::to_owned);
    let level = if status == OS_LOADED { log::Level::Info } else { log::Level::Warn };
    guest_log!(level, "Boot{number:04X}: {text} (EFI status {error:#x})");
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;
    use zerocopy::little_endian::U32;

    pub(crate) fn event(id: u32, data: &[u8]) -> Vec<u8> {
        let mut event = EventDescriptor::read_from_bytes(&[0; 64]).unwrap();
        event.id = U32::new(id);
        event.header_bytes = U32::new(64);
        event.data_bytes = U32::new(data.len() as u32);
        [event.as_bytes(), data].concat()
    }

    fn attempt(status: u32) -> Vec<u8> {
        let mut data = [0; 30];
        data[..4].copy_from_slice(&status.to_le_bytes());
        event(BOOT_EVENT, &data)
    }

    #[test]
    fn attempts_are_found_among_other_events() {
        let data = [attempt(0x1_0001), event(9, b"other"), attempt(OS_LOADED)].concat();
        let found: Vec<u32> = boot_events(&data).iter().map(|event| event.status.get()).collect();
        assert_eq!(found, [0x1_0001, OS_LOADED]);
    }

    #[test]
    fn what_makes_no_sense_ends_the_list() {
        let good = attempt(OS_LOADED);
        for (at, value) in [(56, 0), (56, 63), (59, 0xff), (60, 0xff), (63, 0xff)] {
            let mut bad = good.clone();
            bad[at] = value;
            let data = [good.as_slice(), &bad, &good].concat();
            let found = boot_events(&data).len();
            assert!((1..=2).contains(&found), "{value} at {at}: {found}");
        }
        assert!(boot_events(&good[..63]).is_empty());
    }
}
