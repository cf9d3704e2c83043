//! The host's time as EFI has it. Firmware on this platform reads the CMOS clock; the BIOS device tells the time too,
//! and refuses to be set: there is one clock, and it is that one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use zerocopy::little_endian::{I16, U16, U32};

use super::protocol::EfiTime;

/// The host's UTC time.
pub(super) fn now() -> Option<EfiTime> {
    from_unix(SystemTime::now().duration_since(UNIX_EPOCH).ok()?)
}

fn from_unix(since: Duration) -> Option<EfiTime> {
    let time = TimeZone::UTC.to_datetime(Timestamp::try_from(UNIX_EPOCH + since).ok()?);
    let byte = |part: i8| part.unsigned_abs();
    Some(EfiTime {
        year: U16::new(u16::try_from(time.year()).ok()?),
        month: byte(time.month()),
        day: byte(time.day()),
        hour: byte(time.hour()),
        minute: byte(time.minute()),
        second: byte(time.second()),
        reserved: 0,
        nanosecond: U32::new(since.subsec_nanos()),
        timezone: I16::new(0),
        daylight: 0,
        reserved2: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_has_its_fields() {
        let time = from_unix(Duration::new(1_709_210_096, 5)).unwrap();
        let EfiTime { year, month, day, hour, minute, second, nanosecond, .. } = time;
        assert_eq!((year.get(), month, day, hour, minute, second), (2024, 2, 29, 12, 34, 56));
        assert_eq!(nanosecond.get(), 5);
    }
}
