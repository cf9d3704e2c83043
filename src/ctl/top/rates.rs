//! From two snapshots of the channels to what happened a second.

use std::fmt;
use std::time::Duration;

use devices::vmbus::table::ChannelRow;

use crate::control::text;

/// Above the rows; all of it fits 80 columns.
pub(super) const HEADING: [&str; 2] = [
    "                            packets/s     bytes/s   signals/s exits   ring fill",
    "device       id state        in   out    in   out    in   out    /s    in   out",
];

/// One channel's second.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    device: String,
    id: u32,
    state: String,
    /// Packets in and out, bytes in and out, signals in and out, exits.
    rates: [Option<f64>; 7],
    /// How full the guest's outgoing ring is, and its incoming one.
    fill: [Option<f64>; 2],
}

/// A row for each channel that there is now. Without an earlier look there are no rates yet.
pub(super) fn rows(now: &[ChannelRow], earlier: Option<(&[ChannelRow], Duration)>) -> Vec<Row> {
    let row = |channel: &ChannelRow| {
        let mut rates = [None; 7];
        if let Some((earlier, time)) = earlier {
            let same = |other: &&ChannelRow| {
                (&other.device, &other.instance, other.opens)
                    == (&channel.device, &channel.instance, channel.opens)
            };
            // A channel that was opened since then has counted from zero.
            let before = earlier.iter().find(same).map_or([0; 7], counts);
            for ((rate, before), now) in rates.iter_mut().zip(before).zip(counts(channel)) {
                *rate = Some(per_second(before, now, time));
            }
        }
        Row {
            device: text::printable(&channel.device),
            id: channel.id,
            state: text::printable(&channel.state),
            rates,
            fill: [
                fill(channel.outgoing_used, channel.outgoing_bytes),
                fill(channel.incoming_used, channel.incoming_bytes),
            ],
        }
    };
    now.iter().map(row).collect()
}

fn counts(row: &ChannelRow) -> [u64; 7] {
    [row.packets_in, row.packets_out, row.bytes_in, row.bytes_out, row.signals_in, row.signals_out, row.exits]
}

/// A counter that went back belongs to a machine that was reset: it counts from zero.
pub(super) fn per_second(before: u64, now: u64, time: Duration) -> f64 {
    let count = now.checked_sub(before).unwrap_or(now);
    if time.is_zero() { 0.0 } else { as_f64(count) / time.as_secs_f64() }
}

fn fill(used: u32, size: u64) -> Option<f64> {
    (size > 0).then(|| f64::from(used) / as_f64(size))
}

#[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

/// A number in at most five characters.
pub(super) fn short(number: Option<f64>) -> String {
    let Some(mut number) = number else { return "-".to_owned() };
    let mut units = ["", "k", "M", "G", "T", "P"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    while number >= 999.5 {
        let Some(next) = units.next() else { break };
        (number, unit) = (number / 1000.0, next);
    }
    if number < 9.95 && (number > 0.0 || !unit.is_empty()) {
        format!("{number:.1}{unit}")
    } else {
        format!("{number:.0}{unit}")
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<10} {:>4} {:<9}", self.device, self.id, self.state)?;
        for rate in self.rates {
            write!(f, " {:>5}", short(rate))?;
        }
        for fill in self.fill {
            let percent = fill.map_or_else(|| "-".to_owned(), |fill| format!("{:.0}%", fill * 100.0));
            write!(f, " {percent:>5}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(opens: u64, packets_in: u64) -> ChannelRow {
        ChannelRow {
            device: "disk".into(),
            id: 3,
            state: "open".into(),
            opens,
            packets_in,
            bytes_in: packets_in * 100,
            outgoing_bytes: 8192,
            outgoing_used: 4096,
            ..ChannelRow::default()
        }
    }

    #[test]
    fn rates_are_differences_over_time() {
        let (before, now) = ([channel(1, 1000)], [channel(1, 4000)]);
        let rows = rows(&now, Some((&before, Duration::from_secs(2))));
        assert_eq!(rows[0].rates[0], Some(1500.0));
        assert_eq!(rows[0].rates[2], Some(150_000.0));
        assert_eq!(rows[0].fill, [Some(0.5), None]);
        let line = rows[0].to_string();
        assert_eq!(line, "disk          3 open       1.5k     0  150k     0     0     0     0   50%     -");
        assert!(HEADING.iter().all(|heading| heading.len() == line.len()));
    }

    #[test]
    fn a_channel_that_was_opened_again_counts_from_zero() {
        let second = Duration::from_secs(1);
        let reopened = rows(&[channel(2, 5000)], Some((&[channel(1, 4000)], second)));
        assert_eq!(reopened[0].rates[0], Some(5000.0));
        let reset = rows(&[channel(1, 5)], Some((&[channel(1, 4000)], second)));
        assert_eq!(reset[0].rates[0], Some(5.0));
        let new = rows(&[channel(1, 5)], Some((&[], second)));
        assert_eq!(new[0].rates[0], Some(5.0));
    }

    #[test]
    fn the_first_look_has_no_rates() {
        let rows = rows(&[channel(1, 5)], None);
        assert_eq!(rows[0].rates, [None; 7]);
    }

    #[test]
    fn numbers_are_short() {
        for (number, text) in [
            (0.0, "0"),
            (0.5, "0.5"),
            (9.96, "10"),
            (999.4, "999"),
            (999.6, "1.0k"),
            (123_456.0, "123k"),
            (9_990_000.0, "10M"),
            (1.5e9, "1.5G"),
        ] {
            assert_eq!(short(Some(number)), text, "{number}");
        }
        assert_eq!(short(None), "-");
        assert!(short(Some(1e18)).len() <= 5);
    }
}
