//! The firmware's own log: it keeps it in guest memory and tells the host when to look (a failed boot, a reset, the
//! hand-over to the OS). Its lines come out in the host's log, errors and warnings as warnings, all others as debug.
//!
//! What was read is not read again, as long as the log only grows. The guest decides what is in it and how often the
//! host looks: a line is cut, the whole log has the size that real firmware gives it, and lines have a budget.

use std::time::Instant;

use log::Level;
use zerocopy::FromBytes;

use super::memory;
use super::protocol::{LOG_ENTRY_SIGNATURE, LOG_ERROR, LOG_SIGNATURE, LOG_WARN, LogEntry, LogHeader};
use crate::guest_debug;
use crate::mem::{GuestRam, MemError};
use crate::ratelimit::Limiter;

/// Bytes of the largest log: what the firmware makes.
const LOG_MAX: u32 = 4 << 20;
/// Characters of a line that are shown.
const LINE_MAX: usize = 400;
/// Bytes of an entry's text.
const TEXT_MAX: usize = 4096;
/// Warnings at once: a boot that fails has some dozens.
const WARNINGS: u32 = 64;
/// Other lines at once: a boot has some thousands. Who turned debug on wants them.
const LINES: u32 = 8192;

/// Where the log is, and how much of it is known.
#[derive(Debug)]
pub(super) struct AdvancedLog {
    address: Option<u64>,
    /// Bytes of entries that were read.
    seen: usize,
    warnings: Limiter,
    lines: Limiter,
}

impl AdvancedLog {
    pub fn new() -> Self {
        AdvancedLog {
            address: None,
            seen: 0,
            warnings: Limiter::with_burst(WARNINGS),
            lines: Limiter::with_burst(LINES),
        }
    }

    /// The firmware says where it is; it moves once, from early to permanent memory.
    pub fn set_address(&mut self, address: u32) {
        self.address = (address != 0 && address != u32::MAX).then(|| address.into());
        self.seen = 0;
    }

    /// Reads what is new.
    pub fn process(&mut self, ram: &GuestRam) -> Result<(), MemError> {
        let Some(address) = self.address else { return Ok(()) };
        let header: LogHeader = memory::read(ram, address)?;
        let start = header.buffer_offset.get();
        let used = header.current_offset.get().checked_sub(start);
        let Some(used) = used.filter(|&used| {
            header.signature == LOG_SIGNATURE && used <= header.buffer_bytes.get() && used <= LOG_MAX
        }) else {
            guest_debug!("There is no log of the firmware at {address:#x}");
            return Ok(());
        };
        let used = usize::try_from(used).unwrap_or(0);
        if used < self.seen {
            self.seen = 0;
        }
        // Both are below 4 GiB.
        let from = address + u64::from(start) + self.seen as u64;
        let data = memory::read_bytes(ram, from, used - self.seen)?;
        self.seen = used;
        let entries = entries(&data);
        lines(&entries, |level, line| self.print(level, line));
        Ok(())
    }

    fn print(&self, level: Level, line: &str) {
        if !log::log_enabled!(level) {
            return;
        }
        let limiter = if level == Level::Warn { &self.warnings } else { &self.lines };
        match limiter.take(Instant::now()) {
            Some(0) => log::log!(level, "Firmware: {line}"),
            Some(left_out) => log::log!(level, "Firmware: {line} ({left_out} more lines left out)"),
            None => {}
        }
    }
}

/// The entries up to the first that makes no sense: level and text.
fn entries(mut data: &[u8]) -> Vec<(u32, &[u8])> {
    let mut entries = Vec::new();
    while let Ok((entry, _)) = LogEntry::read_from_prefix(data) {
        let (offset, bytes) = (usize::from(entry.text_offset.get()), usize::from(entry.text_bytes.get()));
        let text = data.get(offset..).and_then(|text| text.get(..bytes));
        let Some(text) = text.filter(|_| entry.signature == LOG_ENTRY_SIGNATURE && bytes <= TEXT_MAX) else {
            break;
        };
        entries.push((entry.level.get(), text));
        let next = (size_of::<LogEntry>().max(offset) + bytes).next_multiple_of(8);
        data = data.get(next..).unwrap_or_default();
    }
    entries
}

/// Puts entries together to lines: an entry without a newline goes on in the next. The first one's level counts.
fn lines(entries: &[(u32, &[u8])], mut print: impl FnMut(Level, &str)) {
    let mut line: Option<(Level, String)> = None;
    for (level, text) in entries {
        for part in text.split_inclusive(|&byte| byte == b'\n') {
            let level = if level & (LOG_ERROR | LOG_WARN) != 0 { Level::Warn } else { Level::Debug };
            let (_, text) = line.get_or_insert_with(|| (level, String::new()));
            append(text, part);
            if part.ends_with(b"\n")
                && let Some((level, text)) = line.take()
                && !text.is_empty()
            {
                print(level, &text);
            }
        }
    }
    if let Some((level, text)) = line.filter(|(_, text)| !text.is_empty()) {
        print(level, &text);
    }
}

