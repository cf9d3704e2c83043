//! Variables as text for people and as JSON.

use std::fmt::{self, Display};
use std::io::{self, Write};

use devices::firmware::nvram::{Variable, VariableId};
use serde::Serialize;

use super::words::ATTRIBUTES;
use crate::control::text::printable;

/// A variable.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    name: String,
    vendor: String,
    attributes: Vec<&'static str>,
    bytes: usize,
    /// When it was signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    /// In hexadecimal digits.
    data: String,
}

impl Row {
    pub fn new(id: &VariableId, variable: &Variable) -> Self {
        let time = &variable.time;
        let signed = (time.year.get() != 0).then(|| {
            let [hour, minute, second] = [time.hour, time.minute, time.second];
            format!("{:04}-{:02}-{:02} {hour:02}:{minute:02}:{second:02}", time.year, time.month, time.day)
        });
        let known = ATTRIBUTES.iter().filter(|(_, bit)| variable.attributes.contains(*bit));
        Row {
            name: id.name.to_string(),
            vendor: id.vendor.to_string(),
            attributes: known.map(|(word, _)| *word).collect(),
            bytes: variable.data.len(),
            time: signed,
            data: hex(&variable.data),
        }
    }

    pub fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer(&mut *out, self)?;
        writeln!(out)
    }

    fn full_name(&self) -> String {
        format!("{}-{}", printable(&self.name), self.vendor)
    }
}

impl Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  {}, {} bytes", self.full_name(), self.attributes.join(","), self.bytes)?;
        if let Some(time) = &self.time {
            write!(f, ", signed {time}")?;
        }
        Ok(())
    }
}

/// All variables.
pub(super) struct List {
    pub rows: Vec<Row>,
    /// Bytes that are left in the store.
    pub free: usize,
}

impl List {
    pub fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer(&mut *out, &self.rows)?;
        writeln!(out)
    }
}

impl Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.iter().map(|row| row.full_name().chars().count()).max().unwrap_or(0);
        for row in &self.rows {
            let attributes = row.attributes.join(",");
            writeln!(f, "{:width$}  {attributes:11}  {:>6}", row.full_name(), row.bytes)?;
        }
        writeln!(f, "{} variables, {} KiB are free", self.rows.len(), self.free / 1024)
    }
}

fn hex(data: &[u8]) -> String {
    data.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes in columns: offset, digits, characters.
pub(super) fn columns(data: &[u8]) -> String {
    let mut text = String::new();
    for (line, bytes) in data.chunks(16).enumerate() {
        let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let shown = |&byte: &u8| if byte.is_ascii_graphic() || byte == b' ' { char::from(byte) } else { '.' };
        let characters: String = bytes.iter().map(shown).collect();
        text += &format!("{:04x}  {:47}  {characters}\n", line * 16, digits.join(" "));
    }
    text
}

/// Bytes as the text that they probably are: UTF-16 if every second byte of it mostly is 0, else UTF-8.
pub(super) fn text(data: &[u8]) -> String {
    let (pairs, odd) = data.as_chunks();
    let high = pairs.iter().filter(|[_, high]| *high == 0).count();
    let text = if odd.is_empty() && high * 2 > pairs.len() {
        let units: Vec<u16> = pairs.iter().map(|&pair| u16::from_le_bytes(pair)).collect();
        String::from_utf16_lossy(&units)
    } else {
        String::from_utf8_lossy(data).into_owned()
    };
    printable(text.trim_end_matches('\0'))
}
