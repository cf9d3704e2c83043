//! The clock as a driver reads and sets it, with the host's time under control.

use super::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// 2026-12-31 23:59:58 UTC, a Thursday.
const NEW_YEARS_EVE: u64 = 1_798_761_598;

struct Host(Arc<AtomicU64>);

impl Host {
    fn set(&self, seconds: u64, micros: u64) {
        self.0.store(seconds * 1_000_000 + micros, Ordering::Relaxed);
    }
}

fn cmos(seconds: u64) -> (Cmos, Host) {
    let host = Host(Arc::new(AtomicU64::new(seconds * 1_000_000)));
    let now = host.0.clone();
    (Cmos::with_clock(Box::new(move || Duration::from_micros(now.load(Ordering::Relaxed)))), host)
}

fn get(cmos: &mut Cmos, index: u8) -> u8 {
    cmos.write(0, &[index]);
    let mut value = [0];
    cmos.read(1, &mut value);
    value[0]
}

fn set(cmos: &mut Cmos, index: u8, value: u8) {
    cmos.write(0, &[index]);
    cmos.write(1, &[value]);
}

/// Century, year, month, day, hour, minute, second.
fn time(cmos: &mut Cmos) -> [u8; 7] {
    [CENTURY, YEAR, MONTH, DAY, HOURS, MINUTES, SECONDS].map(|index| get(cmos, index))
}

#[test]
fn shows_the_hosts_utc_time_in_bcd() {
    let (mut cmos, host) = cmos(NEW_YEARS_EVE);
    assert_eq!(time(&mut cmos), [0x20, 0x26, 0x12, 0x31, 0x23, 0x59, 0x58]);
    assert_eq!(get(&mut cmos, DAY_OF_WEEK), 5);
    host.set(NEW_YEARS_EVE + 2, 0);
    assert_eq!(time(&mut cmos), [0x20, 0x27, 0x01, 0x01, 0x00, 0x00, 0x00]);
}

#[test]
fn binary_and_twelve_hour_modes() {
    let (mut cmos, host) = cmos(NEW_YEARS_EVE);
    set(&mut cmos, STATUS_B, B_BINARY | B_24_HOURS);
    assert_eq!(time(&mut cmos), [20, 26, 12, 31, 23, 59, 58]);
    set(&mut cmos, STATUS_B, 0);
    let hours: Vec<u8> = [0, 1, 12, 13]
        .map(|hour| {
            host.set(NEW_YEARS_EVE - NEW_YEARS_EVE % 86_400 + hour * 3600, 0);
            get(&mut cmos, HOURS)
        })
        .to_vec();
    assert_eq!(hours, [0x12, 0x01, 0x92, 0x81]);
}

#[test]
fn a_driver_that_sees_no_update_has_244_microseconds() {
    let (mut cmos, host) = cmos(NEW_YEARS_EVE);
    for (micros, updating) in
        [(0, false), (500_000, false), (999_755, false), (999_757, true), (999_999, true)]
    {
        host.set(NEW_YEARS_EVE, micros);
        assert_eq!(get(&mut cmos, STATUS_A) & A_UPDATE_IN_PROGRESS != 0, updating, "{micros}");
    }
}

#[test]
fn a_time_that_the_guest_sets_runs_on() {
    let (mut cmos, host) = cmos(NEW_YEARS_EVE);
    set(&mut cmos, STATUS_B, B_SET | B_24_HOURS);
    let wanted = [(SECONDS, 0x10), (MINUTES, 0x20), (HOURS, 0x09), (DAY, 0x29), (MONTH, 0x02), (YEAR, 0x28)];
    for (index, value) in wanted {
        set(&mut cmos, index, value);
        host.set(NEW_YEARS_EVE + u64::from(index), 0);
    }
    assert_eq!(time(&mut cmos), [0x20, 0x28, 0x02, 0x29, 0x09, 0x20, 0x10], "frozen while it is set");
    host.set(NEW_YEARS_EVE + 100, 0);
    set(&mut cmos, STATUS_B, B_24_HOURS);
    host.set(NEW_YEARS_EVE + 105, 0);
    assert_eq!(time(&mut cmos), [0x20, 0x28, 0x02, 0x29, 0x09, 0x20, 0x15]);
}

#[test]
fn values_that_make_no_time_are_dropped() {
    let (mut cmos, _) = cmos(NEW_YEARS_EVE);
    let before = time(&mut cmos);
    let nonsense = [
        (SECONDS, 0x60),
        (MINUTES, 0xff),
        (HOURS, 0x24),
        (DAY, 0x32),
        (MONTH, 0x13),
        (YEAR, 0xa0),
        (CENTURY, 0xff),
    ];
    for (index, value) in nonsense {
        set(&mut cmos, index, value);
    }
    assert_eq!(time(&mut cmos), before);
}

#[test]
fn digits_that_make_no_date_leave_the_clock_as_it_was() {
    let (mut cmos, _) = cmos(NEW_YEARS_EVE);
    let before = time(&mut cmos);
    set(&mut cmos, STATUS_B, B_SET | B_24_HOURS);
    set(&mut cmos, MONTH, 0x02);
    assert_eq!((get(&mut cmos, MONTH), get(&mut cmos, DAY), get(&mut cmos, DAY_OF_WEEK)), (0x02, 0x31, 1));
    set(&mut cmos, STATUS_B, B_24_HOURS);
    assert_eq!(time(&mut cmos), before);
}

#[test]
fn nvram_keeps_bytes_and_the_index_reads_back() {
    let (mut cmos, _) = cmos(NEW_YEARS_EVE);
    set(&mut cmos, 0x80 | 0x40, 0x5a);
    let mut index = [0];
    cmos.read(0, &mut index);
    assert_eq!(index, [0x40]);
    assert_eq!(get(&mut cmos, 0x40), 0x5a);
    assert_eq!((get(&mut cmos, STATUS_C), get(&mut cmos, STATUS_D)), (0, D_VALID));
    set(&mut cmos, STATUS_D, 0);
    assert_eq!(get(&mut cmos, STATUS_D), D_VALID);
}

#[test]
fn no_register_write_panics() {
    let (mut cmos, _) = cmos(NEW_YEARS_EVE);
    for mode in [0, B_BINARY, B_24_HOURS, B_SET | B_BINARY] {
        for index in 0..=255 {
            for value in 0..=255 {
                if index & 0x7f != STATUS_B {
                    set(&mut cmos, index, value);
                }
            }
            get(&mut cmos, index);
        }
        set(&mut cmos, STATUS_B, mode);
    }
}
