//! The CMOS clock (MC146818): index at its first port, data at the second.
//!
//! The clock shows the host's UTC time, shifted by whatever the guest last set. Alarms and the periodic
//! interrupt do not exist; guests get their timers elsewhere. Registers that are not the clock's are NVRAM and
//! keep what is written until power-off.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::PortDevice;

/// Register of the century, as the FADT names it.
pub const CENTURY: u8 = 0x32;

const INDEX: u16 = 0;
const SECONDS: u8 = 0x00;
const MINUTES: u8 = 0x02;
const HOURS: u8 = 0x04;
const DAY_OF_WEEK: u8 = 0x06;
const DAY: u8 = 0x07;
const MONTH: u8 = 0x08;
const YEAR: u8 = 0x09;
const STATUS_A: u8 = 0x0a;
const STATUS_B: u8 = 0x0b;
const STATUS_C: u8 = 0x0c;
const STATUS_D: u8 = 0x0d;

/// The registers change within [`UPDATE_WARNING`].
const A_UPDATE_IN_PROGRESS: u8 = 1 << 7;
/// 32.768 kHz time base, 1.024 kHz rate: what a PC has after power-on.
const A_DEFAULT: u8 = 0x26;
const B_SET: u8 = 1 << 7;
const B_BINARY: u8 = 1 << 2;
const B_24_HOURS: u8 = 1 << 1;
/// Bits of B that stick: SET, binary, 24 hours, daylight saving. Interrupt enables read back as zero.
const B_WRITABLE: u8 = B_SET | B_BINARY | B_24_HOURS | 1;
const D_VALID: u8 = 1 << 7;
const HOURS_PM: u8 = 1 << 7;

/// A driver that sees no update in progress has this long to read all registers of one second.
const UPDATE_WARNING: Duration = Duration::from_micros(244);

/// The clock's registers as numbers, whatever their encoding.
#[derive(Clone, Copy)]
struct Time {
    century: i8,
    year: i8,
    month: i8,
    day: i8,
    hour: i8,
    minute: i8,
    second: i8,
}

impl From<DateTime> for Time {
    fn from(time: DateTime) -> Self {
        let [century, year] =
            [time.year() / 100, time.year() % 100].map(|part| i8::try_from(part).unwrap_or(0));
        let (month, day) = (time.month(), time.day());
        Time { century, year, month, day, hour: time.hour(), minute: time.minute(), second: time.second() }
    }
}

impl Time {
    /// The point in time, if there is such a one.
    fn to_civil(self) -> Option<DateTime> {
        let year = i16::from(self.century) * 100 + i16::from(self.year);
        DateTime::new(year, self.month, self.day, self.hour, self.minute, self.second, 0).ok()
    }
}

/// The host's time since 1970.
type Clock = Box<dyn Fn() -> Duration + Send>;

/// Clock and NVRAM.
pub struct Cmos {
    index: u8,
    nvram: [u8; 128],
    /// The guest's clock less the host's, seconds.
    shift: i64,
    /// What the clock shows while the guest sets it: any digits, until they have to make a time.
    frozen: Option<Time>,
    clock: Clock,
}

impl fmt::Debug for Cmos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cmos").field("index", &self.index).field("shift", &self.shift).finish_non_exhaustive()
    }
}

impl Cmos {
    /// Ports of the device.
    pub const PORTS: u16 = 2;

