//! Results as text for people and as JSON.

use std::fmt::{self, Display, Write as _};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use devices::disk::{Format, ImageInfo};
use serde::{Serialize, Serializer};

use crate::control::text::printable;

/// Prints a result in either form.
pub(super) fn print(out: &mut dyn Write, json: bool, result: &(impl Serialize + Display)) -> io::Result<()> {
    if json {
        serde_json::to_writer(&mut *out, result)?;
        writeln!(out)
    } else {
        write!(out, "{result}")
    }
}

/// Of `info`.
#[derive(Debug, Serialize)]
pub(super) struct Info {
    #[serde(serialize_with = "path_as_text")]
    file: PathBuf,
    #[serde(serialize_with = "as_text")]
    format: Format,
    #[serde(serialize_with = "as_text")]
    layout: devices::disk::Layout,
    size: u64,
    host_bytes: u64,
    logical_sector: u32,
    physical_sector: u32,
    block_size: Option<u32>,
    parent: Option<String>,
    id: Option<String>,
}

/// Of `create` and `convert`.
#[derive(Debug, Serialize)]
pub(super) struct Created {
    #[serde(serialize_with = "path_as_text")]
    file: PathBuf,
    #[serde(serialize_with = "as_text")]
    format: Format,
    size: u64,
    host_bytes: u64,
    /// Bytes that were copied.
    #[serde(skip_serializing_if = "Option::is_none")]
    copied: Option<u64>,
}

/// Of `check`.
#[derive(Debug, Serialize)]
pub(super) struct Checked {
    #[serde(serialize_with = "path_as_text")]
    pub file: PathBuf,
    pub problems: Vec<String>,
}

impl Info {
    pub fn new(info: &ImageInfo) -> Self {
        Info {
            file: info.path.clone(),
            format: info.format,
            layout: info.layout,
            size: info.geometry.size,
            host_bytes: info.host_bytes,
            logical_sector: info.geometry.logical_sector,
            physical_sector: info.geometry.physical_sector,
            block_size: info.block_size,
            parent: info.parent.as_ref().map(|parent| parent.to_string_lossy().into_owned()),
            id: info.geometry.id.map(|id| id.to_string()),
        }
    }
}

impl Created {
    pub fn new(info: &ImageInfo, copied: Option<u64>) -> Self {
        Created {
            file: info.path.clone(),
            format: info.format,
            size: info.geometry.size,
            host_bytes: info.host_bytes,
            copied,
        }
    }
}

impl Display for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "file         {}", self.file.display())?;
        writeln!(f, "format       {}, {}", self.format, self.layout)?;
        writeln!(f, "size         {} ({} bytes)", bytes(self.size), self.size)?;
        writeln!(f, "on the host  {}", bytes(self.host_bytes))?;
        writeln!(f, "sectors      {} bytes, physical {}", self.logical_sector, self.physical_sector)?;
        if let Some(size) = self.block_size {
            writeln!(f, "block size   {}", bytes(size.into()))?;
        }
        if let Some(parent) = &self.parent {
            writeln!(f, "parent       {}", printable(parent))?;
        }
        if let Some(id) = &self.id {
            writeln!(f, "identity     {id}")?;
        }
        Ok(())
    }
}

impl Display for Created {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Created { file, format, size, host_bytes, copied } = self;
        write!(f, "{}: {format}, {}", file.display(), bytes(*size))?;
        if let Some(copied) = copied {
            write!(f, ", {} copied", bytes(*copied))?;
        }
        writeln!(f, ", takes {}", bytes(*host_bytes))
    }
}

impl Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.problems.is_empty() {
            return writeln!(f, "{}: good", self.file.display());
        }
        let mut lines = String::new();
        for problem in &self.problems {
            writeln!(lines, "{}: {}", self.file.display(), printable(problem))?;
        }
        f.write_str(&lines)
    }
}

/// A number of bytes for people: three digits or more, and a unit.
pub(super) fn bytes(number: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if number < 1024 {
        return format!("{number} bytes");
    }
    let mut unit = 0;
    while number >> (10 * (unit + 1)) >= 1024 && unit + 1 < UNITS.len() {
        unit += 1;
    }
    let tenths = (u128::from(number) * 10) >> (10 * (unit + 1));
    let name = UNITS.get(unit).unwrap_or(&"");
    if tenths % 10 == 0 || tenths >= 1000 {
        format!("{} {name}", tenths / 10)
    } else {
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    }
}

fn as_text<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn path_as_text<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_the_unit_that_suits_them() {
        for (number, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (64 << 30, "64 GiB"),
            ((4 << 30) + (205 << 20), "4.2 GiB"),
            ((150 << 20) + 700_000, "150 MiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(bytes(number), text);
        }
    }
}