/// Adds what can be shown.
fn append(line: &mut String, bytes: &[u8]) {
    let text = bytes.iter().map(|&byte| char::from(byte)).filter(|&char| !char.is_control());
    for char in text {
        if line.len() >= LINE_MAX {
            return;
        }
        line.push(if char.is_ascii() { char } else { '?' });
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use vm_memory::GuestAddress;
    use zerocopy::IntoBytes;
    use zerocopy::little_endian::{U16, U32};

    pub(in crate::firmware) fn entry(level: u32, text: &[u8]) -> Vec<u8> {
        let mut entry = LogEntry::read_from_bytes(&[0; 24]).unwrap();
        entry.signature = LOG_ENTRY_SIGNATURE;
        entry.level = U32::new(level);
        entry.text_bytes = U16::new(text.len() as u16);
        entry.text_offset = U16::new(24);
        let mut bytes = [entry.as_bytes(), text].concat();
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    pub(in crate::firmware) fn header(used: usize) -> LogHeader {
        let mut header = LogHeader::read_from_bytes(&[0; 80]).unwrap();
        header.signature = LOG_SIGNATURE;
        header.buffer_offset = U32::new(80);
        header.current_offset = U32::new(80 + used as u32);
        header.buffer_bytes = U32::new(LOG_MAX);
        header
    }

    fn shown(data: &[u8]) -> Vec<(Level, String)> {
        let mut shown = Vec::new();
        lines(&entries(data), |level, line| shown.push((level, line.to_owned())));
        shown
    }

    #[test]
    fn entries_become_lines_and_their_levels() {
        let data = [
            entry(0x40, b"Loading driver"),
            entry(0x40, b" at 0x1000\r\n"),
            entry(LOG_ERROR, b"ASSERT!\nmore\n\n"),
            entry(LOG_WARN, b"no end"),
        ]
        .concat();
        let wanted = [
            (Level::Debug, "Loading driver at 0x1000"),
            (Level::Warn, "ASSERT!"),
            (Level::Warn, "more"),
            (Level::Warn, "no end"),
        ];
        assert_eq!(shown(&data), wanted.map(|(level, line)| (level, line.to_owned())));
    }

    #[test]
    fn what_a_terminal_would_obey_is_not_shown_and_long_lines_are_cut() {
        let data =
            [entry(1, b"\x1b[2J\x07bell\x9b\xff\n"), entry(1, &[b'x'; 3000]), entry(1, b"\n")].concat();
        let shown = shown(&data);
        assert_eq!(shown[0].1, "[2Jbell?");
        assert_eq!(shown[1].1.len(), LINE_MAX);
    }

    #[test]
    fn broken_entries_end_the_log() {
        let good = entry(1, b"good\n");
        for (at, value) in [(0, b'X'), (20, 0xff), (21, 0xff), (22, 0xff), (23, 0xff)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(shown(&[good.clone(), bad].concat()).len(), 1, "{value} at {at}");
        }
        // A text of nothing at an offset of nothing must not stand still.
        let mut still = good.clone();
        still[20..24].fill(0);
        assert_eq!(entries(&still.repeat(3)).len(), 1);
    }

    #[test]
    fn a_log_that_grows_is_read_once() {
        let ram = GuestRam::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
        let first = entry(1, b"first\n");
        let both = [first.clone(), entry(1, b"second\n")].concat();
        memory::write_bytes(&ram, 0x1050, &both).unwrap();
        memory::write(&ram, 0x1000, &header(first.len())).unwrap();
        let mut log = AdvancedLog::new();
        log.process(&ram).unwrap();
        assert_eq!(log.seen, 0, "nobody said where it is");
        log.set_address(0x1000);
        log.process(&ram).unwrap();
        assert_eq!(log.seen, first.len());
        memory::write(&ram, 0x1000, &header(both.len())).unwrap();
        log.process(&ram).unwrap();
        assert_eq!(log.seen, both.len());
    }

    #[test]
    fn sizes_that_lie_are_refused() {
        let ram = GuestRam::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
        let mut log = AdvancedLog::new();
        log.set_address(0x1000);
        for (offset, current, size) in
            [(80, 79, 100), (80, 181, 100), (0, u32::MAX, u32::MAX), (0, LOG_MAX + 1, u32::MAX)]
        {
            let mut header = header(0);
            header.buffer_offset = U32::new(offset);
            header.current_offset = U32::new(current);
            header.buffer_bytes = U32::new(size);
            memory::write(&ram, 0x1000, &header).unwrap();
            log.process(&ram).unwrap();
            assert_eq!(log.seen, 0, "{offset} {current} {size}");
        }
        // Past the end of RAM.
        let mut header = header(0);
        header.current_offset = U32::new(80 + LOG_MAX);
        memory::write(&ram, 0x1000, &header).unwrap();
        assert!(log.process(&ram).is_err());
    }
}