    /// A clock that shows the host's UTC time.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(Box::new(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()))
    }

    fn with_clock(clock: Clock) -> Self {
        let mut cmos = Cmos { index: 0, nvram: [0; 128], shift: 0, frozen: None, clock };
        cmos.write_register(STATUS_A, A_DEFAULT);
        cmos.write_register(STATUS_B, B_24_HOURS);
        cmos
    }

    fn register(&self, index: u8) -> u8 {
        self.nvram.get(usize::from(index)).copied().unwrap_or(0xff)
    }

    fn host_seconds(&self) -> i64 {
        i64::try_from((self.clock)().as_secs()).unwrap_or(0)
    }

    fn now(&self) -> Time {
        self.frozen.unwrap_or_else(|| {
            let guest = self.host_seconds().saturating_add(self.shift);
            Timestamp::from_second(guest).map_or(DateTime::MIN, |time| TimeZone::UTC.to_datetime(time)).into()
        })
    }

    fn read_register(&self, index: u8) -> u8 {
        let now = self.now();
        match index {
            SECONDS => self.encode(now.second),
            MINUTES => self.encode(now.minute),
            HOURS => self.encode_hour(now.hour),
            DAY_OF_WEEK => {
                self.encode(now.to_civil().map_or(1, |time| time.weekday().to_sunday_one_offset()))
            }
            DAY => self.encode(now.day),
            MONTH => self.encode(now.month),
            YEAR => self.encode(now.year),
            CENTURY => self.encode(now.century),
            STATUS_A => self.register(STATUS_A) & !A_UPDATE_IN_PROGRESS | self.update_in_progress(),
            // No interrupt is ever pending.
            STATUS_C => 0,
            STATUS_D => D_VALID,
            _ => self.register(index),
        }
    }

    fn update_in_progress(&self) -> u8 {
        let left =
            Duration::from_secs(1).saturating_sub(Duration::from_nanos((self.clock)().subsec_nanos().into()));
        if self.frozen.is_none() && left <= UPDATE_WARNING { A_UPDATE_IN_PROGRESS } else { 0 }
    }

    fn write_register(&mut self, index: u8, value: u8) {
        match index {
            STATUS_B => self.write_status_b(value),
            STATUS_C | STATUS_D => {}
            SECONDS | MINUTES | HOURS | DAY | MONTH | YEAR | CENTURY => self.set_time(index, value),
            DAY_OF_WEEK => {} // follows from the date
            _ => {
                if let Some(register) = self.nvram.get_mut(usize::from(index)) {
                    *register = value;
                }
            }
        }
    }

    /// SET stops the clock so that its registers can be written one by one; clearing it starts the clock there.
    fn write_status_b(&mut self, value: u8) {
        if value & B_SET != 0 {
            self.frozen = Some(self.now());
        } else if let Some(set) = self.frozen.take() {
            self.start_at(set);
        }
        if let Some(register) = self.nvram.get_mut(usize::from(STATUS_B)) {
            *register = value & B_WRITABLE;
        }
    }

    /// Sets the clock; digits that make no time are dropped.
    fn start_at(&mut self, time: Time) {
        if let Some(time) = time.to_civil().and_then(|time| TimeZone::UTC.to_timestamp(time).ok()) {
            self.shift = time.as_second().saturating_sub(self.host_seconds());
        }
    }

    fn set_time(&mut self, index: u8, value: u8) {
        let number = if index == HOURS { self.decode_hour(value) } else { self.decode(value) };
        let Some(number) = number else { return };
        let mut time = self.now();
        match index {
            SECONDS => time.second = number,
            MINUTES => time.minute = number,
            HOURS => time.hour = number,
            DAY => time.day = number,
            MONTH => time.month = number,
            YEAR => time.year = number,
            _ => time.century = number,
        }
        if self.frozen.is_some() {
            self.frozen = Some(time);
        } else {
            self.start_at(time);
        }
    }

    /// A number as the guest wants it: binary or BCD.
    fn encode(&self, value: i8) -> u8 {
        let value = value.unsigned_abs();
        if self.register(STATUS_B) & B_BINARY != 0 { value } else { value / 10 * 16 + value % 10 }
    }

    fn decode(&self, value: u8) -> Option<i8> {
        if self.register(STATUS_B) & B_BINARY != 0 {
            return i8::try_from(value).ok();
        }
        let (tens, ones) = (value >> 4, value & 0xf);
        i8::try_from(tens * 10 + ones).ok().filter(|_| tens < 10 && ones < 10)
    }

    fn encode_hour(&self, hour: i8) -> u8 {
        if self.register(STATUS_B) & B_24_HOURS != 0 {
            return self.encode(hour);
        }
        let afternoon = if hour >= 12 { HOURS_PM } else { 0 };
        self.encode((hour + 11) % 12 + 1) | afternoon
    }

    fn decode_hour(&self, value: u8) -> Option<i8> {
        if self.register(STATUS_B) & B_24_HOURS != 0 {
            return self.decode(value);
        }
        let hour = self.decode(value & !HOURS_PM)? % 12;
        Some(if value & HOURS_PM != 0 { hour + 12 } else { hour })
    }
}

impl Default for Cmos {
    fn default() -> Self {
        Self::new()
    }
}

impl PortDevice for Cmos {
    fn read(&mut self, offset: u16, data: &mut [u8]) {
        for (offset, byte) in (offset..).zip(data) {
            *byte = if offset == INDEX { self.index } else { self.read_register(self.index) };
        }
    }

    fn write(&mut self, offset: u16, data: &[u8]) {
        for (offset, &byte) in (offset..).zip(data) {
            if offset == INDEX {
                // Bit 7 masks NMIs on a PC; this machine has none to mask.
                self.index = byte & 0x7f;
            } else {
                self.write_register(self.index, byte);
            }
        }
    }
}

#[cfg(test)]
#[path = "cmos_tests.rs"]
mod tests;
